"""A sentence-embedding teacher that reads each text once, however many runs ask for its vector."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from contrastill.cache import CachedTeacher, FrozenEmbedder
from contrastill.data import Collate
from contrastill.encoder import Wanted
from contrastill.loading import check_ids, load_embedder
from contrastill.loading import rows_of as vocabulary
from contrastill.training.build import rows_of
from contrastill.training.folder import processes

__all__ = ["StoredTeacher"]


class StoredTeacher:
    """The model of that name, read through the cache at `root`.

    stored: the type of its vectors on disk. dtype: what it computes in; None: float32. max_length: where its texts are
    cut, in tokens; where it is not given, it must be set before any text is read.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        max_length: int | None = None,
        *,
        stored: str = "float16",
        dtype: torch.dtype | None = None,
    ) -> None:
        self.embedder, self.max_length = FrozenEmbedder(load_embedder(name)), max_length
        computed = "bfloat16" if dtype is torch.bfloat16 else "float32"
        self.cached = CachedTeacher(
            self.embedder, Wanted(pooled=True), root, stored=stored, computed=computed, name=name
        )
        self.width = self.embedder.width

    @property
    def tokenizer(self) -> Any:
        return self.embedder.model.tokenizer

    def rows(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Texts as it reads them, its own prompt before each."""
        assert self.max_length is not None
        return rows_of(texts, self.tokenizer, self.max_length, self.embedder.prompt)

    def fill(self, chunks: Iterable[list[dict[str, Any]]], total: int) -> None:
        """Runs it on the `rows` (so many at a time) whose vectors are not stored; several processes share the work.

        Raises:
            UserError: a vector is not finite (its text is named), or a text has a token that it has no embedding of.
        """
        world = processes()
        self.cached.fill(
            map(self.fitting, chunks),
            Collate(self.tokenizer),
            total=total,
            say=lambda row: repr(row["text"][:80]),
            share=(world.process_index, world.num_processes),
            what="teacher's vectors",
        )
        world.wait_for_everyone()
        if world.num_processes > 1:
            self.cached.refresh()  # what the others have stored

    def fitting(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        check_ids(max((max(row["input_ids"], default=0) for row in rows), default=0), vocabulary(self.embedder.model))
        return rows

    def encode(self, texts: Sequence[str], **_: Any) -> np.ndarray:
        """(N,) texts -> (N, D) unit vectors: stands where a SentenceTransformer is asked to encode."""
        rows, collate = self.rows(texts), Collate(self.tokenizer)
        self.fill([rows], len(rows))
        batches = (collate(rows[n : n + 256]) for n in range(0, len(rows), 256))
        return torch.cat([F.normalize(self.cached(batch).pooled, dim=-1) for batch in batches]).numpy()
