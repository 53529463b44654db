"""Losses on relations of answers, against loops over plain Python floats."""

import statistics

import pytest
import torch
from torch import nn

from contrastill.losses import difference_mse, inter_class, intra_class
from slow_losses import STUDENT, TEACHER, softmax

MADE = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0)).unbind()


def slow_distance(student, teacher):
    """Of two tables of probabilities, row by row."""
    found = [statistics.correlation(s, t) for s, t in zip(student, teacher, strict=True)]
    return 1 - sum(found) / len(found)


def probabilities(logits, temperature):
    return [softmax(row, temperature) for row in logits.tolist()]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_relations_are_the_correlations_over_classes_and_over_examples(temperature):
    student, teacher = (probabilities(side, temperature) for side in MADE)
    assert inter_class(*MADE, temperature).item() == pytest.approx(slow_distance(student, teacher), rel=1e-4)
    columns = (list(zip(*side, strict=True)) for side in (student, teacher))
    assert intra_class(*MADE, temperature).item() == pytest.approx(slow_distance(*columns), rel=1e-4)


def test_relations_are_0_for_equal_answers_and_2_for_opposite_ones():
    assert inter_class(TEACHER, TEACHER).item() == pytest.approx(0, abs=1e-6)
    assert intra_class(TEACHER, TEACHER).item() == pytest.approx(0, abs=1e-6)
    student, teacher = torch.tensor([[0.0, 0.0, 9.0], [0.0, 0.0, 0.0]]), torch.tensor([[0.0] * 3, [0.0, 0.0, 9.0]])
    assert intra_class(student, teacher).item() == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize("relation", [inter_class, intra_class])
def test_where_nothing_varies_there_is_no_correlation_and_no_gradient_that_runs_away(relation):
    student = nn.Parameter(torch.zeros(3, 4))
    value = relation(student, MADE[1][:3])
    value.backward()
    assert value.item() == pytest.approx(1)
    one = nn.Parameter(MADE[0][:1].clone())
    intra_class(one, MADE[1][:1]).backward()
    assert student.grad.isfinite().all()
    assert one.grad.abs().max() == 0


@pytest.mark.parametrize("relation", [inter_class, intra_class])
def test_two_classes_are_refused(relation):
    with pytest.raises(ValueError, match="at least 3 classes, got 2"):
        relation(STUDENT[:, :2], TEACHER[:, :2])


@pytest.mark.parametrize("known", [None, [True, True, False], [False, True, False], [False] * 3])
def test_differences_are_those_of_all_pairs(known):
    rows = [n for n in range(3) if known is None or known[n]]
    total = 0.0
    for a in rows:
        for b in rows:
            for c in range(3):
                ours, theirs = (float(side[a, c] - side[b, c]) for side in (STUDENT, TEACHER))
                total += (ours - theirs) ** 2 / 3 / len(rows) ** 2
    mask = None if known is None else torch.tensor(known)
    assert difference_mse(STUDENT, TEACHER, mask).item() == pytest.approx(total, rel=1e-5)
    if known is not None:
        odd = TEACHER.masked_fill(~mask.unsqueeze(1), torch.nan)
        assert difference_mse(STUDENT, odd, mask).item() == pytest.approx(total, rel=1e-5)


def test_differences_do_not_see_what_all_answers_have_in_common():
    shift = torch.tensor([3.0, -2.0, 7.0])
    torch.testing.assert_close(difference_mse(STUDENT + shift, TEACHER), difference_mse(STUDENT, TEACHER))
    assert difference_mse(TEACHER + shift, TEACHER).item() == pytest.approx(0, abs=1e-10)
