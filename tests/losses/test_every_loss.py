"""What holds of every loss: one row a function, and a check that no function is without a row."""

import inspect

import pytest
import torch
from torch import nn

from contrastill import losses

B, L, D, H, C, V = 5, 4, 6, 2, 3, 7
LENGTHS = torch.tensor([[4], [1], [3], [2], [4]])
MASK = torch.arange(L) < LENGTHS
ALLOWED = ~torch.eye(B, dtype=torch.bool)
YES_NO = (torch.arange(B * C).reshape(B, C) % 2).float().index_fill(0, torch.tensor([2]), torch.nan)

BUCKETS = torch.tensor([[0.5, 0.25, torch.nan, 0.25], [0.25, 0.25, 0.5, 0.0]]).log()[[0, 1, 0, 0, 1]]

# Function -> its inputs by name, (B, ...), float32; `negatives` and `allowed` are over the batch's own rows.
ROWS = {
    losses.attention_mse: {"student": (B, H, L, L), "teacher": (B, H, L, L), "mask": MASK},
    losses.relation_kl: {"student": (B, L, D), "teacher": (B, L, D), "mask": MASK, "heads": 2},
    losses.cos_nce: {
        "student": (B, L, D),
        "teacher": (B, L, D),
        "negatives": (B, D),
        "allowed": ALLOWED,
        "mask": MASK,
    },
    losses.centred_cosine: {
        "student": (B, L, D),
        "teacher": (B, L, D),
        "negatives": (B, D),
        "allowed": ALLOWED,
        "mask": MASK,
    },
    losses.hard_cross_entropy: {"student": (B, C), "labels": torch.tensor([0, 2, -100, 1, 1])},
    losses.hard_mse: {"student": (B, 1), "labels": torch.tensor([0.5, torch.nan, 1.0, -2.0, 0.0])},
    losses.hidden_mse: {"student": (B, L, D), "teacher": (B, L, D), "mask": MASK},
    losses.normalised_mse: {"student": (B, D), "teacher": (B, D)},
    losses.soft_kl: {"student": (B, C), "teacher": (B, C), "temperature": 1.1},
    losses.inter_class: {"student": (B, C), "teacher": (B, C), "temperature": 1.1},
    losses.intra_class: {"student": (B, C), "teacher": (B, C), "temperature": 1.1},
    losses.difference_mse: {"student": (B, C), "teacher": (B, C)},
    losses.bucket_kl: {"student": (B, C), "teacher": BUCKETS, "temperature": 1.1},
    losses.soft_binary_kl: {"student": (B, C), "teacher": (B, C), "temperature": 2.0},
    losses.hard_binary_cross_entropy: {"student": (B, C), "labels": YES_NO},
    losses.token_soft_kl: {"student": (B, L, C), "teacher": (B, L, C), "mask": MASK, "temperature": 1.1},
    losses.token_cross_entropy: {
        "student": (B, L, C),
        "labels": (torch.arange(B * L).reshape(B, L) % C).index_fill(0, torch.tensor([2]), -100),
    },
    losses.soft_mse: {"student": (B, 1), "teacher": (B, 1)},
    losses.forward_kl: {"student": (B, V), "teacher": (B, V)},
    losses.reverse_kl: {"student": (B, V), "teacher": (B, V)},
    losses.jensen_shannon: {"student": (B, V), "teacher": (B, V), "beta": 0.3},
    losses.skew_kl: {"student": (B, V), "teacher": (B, V), "alpha": 0.1},
    losses.skew_reverse_kl: {"student": (B, V), "teacher": (B, V), "alpha": 0.1},
    losses.decoupled: {"student": (B, V), "teacher": (B, V), "target": torch.tensor([0, 6, 2, 2, 1])},
    losses.unit_distance: {"student": (B, D), "teacher": (B, D)},
}
NOT_LOSSES = {
    "negatives_of",  # what cos_nce and contrast are given, as
    "similarity_targets",
    "unit_mean",
    "group_shuffled",
    "SparseLogits",  # what a language model's losses are given
    "top_k",
    "outcome_of",
    "outcomes",
    "same_outcomes",
    "contrast",  # of anchors and candidates, whoever made them: see test_contrastive_term.py
}

every_loss = pytest.mark.parametrize("loss", ROWS, ids=lambda loss: loss.__name__)
masked_loss = pytest.mark.parametrize(
    "loss", [loss for loss, row in ROWS.items() if "mask" in row], ids=lambda loss: loss.__name__
)


def inputs_of(loss):
    make = torch.Generator().manual_seed(0)
    return {k: torch.randn(v, generator=make) if isinstance(v, tuple) else v for k, v in ROWS[loss].items()}


def value_of(loss, inputs):
    """The loss; of one in parts, (N,) each, the parts side by side."""
    value = loss(**inputs)
    return torch.stack(value, 1) if isinstance(value, tuple) else value


def test_the_rows_cover_every_public_loss():
    assert {loss.__name__ for loss in ROWS} | NOT_LOSSES == set(losses.__all__)
    assert len(losses.__all__) >= 15
    for name in losses.__all__:
        assert getattr(losses, name).__doc__


@every_loss
def test_the_student_comes_first_and_the_teacher_before_all_else(loss):
    names = list(inspect.signature(loss).parameters)
    assert names[:2] == ["student", "labels" if "labels" in names else "teacher"]


@every_loss
def test_the_result_is_float32_whatever_the_precision(loss):
    inputs = inputs_of(loss)
    whole = value_of(loss, inputs)
    half = value_of(loss, {k: inputs[k].bfloat16() if isinstance(ROWS[loss][k], tuple) else inputs[k] for k in inputs})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = value_of(loss, inputs)
    assert whole.dtype == half.dtype == mixed.dtype == torch.float32
    torch.testing.assert_close(half, whole, rtol=0.03, atol=0.03)
    torch.testing.assert_close(mixed, whole, rtol=1e-6, atol=1e-6)


@every_loss
def test_gradients_reach_the_student_and_need_none_of_the_teacher(loss):
    inputs = inputs_of(loss)
    inputs["student"] = student = nn.Parameter(inputs["student"])
    value = value_of(loss, inputs).sum()
    value.backward()
    assert student.grad.isfinite().all()
    known = LENGTHS[:, 0] > (1 if loss is losses.relation_kl else 0)  # a token by itself has no relation
    if "labels" in inputs:
        known = ((inputs["labels"] != -100) & ~inputs["labels"].isnan()).reshape(B, -1).all(1)
        assert not known.all()
    assert (student.grad.flatten(1).abs().sum(1) > 0).tolist() == known.tolist()


@every_loss
def test_the_order_of_the_batch_does_not_matter(loss):
    inputs, order = inputs_of(loss), torch.tensor([3, 0, 4, 2, 1])
    shuffled = {k: v[order] if torch.is_tensor(v) else v for k, v in inputs.items()}
    if "allowed" in inputs:
        shuffled["allowed"] = inputs["allowed"][order][:, order]
    expected = value_of(loss, inputs)
    torch.testing.assert_close(value_of(loss, shuffled), expected[order] if expected.dim() else expected)


@masked_loss
def test_values_under_padding_never_matter(loss):
    inputs = inputs_of(loss)
    expected = loss(**inputs)
    for fill in (0.0, 1e3):
        for side in ("student", "teacher"):
            changed = inputs[side].clone()
            changed[~MASK if loss is not losses.attention_mse else outside()] = fill
            torch.testing.assert_close(loss(**{**inputs, side: changed}), expected)
    changed = inputs["student"] + torch.arange(inputs["student"].shape[-1])  # while those of real tokens do
    assert not torch.isclose(loss(**{**inputs, "student": changed}), expected)


@masked_loss
def test_more_padding_does_not_matter(loss):
    inputs = inputs_of(loss)
    expected = loss(**inputs)
    wide = {**inputs, "mask": torch.cat([MASK, torch.zeros(B, 3, dtype=torch.bool)], dim=1)}
    for side in ("student", "teacher"):
        extra = (0, 3, 0, 3) if loss is losses.attention_mse else (0, 0, 0, 3)
        wide[side] = nn.functional.pad(inputs[side], extra, value=5.0)
    torch.testing.assert_close(loss(**wide), expected)


def outside():
    """(B, H, L, L): pairs of which the query or the key is padding."""
    return ~(MASK.unsqueeze(1) & MASK.unsqueeze(2)).unsqueeze(1).expand(B, H, L, L)


@every_loss
def test_a_shape_that_would_be_averaged_wrongly_is_refused(loss):
    inputs = inputs_of(loss)
    for name in ("teacher", "labels", "mask", "target"):
        if name in inputs:
            with pytest.raises(ValueError, match="expected"):
                loss(**{**inputs, name: inputs[name][:-1]})
    deeper = {
        name: x.unsqueeze(1).expand(-1, 2, *x.shape[1:]) for name, x in inputs.items() if name in ("student", "teacher")
    }
    with pytest.raises(ValueError, match="expected"):
        loss(**{**inputs, **deeper})
