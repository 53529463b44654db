"""Scores of a model that answers yes or no to each of several labels: F1, average precision, intervals, thresholds.

N rows, C labels, S resamples. Truth is (N, C) of 0 and 1; answers are probabilities (N, C). Scores are fractions.

Conventions, as scikit-learn's where it has one: a label that is neither there nor answered has an F1 of 0, and counts
in the macro average; an empty answer to a row without labels is right (an F1 of 1); a label without a positive row is
left out of the mean of average precisions.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from contrastill.errors import UserError
from contrastill.evaluation.scores import percentiles

__all__ = [
    "LABEL_METRICS",
    "best_thresholds",
    "constant_score",
    "label_interval",
    "label_scores",
    "paired_label_interval",
]

Array = np.ndarray[Any, Any]
WORK = 400_000_000  # numbers that the resamples of an interval may go through; beyond it there are fewer of them
FEWEST = 200
FEW = 400  # positive rows of a label up to which products of matrices are faster than sorting
DOUBT = 20  # positive rows with which a label's threshold goes half the way from the common one to its own best


def f1_parts(answers: Array, truth: Array, thresholds: Array) -> tuple[Array, Array]:
    """Numerator and denominator of F1 for each row and label: 2 x right answers, answers + labels, (N, C) both."""
    said, there = answers > thresholds, truth > 0.5
    return 2.0 * (said & there), said.astype(np.float64) + there


def ratio(above: Array, below: Array, empty: float) -> Array:
    return np.divide(above, below, out=np.full(np.shape(above), empty), where=below > 0)


def micro(answers: Array, truth: Array, thresholds: Array, weights: Array) -> Array:
    above, below = f1_parts(answers, truth, thresholds)
    return ratio(weights @ above.sum(1), weights @ below.sum(1), 0.0)


def macro(answers: Array, truth: Array, thresholds: Array, weights: Array) -> Array:
    above, below = f1_parts(answers, truth, thresholds)
    return ratio(weights @ above, weights @ below, 0.0).mean(-1)


def samples(answers: Array, truth: Array, thresholds: Array, weights: Array) -> Array:
    above, below = f1_parts(answers, truth, thresholds)
    return (weights @ ratio(above.sum(1), below.sum(1), 1.0)) / weights.sum(-1)


def average_precision(answers: Array, truth: Array, thresholds: Array, weights: Array) -> Array:
    """Mean over labels of the area below precision and recall, equal answers taken together."""
    found, counted = np.zeros(len(weights)), np.zeros(len(weights))
    for label in range(truth.shape[1]):
        there = np.flatnonzero(truth[:, label])
        if not len(there):
            continue
        ranked = few_ranked if len(there) <= FEW else many_ranked
        drawn, precision = ranked(answers[:, label], there, weights)
        positives = drawn.sum(1)
        found += ratio((drawn * precision).sum(1), positives, 0.0)
        counted += positives > 0
    return ratio(found, counted, 0.0)


def few_ranked(answers: Array, there: Array, weights: Array) -> tuple[Array, Array]:
    """How often each positive row is drawn, and the precision among the answers no lower than its own: (S, P) both.

    answers: (N,) of one label; there: (P,) its positive rows. By products of matrices, which is fast for few of them.
    """
    no_lower = (answers[:, None] >= answers[there]).astype(np.float32)
    counts = weights.astype(np.float32)  # exact: whole numbers below 2^24
    drawn = counts[:, there]
    return drawn, ratio(drawn @ no_lower[there], counts @ no_lower, 0.0)


def many_ranked(answers: Array, there: Array, weights: Array) -> tuple[Array, Array]:
    """As `few_ranked`, by sorting."""
    order = np.argsort(-answers, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(answers[order])), len(order) - 1)  # of equal answers
    positive, drawn = np.isin(order, there), weights[:, order]
    right = np.cumsum(drawn * positive, 1)[:, ends]
    return np.diff(right, prepend=0.0), ratio(right, np.cumsum(drawn, 1)[:, ends], 0.0)


LABEL_METRICS: dict[str, Callable[[Array, Array, Array, Array], Array]] = {
    "map": average_precision,
    "f1_micro": micro,
    "f1_macro": macro,
    "f1_samples": samples,
}
"""name -> (answers (N, C), truth (N, C), thresholds (C,), weights (S, N)) -> scores (S,). Weight 2: the row twice."""


def label_scores(answers: Array, truth: Array, metrics: Sequence[str], thresholds: Array) -> dict[str, float]:
    """Each metric's score."""
    answers, truth = checked(answers, truth)
    once = np.ones((1, len(truth)))
    return {name: float(metric(name)(answers, truth, thresholds, once)[0]) for name in metrics}


def label_interval(
    answers: Array,
    truth: Array,
    name: str,
    thresholds: Array,
    *,
    samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of a metric over resampled rows."""
    answers, truth = checked(answers, truth)
    scores = resampled(name, [(answers, thresholds)], truth, samples, seed)[0]
    return percentiles(scores, level)


def paired_label_interval(
    ours: tuple[Array, Array],
    theirs: tuple[Array, Array],
    truth: Array,
    name: str,
    *,
    samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """(a - b, low, high) of two models, each its answers and thresholds, scored on the same resampled rows."""
    (a, truth), (b, _) = checked(ours[0], truth), checked(theirs[0], truth)
    first, second = resampled(name, [(a, ours[1]), (b, theirs[1])], truth, samples, seed)
    whole = [float(metric(name)(x, truth, t, np.ones((1, len(truth))))[0]) for x, t in ((a, ours[1]), (b, theirs[1]))]
    return whole[0] - whole[1], *percentiles(first - second, level)


def resampled(name: str, models: Sequence[tuple[Array, Array]], truth: Array, samples: int, seed: int) -> list[Array]:
    """Scores (S,) of each model, on the same resamples of the rows; fewer of these where rows and labels are many."""
    samples = min(samples, max(FEWEST, WORK // truth.size))
    random, rows = np.random.default_rng(seed), len(truth)
    found: list[list[Array]] = [[] for _ in models]
    part = max(1, 20_000_000 // rows)  # resamples in memory at a time
    for first in range(0, samples, part):
        weights = random.multinomial(rows, np.full(rows, 1 / rows), min(part, samples - first)).astype(np.float64)
        for scores, (answers, thresholds) in zip(found, models, strict=True):
            scores.append(metric(name)(answers, truth, thresholds, weights))
    return [np.concatenate(scores) for scores in found]


def constant_score(truth: Array, name: str) -> float:
    """The best score of the same answer to every row: of the k commonest labels, for the best k."""
    _, truth = checked(truth, truth)
    share = truth.mean(0)
    if name == "map":  # equal answers: the precision is the share of positives
        return float(share[share > 0].mean()) if (share > 0).any() else 0.0
    if name == "f1_macro":
        return float(ratio(2 * share, 1 + share, 0.0).mean())
    held = truth[:, np.argsort(-share, kind="stable")].cumsum(1)  # (N, C) right answers, of the k + 1 commonest labels
    answered, there = np.arange(1, len(share) + 1), truth.sum(1)
    if name == "f1_micro":
        return float((2 * held.sum(0) / (len(truth) * answered + there.sum())).max())
    alike = 2 * held / (answered + there[:, None])
    return float(max((there == 0).mean(), alike.mean(0).max()))


def best_thresholds(answers: Array, truth: Array, doubt: float = DOUBT) -> Array:
    """(C,) the probability above which each label is answered, chosen on these rows.

    Between the threshold where the F1 of the label is best and the one where that of all labels together is (micro): at
    the first with many positive rows, half the way with `doubt` of them, at the second with none, for the best place on
    few rows is seldom the best on others.
    """
    answers, truth = checked(answers, truth)
    common = best_threshold(answers.ravel(), truth.ravel(), 0.5)
    found = np.full(truth.shape[1], common)
    for label, positives in enumerate(truth.sum(0)):
        own = best_threshold(answers[:, label], truth[:, label], common)
        found[label] += (own - common) * positives / max(1.0, positives + doubt)
    return found


def best_threshold(answers: Array, truth: Array, near: float) -> float:
    """Where F1 is best, of answers (N,): in the middle between two of them; of equally good places the one nearest to
    `near`, which it is too without a positive row."""
    if not truth.any():
        return near
    order = np.argsort(-answers, kind="stable")
    score, right = answers[order], np.cumsum(truth[order])
    ends = np.append(np.flatnonzero(np.diff(score)), len(order) - 1)  # of equal answers
    f1 = 2 * right[ends] / (ends + 1 + truth.sum())
    places = (score[ends] + np.append(score[ends[:-1] + 1], 0.0)) / 2
    good = places[f1 >= f1.max() - 1e-12]
    return float(good[np.abs(good - near).argmin()])


def metric(name: str) -> Callable[[Array, Array, Array, Array], Array]:
    if name not in LABEL_METRICS:
        raise UserError(f"expected a metric among {', '.join(LABEL_METRICS)}, got {name!r}")
    return LABEL_METRICS[name]


def checked(answers: Array, truth: Array) -> tuple[Array, Array]:
    """Both as float64 (N, C).

    Raises:
        UserError: their shapes differ, rows have no labels (NaN), or answers are not finite.
    """
    answers, truth = np.asarray(answers, np.float64), np.asarray(truth, np.float64)
    if truth.ndim != 2 or not truth.size or answers.shape != truth.shape:
        raise UserError(
            f"expected answers and labels of one shape (rows, labels), got {answers.shape} and {truth.shape}; score "
            "the answers to the same split, in the same order"
        )
    if missing := int(np.isnan(truth).any(1).sum()):
        raise UserError(
            f"expected labels for every row, got {missing} of {len(truth)} without; evaluate on a labelled split"
        )
    if bad := int((~np.isfinite(answers)).any(1).sum()):
        raise UserError(
            f"expected finite answers, got NaN or infinity in {bad} of {len(truth)} rows; the training diverged (lower "
            "the learning rate) or the weights did not load"
        )
    return answers, truth
