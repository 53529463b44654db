"""Divergences of language models, against loops over plain Python floats."""

import math

import pytest
import torch
from torch import nn

from contrastill.losses import (
    decoupled,
    forward_kl,
    jensen_shannon,
    reverse_kl,
    same_outcomes,
    skew_kl,
    skew_reverse_kl,
)
from slow_losses import softmax

N, V = 6, 9
MAKE = torch.Generator().manual_seed(0)
STUDENT, TEACHER = torch.randn(N, V, generator=MAKE), 3 * torch.randn(N, V, generator=MAKE)
TARGET = torch.tensor([0, 8, 3, 3, 5, 1])
ALPHAS = (0.01, 0.1, 0.5)
EVERY = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jensen_shannon": lambda student, teacher: jensen_shannon(student, teacher, 0.3),
    "skew_kl": lambda student, teacher: skew_kl(student, teacher, 0.1),
    "skew_reverse_kl": lambda student, teacher: skew_reverse_kl(student, teacher, 0.1),
    "decoupled": lambda student, teacher: sum(decoupled(student, teacher, TARGET)[:2]),
}
every_loss = pytest.mark.parametrize("loss", EVERY.values(), ids=EVERY)


def slow(divergence, student=STUDENT, teacher=TEACHER):
    """One number a row, of probabilities (student, teacher)."""
    return [divergence(softmax(s), softmax(t)) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]


def kl(p, q):
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True) if a)


def mixed(a, b, share):
    return [share * x + (1 - share) * y for x, y in zip(a, b, strict=True)]


def close(value, expected):
    assert value.shape == (len(expected),)
    assert value.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_forward_kl_is_from_the_teacher_and_reverse_kl_from_the_student():
    close(forward_kl(STUDENT, TEACHER), slow(lambda q, p: kl(p, q)))
    close(reverse_kl(STUDENT, TEACHER), slow(lambda q, p: kl(q, p)))


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_jensen_shannon_is_the_mean_divergence_from_the_mixture(beta):
    def both(q, p):
        m = mixed(p, q, beta)
        return beta * kl(p, m) + (1 - beta) * kl(q, m)

    close(jensen_shannon(STUDENT, TEACHER, beta), slow(both))


def test_jensen_shannon_has_the_limits_of_gkd_and_is_symmetric_at_a_half():
    assert jensen_shannon(STUDENT, TEACHER, 0).equal(forward_kl(STUDENT, TEACHER))
    assert jensen_shannon(STUDENT, TEACHER, 1.0).equal(reverse_kl(STUDENT, TEACHER))
    torch.testing.assert_close(jensen_shannon(STUDENT, TEACHER, 0.5), jensen_shannon(TEACHER, STUDENT, 0.5))
    assert jensen_shannon(50 * STUDENT, 50 * TEACHER, 0.5).max() <= math.log(2) + 1e-6
    small = jensen_shannon(STUDENT.double(), TEACHER.double(), 0.01) / 0.01
    torch.testing.assert_close(small, forward_kl(STUDENT, TEACHER), rtol=0.1, atol=0.01)


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 1.0])
def test_jensen_shannon_is_that_of_trl(beta):
    trl = pytest.importorskip("trl.experimental.gkd")
    theirs = trl.GKDTrainer.generalized_jsd_loss(STUDENT[None], TEACHER[None], beta=beta, reduction="sum")
    torch.testing.assert_close(jensen_shannon(STUDENT, TEACHER, beta).sum(), theirs)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_skewed_divergences_are_from_a_mixture_with_the_other_side(alpha):
    close(skew_kl(STUDENT, TEACHER, alpha), slow(lambda q, p: kl(p, mixed(p, q, alpha))))
    close(skew_reverse_kl(STUDENT, TEACHER, alpha), slow(lambda q, p: kl(q, mixed(q, p, alpha))))


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("loss", [skew_kl, skew_reverse_kl])
def test_skewed_divergences_are_bounded(loss, alpha):
    value = loss(100 * STUDENT, 100 * TEACHER, alpha)
    assert 0.9 * math.log(1 / alpha) < value.max() <= math.log(1 / alpha) + 1e-5


def test_skewed_divergences_without_skew_are_the_plain_ones():
    assert skew_kl(STUDENT, TEACHER, 0).equal(forward_kl(STUDENT, TEACHER))
    assert skew_reverse_kl(STUDENT, TEACHER, 0).equal(reverse_kl(STUDENT, TEACHER))
    torch.testing.assert_close(skew_kl(STUDENT, TEACHER, 1e-6), forward_kl(STUDENT, TEACHER), rtol=1e-3, atol=1e-3)


@every_loss
def test_half_precision_is_that_of_the_rounded_logits(loss):
    student, teacher = (20 * STUDENT).bfloat16(), (20 * TEACHER).bfloat16()
    assert loss(student, teacher).equal(loss(student.float(), teacher.float()))


@every_loss
def test_normalised_logits_are_logits_and_equal_sides_are_0_apart(loss):
    expected = loss(STUDENT, TEACHER)
    torch.testing.assert_close(loss(STUDENT.log_softmax(1), TEACHER.log_softmax(1) - 3), expected)
    torch.testing.assert_close(loss(TEACHER + 5, TEACHER), torch.zeros(N), rtol=0, atol=1e-5)
    assert expected.min() > 0.01


@every_loss
def test_extreme_logits_give_finite_losses_and_gradients(loss):
    for teacher in (1e4 * TEACHER, -1e4 * STUDENT):
        student = nn.Parameter(1e4 * STUDENT)
        value = loss(student, teacher)
        value.sum().backward()
        assert value.isfinite().all()
        assert student.grad.isfinite().all()


@every_loss
def test_outcomes_without_mass_on_either_side_are_as_if_they_were_not_there(loss):
    nothing = torch.full((N, 2), -torch.inf)
    wide = nn.Parameter(torch.cat([STUDENT, nothing], 1))
    value = loss(wide, torch.cat([TEACHER, nothing], 1))
    value.sum().backward()
    torch.testing.assert_close(value, loss(STUDENT, TEACHER))
    narrow = nn.Parameter(STUDENT.clone())
    loss(narrow, TEACHER).sum().backward()
    torch.testing.assert_close(wide.grad, torch.cat([narrow.grad, torch.zeros(N, 2)], 1))


@every_loss
def test_outcomes_without_the_teachers_mass_give_finite_losses_and_gradients(loss):
    teacher = TEACHER.clone()
    teacher[:, 1::2] = -torch.inf
    student = nn.Parameter(STUDENT.clone())
    value = loss(student, teacher)
    value.sum().backward()
    assert value.isfinite().all()
    assert value.min() > 0
    assert student.grad.isfinite().all()


def test_the_teachers_outcomes_without_mass_count_0():
    teacher = TEACHER.clone()
    teacher[:, 1::2] = -torch.inf
    kept = [0, 2, 4, 6, 8]
    close(forward_kl(STUDENT, teacher), slow(lambda q, p: kl(p, q), teacher=teacher))
    torch.testing.assert_close(reverse_kl(STUDENT, teacher), reverse_kl(STUDENT[:, kept], TEACHER[:, kept]))
    close(skew_reverse_kl(STUDENT, teacher, 0.1), slow(lambda q, p: kl(q, mixed(q, p, 0.1)), teacher=teacher))


@every_loss
def test_the_teacher_gets_no_gradient(loss):
    teacher = nn.Parameter(TEACHER.clone())
    loss(nn.Parameter(STUDENT), teacher).sum().backward()
    assert teacher.grad is None


def test_no_positions_give_no_values():
    for loss in EVERY.values():
        if loss is not EVERY["decoupled"]:
            assert loss(STUDENT[:0], TEACHER[:0]).shape == (0,)
    assert [part.shape for part in decoupled(STUDENT[:0], TEACHER[:0], TARGET[:0])] == [(0,)] * 3


@pytest.mark.parametrize("alpha", [-0.1, 1.0])
def test_a_skew_outside_its_range_is_refused(alpha):
    for loss in (skew_kl, skew_reverse_kl):
        with pytest.raises(ValueError, match="expected alpha of at least 0 and below 1"):
            loss(STUDENT, TEACHER, alpha)


@pytest.mark.parametrize("beta", [-0.1, 1.1])
def test_a_beta_outside_its_range_is_refused(beta):
    with pytest.raises(ValueError, match="expected beta from 0"):
        jensen_shannon(STUDENT, TEACHER, beta)


# ---- decoupled -----------------------------------------------------------------------------------------------------


def slow_decoupled(q, p, target):
    others = [i for i in range(len(p)) if i != target]
    p_rest, q_rest = (sum(x[i] for i in others) for x in (p, q))
    tkd = kl([p[target], p_rest], [q[target], q_rest])
    return tkd, kl([p[i] / p_rest for i in others], [q[i] / q_rest for i in others]), p_rest


def test_decoupled_parts_are_those_of_the_slow_twin_and_sum_to_the_divergence():
    tkd, dkd, unc = decoupled(STUDENT, TEACHER, TARGET)
    rows = zip(STUDENT.tolist(), TEACHER.tolist(), TARGET.tolist(), strict=True)
    expected = [slow_decoupled(softmax(s), softmax(t), target) for s, t, target in rows]
    for part, column in zip((tkd, dkd, unc), zip(*expected, strict=True), strict=True):
        close(part, list(column))
    torch.testing.assert_close(tkd + unc * dkd, forward_kl(STUDENT, TEACHER))


def test_of_two_outcomes_nothing_is_left_beside_the_target():
    student = nn.Parameter(STUDENT[:, :2].clone())
    tkd, dkd, unc = decoupled(student, TEACHER[:, :2], TARGET % 2)
    assert dkd.tolist() == [0.0] * N
    torch.testing.assert_close(tkd, forward_kl(student, TEACHER[:, :2]))
    (tkd + dkd + unc).sum().backward()
    assert student.grad.isfinite().all()


def test_a_single_outcome_is_refused():
    with pytest.raises(ValueError, match="at least 2 outcomes"):
        decoupled(STUDENT[:, :1], TEACHER[:, :1], TARGET * 0)


@pytest.mark.parametrize("others", [-20.0, -100.0, -1e5, -torch.inf])
def test_a_teacher_that_is_sure_of_the_target_gives_finite_parts(others):
    teacher = torch.full((2, V), others).scatter(1, torch.tensor([[0], [3]]), 0.0)
    student = nn.Parameter(torch.randn(2, V, generator=torch.Generator().manual_seed(1)))
    tkd, dkd, unc = decoupled(student, teacher, torch.tensor([0, 3]))
    (tkd + dkd).sum().backward()
    torch.testing.assert_close(tkd + unc * dkd, forward_kl(student, teacher))
    assert unc.tolist() == pytest.approx([(V - 1) * math.exp(others)] * 2, rel=1e-4)
    assert dkd.isfinite().all()
    assert (dkd > 0).all() == (others > -torch.inf)
    assert student.grad.isfinite().all()


def test_the_students_mass_beside_the_target_keeps_its_logarithm():
    """log1p(-q) would be -inf at q = 1 in float32, and the gradient NaN."""
    student = nn.Parameter(torch.tensor([[0.0, -60.0, -60.0]]))
    tkd, _, _ = decoupled(student, torch.zeros(1, 3), torch.tensor([0]))
    tkd.sum().backward()
    assert tkd.item() == pytest.approx(kl([1 / 3, 2 / 3], [1.0, 2 * math.exp(-60)]), rel=1e-5)
    assert student.grad.isfinite().all()


def test_heads_padded_to_other_sizes_are_cut_to_the_smaller_vocabulary():
    wide = torch.cat([TEACHER, torch.ones(N, 3)], 1)
    for student, teacher in (same_outcomes(STUDENT, wide), reversed(same_outcomes(wide, STUDENT))):
        assert student.equal(STUDENT)
        assert teacher.equal(TEACHER)
