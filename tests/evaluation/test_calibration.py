"""Temperatures and calibration errors, against loops and a search over all temperatures."""

import math

import numpy as np
import pytest

from contrastill.evaluation import calibration
from contrastill.evaluation.calibration import (
    binary_log_losses,
    calibration_by_chance,
    calibration_error,
    class_temperature,
    groups_of,
    label_temperatures,
    log_losses,
    reliability,
    temperature_in_words,
)


def drawn(rows=600, classes=4, temperature=1.0, seed=0):
    """Logits, and labels that are drawn from the probabilities they have at this temperature."""
    random = np.random.default_rng(seed)
    logits = 3 * random.standard_normal((rows, classes))
    powers = np.exp(logits / temperature)
    shares = powers / powers.sum(1, keepdims=True)
    return logits, np.array([random.choice(classes, p=each) for each in shares])


def slow_log_loss(row, label):
    return math.log(sum(math.exp(value) for value in row)) - row[label]


def test_log_losses_are_those_of_loops():
    logits, labels = drawn(rows=20)
    expected = [slow_log_loss(row, label) for row, label in zip(logits.tolist(), labels, strict=True)]
    assert log_losses(logits, labels) == pytest.approx(expected)
    truth = np.random.default_rng(1).random((20, 4)) < 0.5
    slow = [
        [-math.log(1 / (1 + math.exp(-value if there else value))) for value, there in zip(row, marks, strict=True)]
        for row, marks in zip(logits.tolist(), truth, strict=True)
    ]
    assert binary_log_losses(logits, truth) == pytest.approx(np.array(slow))
    assert np.isfinite(binary_log_losses(np.array([1e4, -1e4]), np.array([False, True]))).all()


@pytest.mark.parametrize("temperature", [0.4, 1.8, 5.0])
def test_the_temperature_is_the_best_of_all(temperature):
    logits, labels = drawn(temperature=temperature)
    found = class_temperature(logits, labels)
    tried = temperature * np.exp(np.linspace(-0.5, 0.5, 2001))
    losses = [np.mean([log_losses(logits / each, labels)]) for each in tried]
    assert found == pytest.approx(tried[int(np.argmin(losses))], rel=1e-3)
    assert found == pytest.approx(temperature, rel=0.25)
    assert class_temperature(logits * 2, labels) == pytest.approx(2 * found, rel=1e-5)


def test_a_temperature_that_rows_do_not_tell_is_1():
    found = [class_temperature(*drawn(rows=200, seed=seed)) for seed in range(60)]
    assert sum(one != 1.0 for one in found) <= 8  # 5 % of samples of a model that is right as it is
    logits, labels = drawn(temperature=3.0)
    assert class_temperature(logits, labels) > 2
    assert class_temperature(logits[:49], labels[:49]) == 1.0  # too few
    assert class_temperature(logits[:3], labels[:3]) == 1.0
    assert class_temperature(logits, logits.argmax(1)) == 1.0  # all right: the lower the better
    assert class_temperature(logits, logits.argmin(1)) == 1.0  # all wrong: the higher the better
    assert class_temperature(np.zeros_like(logits), labels) == 1.0
    broken = logits.copy()
    broken[0, 0] = np.nan
    assert class_temperature(broken, labels) == 1.0


def test_each_label_has_its_own_temperature():
    random = np.random.default_rng(0)
    logits = 3 * random.standard_normal((800, 4))
    true = np.array([0.5, 1.0, 3.0, 3.0])
    truth = random.random((800, 4)) < 1 / (1 + np.exp(-logits / true))
    truth[:, 3] = False
    truth[:9, 3] = True  # too few rows have it
    found = label_temperatures(logits, truth)
    assert found[3] == 1.0
    assert found[[0, 2]] == pytest.approx([0.5, 3.0], rel=0.25)
    for label in (0, 2):
        tried = found[label] * np.exp(np.linspace(-0.5, 0.5, 1001))
        losses = [binary_log_losses(logits[:, label] / each, truth[:, label]).mean() for each in tried]
        assert found[label] == pytest.approx(tried[int(np.argmin(losses))], rel=1e-3)
    assert (label_temperatures(logits[:40], truth[:40]) == 1).all()


def test_what_is_said_of_a_temperature():
    assert temperature_in_words(np.array([1.0]), 0.5, 0.5, 60).startswith("1: 60 rows of dev do not tell")
    said = temperature_in_words(np.array([1.372]), 0.3124, 0.2911, 1000)
    assert said == "1.37: the log loss on 1,000 rows of dev is 0.291, without it 0.312"
    assert "0.50 to 3.00, by label" in temperature_in_words(np.array([0.5, 3.0]), 0.5, 0.4, 60)


def slow_error(confidence, right, bins):
    """Groups of equal size, one after the other, for probabilities that all differ."""
    rows = sorted(zip(confidence, right, strict=True))
    total = 0.0
    for n in range(bins):
        part = rows[len(rows) * n // bins : len(rows) * (n + 1) // bins]
        said = sum(p for p, _ in part) / len(part)
        share = sum(bool(good) for _, good in part) / len(part)
        total += len(part) * abs(said - share)
    return total / len(rows)


@pytest.mark.parametrize("rows", [20, 137, 1000])
def test_the_calibration_error_is_that_of_loops(rows):
    random = np.random.default_rng(rows)
    confidence = random.random(rows)
    right = random.random(rows) < confidence**2
    bins = min(15, rows // 20)
    assert calibration_error(confidence, right) == pytest.approx(slow_error(confidence, right, bins))
    assert calibration_error(confidence, right, 7) == pytest.approx(slow_error(confidence, right, 7))
    assert len(reliability(confidence, right)) == bins


def test_equal_probabilities_are_of_one_group_whatever_the_order_of_rows():
    confidence = np.array([0.9] * 50 + [0.5] * 30 + [0.7] * 20)
    right = np.arange(100) % 3 > 0
    order = np.random.default_rng(0).permutation(100)
    assert calibration_error(confidence, right, 5) == calibration_error(confidence[order], right[order], 5)
    for value in (0.5, 0.7, 0.9):
        assert len(set(groups_of(confidence, 5)[confidence == value])) == 1
    groups = reliability(confidence, right, 5)
    assert groups[:, 2].sum() == 100
    assert groups[:, 0].tolist() == sorted(groups[:, 0].tolist())


def test_a_model_that_is_right_as_it_says_has_the_error_of_chance():
    random = np.random.default_rng(0)
    confidence = 0.4 + 0.6 * random.random(500)
    seen = [calibration_error(confidence, random.random(500) < confidence) for _ in range(300)]
    assert calibration_by_chance(confidence) == pytest.approx(np.mean(seen), rel=0.05)
    assert calibration_by_chance(np.ones(60)) == 0
    off = [calibration_error(confidence, random.random(500) < confidence - 0.2) for _ in range(20)]
    assert np.mean(off) == pytest.approx(0.2, abs=0.02)


def test_few_rows_are_one_group():
    assert reliability(np.array([0.9, 0.4, 0.6]), np.array([True, False, False])).tolist() == [
        [pytest.approx(1.9 / 3), pytest.approx(1 / 3), 3]
    ]
    found = calibration.calibration(np.array([0.9]), np.array([True]))
    assert found == {
        "error": pytest.approx(0.1),
        "by_chance": pytest.approx(0.3 * math.sqrt(2 / math.pi)),
        "groups": [[0.9, 1.0, 1]],
    }
