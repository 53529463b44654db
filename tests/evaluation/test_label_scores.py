"""Scores of several labels a text, against scikit-learn and loops."""

from itertools import pairwise
from time import process_time

import numpy as np
import pytest
from sklearn import metrics as reference

from contrastill.errors import UserError
from contrastill.evaluation import labels
from contrastill.evaluation.labels import (
    LABEL_METRICS,
    best_thresholds,
    constant_score,
    label_interval,
    label_scores,
    paired_label_interval,
)

HALF = np.full(5, 0.5)


def drawn(rows=60, labels=5, seed=0, noise=0.35):
    random = np.random.default_rng(seed)
    truth = (random.random((rows, labels)) < np.linspace(0.1, 0.6, labels)).astype(float)
    truth[:3] = 0.0  # rows without a label
    answers = np.clip(0.25 + 0.5 * truth + noise * random.standard_normal(truth.shape), 0, 1).round(2)  # with ties
    return answers, truth


@pytest.mark.parametrize("few", [0, 400])
@pytest.mark.parametrize("seed", range(4))
def test_f1_and_average_precision_are_scikit_learns(seed, few, monkeypatch):
    monkeypatch.setattr(labels, "FEW", few)  # by sorting, or by products of matrices
    answers, truth = drawn(seed=seed)
    found = label_scores(answers, truth, list(LABEL_METRICS), HALF)
    said = answers > 0.5
    for name in ("micro", "macro"):
        assert found[f"f1_{name}"] == pytest.approx(reference.f1_score(truth, said, average=name, zero_division=0))
    expected = reference.f1_score(truth, said, average="samples", zero_division=1)
    assert found["f1_samples"] == pytest.approx(expected)
    assert found["map"] == pytest.approx(reference.average_precision_score(truth, answers, average="macro"))


def test_a_label_without_positive_rows_is_left_out_of_map_and_counts_zero_in_macro():
    answers, truth = drawn()
    truth[:, 2] = 0
    others = [0, 1, 3, 4]
    found = label_scores(answers, truth, ["map", "f1_macro"], HALF)
    each = [reference.average_precision_score(truth[:, n], answers[:, n]) for n in others]
    assert found["map"] == pytest.approx(np.mean(each))
    f1s = [reference.f1_score(truth[:, n], answers[:, n] > 0.5, zero_division=0) for n in range(5)]
    assert found["f1_macro"] == pytest.approx(np.mean(f1s))
    assert f1s[2] == 0


def test_an_empty_answer_to_a_row_without_labels_is_right():
    truth = np.array([[0.0, 0.0], [1.0, 0.0]])
    assert label_scores(np.array([[0.1, 0.2], [0.9, 0.3]]), truth, ["f1_samples"], HALF[:2])["f1_samples"] == 1
    assert label_scores(np.array([[0.9, 0.2], [0.9, 0.3]]), truth, ["f1_samples"], HALF[:2])["f1_samples"] == 0.5


@pytest.mark.parametrize("few", [0, 400])
@pytest.mark.parametrize("name", LABEL_METRICS)
def test_a_weight_is_the_row_seen_that_many_times(name, few, monkeypatch):
    monkeypatch.setattr(labels, "FEW", few)
    answers, truth = drawn(rows=30)
    weights = np.random.default_rng(1).integers(0, 4, (3, 30))
    found = LABEL_METRICS[name](answers, truth, HALF, weights.astype(float))
    for score, each in zip(found, weights, strict=True):
        rows = [np.repeat(x, each, 0) for x in (answers, truth)]
        again = LABEL_METRICS[name](*rows, HALF, np.ones((1, each.sum())))
        assert score == pytest.approx(again[0])


@pytest.mark.parametrize("name", LABEL_METRICS)
def test_intervals_hold_the_score_and_shrink_with_rows(name):
    widths = []
    for rows in (60, 960):
        answers, truth = drawn(rows=rows)
        low, high = label_interval(answers, truth, name, HALF, samples=300)
        assert low < label_scores(answers, truth, [name], HALF)[name] < high
        widths.append(high - low)
    assert widths[1] < 0.5 * widths[0]


def test_a_pair_is_scored_on_the_same_resamples():
    good, truth = drawn(rows=200, noise=0.2)
    bad, _ = drawn(rows=200, noise=0.6, seed=7)
    same = paired_label_interval((good, HALF), (good, HALF), truth, "f1_micro", samples=50)
    assert same == (0.0, 0.0, 0.0)
    difference, low, high = paired_label_interval((good, HALF), (bad, HALF), truth, "map", samples=200)
    scores = [label_scores(x, truth, ["map"], HALF)["map"] for x in (good, bad)]
    assert difference == pytest.approx(scores[0] - scores[1])
    assert 0 < low < difference < high


@pytest.mark.parametrize("name", LABEL_METRICS)
def test_five_hundred_labels_of_five_thousand_rows_take_seconds(name):
    random = np.random.default_rng(0)
    truth = (random.random((5000, 500)) < 0.02).astype(float)
    answers = random.random((5000, 500))
    start = process_time()
    low, high = label_interval(answers, truth, name, np.full(500, 0.5))
    assert low < high
    assert 0 < constant_score(truth, name) < 1
    assert process_time() - start < 12  # 3 seconds of average precision


@pytest.mark.parametrize("name", ["f1_micro", "f1_macro", "f1_samples", "map"])
def test_chance_is_the_best_answer_that_is_the_same_for_every_row(name):
    _, truth = drawn(rows=40, labels=4)
    every = [np.array([n >> k & 1 for k in range(4)], float) for n in range(16)]
    best = max(label_scores(np.tile(answer, (40, 1)), truth, [name], np.full(4, 0.5))[name] for answer in every)
    found = constant_score(truth, name)
    assert found == pytest.approx(best) if name != "f1_samples" else found <= best + 1e-12
    assert found > 0.8 * best


def slow_best(answers, truth, near):
    """The F1 of every place between two answers, one by one."""
    values = sorted({*answers.tolist(), 0.0})
    places = [(a + b) / 2 for a, b in pairwise(values)]
    scores = [reference.f1_score(truth, answers > place, zero_division=0) for place in places]
    good = [place for place, score in zip(places, scores, strict=True) if score >= max(scores) - 1e-12]
    return min(good, key=lambda place: abs(place - near))


def test_thresholds_lie_between_the_best_of_all_labels_and_the_best_of_each():
    answers, truth = drawn(rows=120, noise=0.5)
    answers = 0.05 + answers / 2
    truth[:, 1] = 0  # no positive row
    found = best_thresholds(answers, truth, doubt=20)
    common = slow_best(answers.ravel(), truth.ravel(), 0.5)
    assert found[1] == pytest.approx(common)
    for label in (0, 2, 3, 4):
        own, positives = slow_best(answers[:, label], truth[:, label], common), truth[:, label].sum()
        assert found[label] == pytest.approx(common + (own - common) * positives / (positives + 20))
        assert best_thresholds(answers, truth, doubt=0)[label] == pytest.approx(own)
    half = np.full(5, 0.5)
    scores = [label_scores(answers, truth, ["f1_micro"], t)["f1_micro"] for t in (found, half)]
    assert scores[0] > scores[1] + 0.1


def test_without_a_positive_row_every_threshold_is_a_half_and_a_label_of_every_row_may_have_a_lower_one():
    answers = np.full((30, 2), 0.3)
    assert best_thresholds(answers, np.zeros((30, 2))).tolist() == [0.5, 0.5]
    always = np.stack([np.ones(30), np.zeros(30)], 1)
    assert best_thresholds(answers, always)[0] < 0.3


def test_what_does_not_fit_together_is_refused():
    answers, truth = drawn()
    with pytest.raises(UserError, match="expected a metric among map, f1_micro"):
        label_scores(answers, truth, ["f1"], HALF)
    with pytest.raises(UserError, match="of one shape"):
        label_scores(answers[:9], truth, ["map"], HALF)
    with pytest.raises(UserError, match="in 1 of 60 rows"):
        label_scores(np.where(np.arange(60)[:, None] == 3, np.nan, answers), truth, ["map"], HALF)
    with pytest.raises(UserError, match="2 of 60 without"):
        label_scores(answers, np.where(np.arange(60)[:, None] < 2, np.nan, truth), ["map"], HALF)
