"""Answering only when sure: the threshold above which a share of answers is right, and texts of no class.

N rows; confidence (N,) is the probability of each answer, right (N,) bool whether it is right. A threshold covers the
rows whose confidence is no lower.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy

__all__ = [
    "LEVEL",
    "Covered",
    "auroc",
    "auroc_interval",
    "covered",
    "false_positive_rate",
    "kept_promise",
    "lower_bound",
    "not_reached",
    "rows_needed",
    "target_in_words",
    "threshold_for",
]

Array = np.ndarray[Any, Any]

LEVEL = 0.95
"""Confidence of one-sided bounds."""
STEPS = 20
"""Coverages that are tried: multiples of 5 %."""
MISTAKES = 2
"""Wrong answers with which the smallest coverage that is tried may still pass, where there are rows enough."""


@dataclass(frozen=True)
class Covered:
    """The rows that a threshold covers. low: lower bound of the share of right answers among such rows."""

    threshold: float
    rows: int
    covered: int
    right: int
    low: float

    @property
    def coverage(self) -> float:
        return self.covered / self.rows

    @property
    def accuracy(self) -> float | None:
        return self.right / self.covered if self.covered else None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "coverage": self.coverage, "accuracy": self.accuracy}


def lower_bound(right: int, rows: int, level: float = LEVEL) -> float:
    """One-sided lower bound of a share of which `right` of `rows` are seen: Clopper & Pearson 1934. It holds for any
    share and number of rows, where bounds by approximation (Wilson) are too high for shares near 1."""
    return float(scipy.stats.beta.ppf(1 - level, right, rows - right + 1)) if right else 0.0


def rows_needed(target: float, mistakes: int = 0, level: float = LEVEL) -> int:
    """The fewest rows whose lower bound is at least `target` with so many wrong answers among them."""
    low, high = mistakes, mistakes + 1
    while lower_bound(high - mistakes, high, level) < target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if lower_bound(middle - mistakes, middle, level) >= target else (middle, high)
    return high


def covered(confidence: Array, right: Array, threshold: float, level: float = LEVEL) -> Covered:
    """What a threshold covers. The bound holds for one that was chosen without these rows."""
    answered = np.asarray(confidence) >= threshold
    count, good = int(answered.sum()), int(np.asarray(right, bool)[answered].sum())
    return Covered(float(threshold), len(answered), count, good, lower_bound(good, count, level))


def kept_promise(abstain: Mapping[str, Any], confidence: Array, right: Array) -> dict[str, Any]:
    """What a bundle's own threshold covers of rows that it was not chosen on. abstain: that entry of bundle.json."""
    return {"target": abstain.get("target"), **covered(confidence, right, abstain["threshold"]).to_json()}


def threshold_for(confidence: Array, right: Array, target: float, level: float = LEVEL) -> Covered | None:
    """The threshold with the most coverage whose answers are right in a share of `target` at least, with confidence
    `level` over draws of the rows; None: no threshold can be shown to reach it.

    Tests in a fixed order (Bauer 1991; Angelopoulos et al. 2021, "Learn then test"): coverages from the
    smallest on, each by its lower bound at the full level, until one fails. The order and the first coverage, with
    which up to `MISTAKES` wrong answers would pass, depend on no label, so that the choice among thresholds costs no
    confidence. It is assumed that surer answers are no less often right.
    """
    confidence, right = np.asarray(confidence, np.float64), np.asarray(right, bool)
    ordered = np.sort(confidence)[::-1]
    found = None
    for count in coverages(len(ordered), target, level):
        tried = covered(confidence, right, ordered[count - 1], level)
        if tried.low < target:
            break
        found = tried
    return found


def not_reached(confidence: Array, right: Array, target: float, level: float = LEVEL) -> str:
    """The reason why `threshold_for` finds none, in words."""
    counts, rows = coverages(len(confidence), target, level), len(confidence)
    if not counts:
        return f"{rows:,} rows are too few: {rows_needed(target, 0, level):,} are needed even if all answers are right"
    tried = covered(confidence, right, np.sort(confidence)[::-1][counts[0] - 1], level)
    return (
        f"of the {tried.covered:,} surest answers to {rows:,} rows {tried.right:,} are right, which shows "
        f"{tried.low:.1%} with {level:.0%} confidence"
    )


def target_in_words(target: float, found: Covered) -> str:
    """What a threshold covers, in words."""
    return (
        f"target {target:.1%}: answers with a probability of {found.threshold:.4f} or more are {found.coverage:.1%} of "
        f"{found.rows:,} rows, and {found.accuracy or 0:.1%} of them are right (at least {found.low:.1%})"
    )


def coverages(rows: int, target: float, level: float) -> list[int]:
    """The numbers of surest rows that are tested, in their order; none if all of them being right would not do."""
    firsts = [rows_needed(target, mistakes, level) for mistakes in range(MISTAKES + 1)]
    first = max((count for count in firsts if count <= rows), default=None)
    if first is None:
        return []
    return sorted({max(first, -(-rows * n // STEPS)) for n in range(1, STEPS + 1)})


# ---- texts of no class


def auroc(inside: Array, outside: Array) -> float:
    """The chance that a text of a class has a higher score than one of none, equal scores counting half: inside (N,)
    and outside (M,) scores."""
    inside, outside = np.asarray(inside, np.float64), np.asarray(outside, np.float64)
    ranks = scipy.stats.rankdata(np.concatenate([inside, outside]))[: len(inside)]
    return float((ranks.sum() - len(inside) * (len(inside) + 1) / 2) / (len(inside) * len(outside)))


def auroc_interval(inside: Array, outside: Array, level: float = LEVEL) -> tuple[float, float]:
    """Two-sided interval of `auroc` over both samples of texts: DeLong et al. 1988, within 0 and 1."""
    inside, outside = np.asarray(inside, np.float64), np.asarray(outside, np.float64)
    ranks = scipy.stats.rankdata(np.concatenate([inside, outside]))
    below = (ranks[: len(inside)] - scipy.stats.rankdata(inside)) / len(outside)
    above = 1 - (ranks[len(inside) :] - scipy.stats.rankdata(outside)) / len(inside)
    error = sum(each.var(ddof=1) / len(each) for each in (below, above) if len(each) > 1) ** 0.5
    middle, width = auroc(inside, outside), float(scipy.stats.norm.ppf((1 + level) / 2) * error)
    return max(0.0, middle - width), min(1.0, middle + width)


def false_positive_rate(inside: Array, outside: Array, kept: float = 0.95) -> float:
    """The share of texts of no class that score as high as the surest `kept` of the texts of a class ("FPR95")."""
    inside = np.sort(np.asarray(inside, np.float64))[::-1]
    threshold = inside[int(np.ceil(kept * len(inside) - 1e-9)) - 1]
    return float((np.asarray(outside, np.float64) >= threshold).mean())
