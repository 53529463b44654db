"""Losses that compare the relations of answers: over classes, over examples, between pairs of examples.

Shapes: B batch, C outputs.
"""

import torch
from torch import Tensor

from contrastill.losses.shapes import check_pair

__all__ = ["difference_mse", "inter_class", "intra_class"]

SMALLEST = 1e-6
"""Length below which numbers count as all equal: they have no correlation with any others."""


def inter_class(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """1 - Pearson's correlation of both softmaxes over an example's classes, (B, C), (B, C) -> (); mean over examples;
    *without* T^2.

    DIST's inter-class relation. It takes at least three classes: of two, the correlation is 1 or -1 and has no
    gradient.
    """
    s, t = softmaxes(student, teacher, temperature)
    return 1 - correlation(s, t).mean()


def intra_class(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """1 - Pearson's correlation of both softmaxes over the examples, class by class, (B, C), (B, C) -> (); mean over
    classes; *without* T^2. DIST's intra-class relation."""
    s, t = softmaxes(student, teacher, temperature)
    return 1 - correlation(s.T, t.T).mean()


def softmaxes(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    check_pair(student, teacher, "B C")
    if student.shape[1] < 3:
        raise ValueError(f"expected at least 3 classes, got {student.shape[1]}")
    return (student.float() / temperature).softmax(-1), (teacher.float() / temperature).softmax(-1)


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Pearson's, of each row: (R, N), (R, N) -> (R,); 0 where a row is constant."""
    x, y = (each - each.mean(1, keepdim=True) for each in (x, y))
    lengths = [each.norm(dim=1).clamp(min=SMALLEST) for each in (x, y)]
    return (x * y).sum(1) / (lengths[0] * lengths[1])


def difference_mse(student: Tensor, teacher: Tensor, known: Tensor | None = None) -> Tensor:
    """Squared distance of the difference of two examples' answers to that of the teacher's (or the labels'), (B, C),
    (B, C) -> (); mean over outputs and over all ordered pairs of examples, each with itself too.

    That is twice the variance of `student - teacher`, in B steps and not B^2. What all answers have in common is not
    seen. known: (B,) bool, the examples that count; None: all.
    """
    check_pair(student, teacher, "B C")
    weights = torch.ones_like(student[:, :1], dtype=torch.float32) if known is None else known.float().unsqueeze(1)
    total = weights.sum().clamp(min=1)
    apart = (student.float() - teacher.float()).masked_fill(weights == 0, 0.0)
    apart = (apart - apart.sum(0) / total) * weights
    return 2 * apart.square().mean(1).sum() / total
