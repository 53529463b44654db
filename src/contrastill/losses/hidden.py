"""Losses between hidden states.

Shapes: B batch, L tokens, D width.
"""

import torch.nn.functional as F
from torch import Tensor

from contrastill.losses.shapes import check_pair
from contrastill.losses.soft import example_mean

__all__ = ["hidden_mse", "normalised_mse", "unit_distance"]


def hidden_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """TinyBERT's hidden-state loss (Jiao et al. 2020, arXiv:1909.10351, eq. 8), (B, L, D), (B, L, D), (B, L) -> ().

    Mean over width and the example's real tokens, then over examples. (The paper's code averages over padding too.)
    """
    check_pair(student, teacher, "B L D", mask)
    error = (student.float() - teacher.float()).square().mean(-1)  # (B, L)
    return example_mean(error, mask).mean()


def normalised_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """BERT-PKD's patient loss (Sun et al. 2019, arXiv:1908.09355, eq. 7), (B, D), (B, D) -> ().

    Mean squared distance of the unit vectors. The mean is over width too, as in the authors' code, for which their
    weights (10 to 1000) were found; the paper's formula sums over width.
    """
    check_pair(student, teacher, "B D")
    return F.mse_loss(F.normalize(student.float(), dim=-1), F.normalize(teacher.float(), dim=-1))


def unit_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """LEAF's loss (Vujanic and Rückstieß 2025, arXiv:2509.12539), (B, D), (B, D) -> (): `|s - t|^2` of unit vectors.

    Summed over width, mean over examples: `2 - 2 cos(s, t)`.
    """
    check_pair(student, teacher, "B D")
    return (F.normalize(student.float(), dim=-1) - F.normalize(teacher.float(), dim=-1)).square().sum(-1).mean()
