"""Tasks: the kinds of answer to a text, shared by data, losses, scores, export and serving.

Shapes: B batch, L tokens, C outputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

__all__ = ["Task"]


class Task(ABC):
    """A task, seen by methods as its loss terms and by runs as its scores. Subclasses are one file each.

    A method can learn it if the method's `needs` are among the task's `outputs`; see `Method.serves`.
    """

    name: ClassVar[str]
    """One word, in settings, run.json, bundle.json and on the page."""
    per: ClassVar[Literal["text", "token", "group", "answer"]] = "text"
    """Unit of an answer: a text, each of its tokens, a group of texts that belong together, or the answer as text."""
    one_class: ClassVar[bool] = False
    """Whether an answer is one class of several, of a whole text."""
    outputs: ClassVar[frozenset[str]]
    """Outputs of a model of this task: some of "logits", "hidden", "attention", "qkv", "pooled"."""
    label_dtype: ClassVar[torch.dtype] = torch.int64
    """Of the labels in a batch."""
    labels: tuple[str, ...] = ()
    """The names of its classes in the order of their ids; () where it has none."""
    metrics: tuple[str, ...] = ()
    """The first one selects checkpoints."""

    # ---- loss terms: `soft` without T^2, `kd` with it, `hard` against the labels

    def soft(self, student: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
        """Distance to the teacher's answers, of logits (B, C) and a mask (B, L) of real tokens: ()."""
        raise NotImplementedError(f"{self.name!r} compares no answers")

    def kd(self, student: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
        """As `soft`, times T^2: its gradient keeps its size when the temperature changes (Hinton et al. 2015)."""
        return temperature**2 * self.soft(student, teacher, mask, temperature)

    def hard(self, student: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each example against its label, 0 where it has none: (B,), and its weight in the mean, 0 where it has
        no label: (B,) bool or float."""
        raise NotImplementedError(f"{self.name!r} has no labels")

    # ---- answers

    @abstractmethod
    def answer(self, model: Any, features: Mapping[str, Tensor]) -> Tensor:
        """The model's answers (B, …) to tokens: what an exported graph computes."""
