"""Divergences of a causal language model from its teacher, one value a token.

Shapes: N answer positions, V outcomes (tokens of one vocabulary), k outcomes named by a sparse teacher. All take
logits, of any precision, and compute in float32; logarithms of probabilities are logits too. p is the teacher's
distribution, q the student's; p gets no gradient. Where the teacher's logit is -inf it gives no mass: `0 log 0` counts
0, and gradients are finite. Where the student's alone is, the divergence from the teacher is infinite.

With a teacher of k named tokens (`top_k`), each loss is that of `outcomes(student, teacher)`: k + 1 outcomes, of which
the last is "any other token". Merging outcomes can only lower a divergence (data processing): it is a lower bound of
the divergence over the whole vocabulary, does not fall with k, and is exact at k = V.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from contrastill.losses.shapes import check_labels, check_pair

__all__ = [
    "SparseLogits",
    "decoupled",
    "forward_kl",
    "jensen_shannon",
    "outcome_of",
    "outcomes",
    "reverse_kl",
    "same_outcomes",
    "skew_kl",
    "skew_reverse_kl",
    "top_k",
]


@dataclass(frozen=True)
class SparseLogits:
    """A teacher's most likely tokens at N positions, and the mass of all others.

    ids: (N, k) integers, no token twice. log_probs: (N, k) logarithms of their probabilities. tail: (N,) logarithm of
    the probability of any other token; -inf where there is none.
    """

    ids: Tensor
    log_probs: Tensor
    tail: Tensor


def forward_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """`KL(p || q)`, (N, V), (N, V) -> (N,)."""
    check_pair(student, teacher, "N V")
    q, p = log_probabilities(student, teacher)
    return divergence(p, q)


def reverse_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """`KL(q || p)`, (N, V), (N, V) -> (N,).

    q is normalised over the outcomes to which the teacher gives mass: with the others the divergence would be infinite.
    """
    check_pair(student, teacher, "N V")
    q, p = log_probabilities(student.masked_fill(teacher == -torch.inf, -torch.inf), teacher)
    return divergence(q, p)


def jensen_shannon(student: Tensor, teacher: Tensor, beta: float) -> Tensor:
    """GKD's generalised Jensen-Shannon divergence (Agarwal et al. 2024, arXiv:2306.13649), (N, V), (N, V) -> (N,).

    With `m = beta p + (1 - beta) q`:  `beta KL(p || m) + (1 - beta) KL(q || m)`; beta 0 is `forward_kl` and beta 1
    `reverse_kl`, as in TRL: the limits of the formula divided by beta and by 1 - beta. Symmetric and at most log 2 at
    beta 0.5.

    Raises:
        ValueError: beta outside [0, 1].
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"expected beta from 0 (forward KL) to 1 (reverse KL), got {beta}")
    if beta in (0, 1):
        return reverse_kl(student, teacher) if beta else forward_kl(student, teacher)
    check_pair(student, teacher, "N V")
    q, p = log_probabilities(student, teacher)
    m = mixture(p, q, beta)
    return beta * divergence(p, m) + (1 - beta) * divergence(q, m)


def skew_kl(student: Tensor, teacher: Tensor, alpha: float = 0.1) -> Tensor:
    """`KL(p || alpha p + (1 - alpha) q)`, DistiLLM's SKL (Ko et al. 2024, arXiv:2402.03898), (N, V), (N, V) -> (N,).

    At most log(1 / alpha); alpha 0 is `forward_kl`.

    Raises:
        ValueError: alpha outside [0, 1).
    """
    check_skew(alpha)
    if alpha == 0:
        return forward_kl(student, teacher)
    check_pair(student, teacher, "N V")
    q, p = log_probabilities(student, teacher)
    return divergence(p, mixture(p, q, alpha))


def skew_reverse_kl(student: Tensor, teacher: Tensor, alpha: float = 0.1) -> Tensor:
    """`KL(q || alpha q + (1 - alpha) p)`, DistiLLM's SRKL (arXiv:2402.03898), (N, V), (N, V) -> (N,).

    At most log(1 / alpha); alpha 0 is `reverse_kl`.

    Raises:
        ValueError: alpha outside [0, 1).
    """
    check_skew(alpha)
    if alpha == 0:
        return reverse_kl(student, teacher)
    check_pair(student, teacher, "N V")
    q, p = log_probabilities(student, teacher)
    return divergence(q, mixture(q, p, alpha))


def decoupled(student: Tensor, teacher: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """ATKD's parts of the divergence (Zhong et al. 2024, arXiv:2402.11890), (N, V), (N, V), (N,) -> (N,) each.

    `KL(p || q) = TKD + UNC * DKD`. TKD: the divergence over two outcomes, the target and any other. DKD: that over the
    other outcomes, of p and q normalised without the target; 0 where V = 2 or the teacher gives the others no mass.
    UNC: the teacher's probability of any other, `1 - p_target` without its rounding.

    Raises:
        ValueError: fewer than 2 outcomes.
    """
    check_pair(student, teacher, "N V")
    check_labels(student, target, student.shape[:1])
    if student.shape[1] < 2:
        raise ValueError(f"expected at least 2 outcomes, got {tuple(student.shape)}")
    q, p = log_probabilities(student, teacher)
    place = target.unsqueeze(1)
    q_rest, p_rest = (x.scatter(1, place, -torch.inf) for x in (q, p))
    q_two, p_two = (
        torch.cat([x.gather(1, place), rest.logsumexp(1, keepdim=True)], 1) for x, rest in ((q, q_rest), (p, p_rest))
    )
    certain = p_two[:, 1] == -torch.inf
    p_rest = p_rest.masked_fill(certain.unsqueeze(1), 0.0)
    dkd = divergence(p_rest.log_softmax(1), q_rest.log_softmax(1)).masked_fill(certain, 0.0)
    return divergence(p_two, q_two), dkd, p_two[:, 1].exp()


def top_k(teacher: Tensor, k: int, target: Tensor | None = None) -> SparseLogits:
    """The k most likely tokens of the teacher's logits (N, V), most likely first, and the mass of the others.

    target: (N,) tokens that are always named: where one is not among the k most likely, in place of the k-th.

    Raises:
        ValueError: not 1 to V tokens.
    """
    if teacher.dim() != 2 or not 1 <= k <= teacher.shape[1]:
        raise ValueError(f"expected logits (N, V) and k from 1 to V, got {tuple(teacher.shape)} and {k}")
    p = teacher.detach().float().log_softmax(1)
    ids = p.topk(k).indices
    if target is not None:
        check_labels(teacher, target, teacher.shape[:1])
        named = (ids == target.unsqueeze(1)).any(1)
        ids[:, -1] = ids[:, -1].where(named, target)
    return SparseLogits(ids, p.gather(1, ids), p.scatter(1, ids, -torch.inf).logsumexp(1))


def outcomes(student: Tensor, teacher: SparseLogits) -> tuple[Tensor, Tensor]:
    """Student's logits (N, V) and a sparse teacher -> both as (N, k + 1) log-probabilities: its k tokens and any other.

    Raises:
        ValueError: other numbers of positions, or more than V named tokens.
    """
    k = teacher.ids.shape[-1]
    if student.dim() != 2 or teacher.ids.shape != (len(student), k) or k > student.shape[1]:
        raise ValueError(
            f"expected student (N, V) and at most V tokens at N positions of the teacher, got {tuple(student.shape)} "
            f"and {tuple(teacher.ids.shape)}"
        )
    q, ids = student.float().log_softmax(1), teacher.ids.long()
    if k < student.shape[1]:
        tail = q.scatter(1, ids, -torch.inf).logsumexp(1, keepdim=True)
    else:
        tail = q.new_full((len(q), 1), -torch.inf)  # of no outcome: logsumexp would have no gradient
    named = torch.cat([teacher.log_probs.float(), teacher.tail.float().unsqueeze(1)], 1)
    return torch.cat([q.gather(1, ids), tail], 1), named


def outcome_of(teacher: SparseLogits, target: Tensor) -> Tensor:
    """The number of each token among the k + 1 outcomes of `outcomes`: (N,) -> (N,); k: it is any other."""
    found = teacher.ids == target.unsqueeze(1)
    return found.int().argmax(1).where(found.any(1), teacher.ids.shape[1])


def same_outcomes(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N, V1) and (N, V2) of one tokenizer, cut to the smaller of both: heads are padded to different sizes."""
    size = min(student.shape[-1], teacher.shape[-1])
    return student[..., :size], teacher[..., :size]


def log_probabilities(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """(N, V), (N, V) -> the same normalised, in float32; the teacher's without gradient."""
    return student.float().log_softmax(1), teacher.detach().float().log_softmax(1)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """`KL(p || q)` of logarithms of probabilities, (N, V), (N, V) -> (N,); outcomes of no mass in p count 0."""
    none = p == -torch.inf
    if none.any():
        p, q = p.masked_fill(none, 0.0), q.masked_fill(none, 0.0)  # else their gradients would be 0 * inf
        return (p.exp() * (p - q)).masked_fill(none, 0.0).sum(1)
    return (p.exp() * (p - q)).sum(1)


def mixture(a: Tensor, b: Tensor, share: float) -> Tensor:
    """`log(share e^a + (1 - share) e^b)`, without leaving logarithms."""
    none = (a == -torch.inf) & (b == -torch.inf)
    a, b = a.masked_fill(none, 0.0), b.masked_fill(none, 0.0)
    return torch.logaddexp(a + math.log(share), b + math.log1p(-share)).masked_fill(none, -torch.inf)


def check_skew(alpha: float) -> None:
    """Raises a ValueError unless alpha leaves some of the other distribution in the mixture."""
    if not 0 <= alpha < 1:
        raise ValueError(f"expected alpha of at least 0 and below 1, got {alpha}")
