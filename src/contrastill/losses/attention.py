"""Losses between attention maps.

Shapes: B batch, H heads, L tokens.
"""

from torch import Tensor

__all__ = ["attention_mse"]


def attention_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """TinyBERT's attention loss (arXiv:1909.10351, eq. 7) on scores *before* softmax, (B, H, L, L) x 2, (B, L) -> ().

    Entries at or below -100 (masked ones) count as 0 on both sides, as in the authors' code. Mean over heads and real
    query-key pairs of an example, then over examples; the authors' code averages over padding too.
    """
    student, teacher = (x.float().masked_fill(x <= -1e2, 0.0) for x in (student, teacher))
    error = (student - teacher).square().mean(1)  # (B, L, L)
    pairs = (mask.unsqueeze(1) & mask.unsqueeze(2)).float()
    return ((error * pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)).mean()
