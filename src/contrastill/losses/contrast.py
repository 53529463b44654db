"""Contrastive losses: a student representation against its teacher's and those of other examples.

Shapes: B batch, L representations an example (its tokens, or 1), D width, N candidate examples.

`contrast` is one term for a family of methods, which differ in what they give it:

| method      | anchors           | candidates                      | target                                        |
|-------------|-------------------|---------------------------------|-----------------------------------------------|
| CKD (DisCo) | projected student | teacher's batch and queue       | one's own                                     |
| ConGen      | projected student | teacher's batch and queue       | softmax(teacher . candidates / T_teacher)     |
| RRD         | projected student | teacher's queue                 | softmax(teacher . candidates / T_teacher)     |
| DistillCSE  | student           | student's batch but oneself     | the same of its batch, shuffled within groups |
| SimCSE      | student, view 1   | student, view 2, hard negatives | one's own                                     |
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastill.losses.shapes import check_pair
from contrastill.losses.soft import example_mean

__all__ = [
    "centred_cosine",
    "contrast",
    "cos_nce",
    "group_shuffled",
    "negatives_of",
    "similarity_targets",
    "unit_mean",
]


def cos_nce(student: Tensor, teacher: Tensor, negatives: Tensor, allowed: Tensor, mask: Tensor) -> Tensor:
    """COS-NCE, LRC-BERT's angular contrastive loss (Fu et al. 2021, arXiv:2012.07335, section 3.2).

    With `g(x, y) = 1 - cos(x, y)` and K negatives `n_k`, for each representation:

        L = 1/(2K) sum_k [ 2 - (g(n_k, s) - g(t, s)) ] + g(t, s)
          = 2 - 1.5 cos(t, s) + 0.5 mean_k cos(n_k, s)                    in [0, 4]

    The second form (algebra) is linear in the cosines, so the K cosines need not be formed one by one: their mean is
    one product with the mean of the negatives' unit vectors: exact, and "all other examples" costs as much as one.

    Args:
        student: (B, L, D), already projected to the teacher's width.
        teacher: (B, L, D).
        negatives: (N, D), for each candidate example the mean of its unit vectors: `unit_mean` of its teacher output.
        allowed: (B, N) bool, which candidates are negatives of which example. A row without any (a batch of one, or
            of duplicates) contributes `2 - 1.5 cos(t, s)`.
        mask: (B, L) bool, False on padding.

    Returns:
        () in float32: mean over an example's real representations, then over examples, so that padding, text length
        and the split of a batch over processes do not change it.
    """
    check_pair(student, teacher, "B L D", mask)
    target = pulled_and_pushed(teacher, negatives, allowed)
    return example_mean(2 - (F.normalize(student.float(), dim=-1) * target).sum(-1), mask).mean()


def centred_cosine(student: Tensor, teacher: Tensor, negatives: Tensor, allowed: Tensor, mask: Tensor) -> Tensor:
    """`1 - cos(s, t / |t| - mean_k n_k / 3)`, of the arguments of `cos_nce` -> (), in [0, 2].

    The control of `cos_nce`, which is linear in that same direction (algebra): a cosine distance to the teacher, from
    which a third of what all other examples have in common is taken. Without negatives: to the teacher as it is.
    """
    check_pair(student, teacher, "B L D", mask)
    target = pulled_and_pushed(teacher, negatives, allowed)
    return example_mean(1 - F.cosine_similarity(student.float(), target, dim=-1), mask).mean()


def pulled_and_pushed(teacher: Tensor, negatives: Tensor, allowed: Tensor) -> Tensor:
    """`1.5 t / |t| - 0.5 mean_k n_k`: (B, L, D), (N, D), (B, N) -> (B, L, D)."""
    weight = allowed.float()
    with torch.autocast(teacher.device.type, enabled=False):  # which would round this product to half precision
        opposite = (weight / weight.sum(1, keepdim=True).clamp(min=1)) @ negatives.float()  # (B, D)
    return 1.5 * F.normalize(teacher.float(), dim=-1) - 0.5 * opposite.unsqueeze(1)


def contrast(
    anchors: Tensor, candidates: Tensor, target: Tensor, temperature: Tensor | float, allowed: Tensor | None = None
) -> Tensor:
    """`CE(target, softmax(anchors . candidates / temperature))`, mean over anchors: InfoNCE and its soft forms.

    van den Oord et al. 2018 (arXiv:1807.03748, eq. 4) with one's own index as target; DisCo's CKD (arXiv:2112.05638),
    ConGen (Limkonchotiwat et al. 2022, eq. 3) and RRD (arXiv:2407.12073) by the table above.

    Args:
        anchors: (B, D) unit vectors.
        candidates: (N, D) unit vectors.
        target: (B,) int64, the candidate that belongs to each anchor; or (B, N), a distribution over the candidates.
        temperature: a number, or () if it is learnt.
        allowed: (B, N) bool, the candidates an anchor is compared with; None: all. A target must be among them.

    Returns:
        () in float32. Under autocast the product is formed in its type, as a queue of many thousands asks for.
    """
    logits = (anchors @ candidates.T.to(anchors.dtype)).float() / temperature
    if allowed is not None:
        logits = logits.masked_fill(~allowed, torch.finfo(logits.dtype).min / 2)
    return F.cross_entropy(logits, target)


def similarity_targets(
    teacher: Tensor, candidates: Tensor, temperature: float, allowed: Tensor | None = None
) -> Tensor:
    """(B, D), (N, D) unit vectors -> (B, N): softmax of the teacher's similarities, over the allowed candidates."""
    logits = (teacher @ candidates.T.to(teacher.dtype)).float() / temperature
    if allowed is not None:
        logits = logits.masked_fill(~allowed, torch.finfo(logits.dtype).min / 2)
    return logits.softmax(1)


def group_shuffled(targets: Tensor, probabilities: Tensor, share: float, allowed: Tensor, draw: Tensor) -> Tensor:
    """DistillCSE's group-P shuffling (Xu et al. 2023, arXiv:2310.13499): targets are permuted within groups.

    A row's allowed candidates, the most probable first, are cut into groups: candidate n is in group
    `floor(sum_{m < n} p_m / share)`. So a candidate that fills a group is its last.

    Args:
        targets: (B, N).
        probabilities: (B, N), whose sum over a row's allowed candidates is 1.
        share: the probability that a group holds.
        allowed: (B, N) bool; the others are a group of their own.
        draw: (B, N) random numbers: the candidate with a group's k-th smallest gets the group's k-th target.

    Returns:
        (B, N): the rows of `targets`, permuted.
    """
    order = probabilities.masked_fill(~allowed, -1.0).argsort(dim=1, descending=True, stable=True)
    ranked = probabilities.gather(1, order)
    groups = ((ranked.cumsum(1) - ranked) / share).floor().masked_fill(~allowed.gather(1, order), torch.inf)
    places = draw.gather(1, order).argsort(dim=1)
    places = places.gather(1, groups.gather(1, places).argsort(dim=1, stable=True))  # by group, then by draw
    return torch.empty_like(targets).scatter(1, order.gather(1, places), targets.gather(1, order))


def unit_mean(x: Tensor, mask: Tensor) -> Tensor:
    """(B, L, D), (B, L) -> (B, D): the mean of each example's unit vectors, padding left out, in float32."""
    real = mask.float().unsqueeze(-1)
    return (F.normalize(x.float(), dim=-1) * real).sum(1) / real.sum(1).clamp(min=1)


def negatives_of(keys: Tensor, candidates: Tensor, most: int | None = None) -> Tensor:
    """(B,), (N,) text keys -> (B, N) bool: which candidates are negatives of which example.

    A candidate of equal text (the example itself, or a duplicate of it) is never one. With `most`, that many are drawn
    for each example without replacement, or all if there are fewer; drawing uses torch's global generator.
    """
    allowed = keys.unsqueeze(1) != candidates.unsqueeze(0)
    if most is None or most >= len(candidates):
        return allowed
    draw = torch.rand(allowed.shape, device=keys.device).masked_fill(~allowed, -1.0)
    chosen = torch.zeros_like(allowed).scatter_(1, draw.topk(most, dim=1).indices, True)
    return chosen & allowed
