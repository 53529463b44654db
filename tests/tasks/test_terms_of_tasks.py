"""The loss terms of tasks, against loops over plain Python floats."""

import math

import pytest
import torch
from torch import nn

from contrastill.tasks import TASKS, Classification, LabelledTask, MultiLabel, Regression
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
