"""Scores of taggers: an entity is right if start, end and type are those of a true one.

N texts, T types, S resamples. counts (N, T, 3): entities that are right, that are answered, that are there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from contrastill.errors import UserError
from contrastill.evaluation.scores import percentiles
from contrastill.spans import Span

__all__ = ["SPAN_METRICS", "counts_of", "f1", "paired_span_interval", "span_interval", "span_scores"]

Array = np.ndarray[Any, Any]


def counts_of(answers: Sequence[Sequence[Span]], labels: Array, types: Sequence[str]) -> Array:
    """(N, T, 3). labels: (entities, 3) each: start, end, number of the type.

    Raises:
        UserError: a text without labels.
    """
    found = np.zeros((len(answers), len(types), 3), np.int64)
    number = {kind: n for n, kind in enumerate(types)}
    for row, (spans, label) in enumerate(zip(answers, labels, strict=True)):
        if label is None:
            raise UserError("expected labels for every text, got one without; evaluate on a labelled split")
        true = {(int(start), int(end), int(kind)) for start, end, kind in label}
        for span in spans:
            kind = number.get(span.type)
            if kind is not None:
                found[row, kind, 1] += 1
                found[row, kind, 0] += (span.start, span.end, kind) in true
        for _, _, kind in true:
            found[row, kind, 2] += 1
    return found


def precision(sums: Array) -> Array:
    """(…, T, 3) -> (…): the share of answered entities that are right."""
    return ratio(sums[..., 0].sum(-1), sums[..., 1].sum(-1))


def recall(sums: Array) -> Array:
    """The share of true entities that are found."""
    return ratio(sums[..., 0].sum(-1), sums[..., 2].sum(-1))


def f1(sums: Array) -> Array:
    """Of all entities together (micro): seqeval's and conlleval's overall F1."""
    return ratio(2 * sums[..., 0].sum(-1), sums[..., 1].sum(-1) + sums[..., 2].sum(-1))


def f1_macro(sums: Array) -> Array:
    """The mean of the types' F1, of types that are there or answered."""
    below = sums[..., 1] + sums[..., 2]
    return ratio(ratio(2 * sums[..., 0], below).sum(-1), (below > 0).sum(-1))


SPAN_METRICS: dict[str, Callable[[Array], Array]] = {
    "f1": f1,
    "precision": precision,
    "recall": recall,
    "f1_macro": f1_macro,
}
"""name -> ((…, T, 3) sums over texts) -> (…) scores."""


def ratio(above: Array, below: Array) -> Array:
    """0 where nothing is below."""
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def span_scores(counts: Array, metrics: Sequence[str]) -> dict[str, float]:
    """Each metric's score."""
    return {name: float(metric_of(name)(counts.sum(0))) for name in metrics}


def span_interval(
    counts: Array, metric: str, samples: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval over resampled texts."""
    return percentiles(metric_of(metric)(resampled(counts, samples, seed)), level)


def paired_span_interval(
    first: Array, second: Array, metric: str, samples: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float, float]:
    """(first - second, low, high), both of the same resampled texts."""
    score, types = metric_of(metric), first.shape[1]
    drawn = resampled(np.concatenate([first, second], 1), samples, seed)
    apart = score(drawn[:, :types]) - score(drawn[:, types:])
    return float(score(first.sum(0)) - score(second.sum(0))), *percentiles(apart, level)


def resampled(counts: Array, samples: int, seed: int) -> Array:
    """(S, T, 3) sums over as many texts, drawn with replacement; equal texts are drawn together."""
    rows, times = np.unique(counts.reshape(len(counts), -1), axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(counts), times / times.sum(), size=samples)
    return (drawn @ rows).reshape(samples, *counts.shape[1:])


def metric_of(name: str) -> Callable[[Array], Array]:
    if name not in SPAN_METRICS:
        raise UserError(f"expected a metric among {', '.join(SPAN_METRICS)}, got {name!r}")
    return SPAN_METRICS[name]
