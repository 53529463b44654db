"""Thresholds that keep a promise, and scores of texts of no class, against loops and many draws."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from contrastill.evaluation.selective import (
    auroc,
    auroc_interval,
    coverages,
    covered,
    false_positive_rate,
    lower_bound,
    rows_needed,
    threshold_for,
)


def slow_tail(right, rows, share):
    """The chance of so many right answers or more."""
    return sum(math.comb(rows, k) * share**k * (1 - share) ** (rows - k) for k in range(right, rows + 1))


@pytest.mark.parametrize(("right", "rows"), [(1, 1), (3, 10), (97, 100), (100, 100)])
def test_the_lower_bound_is_where_the_tail_of_the_binomial_is_5_percent(right, rows):
    assert slow_tail(right, rows, lower_bound(right, rows)) == pytest.approx(0.05)
    assert lower_bound(right, rows) < right / rows


def test_the_lower_bound_of_nothing_is_0():
    assert lower_bound(0, 10) == lower_bound(0, 0) == 0


@pytest.mark.parametrize("target", [0.5, 0.8, 0.97])
@pytest.mark.parametrize("mistakes", [0, 1, 2])
def test_the_rows_needed_are_the_fewest(target, mistakes):
    slow = next(n for n in range(mistakes + 1, 1000) if lower_bound(n - mistakes, n) >= target)
    assert rows_needed(target, mistakes) == slow


def test_rows_needed_for_97_percent():
    assert rows_needed(0.97) == math.ceil(math.log(0.05) / math.log(0.97)) == 99


def world(rows, seed, steep=3.0):
    """Probabilities, and answers that are right as often as they say."""
    random = np.random.default_rng(seed)
    confidence = 1 - 0.6 * random.random(rows) ** steep
    return confidence, random.random(rows) < confidence


def slow_threshold(confidence, right, target):
    rows = sorted(zip(confidence, right, strict=True), reverse=True)
    best = None
    for count in coverages(len(rows), target, 0.95):
        good = sum(bool(ok) for _, ok in rows[:count])
        if lower_bound(good, count) < target:
            return best
        best = rows[count - 1][0]
    return best


@pytest.mark.parametrize("target", [0.8, 0.9, 0.95, 0.97])
@pytest.mark.parametrize("rows", [90, 400, 3000])
def test_the_threshold_is_that_of_loops(target, rows):
    confidence, right = world(rows, seed=rows)
    found = threshold_for(confidence, right, target)
    slow = slow_threshold(confidence, right, target)
    assert (None if found is None else found.threshold) == slow
    if found is not None:
        assert found == covered(confidence, right, found.threshold)
        assert found.low >= target
        assert found.accuracy >= found.low
        assert found.coverage == pytest.approx((confidence >= slow).mean())
    order = np.random.default_rng(0).permutation(rows)
    assert threshold_for(confidence[order], right[order], target) == found


def test_the_promise_is_kept_in_19_of_20_draws():
    """Of the true share of right answers above the threshold, by integration over the same world."""
    broken = reached = 0
    for seed in range(300):
        found = threshold_for(*world(400, seed), 0.93)
        if found is not None:
            reached += 1
            places = (np.arange(100_000) + 0.5) / 100_000
            sure = 1 - 0.6 * places**3
            broken += sure[sure >= found.threshold].mean() < 0.93
    assert reached > 150
    assert broken <= 0.05 * 300 + 9  # two standard errors


def test_coverages_depend_on_no_label_and_end_with_all_rows():
    assert coverages(98, 0.97, 0.95) == []
    assert coverages(99, 0.97, 0.95) == [99]
    few = coverages(300, 0.97, 0.95)
    assert few[0] == rows_needed(0.97, 2)
    assert few[-1] == 300
    many = coverages(100_000, 0.97, 0.95)
    assert many == [5_000 * n for n in range(1, 21)]


def test_no_threshold_where_none_can_be_shown():
    confidence, _ = world(60, 0)
    assert threshold_for(confidence, np.ones(60, bool), 0.97) is None  # 99 rows are needed, all of them right
    assert threshold_for(*world(2000, 0), 0.999) is None
    assert threshold_for(confidence, np.zeros(60, bool), 0.5) is None
    assert threshold_for(np.zeros(0), np.zeros(0, bool), 0.5) is None


def test_equal_probabilities_are_covered_together():
    confidence = np.array([0.9] * 150 + [0.5] * 150)
    right = np.array([True] * 300)
    right[150:200] = False
    found = threshold_for(confidence, right, 0.9)
    assert (found.threshold, found.covered, found.right) == (0.9, 150, 150)
    assert threshold_for(np.full(300, 0.7), np.arange(300) > 0, 0.9).covered == 300


def test_what_a_threshold_covers():
    found = covered(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), 0.8)
    assert (found.covered, found.right, found.coverage, found.accuracy) == (2, 1, pytest.approx(2 / 3), 0.5)
    none = covered(np.array([0.9]), np.array([True]), 0.95)
    assert (none.covered, none.accuracy, none.low) == (0, None, 0.0)
    assert found.to_json()["coverage"] == found.coverage


# ---- texts of no class


def slow_auroc(inside, outside):
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in inside for b in outside]
    return sum(wins) / len(wins)


@pytest.mark.parametrize("digits", [1, 8])  # with ties and without
def test_auroc_is_that_of_loops_and_scikit_learns(digits):
    random = np.random.default_rng(digits)
    inside, outside = (random.normal(mean, 1, count).round(digits) for mean, count in ((1, 70), (0, 45)))
    assert auroc(inside, outside) == pytest.approx(slow_auroc(inside, outside))
    truth = [1] * 70 + [0] * 45
    assert auroc(inside, outside) == pytest.approx(roc_auc_score(truth, np.concatenate([inside, outside])))
    assert auroc(np.ones(4), np.ones(3)) == 0.5
    assert auroc(np.ones(4), np.zeros(3)) == 1
    assert auroc(np.zeros(4), np.ones(3)) == 0


def slow_interval(inside, outside):
    """DeLong's variance by its definition: of the share of texts of the other kind that each text is above or below."""

    def share(a, others):
        return sum(1.0 if a > b else 0.5 if a == b else 0.0 for b in others) / len(others)

    ours = [share(a, outside) for a in inside]
    theirs = [1 - share(b, inside) for b in outside]
    error = math.sqrt(np.var(ours, ddof=1) / len(ours) + np.var(theirs, ddof=1) / len(theirs))
    return slow_auroc(inside, outside) - 1.959964 * error, slow_auroc(inside, outside) + 1.959964 * error


def test_the_interval_of_auroc_is_delongs():
    random = np.random.default_rng(0)
    inside, outside = (random.normal(mean, 1, count).round(1) for mean, count in ((0.7, 40), (0, 25)))
    assert auroc_interval(inside, outside) == pytest.approx(slow_interval(inside, outside), abs=1e-6)
    low, high = auroc_interval(np.ones(4), np.zeros(3))
    assert (low, high) == (1, 1)
    assert auroc_interval(np.ones(1), np.zeros(1)) == (1, 1)


def test_the_interval_of_auroc_holds_the_truth_in_19_of_20_draws():
    random = np.random.default_rng(0)
    truth = 0.760250  # of normal scores one standard deviation apart: Phi(1 / sqrt 2)
    inside = 0
    for _ in range(2000):
        low, high = auroc_interval(random.normal(1, 1, 60), random.normal(0, 1, 60))
        inside += low <= truth <= high
    assert 0.92 <= inside / 2000 <= 0.97  # a little below 0.95 on few texts


def slow_rate(inside, outside, kept):
    ordered = sorted(inside, reverse=True)
    threshold = ordered[math.ceil(round(kept * len(ordered), 9)) - 1]
    return sum(one >= threshold for one in outside) / len(outside)


@pytest.mark.parametrize("rows", [1, 7, 20, 100])
def test_the_false_positive_rate_is_that_of_loops(rows):
    random = np.random.default_rng(rows)
    inside, outside = random.normal(1, 1, rows).round(1), random.normal(0, 1, 33).round(1)
    for kept in (0.95, 0.5):
        assert false_positive_rate(inside, outside, kept) == slow_rate(inside, outside, kept)
    assert false_positive_rate(np.arange(20), np.array([0, 1, 2])) == pytest.approx(2 / 3)  # 19 of 20 kept: from 1 on
