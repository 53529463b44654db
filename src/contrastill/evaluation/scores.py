"""Scores of a model with one answer a text: its logits, a metric over them, and its interval.

N rows, C outputs (1 output: a number, as Hugging Face reads `num_labels=1`), S resamples.
Scores are fractions: 0.913, not 91.3. scikit-learn, here and elsewhere, is imported where it is used: that takes more
than a second, and most commands do without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy
import torch
from torch import Tensor

from contrastill.errors import UserError
from contrastill.evaluation.inference import inference, model_inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "METRICS",
    "bootstrap_interval",
    "majority",
    "paired_bootstrap",
    "percentiles",
    "predict",
    "predict_tokens",
    "score",
]

Array = np.ndarray[Any, Any]


def accuracy(predictions: Array, labels: Array, weights: Array | None = None) -> float:
    """The share of rows whose class is right."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions, sample_weight=weights))


def f1(predictions: Array, labels: Array, weights: Array | None = None, classes: int | None = None) -> float:
    """Two classes: the F1 of class 1, as GLUE scores MRPC and QQP. More: the macro average, all classes counting alike.

    `classes` is the number a model can answer; without it, the highest class seen decides.
    """
    classes = classes or int(max(predictions.max(), labels.max())) + 1
    from sklearn.metrics import f1_score

    average = "binary" if classes <= 2 else "macro"
    return float(f1_score(labels, predictions, average=average, sample_weight=weights, zero_division=0))


def f1_macro(predictions: Array, labels: Array, weights: Array | None = None) -> float:
    """The mean over classes of their F1, of two classes too; a class that is neither there nor answered is left out."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, average="macro", sample_weight=weights, zero_division=0))


def matthews(predictions: Array, labels: Array, weights: Array | None = None) -> float:
    """Matthews correlation (CoLA), of any number of classes; 0 where the predictions or the labels are one class."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predictions, sample_weight=weights))


def pearson(predictions: Array, labels: Array, weights: Array | None = None) -> float:
    """Linear correlation; 0 where one side is constant."""
    return _correlation(scipy.stats.pearsonr, predictions, labels, weights)


def spearman(predictions: Array, labels: Array, weights: Array | None = None) -> float:
    """Rank correlation, ties sharing their mean rank; 0 where one side is constant."""
    return _correlation(scipy.stats.spearmanr, predictions, labels, weights)


def _correlation(statistic: Callable[..., Any], predictions: Array, labels: Array, weights: Array | None) -> float:
    if weights is not None:
        predictions, labels = np.repeat(predictions, weights), np.repeat(labels, weights)
    if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return 0.0
    return float(statistic(predictions.astype(np.float64), labels.astype(np.float64)).statistic)


METRICS: dict[str, Callable[..., float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "f1_macro": f1_macro,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}
"""name -> (predictions (N,), labels (N,), weights (N,) or None) -> score. A weight of 2 is a row seen twice."""

CORRELATIONS = frozenset({"pearson", "spearman"})
PART = 2**19  # counts that are held at a time: 4 MB


def predict(model: PreTrainedModel, batches: Iterable[Mapping[str, Tensor]], dtype: torch.dtype | None = None) -> Array:
    """Logits (N, C), float32, in the order of the batches; `dtype=torch.bfloat16` computes under autocast."""
    rows = []
    with inference(model, dtype):
        for batch in batches:
            logits = _logits(model, batch, 2, "(rows, classes)", "AutoModelForSequenceClassification")
            rows.append(logits.float())
        if not rows:
            raise UserError("expected at least one batch to predict, got none; check the split's name and its files")
        return torch.cat(rows).cpu().numpy()


def predict_tokens(
    model: PreTrainedModel, batches: Iterable[Mapping[str, Tensor]], dtype: torch.dtype | None = None
) -> list[Array]:
    """Logits (tokens, C) of each row's real tokens, float32, in the order of the batches; `dtype` as in `predict`."""
    rows: list[Array] = []
    with inference(model, dtype):
        for batch in batches:
            logits = _logits(model, batch, 3, "(rows, tokens, tags)", "AutoModelForTokenClassification")
            values = logits.float().cpu().numpy()
            rows += [one[real] for one, real in zip(values, batch["attention_mask"].bool().cpu().numpy(), strict=True)]
    return rows


def _logits(model: PreTrainedModel, batch: Mapping[str, Tensor], dimensions: int, shape: str, loader: str) -> Tensor:
    """The model's logits, of so many dimensions; shape, loader: what was expected, and what loads it, for the error."""
    logits: Tensor | None = getattr(model(**model_inputs(batch, model.device)), "logits", None)
    if logits is None or logits.ndim != dimensions:
        found = "no logits" if logits is None else f"logits of shape {tuple(logits.shape)}"
        raise UserError(
            f"expected logits {shape}, got {found} from {type(model).__name__}; load the model with {loader}"
        )
    return logits


def score(logits: Array, labels: Array, metrics: Sequence[str]) -> dict[str, float]:
    """Each metric's score."""
    return {name: _value(name, *_checked(logits, labels, name)) for name in metrics}


def bootstrap_interval(
    logits: Array, labels: Array, metric: str, samples: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the metric over resampled rows, as other test sets of this size would vary."""
    answers, labels, classes = _checked(logits, labels, metric)
    return percentiles(_resampled(metric, [answers], labels, classes, samples, seed)[:, 0], level)


def paired_bootstrap(
    logits_a: Array,
    logits_b: Array,
    labels: Array,
    metric: str,
    samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """(a - b, low, high): the difference of two models, both scored on the same resampled rows.

    The rows both get right cancel, so this interval is narrower than two separate ones would suggest.
    """
    a, labels_a, classes = _checked(logits_a, labels, metric)
    b, _, classes_b = _checked(logits_b, labels, metric)
    if classes != classes_b:
        raise UserError(f"expected two models with the same number of outputs, got {classes} and {classes_b}")
    scores = _resampled(metric, [a, b], labels_a, classes, samples, seed)
    difference = _value(metric, a, labels_a, classes) - _value(metric, b, labels_a, classes)
    return difference, *percentiles(scores[:, 0] - scores[:, 1], level)


def majority(labels: Array, metric: str) -> float:
    """The score of always giving the same answer: the commonest class, or the mean (a correlation of 0)."""
    labels = _checked_labels(labels)
    _function(metric)
    if metric in CORRELATIONS:
        return 0.0
    classes, counts = np.unique(labels.astype(np.int64), return_counts=True)
    answers = np.full(len(labels), classes[counts.argmax()])
    return _value(metric, answers, labels.astype(np.int64), int(classes.max()) + 1)


def _resampled(metric: str, answers: Sequence[Array], labels: Array, classes: int, samples: int, seed: int) -> Array:
    """Scores (S, models). Equal rows are drawn together: N rows with replacement are multinomial counts of the distinct
    rows, the same distribution and, for classes, a handful of rows however large N is."""
    if metric == "accuracy":  # right or wrong is all it reads
        answers, labels = [a == labels for a in answers], np.ones(len(labels), dtype=bool)
    rows, counts = np.unique(np.stack([*answers, labels], axis=1), axis=0, return_counts=True)  # (distinct, models + 1)
    total, random = int(counts.sum()), np.random.default_rng(seed)
    if metric == "accuracy":
        return random.multinomial(total, counts / total, size=samples) @ rows[:, :-1] / total
    weighted = partial(correlations, metric) if metric in CORRELATIONS else partial(of_counts, metric, classes=classes)
    scores, part = np.empty((samples, len(answers))), max(1, PART // len(rows))
    for first in range(0, samples, part):
        drawn = random.multinomial(total, counts / total, size=min(part, samples - first))
        for model in range(len(answers)):
            scores[first : first + part, model] = weighted(rows[:, model], rows[:, -1], weights=drawn)
    return scores


def of_counts(metric: str, answers: Array, labels: Array, classes: int, weights: Array) -> Array:
    """Scores (S,) of S weightings (S, N) of the same rows, each as `METRICS` gives it."""
    known, found = np.unique(np.concatenate([answers, labels]), return_inverse=True)
    given, true = (np.eye(len(known))[each] for each in np.split(found, 2))  # (N, K)
    counts = weights.astype(np.float64)  # exact, and multiplied faster
    right, answered, there = counts @ (given * true), counts @ given, counts @ true  # (S, K)
    if metric == "matthews":
        rows = counts.sum(1)
        both = rows * right.sum(1) - (answered * there).sum(1)
        alone = (rows**2 - (answered**2).sum(1)) * (rows**2 - (there**2).sum(1))
        return np.divide(both, np.sqrt(alone), out=np.zeros(len(rows)), where=alone > 0)
    seen = answered + there
    of_class = np.divide(2 * right, seen, out=np.zeros(seen.shape), where=seen > 0)
    if metric == "f1" and classes <= 2:
        return of_class[:, known == 1].sum(1)
    return of_class.sum(1) / (seen > 0).sum(1)


def correlations(metric: str, answers: Array, labels: Array, weights: Array) -> Array:
    """Scores (S,) of S weightings (S, N) of the same rows, each as `METRICS` gives it."""
    varies = np.ones(len(weights), dtype=bool)
    sides = []
    for side in (answers, labels):
        values, of_row, rows = np.unique(side, return_inverse=True, return_counts=True)
        together = weights[:, np.argsort(of_row)]  # those of equal values
        counts = np.add.reduceat(together, rows.cumsum() - rows, axis=1).astype(np.float64)
        varies &= (counts > 0).sum(1) > 1
        if metric == "spearman":  # the mean rank of equal values, less the mean of all
            ends = counts.cumsum(1)
            centred = ends - (counts - 1) / 2 - (ends[:, -1:] + 1) / 2
        else:
            values = values.astype(np.float64) - values.mean()
            centred = values - (counts @ values / counts.sum(1))[:, None]
        sides.append((centred[:, of_row], (counts * centred**2).sum(1)))
    (a, spread_a), (b, spread_b) = sides
    found = np.zeros(len(weights))
    np.divide((weights * a * b).sum(1), np.sqrt(spread_a * spread_b), out=found, where=varies)
    return found.clip(-1, 1)


def percentiles(scores: Array, level: float) -> tuple[float, float]:
    """The two ends of the middle `level` of resampled scores (S,)."""
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _value(metric: str, answers: Array, labels: Array, classes: int, weights: Array | None = None) -> float:
    function = _function(metric)
    if metric == "f1":  # a resample without the third class is still macro
        function = partial(function, classes=classes)
    return function(answers, labels, weights)


def _function(metric: str) -> Callable[..., float]:
    if metric not in METRICS:
        raise UserError(f"expected a metric among {', '.join(METRICS)}, got {metric!r}")
    return METRICS[metric]


def _checked(logits: Array, labels: Array, metric: str) -> tuple[Array, Array, int]:
    """(answers (N,), labels (N,), C): the class of each row, or the number where there is one output."""
    _function(metric)
    logits, labels = np.asarray(logits), _checked_labels(labels)
    if logits.ndim != 2 or len(logits) != len(labels):
        raise UserError(
            f"expected logits (rows, classes) for {len(labels)} labels, got shape {logits.shape}; "
            "score the logits of the same split, in the same order"
        )
    if bad := int((~np.isfinite(logits)).any(axis=1).sum()):
        raise UserError(
            f"expected finite logits, got NaN or infinity in {bad} of {len(logits)} rows; "
            "the training diverged (lower the learning rate) or the weights did not load"
        )
    classes = logits.shape[1]
    if classes == 1:
        if metric not in CORRELATIONS:
            raise UserError(f"expected {' or '.join(sorted(CORRELATIONS))} for a model with one output, got {metric!r}")
        return logits[:, 0].astype(np.float64), labels.astype(np.float64), classes
    if (labels != labels.astype(np.int64)).any() or labels.min() < 0 or labels.max() >= classes:
        raise UserError(
            f"expected whole labels from 0 to {classes - 1}, the model's {classes} outputs, got labels from "
            f"{labels.min()} to {labels.max()}; use a model trained on this task"
        )
    return logits.argmax(axis=1), labels.astype(np.int64), classes


def _checked_labels(labels: Array) -> Array:
    labels = np.asarray(labels)
    if labels.ndim != 1 or len(labels) == 0:
        raise UserError(f"expected one label for each row, got labels of shape {labels.shape}; use a labelled split")
    if missing := int((np.isnan(labels) | (labels == -100)).sum()):
        raise UserError(
            f"expected a label for every row, got {missing} of {len(labels)} without one (-100 or NaN); "
            "evaluate on a labelled split, such as validation"
        )
    return labels
