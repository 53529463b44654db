"""What a model is worth: scores and their intervals, speed, size. Plain Hugging Face models; no method is known."""

from contrastill.evaluation.scores import (
    METRICS,
    bootstrap_interval,
    majority,
    paired_bootstrap,
    predict,
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
    "score",
    "size",
    "spearman",
]
