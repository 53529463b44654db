"""One number a text."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contrastill import losses
from contrastill.report.evidence import Texts, of_scores
from contrastill.tasks.labelled import Array, LabelledTask

__all__ = ["Regression"]


class Regression(LabelledTask):
    """A score for each text, or pair of texts. An unlabelled row has the label NaN."""

    name = reads = "regression"
    problem_type = "regression"
    known_metrics = ("spearman", "pearson")
    label_dtype = torch.float32
    unbounded = True
    ignorant = "always gives the mean score"
    unweighted = "which has no classes"

    @classmethod
    def fits(cls, config: Any) -> bool:
        return bool(config.num_labels == 1 and config.problem_type in (None, cls.problem_type))

    @property
    def names(self) -> tuple[str, ...]:
        return ("score",)

    def soft(self, student: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
        return losses.soft_mse(student, teacher)

    def kd(self, student: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
        """As `soft`: a squared distance has no temperature."""
        return losses.soft_mse(student, teacher)

    def hard(self, student: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return losses.hard_mse(student, labels), ~labels.isnan()

    def activate(self, logits: Tensor) -> Tensor:
        return logits

    def fit_head(self, features: Array, labels: Array, strength: float) -> tuple[Array, Array] | None:
        """Ridge regression."""
        from sklearn.linear_model import Ridge

        fitted = Ridge(alpha=1 / strength).fit(features, labels)
        return fitted.coef_[None], np.array([fitted.intercept_])

    def known(self, labels: Array) -> Array:
        return ~np.isnan(np.asarray(labels, dtype=np.float64))

    def half_width(self, rows: int) -> float:
        return 196 * (1 - 0.8**2) / math.sqrt(max(1, rows))

    def same_label(self, labels: Array) -> str | None:
        return f"{labels[0]:g}" if len(labels) and np.ptp(labels) == 0 else None

    def same_answer(self, logits: Array, labels: Array) -> str | None:
        answers = logits[:, 0]
        if self.same_label(labels) is not None or np.ptp(answers) > 1e-4 * np.ptp(labels):
            return None
        return f"{float(answers[0]):.4g}"

    def ignorance(self, labels: Array) -> float | None:
        return float(np.var(np.asarray(labels, dtype=np.float64)[self.known(labels)]))

    def evidence(
        self, labels: Array, ours: Array, theirs: Array | None, texts: Texts, teacher: LabelledTask
    ) -> dict[str, Any]:
        return of_scores(labels, ours[:, 0], None if theirs is None else theirs[:, 0], texts)

    def by_row(self, labels: Array, logits: Array) -> tuple[Array | None, Array]:
        return labels, logits[:, 0]

    def describe(self) -> str:
        return "one score"
