"""A teacher of its k most likely tokens: every loss on k + 1 outcomes."""

import math

import pytest
import torch
from torch import nn

from contrastill.losses import (
    SparseLogits,
    decoupled,
    forward_kl,
    jensen_shannon,
    outcome_of,
    outcomes,
    reverse_kl,
    skew_kl,
    skew_reverse_kl,
    top_k,
)
from slow_losses import softmax

N, V = 5, 8
MAKE = torch.Generator().manual_seed(0)
STUDENT, TEACHER = torch.randn(N, V, generator=MAKE), 2 * torch.randn(N, V, generator=MAKE)
EVERY = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jensen_shannon": lambda student, teacher: jensen_shannon(student, teacher, 0.3),
    "skew_kl": skew_kl,
    "skew_reverse_kl": skew_reverse_kl,
}
TARGET = torch.tensor([0, 7, 3, 3, 5])
every_loss = pytest.mark.parametrize("loss", EVERY.values(), ids=EVERY)


@pytest.mark.parametrize("k", [1, 3, V])
def test_outcomes_are_the_named_tokens_and_any_other(k):
    teacher = top_k(TEACHER, k)
    ours, theirs = outcomes(STUDENT, teacher)
    for row in range(N):
        p, q = softmax(TEACHER[row].tolist()), softmax(STUDENT[row].tolist())
        named = sorted(range(V), key=lambda i: -p[i])[:k]
        assert teacher.ids[row].tolist() == named
        for side, chances in ((ours, q), (theirs, p)):
            expected = [*(chances[i] for i in named), sum(x for i, x in enumerate(chances) if i not in named)]
            assert side[row].exp().tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("k", range(1, V + 1))
def test_the_target_is_always_named_if_need_be_in_place_of_the_last_one(k):
    teacher = top_k(TEACHER, k, TARGET)
    for row, target in enumerate(TARGET.tolist()):
        p = softmax(TEACHER[row].tolist())
        named = sorted(range(V), key=lambda i: -p[i])[:k]
        if target not in named:
            named = [*named[:-1], target]
        assert teacher.ids[row].tolist() == named
        assert teacher.log_probs[row].exp().tolist() == pytest.approx([p[i] for i in named], rel=1e-5)
        assert teacher.tail[row].exp().item() == pytest.approx(
            sum(x for i, x in enumerate(p) if i not in named), rel=1e-5
        )
        assert outcome_of(teacher, TARGET)[row] == named.index(target)


def test_a_token_that_is_not_named_is_any_other():
    teacher = top_k(TEACHER, 2)
    for token in range(V):
        got = outcome_of(teacher, torch.full((N,), token))
        assert got.tolist() == [ids.index(token) if token in ids else 2 for ids in teacher.ids.tolist()]
    assert outcome_of(top_k(TEACHER[:0], 2), TARGET[:0]).shape == (0,)


@every_loss
def test_with_the_target_named_too_the_bound_does_not_fall_with_k(loss):
    values = torch.stack([loss(*outcomes(STUDENT, top_k(TEACHER, k, TARGET))) for k in range(1, V + 1)])
    assert (values.diff(dim=0) >= -1e-6).all()
    torch.testing.assert_close(values[-1], loss(STUDENT, TEACHER))


@every_loss
def test_with_every_token_named_the_loss_and_its_gradient_are_those_of_all_logits(loss):
    sparse, full = nn.Parameter(STUDENT.clone()), nn.Parameter(STUDENT.clone())
    value, expected = loss(*outcomes(sparse, top_k(TEACHER, V))), loss(full, TEACHER)
    torch.testing.assert_close(value, expected)
    value.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(sparse.grad, full.grad)


@every_loss
def test_the_loss_rises_with_the_named_tokens_to_that_of_all(loss):
    values = torch.stack([loss(*outcomes(STUDENT, top_k(TEACHER, k))) for k in range(1, V + 1)])
    assert (values.diff(dim=0) >= -1e-6).all()
    assert (values[0] >= 0).all()
    assert values[0].sum() < 0.9 * values[-1].sum()
    assert (values <= loss(STUDENT, TEACHER) + 1e-6).all()


def test_the_target_of_decoupled_is_a_place_among_the_outcomes():
    places = torch.tensor([0, 1, 2, 3, 3])  # 3: any other
    ours, theirs = outcomes(STUDENT, top_k(TEACHER, 3))
    tkd, dkd, unc = decoupled(ours, theirs, places)
    torch.testing.assert_close(tkd + unc * dkd, forward_kl(ours, theirs))


@pytest.mark.parametrize("k", [1, 3, V])
def test_gradients_are_finite_where_the_student_is_sure(k):
    student = nn.Parameter(1e4 * TEACHER)  # its tail has a probability of 0 in float32
    value = forward_kl(*outcomes(student, top_k(TEACHER, k)))
    value.sum().backward()
    assert value.isfinite().all()
    assert student.grad.isfinite().all()


@every_loss
def test_a_teacher_without_mass_beside_the_named_tokens_gives_finite_gradients(loss):
    teacher = top_k(torch.tensor([[0.0, 1.0, -torch.inf, -torch.inf]]), 2)
    assert teacher.tail.tolist() == [-math.inf]
    student = nn.Parameter(torch.tensor([[0.3, -0.2, 0.5, 0.1]]))
    value = loss(*outcomes(student, teacher))
    value.sum().backward()
    torch.testing.assert_close(value, loss(student, torch.tensor([[0.0, 1.0, -torch.inf, -torch.inf]])))
    assert student.grad.isfinite().all()


def test_a_teacher_stored_in_few_bytes_is_read():
    teacher = top_k(TEACHER, 4)
    stored = SparseLogits(teacher.ids.int(), teacher.log_probs.half(), teacher.tail.half())
    ours, theirs = outcomes(STUDENT.bfloat16(), stored)
    assert ours.dtype == theirs.dtype == torch.float32
    value = forward_kl(ours, theirs)
    torch.testing.assert_close(value, forward_kl(*outcomes(STUDENT, teacher)), rtol=0.02, atol=0.02)


def test_the_mass_of_the_others_keeps_its_logarithm():
    sure = torch.tensor([[0.0, -60.0, -60.0]])
    assert top_k(sure, 1).tail.item() == pytest.approx(-60 + math.log(2), rel=1e-6)
    assert outcomes(sure, top_k(sure, 1))[0][0, 1].item() == pytest.approx(-60 + math.log(2), rel=1e-6)


def test_no_positions_give_no_outcomes():
    ours, theirs = outcomes(STUDENT[:0], top_k(TEACHER[:0], 3))
    assert ours.shape == theirs.shape == (0, 4)


@pytest.mark.parametrize("k", [0, V + 1])
def test_a_number_of_tokens_outside_the_vocabulary_is_refused(k):
    with pytest.raises(ValueError, match="k from 1 to V"):
        top_k(TEACHER, k)


def test_other_positions_or_a_smaller_vocabulary_are_refused():
    for student, teacher in ((STUDENT[:-1], top_k(TEACHER, 3)), (STUDENT[:, :3], top_k(TEACHER, 4))):
        with pytest.raises(ValueError, match="expected student"):
            outcomes(student, teacher)
