"""Answers row by row, as training keeps them, and the difference of two models scored on the same rows.

N rows, D distinct rows, S resamples, C classes. The metrics are those of `evaluation`, over many resamples at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from contrastill.report.run import RunFiles, dig, number, objects

__all__ = ["KEPT", "Answers", "answers_of", "by_row", "difference"]

KEPT = 20_000  # rows whose answers are kept; of more, always the same ones
SAMPLES = 2_000
WORK = 40_000_000  # numbers that a resampling holds at a time

Array = np.ndarray[Any, Any]
Metric = Callable[[Array, Array, Array, int], Array]


# ---- what training keeps


def by_row(
    metric: str, texts: Iterable[Sequence[str]], truth: Array | None, ours: Array, theirs: Array | None
) -> dict[str, Any]:
    """What evidence.json keeps of a split, its rows in their own order, for comparisons with other runs.

    truth, ours, theirs: (N,) class ids or numbers. Without truth: what each row adds to the score, (N,), or (N, 2) the
    parts above and below of a score that is a ratio of two sums.
    """
    seal = hashlib.sha256()
    for row in texts:
        seal.update("\x1f".join(row).encode("utf-8", "surrogatepass") + b"\x1e")
    rows = len(ours)
    kept = np.sort(np.random.default_rng(0).permutation(rows)[:KEPT])
    columns = {"truth": truth, "ours": ours, "theirs": theirs}
    known = {name: listed(values[kept]) for name, values in columns.items() if values is not None}
    return {"metric": metric, "rows": rows, "of": seal.hexdigest(), **known}


def listed(values: Array) -> list[Any]:
    whole = values.dtype.kind in "iub"
    found: list[Any] = (values.astype(np.int64) if whole else values.astype(np.float64).round(5)).tolist()
    return found


# ---- what the page reads


@dataclass(frozen=True, eq=False)
class Answers:
    """One model's answers to a split. names: of the classes, in the order of their ids."""

    metric: str
    of: str
    rows: int
    truth: Array | None
    given: Array
    names: tuple[str, ...] = ()


def answers_of(run: RunFiles, split: str, who: str = "ours") -> Answers | None:
    """The answers that a run keeps of a split; None where there are none, or they are damaged."""
    found = dig(run.evidence, "by_row", split)
    rows = number(found, "rows")
    given, truth = (numbers(dig(found, key)) for key in (who, "truth"))
    metric, of = (dig(found, key) for key in ("metric", "of"))
    if given is None or rows is None or not isinstance(metric, str) or not isinstance(of, str):
        return None
    names = tuple(str(each.get("name")) for each in objects(run.evidence.get("classes")))
    of_classes = metric in CLASSES and truth is not None  # an F1 of entities is a ratio of two sums
    if of_classes:
        ids = [] if truth is None else [given, truth]
        if not names or any(one.ndim != 1 or (one != one.round()).any() for one in ids):
            return None
        if not ids or any(one.min() < 0 or one.max() >= len(names) for one in ids):
            return None
    elif metric in CLASSES:
        if given.ndim != 2:
            return None
    elif metric in METRICS and (truth is None or given.ndim != 1):
        return None
    if truth is not None and truth.shape != given.shape:
        return None
    return Answers(metric, of, int(rows), truth, given, names if of_classes else ())


def numbers(value: Any) -> Array | None:
    """(N,) or (N, 2) finite numbers."""
    if not isinstance(value, list) or not value:
        return None
    try:
        found = np.asarray(value, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        return None
    fits = found.ndim == 1 or (found.ndim == 2 and found.shape[1] == 2)
    return found if fits and np.isfinite(found).all() else None


def difference(a: Answers, b: Answers) -> tuple[float, float, float] | None:
    """(a - b, low, high): the 95 % interval over resampled rows, the same ones for both; None: not the same rows."""
    if (a.metric, a.of, a.rows, a.given.shape) != (b.metric, b.of, b.rows, b.given.shape):
        return None
    names = tuple(dict.fromkeys((*a.names, *b.names)))
    first, truth = renumbered(a, names)
    second, other = renumbered(b, names)
    if truth is None or other is None:
        return ratios(first, second, np.exp if a.metric == "perplexity" else np.asarray) if truth is other else None
    if a.metric not in METRICS or not np.array_equal(truth, other):
        return None
    distinct, counts = np.unique(np.stack([first, second, truth], 1), axis=0, return_counts=True)
    x, y, t = distinct.T

    def scores(weights: Array) -> Array:
        return METRICS[a.metric](weights, x, t, len(names)) - METRICS[a.metric](weights, y, t, len(names))

    return resampled(scores, counts)


def renumbered(one: Answers, names: Sequence[str]) -> tuple[Array, Array | None]:
    """Answers and truth with each class's place in `names` as its id."""
    if not one.names or one.truth is None:
        return one.given, one.truth
    ids = np.array([names.index(name) for name in one.names], dtype=np.float64)
    return ids[one.given.astype(np.int64)], ids[one.truth.astype(np.int64)]


def ratios(first: Array, second: Array, score: Callable[[Array], Array] = np.asarray) -> tuple[float, float, float]:
    """Of scores that are sums over rows: a mean, or (N, 2) one sum over another. score: what is made of it."""
    rows = len(first)
    sides = [np.stack([one, np.ones(rows)], 1) if one.ndim == 1 else one for one in (first, second)]
    distinct, counts = np.unique(np.concatenate(sides, 1), axis=0, return_counts=True)

    def scores(weights: Array) -> Array:
        sums = weights @ distinct
        return score(divided(sums[:, 0], sums[:, 1])) - score(divided(sums[:, 2], sums[:, 3]))

    return resampled(scores, counts)


def resampled(scores: Callable[[Array], Array], counts: Array) -> tuple[float, float, float]:
    """scores: weights (S, D) of the distinct rows -> differences (S,)."""
    random, rows = np.random.default_rng(0), int(counts.sum())
    found, part = [], max(1, WORK // len(counts))
    for first in range(0, SAMPLES, part):
        drawn = random.multinomial(rows, counts / rows, size=min(part, SAMPLES - first))
        found.append(scores(drawn.astype(np.float64)))
    low, high = np.quantile(np.concatenate(found), [0.025, 0.975])
    return float(scores(counts[None].astype(np.float64))[0]), float(low), float(high)


# ---- metrics: weights (S, D), answers (D,), truth (D,), classes -> (S,)


def accuracy(weights: Array, answers: Array, truth: Array, classes: int) -> Array:
    return (weights @ (answers == truth).astype(np.float64)) / weights.sum(1)


def f1(weights: Array, answers: Array, truth: Array, classes: int) -> Array:
    """Of class 1 if there are two; else as `f1_macro`."""
    each, found = f1_of_classes(weights, answers, truth, classes)
    return each[:, 1] if classes == 2 else each.sum(1) / found


def f1_macro(weights: Array, answers: Array, truth: Array, classes: int) -> Array:
    """The mean over those classes that a resample has or answers."""
    each, found = f1_of_classes(weights, answers, truth, classes)
    return each.sum(1) / found


def f1_of_classes(weights: Array, answers: Array, truth: Array, classes: int) -> tuple[Array, Array]:
    """(S, C) each class's F1, and (S,) how many classes a resample has or answers."""
    ids = np.arange(classes)
    said, there = (one[:, None] == ids for one in (answers, truth))
    right = 2 * (weights @ (said & there))
    below = weights @ (said.astype(np.float64) + there)
    return divided(right, below), (below > 0).sum(1)


def matthews(weights: Array, answers: Array, truth: Array, classes: int) -> Array:
    ids = np.arange(classes)
    said, there = (weights @ (one[:, None] == ids).astype(np.float64) for one in (answers, truth))
    right, rows = weights @ (answers == truth).astype(np.float64), weights.sum(1)
    spread = (rows**2 - (said**2).sum(1)) * (rows**2 - (there**2).sum(1))
    return divided(right * rows - (said * there).sum(1), np.sqrt(np.maximum(spread, 0)))


def pearson(weights: Array, answers: Array, truth: Array, classes: int) -> Array:
    return correlation(weights, answers[None], truth[None])


def spearman(weights: Array, answers: Array, truth: Array, classes: int) -> Array:
    return correlation(weights, ranks(weights, answers), ranks(weights, truth))


def correlation(weights: Array, x: Array, y: Array) -> Array:
    rows = weights.sum(1, keepdims=True)
    x, y = (one - (weights * one).sum(1, keepdims=True) / rows for one in (x, y))
    spread = (weights * x * x).sum(1) * (weights * y * y).sum(1)
    return divided((weights * x * y).sum(1), np.sqrt(spread))


def ranks(weights: Array, values: Array) -> Array:
    """(S, D) the rank of each row among the rows drawn; ties share their mean."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    tied = np.add.reduceat(weights[:, order], starts, axis=1)
    return (tied.cumsum(1) - (tied - 1) / 2)[:, group]


def divided(above: Array, below: Array) -> Array:
    """The quotient, 0 where the divisor is 0."""
    return np.divide(above, below, out=np.zeros(np.shape(above)), where=below > 1e-12)


CLASSES: dict[str, Metric] = {"accuracy": accuracy, "f1": f1, "f1_macro": f1_macro, "matthews": matthews}
METRICS: dict[str, Metric] = {**CLASSES, "pearson": pearson, "spearman": spearman}
