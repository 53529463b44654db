"""A sentence-embedding model, of any kind that sentence-transformers loads, as a teacher: run, or read from disk."""

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from contrastill.data.collate import Collate
from contrastill.data.corpus import teacher_rows
from contrastill.encoder import Batch, Encoding, Wanted
from contrastill.errors import UserError
from contrastill.loading import check_ids, default_prompt, encoder_inside, load_embedder, rows_of
from contrastill.teachers.base import Predict, fingerprint
from contrastill.teachers.stored import CachedTeacher

__all__ = ["CachedEmbedder", "FrozenEmbedder"]


class FrozenEmbedder:
    """A teacher whose one output is `pooled`, through the model's own modules.

    Those are the transformer, pooling, and what follows (a dense layer, normalisation): so any of its models will do.
    """

    depth = heads = 0
    answers = "text"

    def __init__(self, model: Any) -> None:
        if not isinstance(model.tokenizer, PreTrainedTokenizerBase):
            raise UserError(
                f"expected a sentence-embedding model with a transformer, got one of {type(model[0]).__name__}"
            )
        self.model = model.eval().requires_grad_(False)
        self.width = int(model.get_embedding_dimension())
        self.gives = {"pooled": self.width}

    @property
    def prompt(self) -> str:
        """The model's default prompt."""
        return default_prompt(self.model)

    @property
    def transformer(self) -> PreTrainedModel | None:
        return encoder_inside(self.model)

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights, the modules, and the transformer's config."""
        config = self.model[0].auto_model.config.to_dict()
        cut = {} if self.model.truncate_dim is None else {"truncate_dim": self.model.truncate_dim}
        return fingerprint(self.model, {"modules": [repr(module) for module in self.model], **cut, **config})

    @torch.no_grad()
    def __call__(self, batch: Batch, needs: Collection[str] = ()) -> Encoding:
        device = batch["input_ids"].device
        if self.model.device != device:
            self.model.to(device)
        names = ("input_ids", "attention_mask", "token_type_ids")
        output = self.model({name: batch[name] for name in names if name in batch})
        return Encoding(batch["attention_mask"].bool(), pooled=output["sentence_embedding"])

    def to(self, device: torch.device) -> None:
        self.model.to(device)

    def in_bfloat16(self) -> "FrozenEmbedder":
        return FrozenEmbedder(copy.deepcopy(self.model).to(torch.bfloat16))

    def logits(self, batches: Sequence[Mapping[str, Tensor]], predict: Predict) -> np.ndarray:
        raise UserError("expected a classifier for logits, got a sentence-embedding model")


class CachedEmbedder(CachedTeacher):
    """The sentence-embedding model of this name, with stored vectors; it reads texts, each once.

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
        computed = "bfloat16" if dtype is torch.bfloat16 else "float32"
        live = FrozenEmbedder(load_embedder(name))
        super().__init__(live, Wanted(pooled=True), root, stored=stored, computed=computed, name=name)
        self.max_length = max_length

    @property
    def tokenizer(self) -> Any:
        return self.model.tokenizer

    @property
    def prompt(self) -> str:
        return self.live.prompt

    def rows(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Texts as it reads them, its own prompt before each."""
        assert self.max_length is not None
        return teacher_rows(texts, self.tokenizer, self.max_length, self.prompt)

    def fill_rows(self, chunks: Iterable[list[dict[str, Any]]], total: int) -> None:
        """Runs it on the `rows` (so many at a time) whose vectors are not stored; several processes share the work.

        Raises:
            UserError: a vector is not finite (its text is named), or a text has a token that it has no embedding of.
        """

        def fitting(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
            check_ids(max((max(row["input_ids"], default=0) for row in rows), default=0), rows_of(self.model))
            return rows

        self.fill(
            map(fitting, chunks),
            Collate(self.tokenizer),
            total=total,
            say=lambda row: repr(row["text"][:80]),
            what="teacher's vectors",
        )

    def encode(self, texts: Sequence[str], **_: Any) -> np.ndarray:
        """(N,) texts -> (N, D) unit vectors: replaces SentenceTransformer.encode."""
        rows, collate = self.rows(texts), Collate(self.tokenizer)
        self.fill_rows([rows], len(rows))
        batches = (collate(rows[n : n + 256]) for n in range(0, len(rows), 256))
        return torch.cat([F.normalize(self(batch).pooled, dim=-1) for batch in batches]).numpy()
