"""Losses between attention maps, and between relations of tokens.

Shapes: B batch, H heads, L tokens, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastill.losses.shapes import check_pair
from contrastill.losses.soft import example_mean

__all__ = ["LEAST", "attention_mse", "relation_kl"]

LEAST = -1e2
"""Attention scores of masked pairs are this, or less, in every head."""


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


def relation_kl(student: Tensor, teacher: Tensor, mask: Tensor, heads: int) -> Tensor:
    """MiniLMv2's self-attention relation (arXiv:2012.15828, eq. 6 to 9), (B, L, D_S), (B, L, D_T), (B, L) -> ().

    Both sides are queries (or keys, or values) of one layer, split anew into `heads` heads. Of each head a token's
    relation is `softmax(x x' / sqrt(d))` over the real tokens x'. The loss is `KL(teacher || student)`: mean over heads
    and real tokens of an example, then over examples.

    Raises:
        ValueError: shapes that do not fit; a width that `heads` does not divide.
    """
    if student.dim() != 3 or student.shape[:2] != teacher.shape[:2] or mask.shape != student.shape[:2]:
        raise ValueError(
            f"expected student (B, L, D_S), teacher (B, L, D_T) and mask (B, L), got {tuple(student.shape)}, "
            f"{tuple(teacher.shape)} and {tuple(mask.shape)}"
        )
    if student.shape[2] % heads or teacher.shape[2] % heads:
        raise ValueError(f"expected {heads} heads to divide the widths, got {student.shape[2]} and {teacher.shape[2]}")
    s, t = (relations(x, mask, heads) for x in (student, teacher))
    errors = (t.exp() * (t - s)).masked_fill(~mask[:, None, None], 0.0).sum(-1).mean(1)  # (B, L)
    return example_mean(errors, mask).mean()


def relations(x: Tensor, mask: Tensor, heads: int) -> Tensor:
    """(B, L, D), (B, L) -> (B, H, L, L), logarithms; padding is as unlikely as float32 can say."""
    size, length, width = x.shape
    x = x.float().reshape(size, length, heads, width // heads).transpose(1, 2)
    with torch.autocast(x.device.type, enabled=False):
        scores = x @ x.transpose(2, 3) / (width // heads) ** 0.5
    return F.log_softmax(scores.masked_fill(~mask[:, None, None], -1e30), dim=-1)
