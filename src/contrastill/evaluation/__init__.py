"""Scores with intervals, speed and size of plain Hugging Face models. Nothing here depends on a method."""

from contrastill.evaluation.scores import (
    METRICS,
    bootstrap_interval,
    majority,
    paired_bootstrap,
    predict,
    predict_tokens,
    score,
    spearman,
)
from contrastill.evaluation.speed import Speed, measure, size

__all__ = [
    "METRICS",
    "Speed",
    "bootstrap_interval",
    "majority",
    "measure",
    "paired_bootstrap",
    "predict",
    "predict_tokens",
    "score",
    "size",
    "spearman",
]
