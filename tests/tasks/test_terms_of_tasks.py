"""The loss terms of tasks, against loops over plain Python floats."""

import math

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from contrastill import UserError
from contrastill.tasks import TASKS, Classification, LabelledTask, MultiLabel, Regression, Tagging
from slow_losses import STUDENT, TEACHER, slow_kl, softmax

MASK = torch.ones(3, 4, dtype=torch.bool)
CLASSES = Classification("abc")


def test_each_task_is_in_the_registry_under_its_own_name():
    assert {name: cls.name for name, cls in TASKS.items()} == {name: name for name in TASKS}
    assert {"classification", "regression", "embedding", "encoder"} <= set(TASKS)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.1, 4.0])
def test_soft_is_the_divergence_and_kd_t_squared_times_it(temperature):
    expected = slow_kl(STUDENT, TEACHER, temperature)
    assert CLASSES.soft(STUDENT, TEACHER, MASK, temperature).item() == pytest.approx(expected, rel=1e-5)
    assert CLASSES.kd(STUDENT, TEACHER, MASK, temperature).item() == pytest.approx(temperature**2 * expected, rel=1e-5)


def test_kds_gradient_keeps_its_size_when_the_temperature_grows():
    norms = []
    for temperature in (50.0, 100.0):
        student = nn.Parameter(STUDENT.clone())
        CLASSES.kd(student, TEACHER, MASK, temperature).backward()
        norms.append(student.grad.norm().item())
    assert norms[0] == pytest.approx(norms[1], rel=0.05)


def test_extreme_logits_give_finite_kd_and_gradient():
    student = nn.Parameter(torch.tensor([[1e4, -1e4], [-1e4, 1e4]]))
    loss = Classification("ab").kd(student, -student.detach(), MASK[:2], 1.0)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_scores_have_no_temperature():
    student, teacher = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [2.5]])
    for temperature in (1.0, 7.0):
        for term in (Regression().soft, Regression().kd):
            assert term(student, teacher, MASK[:2], temperature).item() == pytest.approx((4 + 0.25) / 2)


@pytest.mark.parametrize("task", [CLASSES, Regression()], ids=lambda task: task.name)
def test_hard_is_each_labelled_examples_loss_and_zero_without_a_label(task: LabelledTask):
    logits = STUDENT[:, : len(task.names)]
    labels = torch.tensor([2, -100, 0]) if task is CLASSES else torch.tensor([2.0, torch.nan, 0.5])
    errors, known = task.hard(logits, labels, MASK)
    assert known.tolist() == [True, False, True]
    assert errors[1] == 0
    alone = [task.hard(logits[n : n + 1], labels[n : n + 1], MASK[n : n + 1])[0][0] for n in (0, 2)]
    assert errors[[0, 2]].tolist() == pytest.approx([float(x) for x in alone])
    first = -math.log(softmax(STUDENT[0].tolist(), 1.0)[2]) if task is CLASSES else (0.3 - 2.0) ** 2
    assert errors[0].item() == pytest.approx(first, rel=1e-5)


def test_a_model_that_knows_nothing_has_the_loss_of_each_labels_share():
    labels = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [torch.nan] * 3])
    best = labels[:4].mean(0)
    logits = (best.clamp(1e-9, 1 - 1e-9) / (1 - best).clamp(1e-9)).log().expand(4, 3)
    errors, _ = MultiLabel("abc").hard(logits, labels[:4], MASK)
    assert MultiLabel("abc").ignorance(labels.numpy()) == pytest.approx(errors.mean().item(), abs=1e-6)
    assert CLASSES.ignorance(torch.tensor([0, 1, -100]).numpy()) == pytest.approx(math.log(2))  # of the shares it has
    assert Regression().ignorance(torch.tensor([0.0, 2.0, torch.nan]).numpy()) == pytest.approx(1.0)  # the variance


# ---- weights of the classes


def weighted(task, weights):
    task.class_weights = torch.tensor(weights)
    return task


def test_a_weighted_class_counts_by_its_weight_in_the_mean():
    labels, weights = torch.tensor([2, -100, 0, 2]), [0.5, 7.0, 3.0]
    logits = torch.cat([STUDENT, TEACHER[:1]])
    errors, counts = weighted(Classification("abc"), weights).hard(logits, labels, MASK)
    assert counts.tolist() == [3.0, 0.0, 0.5, 3.0]
    total = above = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        if label != -100:
            above -= weights[label] * math.log(softmax(row, 1.0)[label])
            total += weights[label]
    assert ((errors * counts).sum() / counts.sum()).item() == pytest.approx(above / total, rel=1e-5)
    torchs = nn.CrossEntropyLoss(torch.tensor(weights))(logits, labels)
    assert torchs.item() == pytest.approx(above / total, rel=1e-5)


def test_balanced_weights_are_those_of_scikit_learn():
    labels = np.array([0, 0, 0, 2, -100, 2, 0, 3])
    known = labels[labels >= 0]
    expected = dict(zip([0, 2, 3], compute_class_weight("balanced", classes=np.array([0, 2, 3]), y=known), strict=True))
    found = Classification("abcd").balanced(labels)
    assert found.tolist() == pytest.approx([expected[0], 1.0, expected[2], expected[3]])  # a class without rows: 1


def test_balanced_weights_of_labels_are_the_rows_without_by_those_with():
    labels = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0], [np.nan] * 3])
    assert MultiLabel("abc").balanced(labels).tolist() == [1.0, 3.0, 1.0]  # in all rows, or in none: 1


@pytest.mark.parametrize(("task", "why"), [(Regression(), "no classes"), (Tagging(("PER",)), "over words")])
def test_tasks_without_class_weights_say_why(task, why):
    with pytest.raises(UserError, match=why):
        task.balanced(np.zeros(3))


@pytest.mark.parametrize("weights", [[2.0, 0.5, 4.0], [1.0, 1.0, 1.0]])
def test_the_loss_of_a_model_that_knows_nothing_has_the_weights(weights):
    """No constant answer has a lower weighted loss."""
    classes, ids = weighted(Classification("abc"), weights), torch.tensor([0, 0, 0, 1, 1, 2, -100])
    several = weighted(MultiLabel("abc"), weights)
    sets = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])

    def best(task, labels):
        answer = nn.Parameter(torch.zeros(1, 3))
        steps = torch.optim.LBFGS([answer], lr=0.5, max_iter=200)

        def loss():
            steps.zero_grad()
            errors, counts = task.hard(answer.expand(len(labels), 3), labels, MASK)
            value = (errors * counts).sum() / counts.sum()
            value.backward()
            return value

        steps.step(loss)
        return float(loss())

    assert classes.ignorance(ids.numpy()) == pytest.approx(best(classes, ids), abs=1e-4)
    assert several.ignorance(sets.numpy()) == pytest.approx(best(several, sets), abs=1e-4)


def test_a_head_is_fitted_with_the_weights():
    """To features that tell nothing: only the balance of the classes is left, and weights undo it."""
    labels, nothing = np.array([0] * 30 + [1] * 10), np.zeros((40, 1))
    plain = Classification("ab").fit_head(nothing, labels, 1.0)
    even = weighted(Classification("ab"), Classification("ab").balanced(labels).tolist()).fit_head(nothing, labels, 1.0)
    assert plain[1][1] - plain[1][0] == pytest.approx(math.log(1 / 3), abs=1e-3)
    assert even[1][1] - even[1][0] == pytest.approx(0, abs=1e-3)
    sets = np.eye(2)[labels]
    one = weighted(MultiLabel("ab"), MultiLabel("ab").balanced(sets).tolist()).fit_head(nothing, sets, 1.0)
    assert one[1].tolist() == pytest.approx([0, 0], abs=1e-3)
