"""A vector a text."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from contrastill.tasks.base import Task

__all__ = ["Embedding"]


class Embedding(Task):
    """A unit vector for each text, learnt from a teacher's vectors on texts without labels."""

    name = "embedding"
    outputs = frozenset({"pooled"})

    def answer(self, model: Any, features: Mapping[str, Tensor]) -> Tensor:
        return model(dict(features))["sentence_embedding"]
