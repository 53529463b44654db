"""Losses on the prediction layer, against loops over plain Python floats."""

import math

import pytest
import torch
from torch import nn

from contrastill.losses import (
    bucket_kl,
    hard_binary_cross_entropy,
    hard_cross_entropy,
    hard_mse,
    soft_binary_kl,
    soft_kl,
    soft_mse,
    token_cross_entropy,
    token_soft_kl,
)
from slow_losses import STUDENT, TEACHER, slow_bucket_kl, slow_kl, softmax


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.1, 4.0])
def test_soft_kl_is_the_divergence_from_teacher_to_student_without_t_squared(temperature):
    expected = slow_kl(STUDENT, TEACHER, temperature)
    assert soft_kl(STUDENT, TEACHER, temperature).item() == pytest.approx(expected, rel=1e-5)
    assert soft_kl(TEACHER, STUDENT, temperature).item() != pytest.approx(expected, rel=1e-2)


def test_soft_kl_of_hand_made_logits():
    student, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]])
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert soft_kl(student, teacher).item() == pytest.approx(expected, rel=1e-6)
    assert soft_kl(teacher + 7, teacher).item() == pytest.approx(0, abs=1e-7)


def test_extreme_logits_give_finite_losses_and_gradients():
    student = nn.Parameter(torch.tensor([[1e4, -1e4], [-1e4, 1e4]]))
    value = soft_kl(student, torch.tensor([[-1e4, 1e4], [-1e4, 1e4]]))
    value.backward()
    assert value.item() == pytest.approx(1e4, rel=1e-5)  # mean of 2e4 and 0
    assert student.grad.isfinite().all()


def test_soft_mse_is_the_mean_squared_distance_of_the_scores():
    student, teacher = torch.tensor([[1.0], [2.0], [-1.0]]), torch.tensor([[0.0], [4.0], [-1.0]])
    assert soft_mse(student, teacher).item() == pytest.approx((1 + 4 + 0) / 3)


def test_hard_cross_entropy_is_each_examples_own_and_0_where_unlabelled():
    labels = torch.tensor([2, -100, 0])
    expected = [-math.log(softmax(STUDENT[0].tolist())[2]), 0.0, math.log(3)]
    assert hard_cross_entropy(STUDENT, labels).tolist() == pytest.approx(expected, rel=1e-5)


def test_an_unlabelled_row_gives_no_gradient_and_the_others_theirs():
    student = nn.Parameter(STUDENT.clone())
    hard_cross_entropy(student, torch.tensor([2, -100, 0])).sum().backward()
    assert student.grad[1].tolist() == [0.0, 0.0, 0.0]
    softmaxes = [softmax(row) for row in STUDENT.tolist()]
    assert student.grad[0].tolist() == pytest.approx([*softmaxes[0][:2], softmaxes[0][2] - 1], rel=1e-5)
    assert student.grad[2].tolist() == pytest.approx([1 / 3 - 1, 1 / 3, 1 / 3], rel=1e-5)


def test_hard_mse_is_each_examples_own_and_0_where_unlabelled():
    student = nn.Parameter(torch.tensor([[1.0], [5.0], [-2.0]]))
    errors = hard_mse(student, torch.tensor([0.5, math.nan, 1.0]))
    assert errors.tolist() == [0.25, 0.0, 9.0]
    errors.sum().backward()
    assert student.grad.tolist() == [[1.0], [0.0], [-6.0]]  # not NaN: that would poison every weight


def test_a_batch_without_any_label_gives_zeros():
    assert hard_cross_entropy(STUDENT, torch.full((3,), -100)).tolist() == [0.0] * 3
    assert hard_mse(STUDENT[:, :1], torch.full((3,), math.nan)).tolist() == [0.0] * 3


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_soft_binary_kl_is_the_mean_divergence_of_each_labels_yes_and_no(temperature):
    total = 0.0
    for s, t in zip(STUDENT.tolist(), TEACHER.tolist(), strict=True):
        for x, y in zip(s, t, strict=True):
            p, q = 1 / (1 + math.exp(-y / temperature)), 1 / (1 + math.exp(-x / temperature))
            total += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    found = soft_binary_kl(STUDENT, TEACHER, temperature).item()
    assert found == pytest.approx(total / STUDENT.numel(), rel=1e-5)
    assert soft_binary_kl(TEACHER, TEACHER, temperature).item() == pytest.approx(0, abs=1e-7)


def test_soft_binary_kl_of_extreme_logits_is_finite_and_has_a_gradient():
    student = nn.Parameter(torch.tensor([[1e4, -1e4, 3.0]]))
    soft_binary_kl(student, torch.tensor([[-1e4, -1e4, 0.0]])).backward()
    assert student.grad.isfinite().all()
    assert student.grad[0, 0] > 0


def test_the_factor_of_positive_rows_multiplies_their_loss_alone():
    labels, factors = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [math.nan] * 3]), [3.0, 5.0, 0.25]
    expected = []
    for logits, row in zip(STUDENT[:2].tolist(), labels[:2].tolist(), strict=True):
        total = 0.0
        for x, there, factor in zip(logits, row, factors, strict=True):
            p = 1 / (1 + math.exp(-x))
            total -= factor * math.log(p) if there else math.log(1 - p)
        expected.append(total / 3)
    found = hard_binary_cross_entropy(STUDENT, labels, torch.tensor(factors))
    assert found.tolist() == pytest.approx([*expected, 0.0], rel=1e-5)


def test_hard_binary_cross_entropy_is_each_rows_mean_over_labels_and_zero_without_labels():
    labels = torch.tensor([[1.0, 0.0, 1.0], [torch.nan] * 3, [0.0, 0.0, 0.0]])
    found = hard_binary_cross_entropy(STUDENT, labels)
    for row in (0, 2):
        p = [1 / (1 + math.exp(-x)) for x in STUDENT[row].tolist()]
        each = [-math.log(q if y else 1 - q) for q, y in zip(p, labels[row].tolist(), strict=True)]
        assert found[row].item() == pytest.approx(sum(each) / 3, rel=1e-5)
    assert found[1] == 0


TOKENS = (torch.stack([STUDENT, TEACHER]), torch.stack([TEACHER, STUDENT + 0.5]))  # (2, 3, 3) each
ANSWERED = torch.tensor([[True, False, True], [False, True, False]])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_labels_of_tokens_are_a_mean_over_the_answered_ones_of_a_text_then_over_texts(temperature):
    student, teacher = TOKENS
    texts = []
    for text in range(2):
        each = [
            slow_kl(student[text, token][None], teacher[text, token][None], temperature)
            for token in range(3)
            if ANSWERED[text, token]
        ]
        texts.append(sum(each) / len(each))
    expected = sum(texts) / 2
    assert token_soft_kl(student, teacher, ANSWERED, temperature).item() == pytest.approx(expected, rel=1e-5)
    flat = soft_kl(student.flatten(0, 1), teacher.flatten(0, 1), temperature).item()
    assert flat != pytest.approx(expected, rel=1e-2)  # what a loss that knows no mask gives


def test_cross_entropy_of_tokens_is_a_mean_over_the_labelled_ones_of_each_text():
    student = TOKENS[0]
    labels = torch.tensor([[2, -100, 0], [-100, -100, -100]])
    expected = (-math.log(softmax(STUDENT[0].tolist())[2]) + math.log(3)) / 2
    assert token_cross_entropy(student, labels).tolist() == pytest.approx([expected, 0.0], rel=1e-5)


def test_logits_of_tokens_are_no_rows_of_a_batch():
    with pytest.raises(ValueError, match="expected student"):
        soft_kl(*TOKENS)
    with pytest.raises(ValueError, match="expected student"):
        hard_cross_entropy(TOKENS[0], torch.zeros(2, 3, dtype=torch.int64))


# ---- classes without a probability of their own

NAMED = [({0: 0.7, 2: 0.1}, 0.2), ({1: 1.0}, 0.0), ({0: 0.5, 1: 0.5, 2: 0.0}, 0.0), None, ({2: 0.0}, 1.0)]
ROWS = [[0.3, -1.2, 2.0], [4.0, 0.5, -3.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [-1.0, 0.5, 2.5]]


def bucket_logs(answers, classes=3):
    """(B, C + 1)"""
    found = torch.full((len(answers), classes + 1), math.nan)
    for row, answer in enumerate(answers):
        if answer is not None:
            for place, chance in [*answer[0].items(), (classes, answer[1])]:
                found[row, place] = math.log(chance) if chance else -math.inf
    return found


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 50.0, 1000.0])
def test_bucket_kl_is_the_divergence_of_the_named_classes_and_the_rest(temperature):
    student = nn.Parameter(torch.tensor(ROWS))
    value = bucket_kl(student, bucket_logs(NAMED), temperature)
    assert value.item() == pytest.approx(slow_bucket_kl(ROWS, NAMED, temperature), rel=1e-4, abs=1e-6)
    value.backward()
    assert student.grad.isfinite().all()
    assert student.grad[3].tolist() == [0.0, 0.0, 0.0]
    assert student.grad[[0, 1, 4]].abs().sum(1).gt(0).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_bucket_kl_with_every_class_named_is_soft_kl(temperature):
    logs = torch.cat([TEACHER.log_softmax(-1), torch.full((len(TEACHER), 1), -math.inf)], 1)
    got, expected = bucket_kl(STUDENT, logs, temperature), soft_kl(STUDENT, TEACHER, temperature)
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)
    alone = bucket_logs([({0: p[0], 1: p[1]}, p[2]) for p in map(softmax, TEACHER.tolist())])
    assert bucket_kl(STUDENT, alone, temperature).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_bucket_kl_of_equal_buckets_is_0_whatever_lies_in_the_rest(temperature):
    student = torch.tensor([[1.0, 0.0, 0.5, 0.5], [1.0, 0.0, -30.0, math.log(2 * math.e**0.5)]])
    chances = softmax(student[0].tolist())
    teacher = bucket_logs([({0: chances[0], 1: chances[1]}, chances[2] + chances[3])] * 2, 4)
    assert bucket_kl(student, teacher, temperature).item() == pytest.approx(0, abs=1e-6)


def test_extreme_logits_give_finite_bucket_losses_and_gradients():
    student = nn.Parameter(torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]]))
    value = bucket_kl(student, bucket_logs([({1: 0.9}, 0.1), ({0: 1.0, 1: 0.0, 2: 0.0}, 0.0)]))
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


def test_bucket_kl_of_another_width_is_refused():
    with pytest.raises(ValueError, match=r"teacher \(B, C \+ 1\), got \(3, 3\) and \(3, 3\)"):
        bucket_kl(STUDENT, TEACHER)


def test_answers_that_are_missing_add_nothing_to_scores_and_labels():
    student, teacher = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [math.nan]])
    assert soft_mse(student, teacher).item() == pytest.approx(1 / 2)
    yes = nn.Parameter(torch.tensor([[0.5, -1.0], [2.0, 1.0]]))
    said = torch.tensor([[1.0, math.nan], [math.nan, math.nan]])
    value = soft_binary_kl(yes, said, 2.0)
    value.backward()
    alone = soft_binary_kl(torch.tensor([[0.5]]), torch.tensor([[1.0]]), 2.0)
    assert value.item() == pytest.approx(alone.item() / 4, rel=1e-5)
    assert yes.grad[0, 0] != 0
    assert yes.grad.flatten()[1:].tolist() == [0.0, 0.0, 0.0]
