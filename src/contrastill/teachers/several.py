"""Several sentence-embedding teachers as one."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from contrastill.encoder import Encoding

__all__ = ["SideBySide"]


class SideBySide:
    """One or more teachers whose vectors are stored: each one's unit vectors, side by side, as one unit vector.

    each: `CachedEmbedder`, or one `VectorTeacher`, which cannot `encode`.
    """

    depth = heads = 0
    answers = "text"

    def __init__(self, each: Sequence[Any]) -> None:
        self.each = each
        self.width = sum(teacher.width for teacher in each)
        self.gives = {"pooled": self.width}

    @property
    def fingerprint(self) -> str:
        return "+".join(teacher.fingerprint for teacher in self.each)

    def __call__(self, batch: Mapping[str, Tensor], needs: Collection[str] = ()) -> Encoding:
        """batch: of several teachers, content is (B, T, 2), each one's keys."""
        if len(self.each) == 1:
            return self.each[0](batch, needs)
        answers = [
            teacher({**batch, "content": batch["content"][:, n].contiguous()}, needs)
            for n, teacher in enumerate(self.each)
        ]
        vectors = torch.cat([F.normalize(answer.pooled, dim=-1) for answer in answers], 1)
        return Encoding(answers[0].mask, pooled=vectors / len(answers) ** 0.5)

    def encode(self, texts: Sequence[str], **_: Any) -> np.ndarray:
        """(N,) texts -> (N, D)"""
        return np.concatenate([teacher.encode(texts) for teacher in self.each], 1) / len(self.each) ** 0.5
