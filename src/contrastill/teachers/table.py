"""A teacher that is a file of answers: no model is run.

Shapes: B batch, L tokens, N texts, C outputs.
"""

import hashlib
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contrastill.data.outputs import Outputs
from contrastill.encoder import Batch, Encoding

__all__ = ["FAR", "TableTeacher"]

FAR = -1e4
"""Logit of tags that a file of entities does not give."""


class TableTeacher:
    """Answers a batch by its texts' keys, with the logits of `Outputs.values`; NaN for texts without an answer.

    outputs: the model's; classes: how many. Of a tagger, tags gives for each training row (found by a batch's `index`)
    the number of each token's tag, -100 for none.
    """

    width = depth = heads = 0

    def __init__(self, outputs: Outputs, classes: int, tags: Sequence[Sequence[int]] | None = None) -> None:
        self.outputs, self.classes, self.tags = outputs, classes, tags
        self.answers = "text" if tags is None else "tokens"
        self.gives = {"logits": classes}

    @cached_property
    def fingerprint(self) -> str:
        values = self.outputs.values
        content = repr(values.tolist()).encode() if values.dtype == object else values.tobytes()
        return hashlib.sha256(self.outputs.keys.tobytes() + content).hexdigest()

    def __call__(self, batch: Batch, needs: Collection[str]) -> Encoding:
        mask = batch["attention_mask"].bool()
        if self.tags is not None:
            return Encoding(mask, self.of_tokens(batch))
        values = self.of_texts(batch["text_key"].cpu().numpy())
        return Encoding(mask, torch.from_numpy(values).to(mask.device))

    def of_texts(self, keys: np.ndarray) -> np.ndarray:
        """(B,) -> (B, …): rows of the values, NaN where there are none."""
        rows = self.outputs.rows_of(keys)
        return np.where((rows >= 0)[:, None], self.outputs.values[rows], np.float32(np.nan))

    def of_tokens(self, batch: Batch) -> Tensor:
        """(B, L, C): 0 for a token's tag and `FAR` for all others; 0 everywhere where there is none."""
        assert self.tags is not None
        mask = batch["attention_mask"].bool().cpu()
        found = torch.zeros(*mask.shape, self.classes)
        for n, row in enumerate(batch["index"].tolist()):
            own = torch.as_tensor(self.tags[row])
            said = own >= 0
            values = torch.zeros(len(own), self.classes)
            values[said] = FAR
            values[said, own[said]] = 0.0
            found[n, mask[n]] = values
        return found.to(batch["attention_mask"].device)

    def knows(self, keys: np.ndarray) -> np.ndarray:
        """(M,) bool: whether each of these texts has an answer."""
        return self.outputs.rows_of(keys) >= 0

    def has(self, keys: np.ndarray) -> bool:
        """Whether all of these texts have an answer."""
        return bool(self.knows(keys).all())

    def logits_of(self, keys: np.ndarray) -> np.ndarray:
        """(M,) -> (M, C): answers as a model gives them, for scores. Classes without a probability of their own share
        what is left, each with less than the least likely of the others."""
        values = self.of_texts(keys).astype(np.float64)
        if values.shape[1] == self.classes:
            return np.nan_to_num(values, nan=FAR)
        named, rest = values[:, :-1], np.exp(values[:, -1:])
        unnamed = np.isnan(named)
        share = rest / np.maximum(unnamed.sum(1, keepdims=True), 1)
        least = np.exp(np.where(unnamed, np.inf, named)).min(1, keepdims=True)
        with np.errstate(divide="ignore"):
            filled = np.where(unnamed, np.log(np.minimum(share, 0.999 * least)), named)
        return np.maximum(filled, FAR)

    def spans_of(self, keys: np.ndarray) -> list[Any]:
        """The flat triplets of texts that all have an answer."""
        return [self.outputs.values[row] for row in self.outputs.rows_of(keys)]
