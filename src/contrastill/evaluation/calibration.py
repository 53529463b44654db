"""Whether probabilities can be believed: the temperature that fits them to dev rows, and how far off they are.

N rows, C outputs, M judged probabilities. A temperature divides logits: above 1 it makes a model less sure of itself.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy
from scipy.special import expit, log_expit, log_softmax, softmax

__all__ = [
    "BINS",
    "binary_log_losses",
    "calibration",
    "calibration_by_chance",
    "calibration_error",
    "class_temperature",
    "label_temperatures",
    "log_losses",
    "reliability",
    "temperature_in_words",
]

Array = np.ndarray[Any, Any]

BINS = 15
"""Most groups of rows that a calibration error is taken over, as in Guo et al. 2017."""
IN_A_BIN = 20
"""Rows of a group, at least."""
FEWEST = 50
"""Rows below which no temperature is fitted."""
OF_EACH = 10
"""Rows with a label, and rows without it, that its own temperature needs."""
LOWEST, HIGHEST = 0.05, 20.0
"""Temperatures beyond which there is no best one: all answers are right, or the logits say nothing."""


# ---- temperature


def log_losses(logits: Array, labels: Array) -> Array:
    """Cross-entropy of each row in nats: logits (N, C), labels (N,) -> (N,)."""
    found: Array = -log_softmax(np.asarray(logits, np.float64), axis=1)[np.arange(len(labels)), labels]
    return found


def binary_log_losses(logits: Array, truth: Array) -> Array:
    """Cross-entropy of each yes or no in nats: logits and truth (bool) of one shape -> that shape."""
    logits = np.asarray(logits, np.float64)
    found: Array = -log_expit(np.where(truth, logits, -logits))
    return found


def class_temperature(logits: Array, labels: Array) -> float:
    """The temperature that minimises the log loss of logits (N, C) with labels (N,): Guo et al. 2017, "On calibration
    of modern neural networks", section 4.2.

    1.0 where rows do not tell: there are fewer than `FEWEST`, there is no best temperature between `LOWEST` and
    `HIGHEST`, logits are not finite, or the loss falls by no more than one standard error of its fall over rows.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels, np.int64)
    if len(labels) < FEWEST or not np.isfinite(logits).all():
        return 1.0
    chosen = logits[np.arange(len(labels)), labels]

    def slope(sharpness: float) -> float:
        return float(((softmax(sharpness * logits, axis=1) * logits).sum(1) - chosen).mean())

    return believed(slope, lambda temperature: log_losses(logits / temperature, labels))


def label_temperatures(logits: Array, truth: Array) -> Array:
    """(C,): the temperature of each label, as `class_temperature` has it, of logits (N, C) with truth (N, C) bool.

    1.0 too where fewer than `OF_EACH` rows have the label, or lack it.
    """
    logits, truth = np.asarray(logits, np.float64), np.asarray(truth, bool)
    found = np.ones(logits.shape[1])
    if len(logits) < FEWEST or not np.isfinite(logits).all():
        return found
    for label, (values, there) in enumerate(zip(logits.T, truth.T, strict=True)):
        if OF_EACH <= there.sum() <= len(there) - OF_EACH:
            found[label] = one_label(values, there)
    return found


def one_label(values: Array, there: Array) -> float:
    """As `class_temperature`, of logits (N,) with truth (N,)."""

    def slope(sharpness: float) -> float:
        return float(((expit(sharpness * values) - there) * values).mean())

    return believed(slope, lambda temperature: binary_log_losses(values / temperature, there))


def believed(slope: Callable[[float], float], losses: Callable[[float], Array]) -> float:
    """The temperature at which the log loss is lowest, or 1.0 where rows do not tell.

    slope: derivative of the mean loss by the inverse of the temperature, in which the loss is convex. losses: of each
    row, by temperature. Where 1 is the right temperature, the loss falls by less than its standard error in 19 of 20
    samples (twice the fall of the sum is chi-squared with one degree of freedom).
    """
    if not slope(1 / HIGHEST) < 0 < slope(1 / LOWEST):
        return 1.0
    temperature = float(1 / scipy.optimize.brentq(slope, 1 / HIGHEST, 1 / LOWEST, xtol=1e-9))
    fall = losses(1.0) - losses(temperature)
    return temperature if fall.mean() > fall.std(ddof=1) / np.sqrt(len(fall)) else 1.0


def temperature_in_words(temperatures: Array, before: float, after: float, rows: int) -> str:
    """What was fitted. before, after: mean log loss on dev."""
    if (temperatures == 1).all():
        return f"1: {rows:,} rows of dev do not tell a better one (docs/evaluation.md)"
    low, high = temperatures.min(), temperatures.max()
    value = f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}, by label"
    return f"{value}: the log loss on {rows:,} rows of dev is {after:.3f}, without it {before:.3f}"


# ---- calibration


def groups_of(confidence: Array, bins: int | None = None) -> Array:
    """(M,) the group of each probability (M,), of about equal size. Equal probabilities are of one group.

    bins: how many; by default `BINS`, fewer where a group would have less than `IN_A_BIN` rows.
    """
    count = bins or min(BINS, max(1, len(confidence) // IN_A_BIN))
    ordered = np.sort(confidence)
    edges = ordered[[len(ordered) * n // count for n in range(1, count)]]
    found: Array = np.searchsorted(edges, confidence, side="right")
    return found


def reliability(confidence: Array, right: Array, bins: int | None = None) -> Array:
    """(groups, 3): mean probability, share of right answers and number of rows, from the least sure group on.

    confidence, right: (M,) probability of each answer, and whether it is right. bins: as `groups_of` has.
    """
    confidence, right = np.asarray(confidence, np.float64), np.asarray(right, bool)
    _, group, rows = np.unique(groups_of(confidence, bins), return_inverse=True, return_counts=True)
    means = [np.bincount(group, each) / rows for each in (confidence, right)]
    return np.stack([*means, rows], 1)


def calibration_error(confidence: Array, right: Array, bins: int | None = None) -> float:
    """Expected calibration error: the mean over rows of |probability - share right| of each row's group.

    Naeini et al. 2015, with groups of equal size in place of equal width (Nguyen & O'Connor 2015). Chance alone keeps
    it above 0: compare it with `calibration_by_chance`.
    """
    said, share, rows = reliability(confidence, right, bins).T
    return float((rows * np.abs(said - share)).sum() / rows.sum())


def calibration_by_chance(confidence: Array, bins: int | None = None) -> float:
    """The calibration error that is expected on these rows if every probability (M,) is exactly right.

    The number of right answers in a group then has the variance of a sum of independent draws; a normal deviation is
    sqrt(2 / pi) of its standard one on average.
    """
    confidence = np.asarray(confidence, np.float64)
    variances = np.bincount(groups_of(confidence, bins), confidence * (1 - confidence))
    return float(np.sqrt(2 / np.pi) * np.sqrt(variances).sum() / len(confidence))


def calibration(confidence: Array, right: Array) -> dict[str, Any]:
    """The figures of probabilities (M,) and right answers (M,), ready for JSON."""
    groups = reliability(confidence, right)
    return {
        "error": calibration_error(confidence, right),
        "by_chance": calibration_by_chance(confidence),
        "groups": [[round(float(said), 5), round(float(share), 5), int(rows)] for said, share, rows in groups],
    }
