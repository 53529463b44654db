"""Losses on the prediction layer: soft labels from the teacher, hard labels from the data.

Shapes: B batch, L tokens, C classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastill.losses.shapes import check_labels, check_pair

__all__ = [
    "bucket_kl",
    "hard_binary_cross_entropy",
    "hard_cross_entropy",
    "hard_mse",
    "soft_binary_kl",
    "soft_kl",
    "soft_mse",
    "token_cross_entropy",
    "token_soft_kl",
]


def soft_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """`KL(softmax(teacher / T) || softmax(student / T))`, (B, C), (B, C) -> (); mean over examples; *without* T^2.

    LRC-BERT's soft loss (t = 1.1). TinyBERT's soft cross-entropy differs from it by the teacher's entropy only, which
    has no gradient.
    """
    check_pair(student, teacher, "B C")
    return F.kl_div(
        F.log_softmax(student.float() / temperature, dim=-1),
        F.log_softmax(teacher.float() / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )


def bucket_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """As `soft_kl`, where the teacher names some classes and gives the others one probability together; *without* T^2.

    Each example has a bucket for each named class, and one for all others, whose probability of the student is their
    sum. The temperature acts on the logarithms of these probabilities, renormalised, of both sides: equal buckets give
    0 at any temperature, and with every class named it is `soft_kl`. No temperature acts inside the last bucket, of
    which the teacher says nothing.

    Args:
        student: (B, C) logits.
        teacher: (B, C + 1) logarithms of probabilities: NaN for classes that are not named, -inf for 0, in the last
            column that of the others. A row of NaN (no answer) adds nothing to the mean over the batch.
    """
    if student.dim() != 2 or teacher.shape != (len(student), student.shape[1] + 1):
        raise ValueError(
            f"expected student (B, C) and teacher (B, C + 1), got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    named = ~teacher[:, :-1].isnan()
    known, others = named.any(1, keepdim=True), ~named.all(1, keepdim=True)
    there = torch.cat([named, others & known], 1)
    lowest = torch.finfo(torch.float32).min / 4
    s = F.log_softmax(student.float(), dim=-1)
    tail = torch.logsumexp(s.masked_fill(named & others, lowest), dim=1, keepdim=True)
    s = torch.cat([s, tail], 1).masked_fill(~there, lowest)
    s = F.log_softmax(s.masked_fill(~known, 0.0) / temperature, dim=-1)
    t = (teacher.float() / temperature).masked_fill(~there, -torch.inf).masked_fill(~known, 0.0).softmax(-1)
    errors = (torch.xlogy(t, t) - t * s).masked_fill(~there, 0.0)
    return errors.sum() / len(student)


def soft_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Regression's soft loss: mean squared distance to the teacher's score, (B, 1), (B, 1) -> (); a score of NaN (no
    answer) adds nothing."""
    check_pair(student, teacher, "B 1")
    known = ~teacher.isnan()
    return F.mse_loss(student.float().where(known, 0.0), teacher.float().where(known, 0.0))


def hard_cross_entropy(student: Tensor, labels: Tensor) -> Tensor:
    """(B, C), (B,) -> (B,): cross-entropy of each example; 0 where the label is -100 (unlabelled)."""
    check_labels(student, labels, student.shape[:1])
    return F.cross_entropy(student.float(), labels, ignore_index=-100, reduction="none")


def hard_mse(student: Tensor, labels: Tensor) -> Tensor:
    """(B, 1), (B,) -> (B,): squared error of each example; 0 where the label is NaN (unlabelled)."""
    check_labels(student, labels, (student.numel(),))
    known = ~labels.isnan()
    return (student.float().squeeze(-1) - labels.float().where(known, 0.0)).square().where(known, 0.0)


def soft_binary_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """`KL(Bernoulli(sigmoid(teacher / T)) || Bernoulli(sigmoid(student / T)))`, (B, C), (B, C) -> (); *without* T^2.

    Mean over labels, then over examples: each label is a question of its own, so nothing is normalised over labels. A
    label of NaN (no answer) adds nothing.
    """
    check_pair(student, teacher, "B C")
    known = ~teacher.isnan()
    s, t = (x.float().where(known, 0.0) / temperature for x in (student, teacher))
    yes = t.sigmoid() * (F.logsigmoid(t) - F.logsigmoid(s))
    no = (-t).sigmoid() * (F.logsigmoid(-t) - F.logsigmoid(-s))
    return (yes + no).mean(1).mean()


def hard_binary_cross_entropy(student: Tensor, labels: Tensor, positive: Tensor | None = None) -> Tensor:
    """(B, C), (B, C) of 0 and 1 -> (B,): binary cross-entropy, mean over labels; 0 in rows of NaN (unlabelled).

    positive: (C,) the factor of each label's loss in the rows that have it; None: 1 (as torch's `pos_weight`).
    """
    check_pair(student, labels, "B C")
    known = ~labels.isnan().any(1)
    targets = labels.float().where(known.unsqueeze(1), 0.0)
    errors = F.binary_cross_entropy_with_logits(student.float(), targets, reduction="none", pos_weight=positive)
    return errors.mean(1).where(known, 0.0)


def token_soft_kl(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """As `soft_kl`, of each token's answer, (B, L, C), (B, L, C), (B, L) -> (); *without* T^2.

    Mean over an example's tokens in the mask, then over examples: padding, word pieces behind a word's first, and the
    split of a batch over processes change nothing.
    """
    check_pair(student, teacher, "B L C", mask)
    s, t = (F.log_softmax(x.float() / temperature, dim=-1) for x in (student, teacher))
    return example_mean((t.exp() * (t - s)).sum(-1), mask).mean()


def token_cross_entropy(student: Tensor, labels: Tensor) -> Tensor:
    """(B, L, C), (B, L) -> (B,): cross-entropy, mean over the labelled tokens of each example; 0 where no token has a
    label (all -100)."""
    if student.dim() != 3 or labels.shape != student.shape[:2]:
        raise ValueError(
            f"expected student (B, L, C) and labels (B, L), got {tuple(student.shape)} and {tuple(labels.shape)}"
        )
    errors = F.cross_entropy(student.float().transpose(1, 2), labels, ignore_index=-100, reduction="none")
    return example_mean(errors, labels != -100)


def example_mean(values: Tensor, mask: Tensor) -> Tensor:
    """(B, L), (B, L) -> (B,): the mean where the mask is true; 0 where it is nowhere."""
    real = mask.to(values.dtype)
    return (values * real).sum(1) / real.sum(1).clamp(min=1)
