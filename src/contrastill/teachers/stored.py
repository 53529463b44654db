"""A teacher that is run once for each text: its outputs are stored, and every later step, run and student reads them.

Shapes: B batch, L tokens, D width, H heads, C classes.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from contrastill.encoder import Encoding, Wanted
from contrastill.errors import UserError
from contrastill.machine import bf16_pays
from contrastill.teachers.base import LiveTeacher, Predict
from contrastill.teachers.fields import Field, fields_of
from contrastill.teachers.fill import EncoderPass, Options, Rows
from contrastill.teachers.filled import Filled
from contrastill.teachers.folder import make_cache_folder
from contrastill.teachers.store import DTYPES, KEY, Facts, Store

__all__ = ["CachedTeacher"]


class CachedTeacher(Filled):
    """Answers from disk what `wanted` names of a live teacher, for texts that were filled in.

    root: the folder of all caches. stored: the type on disk. computed: the type the teacher computes in (by default
    bfloat16 where that pays). name: of the teacher, as it was given.

    Raises:
        UserError: there is no such type, or the teacher does not give what is wanted.
    """

    def __init__(
        self,
        live: LiveTeacher,
        wanted: Wanted,
        root: Path,
        *,
        stored: str = "float16",
        computed: str | None = None,
        name: str = "",
    ) -> None:
        if stored not in DTYPES:
            raise UserError(f"expected a cache dtype of {', '.join(DTYPES)}, got {stored!r}")
        self.live, self.wanted = live, wanted
        self.width, self.depth, self.heads, self.gives = live.width, live.depth, live.heads, live.gives
        self.answers = live.answers
        self.name, self.root, self.stored = name, root, stored
        self.computed = computed or ("bfloat16" if bf16_pays() else "float32")
        super().__init__(root, {field: self.store(field, stored, self.computed) for field in fields_of(wanted, live)})

    @property
    def model(self) -> Any:
        return self.live.model

    @property
    def fingerprint(self) -> str:
        return self.live.fingerprint

    def store(self, field: Field, stored: str, computed: str) -> Store:
        if field.kind == "logits" and stored == "int8":
            stored = "float16"  # a handful of numbers: nothing to save
        about = {"name": self.name, "model": type(self.model).__name__}
        return Store(self.root, Facts(self.fingerprint, field.name, field.width, computed, stored), about)

    # ---- answering

    def __call__(self, batch: Mapping[str, Tensor], needs: Collection[str] = ()) -> Encoding:
        """The batch's outputs, padded as its token ids are. `needs` may not go beyond `wanted`.

        Raises:
            UserError: a text was not filled in.
        """
        keys = keys_in(batch)
        mask = batch["attention_mask"].bool()
        device, real = mask.device, mask.cpu().numpy()
        found: dict[tuple[str, int], Tensor] = {}
        for field, store in self.stores.items():
            rows = store.find(keys)
            if (rows < 0).any():
                raise UserError(
                    "a batch holds a text that the cache was not filled with: texts that change from step to step "
                    "need the live teacher (--cache none)"
                )
            values = served(store, field, rows, real, pinned=device.type == "cuda")
            found[field.kind, field.layer] = values.to(device, non_blocking=True)
        w, outputs = self.wanted, dict[str, Any]()
        if w.logits:
            outputs["logits"] = found["logits", 0]
        if w.pooled:
            outputs["pooled"] = found["vector", 0][:, 0].float()
        if w.layers:
            outputs["hidden"] = tuple(found.get(("layer", j)) for j in range(self.depth + 1))
        if w.attention:
            outputs["attention"] = tuple(found.get(("attention", j)) for j in range(1, self.depth + 1))
        if w.qkv:
            outputs["qkv"] = tuple(found.get(("qkv", j)) for j in range(1, self.depth + 1))
        one_a_text = bool(w.layers) and w.granularity != "tokens"
        return Encoding(mask.any(1, keepdim=True) if one_a_text else mask, **outputs)

    # ---- filling

    def check_room(self, texts: int) -> None:
        """Raises a UserError if the disk has no room for the vectors of so many texts."""
        need, free = self.space_needed([1] * texts)
        if need > 0.95 * free:
            raise UserError(
                f"the vectors of {texts:,} texts take {need / 1e9:.2f} GB, of {free / 1e9:.2f} GB free at {self.root}; "
                "choose another folder (--cache DIR) or --cache-dtype int8"
            )

    def fill(
        self, chunks: Iterable[Rows], collate: Callable[[Rows], dict[str, Tensor]], **options: Unpack[Options]
    ) -> int:
        """Runs the teacher on what is missing of the rows, and stores it; all processes share the work.

        Arguments: see `fill` of `teachers/fill.py`. Returns how many texts this process ran on.

        Raises:
            UserError: an output is not finite (its text is named), or the cache cannot be written to.
        """
        return self.fill_by(EncoderPass(self.live, self.stores, self.computed), chunks, collate, **options)

    # ---- logits in full precision, for scores

    def logits(self, batches: Sequence[Mapping[str, Tensor]], predict: Predict) -> Any:
        """The live teacher's in float32, stored: it is scored on a text once, not once a run. As `predict` gives them:
        (N, C), or (tokens, C) of each text."""
        make_cache_folder(self.root)
        store = self.store(Field("logits", 0, self.answers, self.gives["logits"]), "float32", "float32")
        keys = [keys_in(batch) for batch in batches]
        lacking = [n for n, k in enumerate(keys) if (store.find(k) < 0).any()]
        if lacking:
            fresh = self.live.logits([batches[n] for n in lacking], predict)
            self.forwards += len(fresh)
            counts = np.ones(len(fresh)) if self.answers == "text" else np.array([len(one) for one in fresh])
            values = torch.from_numpy(np.concatenate(fresh) if self.answers == "tokens" else fresh)
            store.append(np.concatenate([keys[n] for n in lacking]), counts, values)
        found = [store.read(int(row)) for row in store.find(np.concatenate(keys))]
        return found if self.answers == "tokens" else np.concatenate(found)


def keys_in(batch: Mapping[str, Tensor]) -> np.ndarray:
    """(B, 16) uint8: the content keys of a batch."""
    return batch["content"].cpu().numpy().view(np.uint8).reshape(-1, KEY)


def served(store: Store, field: Field, rows: np.ndarray, real: np.ndarray, pinned: bool = False) -> Tensor:
    """One field of a batch, padded with zeros: (B, C), (B, L, D), (B, 1, D) or (B, H, L, L).

    pinned: in memory that a GPU copies from while the step goes on.
    """
    stored = store.facts.stored
    size, length = real.shape
    if field.per == "pairs":
        values, out = zeros((size, length, length, field.width), stored, pinned)
        for n, row in enumerate(rows):
            at = np.flatnonzero(real[n])
            out[n][np.ix_(at, at)] = store.read(int(row)).reshape(len(at), len(at), field.width)
    else:
        tokens = field.per == "tokens"
        values, out = zeros((size, length if tokens else 1, field.width), stored, pinned)
        for n, row in enumerate(rows):
            first, count = (int(real[n].argmax()), int(real[n].sum())) if tokens else (0, 1)
            if int(store.counts[row]) != count:
                raise UserError(f"the cache holds {store.counts[row]} rows of a text of {count} tokens; prune it")
            store.read(int(row), out[n, first : first + count])
    if field.kind == "logits":
        return values.float() if field.per == "tokens" else values[:, 0].float()
    return values.permute(0, 3, 1, 2) if field.per == "pairs" else values


def zeros(shape: tuple[int, ...], stored: str, pinned: bool) -> tuple[Tensor, np.ndarray]:
    """In the type that is served (int8 as float32), and the same memory as `Store.read` fills it."""
    dtype = torch.float32 if stored == "int8" else DTYPES[stored]
    kind = np.dtype({"bfloat16": "uint16", "int8": "float32"}.get(stored, stored))
    if pinned:
        values = torch.zeros(shape, dtype=dtype, pin_memory=True)
        return values, (values.view(torch.uint16) if stored == "bfloat16" else values).numpy()
    out = np.zeros(shape, kind)  # of pages that are not touched before they are filled
    return torch.from_numpy(out).view(dtype), out
