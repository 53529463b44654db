"""Layers alone: an encoder from which the students of other tasks start."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from contrastill.tasks.base import Task

__all__ = ["BareEncoder"]


class BareEncoder(Task):
    """General distillation: an encoder without a head learns a teacher's layers on texts without labels.

    head: the teacher's masked-LM head, (N, D) -> (N, vocabulary), for methods that compare guesses of masked words;
        None: there is none. mask: the id of the tokenizer's mask token. words: the ids that may be masked.
    """

    name = "encoder"
    outputs = frozenset({"hidden", "attention", "qkv"})
    metrics = ("loss",)

    def __init__(
        self, head: Callable[[Tensor], Tensor] | None = None, mask: int | None = None, words: Sequence[int] = ()
    ) -> None:
        self.head, self.mask, self.words = head, mask, words

    def answer(self, model: Any, features: Mapping[str, Tensor]) -> Tensor:
        return model(**features).last_hidden_state
