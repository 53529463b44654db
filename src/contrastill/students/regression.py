"""Least-squares problems of `inherit`: a basis, ridge regressions, and attention scores of another width.

Shapes: T tokens, D teacher width, W student width, d width of a head, P (D, W) the basis.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "HEAD_RIDGE",
    "RIDGE",
    "SHRINK",
    "basis",
    "directions",
    "fit_norm",
    "moment",
    "regress",
    "roots",
    "score_maps",
    "solve",
    "write",
]

RIDGE = 1e-3  # all three in units of the mean eigenvalue
SHRINK = 1.0  # towards the teacher's projected weights: a closer fit to the sample trains worse
HEAD_RIDGE = 1e-1  # logits come one per text, not per token


def basis(streams: list[Tensor], width: int, centre: bool, seed: int) -> Tensor:
    """P (D, W): the main directions of the streams, turned so that coordinates are alike and those of a token add to 0.

    PCA coordinates differ in variance and have a mean: the student's norms would distort them. After a random rotation
    into the complement of (1, ..., 1), a norm only divides by the length.
    """
    if width == streams[0].shape[1]:
        return torch.eye(width)
    turn = torch.randn(width, width, generator=torch.Generator().manual_seed(seed))
    turn[:, 0] = 1
    return directions(streams, width - 1, centre) @ torch.linalg.qr(turn).Q[:, 1:].T


def directions(streams: list[Tensor], count: int, centre: bool) -> Tensor:
    """(D, count): the main directions of the streams, each of which counts the same."""
    D = streams[0].shape[1]
    scatter = torch.zeros(D, D, dtype=torch.float64)
    for h in streams:
        h = h - h.mean(0) if centre else F.normalize(h, dim=1)  # unnormalised, a few huge tokens would be all of it
        scatter += (h.T @ h).double() / h.square().sum()
    return torch.linalg.eigh(scatter).eigenvectors.flip(1)[:, :count].float()


def regress(x: Tensor, y: Tensor, bias: bool, ridge: float = RIDGE) -> tuple[Tensor, Tensor]:
    """A, b of y ~ x Aᵀ + b by ridge regression; b = 0 where there is to be none."""
    mean_x, mean_y = (x.mean(0), y.mean(0)) if bias else (x.new_zeros(x.shape[1]), y.new_zeros(y.shape[1]))
    x, y = x - mean_x, y - mean_y
    gram = (x.T @ x).double()
    gram.diagonal().add_(ridge * gram.diagonal().mean() + 1e-12)
    a = torch.linalg.solve(gram, (x.T @ y).double()).T.float()
    return a, mean_y - a @ mean_x


def moment(x: Tensor) -> Tensor:
    return x.T @ x.conj() / len(x)


def roots(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Square root of a positive matrix, and its inverse."""
    size, directions = torch.linalg.eigh(moments)
    size = size.clamp_min(float(size.max()) * 1e-6 + 1e-12).sqrt()
    return (directions * size) @ directions.mH, (directions / size) @ directions.mH


def factor(of_q: Tensor, of_k: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """T_q, T_k (rank, d) of the best (T_k k)ᴴ(T_q q) ~ kᴴq, for independent q and k with these second moments."""
    (root_q, inverse_q), (root_k, inverse_k) = roots(of_q), roots(of_k)
    left, size, right = torch.linalg.svd(root_k @ root_q)
    size = size[:rank, None].sqrt()
    return size * (right[:rank] @ inverse_q), size * (left[:, :rank].mH @ inverse_k)


def score_maps(q: Tensor, k: Tensor, width: int, rotary: bool) -> tuple[Tensor, Tensor]:
    """T_q, T_k (width, d) so that (T_q q)·(T_k k) / √width ~ q·k / √d, best for the queries and keys at hand.

    Rotary positions turn coordinates i and i + d/2 together, as one complex number, at frequency i. A number of the
    student's stands for the teacher's numbers of the nearest frequencies.
    """
    d = q.shape[1]
    to_q, to_k = q.new_zeros(width, d), k.new_zeros(width, d)
    if rotary:
        half, mine = d // 2, width // 2
        nearest = (torch.arange(half) * mine / half).round().long().clamp_max(mine - 1)
        for m in nearest.unique().tolist():
            group = (nearest == m).nonzero()[:, 0]
            of_q, of_k = (moment(torch.complex(y[:, group], y[:, group + half])) for y in (q, k))
            for to, row in zip((to_q, to_k), factor(of_q, of_k, rank=1), strict=True):
                to[m, group], to[m, group + half] = row[0].real, -row[0].imag
                to[m + mine, group], to[m + mine, group + half] = row[0].imag, row[0].real
    else:
        a, b = factor(moment(q), moment(k - k.mean(0)), rank=width)  # what all keys share changes no softmax
        to_q[: len(a)], to_k[: len(b)] = a, b
    return to_q * (width / d) ** 0.5, to_k


def write(linear: Any, weight: Tensor, bias: Tensor, rows: Any = slice(None)) -> None:
    linear.weight[rows] = weight
    if linear.bias is not None:
        linear.bias[rows] = bias


def fit_norm(norm: Any, u: Tensor, target: Tensor) -> None:
    """Gain and bias, coordinate by coordinate, so that norm(u) ~ target."""
    n = F.layer_norm(u, u.shape[1:], eps=norm.eps)
    mean_n, mean_t = (n.mean(0), target.mean(0)) if norm.bias is not None else (torch.zeros(()),) * 2
    gain = ((n - mean_n) * (target - mean_t)).mean(0) / (n - mean_n).square().mean(0).clamp_min(1e-8)
    write(norm, gain, mean_t - gain * mean_n)


def solve(linear: Any, norm: Any, target: Tensor, f: Tensor, u: Tensor) -> None:
    """Correct what `linear` writes of the features f into the stream u (as it is now), so that norm(u) ~ target.

    Under a norm the goal of u is the target with the means and deviations of the normalised u, at the length of u.
    """
    goal = target
    if norm is not None:
        n = F.layer_norm(u, u.shape[1:], eps=norm.eps)
        z = (target - target.mean(0)) / target.std(0).clamp_min(1e-6)
        goal = (z * n.std(0) + n.mean(0)) * u.std(1, keepdim=True)
    change, shift = regress(f, goal - u, linear.bias is not None, SHRINK)
    write(linear, linear.weight + change, shift if linear.bias is None else linear.bias + shift)
    if norm is not None:
        fit_norm(norm, u + f @ change.T + shift, target)
