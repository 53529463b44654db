"""One class a text."""

import math
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from contrastill import losses
from contrastill.report.evidence import Texts, of_classes
from contrastill.tasks.labelled import Array, LabelledTask

__all__ = ["Classification"]


class Classification(LabelledTask):
    """One class of several for each text, or pair of texts. An unlabelled row has the label -100."""

    name = reads = "classification"
    problem_type = "single_label_classification"
    known_metrics = ("accuracy", "f1", "matthews")
    label_dtype = torch.int64

    @classmethod
    def fits(cls, config: Any) -> bool:
        return bool(config.num_labels > 1 and config.problem_type in (None, cls.problem_type))

    def soft(self, student: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
        return losses.soft_kl(student, teacher, temperature)

    def hard(self, student: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return losses.hard_cross_entropy(student, labels), labels != -100

    def activate(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)

    def fit_head(self, features: Array, labels: Array, strength: float) -> tuple[Array, Array] | None:
        """Multinomial logistic regression. A class without rows is made as unlikely as the rarest one."""
        present = np.unique(labels)
        weights, biases = np.zeros((len(self.labels), features.shape[1])), np.zeros(len(self.labels))
        if len(present) > 1:
            fitted = LogisticRegression(C=strength, max_iter=300).fit(features, labels)
            w, b = (fitted.coef_, fitted.intercept_)
            if len(present) == 2:  # one row of weights, for the second class
                w, b = np.concatenate([-w, w]) / 2, np.concatenate([-b, b]) / 2
            weights[present], biases[present] = w, b
        biases[np.setdiff1d(np.arange(len(self.labels)), present)] = biases[present].min()
        return weights, biases

    def known(self, labels: Array) -> Array:
        return np.asarray(labels) != -100

    def same_label(self, labels: Array) -> str | None:
        return self.labels[int(labels[0])] if len(labels) and np.ptp(labels) == 0 else None

    def same_answer(self, logits: Array, labels: Array) -> str | None:
        answers = logits.argmax(1)
        if self.same_label(labels) is not None or np.ptp(answers) > 0:
            return None
        return repr(self.labels[int(answers[0])])[:80]

    def ignorance(self, labels: Array) -> float | None:
        return math.log(len(self.labels))

    def evidence(
        self, labels: Array, ours: Array, theirs: Array | None, texts: Texts, teacher: LabelledTask
    ) -> dict[str, Any]:
        return of_classes(labels, ours, theirs, self.labels, texts)

    def by_row(self, labels: Array, logits: Array) -> tuple[Array | None, Array]:
        return labels.astype(np.int64), logits.argmax(1)

    def describe(self) -> str:
        return f"classes: {', '.join(self.labels[:20])}" + (", …" if len(self.labels) > 20 else "")
