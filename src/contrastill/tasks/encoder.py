"""Layers alone: an encoder from which the students of other tasks start."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from contrastill.tasks.base import Task

__all__ = ["BareEncoder"]


class BareEncoder(Task):
    """General distillation: an encoder without a head learns a teacher's layers on texts without labels."""

    name = "encoder"
    outputs = frozenset({"hidden", "attention", "qkv"})
    metrics = ("loss",)

    def answer(self, model: Any, features: Mapping[str, Tensor]) -> Tensor:
        return model(**features).last_hidden_state
