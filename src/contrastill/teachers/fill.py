"""A teacher's pass over texts: each missing text is run once, in batches of about equal length, and stored.

Shapes: B batch, L tokens, D width, H heads.
"""

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from contrastill.encoder import Encoding, pool_layer
from contrastill.errors import UserError
from contrastill.machine import keep_freed_memory
from contrastill.processes import bar_pause
from contrastill.teachers.base import LiveTeacher
from contrastill.teachers.fields import OUTPUTS, Field
from contrastill.teachers.overlap import Outputs, accelerated, read_ahead
from contrastill.teachers.store import KEY, Store

__all__ = ["EncoderPass", "Options", "Rows", "Stores", "budgeted", "fill", "keys_of", "missing"]

logger = logging.getLogger(__name__)

BUDGET = {"cpu": 2048, "cuda": 65536}  # tokens a batch: on CPU what stays in its cache runs fastest
SHARD = 64 << 20  # bytes of the largest field at which all fields are written,
PATIENCE = 60.0  # or seconds: what a kill can lose
AGREE = 8  # texts on which bfloat16 is compared with float32
MASKED = -1e4  # of attention: lower scores, which are masked ones, are stored as this, which float16 holds
LEAST_COSINE = 0.99  # below it the user is told that bfloat16 does not suit this teacher

Rows = Sequence[Mapping[str, Any]]
Stores = Mapping[Field, Store]


class Options(TypedDict, total=False):
    """total: rows, for the progress bar, which says `what` is made. say: a row in words, for an error."""

    total: int | None
    say: Callable[[Mapping[str, Any]], str]
    what: str


def fill(
    run: Callable[[Mapping[str, Tensor]], Outputs],
    stores: Stores,
    chunks: Iterable[Rows],
    collate: Callable[[Rows], dict[str, Tensor]],
    *,
    share: tuple[int, int],
    **options: Unpack[Options],
) -> int:
    """Runs the teacher on what is missing of the rows, and stores it; returns how many texts it ran on.

    run: the teacher, on a batch. chunks: rows with `input_ids` and `content`, as many at a time as memory should hold.
    share: this process's number, and how many share the work. options: see `Options`.

    Batches are cut from each chunk's missing texts in order of length, by their number of tokens: little padding, and
    after an interruption the same batches as without one.
    """
    keep_freed_memory()
    budget, overlapped = BUDGET["cuda" if torch.cuda.is_available() else "cpu"], accelerated()
    say = options.get("say", lambda row: "a text")
    with progress(options) as bar, Writer(stores) as writer:
        for chunk in read_ahead(chunks) if overlapped else chunks:
            keys = keys_of(chunk)
            todo = writer.lacking(keys, share)
            bar.update(len(chunk) - len(todo))
            running: deque[tuple[np.ndarray, Outputs]] = deque()  # on an accelerator a batch is behind another

            def keep(at: np.ndarray, outputs: Outputs, chunk: Rows = chunk, keys: np.ndarray = keys) -> None:
                values = outputs.values()
                if broken := outputs.broken():
                    field, text = broken[0].name, say(chunk[at[broken[1]]])
                    raise UserError(
                        f"the teacher's {field} values of {text} are not finite; check the teacher's weights"
                    )
                writer.add(keys[at], values, outputs.counts)
                bar.update(len(at))

            for picked in budgeted([len(chunk[n]["input_ids"]) for n in todo], budget):
                batch = collate([chunk[n] for n in todo[picked]])
                running.append((todo[picked], run(batch)))
                if len(running) > overlapped:
                    keep(*running.popleft())
            while running:
                keep(*running.popleft())
    return writer.added


def progress(options: Options) -> Any:
    return tqdm(
        total=options.get("total"),
        desc=options.get("what", "teacher outputs"),
        unit=" texts",
        dynamic_ncols=True,
        mininterval=bar_pause(),
        file=sys.stderr,
    )


class EncoderPass:
    """Runs an encoder on a batch, in the type it is `computed` in."""

    def __init__(self, live: LiveTeacher, fields: Collection[Field], computed: str) -> None:
        self.live, self.fields, self.computed = live, fields, computed
        self.teacher: LiveTeacher | None = None

    def __call__(self, batch: Mapping[str, Tensor]) -> Outputs:
        self.teacher = self.teacher or lowered_teacher(self.live, self.fields, self.computed, batch)
        return extract(self.teacher, self.fields, batch, low=self.teacher is not self.live)


def lowered_teacher(
    live: LiveTeacher, fields: Collection[Field], computed: str, sample: Mapping[str, Tensor]
) -> LiveTeacher:
    """The teacher as it runs: on the accelerator if there is one, and in bfloat16 if it is `computed` in that."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if computed == "float32":
        live.to(device)
        return live
    lowered = live.in_bfloat16()
    lowered.to(device)
    live.to(device)
    some = {key: value[:AGREE] for key, value in sample.items()}
    exact, low = (
        {field: values.float() for field, values in extract(each, fields, some, n == 1).values().items()}
        for n, each in enumerate((live, lowered))
    )
    # Logits are few and near nought for a new head: their direction says little. Of layers it says all.
    cosines = [
        float(F.cosine_similarity(low[field], exact[field]).mean())
        for field in exact
        if field.kind != "attention" and field.width > 2
    ]
    if cosines and min(cosines) < LEAST_COSINE:
        logger.warning(
            "the teacher's outputs in bfloat16 agree with float32 to a cosine of %.4f only; --precision fp32 "
            "computes them exactly",
            min(cosines),
        )
    logger.debug("bfloat16 against float32: cosines %s", cosines)
    return lowered


@torch.inference_mode()
def extract(teacher: LiveTeacher, fields: Collection[Field], batch: Mapping[str, Tensor], low: bool) -> Outputs:
    """Each field of each text of a batch; its values may still be computing.

    low: the teacher computes in bfloat16; so its values are kept, which loses nothing and waits in half the memory.
    """
    device, mask = teacher.model.device, batch["attention_mask"].bool()
    lengths = mask.sum(1).numpy()
    # Which rows are real is known here: on the accelerator, asking would mean waiting for it.
    places = {
        per: real_rows(mask, per).flatten().nonzero().flatten().to(device, non_blocking=True)
        for per in {field.per for field in fields} & {"tokens", "pairs"}
    }
    needs = {OUTPUTS[field.kind] for field in fields}
    encoding = teacher({key: value.to(device, non_blocking=True) for key, value in batch.items()}, needs)
    found = {field: rows_of(field, encoding, places.get(field.per)) for field in fields}
    if low:
        found = {field: values.to(torch.bfloat16) for field, values in found.items()}
    return Outputs(found, {field: field.rows(lengths) for field in found})


def real_rows(mask: Tensor, per: str) -> Tensor:
    """True for tokens, or pairs of tokens, that are no padding: (B, L) -> (B, L) or (B, L, L)."""
    return mask.unsqueeze(2) & mask.unsqueeze(1) if per == "pairs" else mask


def rows_of(field: Field, encoding: Encoding, places: Tensor | None) -> Tensor:
    """A field's rows, those of one text after those of the one before: (rows, D). places: of tokens or pairs."""
    if field.kind == "logits":
        return encoding.logits.flatten(0, 1)[places] if field.per == "tokens" else encoding.logits
    if field.kind == "vector":
        return encoding.pooled
    if field.kind == "attention":
        scores = encoding.attention[field.layer - 1].float().clamp(min=MASKED).permute(0, 2, 3, 1)  # (B, L, L, H)
        return scores.flatten(0, 2)[places]
    hidden = encoding.qkv[field.layer - 1] if field.kind == "qkv" else encoding.hidden[field.layer]
    if field.per == "tokens":
        return hidden.flatten(0, 1)[places]
    return pool_layer(hidden.float(), encoding.mask, field.per)[0][:, 0]


class Writer:
    """Gathers outputs, and writes a shard of each field when one is large enough, and at the end."""

    def __init__(self, stores: Stores) -> None:
        self.stores, self.added = stores, 0  # texts
        self.empty()

    def empty(self) -> None:
        self.keys: list[np.ndarray] = []
        self.waiting: set[bytes] = set()  # keys of what is not yet in the stores
        self.values: dict[Field, list[Tensor]] = {field: [] for field in self.stores}  # of a batch each
        self.counts: dict[Field, list[np.ndarray]] = {field: [] for field in self.stores}
        self.bytes = dict.fromkeys(self.stores, 0)
        self.since = time.monotonic()

    def lacking(self, keys: np.ndarray, share: tuple[int, int]) -> np.ndarray:
        """(N, 16) -> positions of the texts that neither the stores have nor this writer, of one process's share.

        A text's key says whose it is: what others have stored meanwhile changes nothing.
        """
        number, world = share
        mine = [n for n in missing(self.stores, keys) if keys[n, 0] % world == number]
        return np.array([n for n in mine if keys[n].tobytes() not in self.waiting], np.int64)

    def add(self, keys: np.ndarray, found: Mapping[Field, Tensor], counts: Mapping[Field, np.ndarray]) -> None:
        """Takes a batch's outputs: keys (B, 16), and of each field the rows (N, D) and how many each text has (B,)."""
        for field, values in found.items():
            self.values[field].append(values)
            self.counts[field].append(counts[field])
            self.bytes[field] += len(values) * self.stores[field].facts.bytes_per_row
        self.keys.append(keys)  # last: after Ctrl-C in between, `flush` writes the batches before
        self.waiting.update(key.tobytes() for key in keys)
        self.added += len(keys)
        if max(self.bytes.values()) >= SHARD or time.monotonic() - self.since >= PATIENCE:
            self.flush()

    def flush(self) -> None:
        if batches := len(self.keys):
            keys = np.concatenate(self.keys)
            for field, store in self.stores.items():
                new = store.find(keys) < 0
                if new.any():
                    values = torch.cat(self.values[field][:batches])
                    counts = np.concatenate(self.counts[field][:batches])
                    if not new.all():  # another process has stored the others meanwhile
                        values = values[torch.from_numpy(np.repeat(new, counts))]
                    store.append(keys[new], counts[new], values)
        self.empty()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self.flush()  # after an error or Ctrl-C too: what was computed is kept


def missing(stores: Stores, keys: np.ndarray) -> np.ndarray:
    """(N, 16) -> positions of the texts that some field lacks, each text once."""
    absent = np.zeros(len(keys), bool)
    for store in stores.values():
        absent |= store.find(keys) < 0
    at = np.flatnonzero(absent)
    _, first = np.unique(keys[at].view([("a", "<u8"), ("b", "<u8")]).ravel(), return_index=True)
    return at[np.sort(first)]


def keys_of(rows: Rows) -> np.ndarray:
    """(N, 16) uint8: the content keys of tokenised rows."""
    return np.frombuffer(b"".join(row["content"] for row in rows), np.uint8).reshape(-1, KEY)


def budgeted(lengths: Sequence[int], budget: int) -> Iterator[np.ndarray]:
    """Positions in batches of about equal length, longest first, each of at most `budget` tokens with its padding."""
    order = np.argsort([-n for n in lengths], kind="stable")
    start = 0
    while start < len(order):
        size = max(1, budget // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size
