"""Losses between attention maps.

Shapes: B batch, H heads, L tokens.
"""

from torch import Tensor

from contrastill.losses.shapes import check_pair

__all__ = ["attention_mse"]

LEAST = -1e2


def attention_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """TinyBERT's attention loss (arXiv:1909.10351, eq. 7) on scores *before* softmax, (B, H, L, L) x 2, (B, L) -> ().

    Compared are the pairs of real tokens whose key both models' queries may look at: in a local or a causal layer not
    all may, and their scores are masked (-100 or less in every head). A single head's score that low counts as 0, as in
    the authors' code. Mean over heads and those pairs of an example, then over examples; the authors' code averages
    over padding too.
    """
    check_pair(student, teacher, "B H L L", mask)
    student, teacher = student.float(), teacher.float()
    seen = (student > LEAST).any(1) & (teacher > LEAST).any(1)
    student, teacher = (x.masked_fill(x <= LEAST, 0.0) for x in (student, teacher))
    error = (student - teacher).square().mean(1)  # (B, L, L)
    pairs = (mask.unsqueeze(1) & mask.unsqueeze(2) & seen).float()
    return ((error * pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)).mean()
