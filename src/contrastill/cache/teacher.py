"""A teacher that is run once for each text: its outputs are stored, and every later step, run and student reads them.

Shapes: B batch, L tokens, D width, H heads, C classes.
"""

import copy
import hashlib
import json
import logging
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from contrastill.cache.embedder import FrozenEmbedder
from contrastill.cache.folder import mark
from contrastill.cache.overlap import Outputs, accelerated, read_ahead
from contrastill.cache.store import DTYPES, KEY, Facts, Store
from contrastill.encoder import Encoding, FrozenEncoder, Wanted, pool_layer
from contrastill.errors import UserError
from contrastill.machine import bf16_pays, keep_freed_memory

__all__ = ["CachedTeacher", "budgeted", "fingerprint", "keys_of"]

logger = logging.getLogger(__name__)

BUDGET = {"cpu": 2048, "cuda": 65536}  # tokens a batch: on CPU what stays in its cache runs fastest
SHARD = 64 << 20  # bytes of the largest field at which all fields are written,
PATIENCE = 60.0  # or seconds: what a kill can lose
AGREE = 8  # texts on which bfloat16 is compared with float32
MASKED = -1e4  # of attention: lower scores, which are masked ones, are stored as this, which float16 holds
LEAST_COSINE = 0.99  # below it the user is told that bfloat16 does not suit this teacher

Rows = Sequence[Mapping[str, Any]]
Frozen = FrozenEncoder | FrozenEmbedder


class CachedTeacher:
    """Stands where a `FrozenEncoder` stands, and answers from disk what `wanted` names, for texts that were filled in.

    root: the folder of all caches. stored: the type on disk. computed: the type the teacher computes in (by default
    bfloat16 where that pays).
    """

    def __init__(
        self,
        frozen: Frozen,
        wanted: Wanted,
        root: Path,
        *,
        stored: str = "float16",
        computed: str | None = None,
        name: str = "",
    ) -> None:
        self.frozen, self.wanted = frozen, wanted
        self.width, self.depth, self.heads = frozen.width, frozen.depth, frozen.heads
        if stored not in DTYPES:
            raise UserError(f"expected a cache dtype of {', '.join(DTYPES)}, got {stored!r}")
        self.name, self.root, self.stored, self.forwards = name, root, stored, 0
        self.teacher = fingerprint(frozen.model, frozen.facts())
        self.computed = computed or ("bfloat16" if bf16_pays() else "float32")
        self.stores = {field: self.store(field, stored) for field in fields(wanted)}

    @property
    def model(self) -> Any:
        return self.frozen.model

    def store(self, field: str, stored: str, computed: str | None = None) -> Store:
        kind = field.split("-")[0]
        width = {"layer": self.width, "vector": self.width, "attention": self.heads}.get(kind)
        width = int(self.model.config.num_labels or 0) if width is None else width
        if kind == "logits" and stored == "int8":
            stored = "float16"  # a handful of numbers: nothing to save
        about = {"name": self.name, "model": type(self.model).__name__}
        return Store(self.root, Facts(self.teacher, field, width, computed or self.computed, stored), about)

    # ---- answering

    def __call__(self, batch: Mapping[str, Tensor], needs: Collection[str] = ()) -> Encoding:
        """The batch's outputs, padded as its token ids are. `needs` may not go beyond `wanted`."""
        keys = batch["content"].cpu().numpy().view(np.uint8).reshape(-1, KEY)
        mask = batch["attention_mask"].bool()
        device, real = mask.device, mask.cpu().numpy()
        found = {}
        for field, store in self.stores.items():
            rows = store.find(keys)
            if (rows < 0).any():
                raise UserError(
                    "a batch holds a text that the cache was not filled with: texts that change from step to step "
                    "need the live teacher (--cache none)"
                )
            found[field] = served(store, rows, field, real).to(device, non_blocking=True)
        depth, w = self.depth, self.wanted
        pooled = bool(w.layers) and w.granularity != "tokens"
        hidden = [found.get(f"layer-{j}-{w.granularity}") for j in range(depth + 1)] if w.layers else None
        attention = [found.get(f"attention-{j}") for j in range(1, depth + 1)] if w.attention else None
        return Encoding(
            mask.any(1, keepdim=True) if pooled else mask,
            found.get("logits"),  # type: ignore[arg-type]
            tuple(hidden) if hidden else None,  # type: ignore[arg-type]
            tuple(attention) if attention else None,  # type: ignore[arg-type]
            found["vector"][:, 0].float() if w.pooled else None,  # type: ignore[arg-type]
        )

    def refresh(self) -> None:
        """Reads the stores anew: other processes may have added to them."""
        for store in self.stores.values():
            store.refresh()

    # ---- filling

    def room(self, lengths: Sequence[int] | np.ndarray) -> tuple[int, int]:
        """Bytes that texts of these lengths take at most, and bytes free where the cache is."""
        place = next(p for p in (self.root, *self.root.absolute().parents) if p.exists())
        return self.bytes_for(lengths), shutil.disk_usage(place).free

    def bytes_for(self, lengths: Sequence[int] | np.ndarray) -> int:
        """What texts of these lengths take on disk."""
        n = np.asarray(lengths, np.int64)
        return sum(int(rows_of(field, n).sum()) * store.facts.bytes_per_row for field, store in self.stores.items())

    def missing(self, keys: np.ndarray) -> np.ndarray:
        """(N, 16) -> positions of the texts that some field lacks, each text once."""
        absent = np.zeros(len(keys), bool)
        for store in self.stores.values():
            absent |= store.find(keys) < 0
        at = np.flatnonzero(absent)
        _, first = np.unique(keys[at].view([("a", "<u8"), ("b", "<u8")]).ravel(), return_index=True)
        return at[np.sort(first)]

    def fill(
        self,
        chunks: Iterable[Rows],
        collate: Callable[[Rows], dict[str, Tensor]],
        *,
        total: int | None = None,
        say: Callable[[Mapping[str, Any]], str] = lambda row: "a text",
        share: tuple[int, int] = (0, 1),
        what: str = "teacher outputs",
    ) -> int:
        """Runs the teacher on what is missing of the rows, and stores it; returns how many texts it ran on.

        chunks: rows with `input_ids` and `content`, as many at a time as memory should hold.
        say: a row in words, for an error. share: this process's number, and how many share the work.

        Batches are cut from each chunk's missing texts in order of length, by their number of tokens: little padding,
        and after an interruption the same batches as without one.
        """
        mark(self.root)
        keep_freed_memory()
        before = self.forwards
        writer = Writer(self.stores)
        teacher = None
        overlapped = accelerated()
        every = 0.2 if sys.stderr.isatty() else 30.0
        with (
            tqdm(total=total, desc=what, unit=" texts", dynamic_ncols=True, mininterval=every, file=sys.stderr) as bar,
            writer,
        ):
            for chunk in read_ahead(chunks) if overlapped else chunks:
                keys = keys_of(chunk)
                # A text's key says whose it is: what others have stored meanwhile changes nothing.
                mine = [n for n in self.missing(keys) if keys[n, 0] % share[1] == share[0]]
                missing = np.array([n for n in mine if keys[n].tobytes() not in writer.waiting], np.int64)
                bar.update(len(chunk) - len(missing))
                running: deque[tuple[np.ndarray, Outputs]] = deque()  # on an accelerator a batch is behind another

                def keep(at: np.ndarray, outputs: Outputs, chunk: Rows = chunk, keys: np.ndarray = keys) -> None:
                    values = outputs.values()
                    if broken := outputs.broken():
                        field, text = broken[0], say(chunk[at[broken[1]]])
                        raise UserError(
                            f"the teacher's {field} values of {text} are not finite; check the teacher's weights"
                        )
                    writer.add(keys[at], values)
                    self.forwards += len(at)
                    bar.update(len(at))

                for picked in budgeted([len(chunk[n]["input_ids"]) for n in missing], self.budget):
                    batch = collate([chunk[n] for n in missing[picked]])
                    teacher = teacher or self.quick(batch)
                    running.append((missing[picked], self.outputs(teacher, batch)))
                    if len(running) > overlapped:
                        keep(*running.popleft())
                while running:
                    keep(*running.popleft())
        return self.forwards - before

    @property
    def budget(self) -> int:
        return BUDGET["cuda" if torch.cuda.is_available() else "cpu"]

    def quick(self, sample: Mapping[str, Tensor]) -> Frozen:
        """The teacher as it is run: on the accelerator if there is one, in bfloat16 if that pays and agrees."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.computed == "float32":
            self.frozen.to(device)
            return self.frozen
        lowered = type(self.frozen)(copy.deepcopy(self.model))
        lowered.to(device=device, dtype=torch.bfloat16)
        self.frozen.to(device)
        some = {key: value[:AGREE] for key, value in sample.items()}
        exact, quick = (
            {field: torch.cat(values).float() for field, values in self.outputs(each, some).values().items()}
            for each in (self.frozen, lowered)
        )
        # Logits are few and near nought for a new head: their direction says little. Of layers it says all.
        cosines = [
            float(F.cosine_similarity(quick[f], exact[f]).mean())
            for f in exact
            if not f.startswith("attention") and self.stores[f].facts.width > 2
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
    def outputs(self, teacher: Frozen, batch: Mapping[str, Tensor]) -> Outputs:
        """Each field of each text of a batch; its values may still be computing.

        Values are in the type the teacher computes in, which loses nothing and waits in half the memory.
        """
        w, device, mask = self.wanted, teacher.model.device, batch["attention_mask"].bool()
        lengths = mask.sum(1).numpy()
        # Where the tokens are is known here: on the accelerator, asking would mean waiting for it.
        tokens = mask.flatten().nonzero().flatten().to(device, non_blocking=True)
        needs = {n for n, on in (("logits", w.logits), ("hidden", w.layers), ("attention", w.attention)) if on}
        encoding = teacher({key: value.to(device, non_blocking=True) for key, value in batch.items()}, needs)
        found = {"logits": encoding.logits} if w.logits else {}
        if w.pooled:
            found["vector"] = encoding.pooled
        for j in w.layers:
            if w.granularity == "tokens":
                values = encoding.hidden[j].flatten(0, 1)[tokens]
            else:
                values = pool_layer(encoding.hidden[j].float(), encoding.mask, w.granularity)[0][:, 0]
            found[f"layer-{j}-{w.granularity}"] = values
        if w.attention:
            pairs = (mask.unsqueeze(2) & mask.unsqueeze(1)).flatten().nonzero().flatten().to(device, non_blocking=True)
            for j in w.attention:
                scores = encoding.attention[j - 1].float().clamp(min=MASKED).permute(0, 2, 3, 1)  # (B, L, L, H)
                found[f"attention-{j}"] = scores.flatten(0, 2)[pairs]
        if teacher is not self.frozen:
            found = {field: values.to(torch.bfloat16) for field, values in found.items()}
        return Outputs(found, {field: rows_of(field, lengths).tolist() for field in found})

    # ---- logits in full precision, for scores

    def logits(self, batches: Sequence[Mapping[str, Tensor]], predict: Callable[..., np.ndarray]) -> np.ndarray:
        """`predict(model, batches)` in float32, stored: the teacher is scored on a text once, not once a run."""
        mark(self.root)
        store = self.store("logits", "float32", "float32")
        keys = [batch["content"].numpy().view(np.uint8).reshape(-1, KEY) for batch in batches]
        lacking = [n for n, k in enumerate(keys) if (store.find(k) < 0).any()]
        if lacking:
            fresh = predict(self.model, [batches[n] for n in lacking])
            self.forwards += len(fresh)
            store.append(np.concatenate([keys[n] for n in lacking]), np.ones(len(fresh)), torch.from_numpy(fresh))
        rows = store.find(np.concatenate(keys))
        return np.concatenate([store.read(int(row)) for row in rows])


class Writer:
    """Gathers outputs, and writes a shard of each field when one has grown large, and at the end."""

    def __init__(self, stores: Mapping[str, Store]) -> None:
        self.stores = stores
        self.empty()

    def empty(self) -> None:
        self.keys: list[np.ndarray] = []
        self.waiting: set[bytes] = set()  # keys of what is not yet in the stores
        self.values: dict[str, list[Tensor]] = {field: [] for field in self.stores}
        self.bytes = dict.fromkeys(self.stores, 0)
        self.since = time.monotonic()

    def add(self, keys: np.ndarray, found: Mapping[str, list[Tensor]]) -> None:
        for field, values in found.items():
            self.values[field] += values
            self.bytes[field] += sum(len(v) for v in values) * self.stores[field].facts.bytes_per_row
        self.keys.append(keys)  # last: after Ctrl-C in between, `flush` writes the batches before
        self.waiting.update(key.tobytes() for key in keys)
        if max(self.bytes.values()) >= SHARD or time.monotonic() - self.since >= PATIENCE:
            self.flush()

    def flush(self) -> None:
        if self.keys:
            keys = np.concatenate(self.keys)
            for field, store in self.stores.items():
                new = np.flatnonzero(store.find(keys) < 0)
                if len(new):
                    values = [self.values[field][n] for n in new]
                    store.append(keys[new], np.array([len(v) for v in values]), torch.cat(values))
        self.empty()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self.flush()  # after an error or Ctrl-C too: what was computed is kept


def fields(wanted: Wanted) -> list[str]:
    return [
        *(["logits"] if wanted.logits else []),
        *(["vector"] if wanted.pooled else []),
        *(f"layer-{j}-{wanted.granularity}" for j in wanted.layers),
        *(f"attention-{j}" for j in wanted.attention),
    ]


def rows_of(field: str, lengths: np.ndarray) -> np.ndarray:
    """How many rows a text of each length has."""
    return lengths ** (2 if field.startswith("attention") else 1 if field.endswith("tokens") else 0)


def served(store: Store, rows: np.ndarray, field: str, real: np.ndarray) -> Tensor:
    """One field of a batch, padded with zeros: (B, C), (B, L, D), (B, 1, D) or (B, H, L, L)."""
    stored = store.facts.stored
    kind = np.dtype({"bfloat16": "uint16", "int8": "float32"}.get(stored, stored))
    width, (size, length) = store.facts.width, real.shape
    if field.startswith("attention"):
        out = np.zeros((size, length, length, width), kind)
        for n, row in enumerate(rows):
            at = np.flatnonzero(real[n])
            out[n][np.ix_(at, at)] = store.read(int(row)).reshape(len(at), len(at), width)
    else:
        tokens = field.endswith("tokens")
        out = np.zeros((size, length if tokens else 1, width), kind)
        for n, row in enumerate(rows):
            first, count = (int(real[n].argmax()), int(real[n].sum())) if tokens else (0, 1)
            if int(store.counts[row]) != count:
                raise UserError(f"the cache holds {store.counts[row]} rows of a text of {count} tokens; prune it")
            store.read(int(row), out[n, first : first + count])
    values = torch.from_numpy(out)
    values = values.view(torch.bfloat16) if stored == "bfloat16" else values
    if field == "logits":
        return values[:, 0].float()
    return values.permute(0, 3, 1, 2) if field.startswith("attention") else values


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


def fingerprint(model: nn.Module, facts: Mapping[str, Any] | None = None) -> str:
    """sha256 over the model's weights, by name, and its config without what does not change its outputs."""
    facts = model.config.to_dict() if facts is None else facts  # type: ignore[operator, union-attr]
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    config = {k: v for k, v in facts.items() if k not in ("_name_or_path", "transformers_version", "dtype")}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    return digest.hexdigest()
