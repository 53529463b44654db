"""Any number of labels a text."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from scipy.special import expit, logit
from torch import Tensor

from contrastill import losses
from contrastill.evaluation.calibration import binary_log_losses, label_temperatures, temperature_in_words
from contrastill.evaluation.labels import (
    LABEL_METRICS,
    best_thresholds,
    constant_score,
    label_interval,
    label_scores,
    paired_label_interval,
)
from contrastill.report.evidence import Texts, of_labels
from contrastill.tasks.labelled import Array, LabelledTask, divided, temperatures_of

__all__ = ["MultiLabel"]


class MultiLabel(LabelledTask):
    """Yes or no to each of several labels, for each text or pair of texts. An unlabelled row has NaN for every label.

    thresholds: (C,) the probability above which each label is answered; by default 0.5.
    temperatures: (C,) what the logits of each label are divided by. A model keeps both in its config, chosen on dev.
    """

    name = reads = "multilabel"
    problem_type = "multi_label_classification"
    known_metrics = tuple(LABEL_METRICS)
    label_dtype = torch.float32
    ignorant = "gives each label its share of the rows"
    several = True
    has_probabilities = True

    def __init__(
        self,
        labels: Sequence[str] = (),
        metrics: Sequence[str] | None = None,
        thresholds: Sequence[float] | None = None,
    ) -> None:
        super().__init__(labels, metrics)
        self.thresholds = np.full(len(self.labels), 0.5) if thresholds is None else np.asarray(thresholds, np.float64)

    # ---- the model

    @classmethod
    def fits(cls, config: Any) -> bool:
        return bool(config.problem_type == cls.problem_type)

    def with_config(self, config: Any) -> Self:
        made = type(self)(self.labels, self.metrics, getattr(config, "thresholds", None))
        made.temperatures = temperatures_of(config, len(self.labels))
        return made

    def tuned(self, logits: Callable[[], Array], labels: Array) -> dict[str, Any]:
        return {"thresholds": best_thresholds(self.answers(logits()), labels).round(4).tolist()}

    def calibrated(self, logits: Array, labels: Array) -> dict[str, Any]:
        """Thresholds move with the probabilities, so that each label is answered where it was."""
        temperatures = label_temperatures(logits, labels > 0.5)
        moved = np.where(temperatures == 1, self.thresholds, expit(logit(self.thresholds) / temperatures))
        return {"thresholds": moved.tolist(), "temperatures": temperatures.tolist()}

    def uncalibrated(self) -> dict[str, Any]:
        if self.temperatures is None:
            return super().uncalibrated()
        moved = np.where(self.temperatures == 1, self.thresholds, expit(logit(self.thresholds) * self.temperatures))
        return {"thresholds": moved.tolist(), "temperatures": None}

    def calibrated_in_words(self, logits: Array, labels: Array) -> dict[str, str]:
        before, after = float(binary_log_losses(logits, labels > 0.5).mean()), self.log_loss(logits, labels)
        return {"temperature": temperature_in_words(self.temperatures, before, after, len(labels))}

    def activate(self, logits: Tensor) -> Tensor:
        return divided(logits, self.temperatures).sigmoid()

    def answers(self, logits: Array) -> Array:
        found: Array = expit(np.asarray(divided(logits, self.temperatures), np.float64))
        return found

    def probabilities(self, logits: Array) -> Array:
        return self.answers(logits)

    def judgements(self, probabilities: Array, labels: Array) -> tuple[Array, Array]:
        """Of each label of each row: its probability, and whether the row has it."""
        return probabilities.ravel(), labels.ravel() > 0.5

    def log_loss(self, logits: Array, labels: Array) -> float:
        return float(binary_log_losses(divided(logits, self.temperatures), labels > 0.5).mean())

    def fit_head(self, features: Array, labels: Array, strength: float) -> tuple[Array, Array] | None:
        """Logistic regression, label by label; a label that all rows agree on is given its smoothed share."""
        from sklearn.linear_model import LogisticRegression

        share = (labels.sum(0) + 0.5) / (len(labels) + 1)
        weights, biases = np.zeros((labels.shape[1], features.shape[1])), np.log(share / (1 - share))
        for n, there in enumerate(labels.T):
            if there.min() != there.max():
                of_rows = None if self.class_weights is None else np.where(there > 0.5, float(self.class_weights[n]), 1)
                fitted = LogisticRegression(C=strength, max_iter=300).fit(features, there, of_rows)
                weights[n], biases[n] = fitted.coef_[0], fitted.intercept_[0]
        return weights, biases

    # ---- loss terms

    def soft(self, student: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
        return losses.soft_binary_kl(student, teacher, temperature)

    def hard(self, student: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        positive = None if self.class_weights is None else self.class_weights.to(student.device)
        return losses.hard_binary_cross_entropy(student, labels, positive), ~labels.isnan().any(1)

    # ---- scores

    @property
    def judged_by(self) -> str:
        """The first metric that sees thresholds: a graph may rank as before, and answer other labels."""
        return next(metric for metric in (*self.metrics, "f1_micro") if metric != "map")

    def score(self, answers: Array, labels: Array, metrics: Sequence[str] | None = None) -> dict[str, float]:
        self.check(answers)
        return label_scores(answers, labels, metrics or self.metrics, self.thresholds)

    def interval(self, answers: Array, labels: Array, metric: str, **options: Any) -> tuple[float, float]:
        return label_interval(answers, labels, metric, self.thresholds, **options)

    def paired(
        self, answers_a: Array, answers_b: Array, labels: Array, metric: str, **options: Any
    ) -> tuple[float, float, float]:
        first, second = (answers_a, self.thresholds), (answers_b, self.thresholds)
        return paired_label_interval(first, second, labels, metric, **options)

    def chance(self, labels: Array, metric: str) -> float:
        return constant_score(labels, metric)

    # ---- what labels and answers say by themselves

    def known(self, labels: Array) -> Array:
        return np.asarray(np.isfinite(np.asarray(labels, np.float64)).all(axis=1))

    def in_words(self, answer: Array) -> str:
        return ", ".join(name for name, there in zip(self.labels, answer, strict=True) if there) or "no label"

    def same_label(self, labels: Array) -> str | None:
        return self.in_words(labels[0] > 0.5) if len(labels) and (labels == labels[0]).all() else None

    def same_answer(self, logits: Array, labels: Array) -> str | None:
        said = self.answers(logits) > self.thresholds
        if self.same_label(labels) is not None or not (said == said[0]).all():
            return None
        return repr(self.in_words(said[0]))[:80]

    def balanced(self, labels: Array) -> Array:
        """Of the rows that have a label: the rows without it divided by those with it."""
        known = labels[self.known(labels)]
        there, without = known.sum(0), (1 - known).sum(0)
        return np.divide(without, there, out=np.ones(len(there)), where=(there > 0) & (without > 0))

    def ignorance(self, labels: Array) -> float | None:
        share = np.clip(labels[self.known(labels)].mean(0), 1e-9, 1 - 1e-9)
        there = share * (1 if self.class_weights is None else self.class_weights.numpy())
        said = there / (there + 1 - share)
        return float(-(there * np.log(said) + (1 - share) * np.log(1 - said)).mean())

    def truth(self, labels: Array) -> Array | None:
        return np.asarray(labels) > 0.5

    def marks(self, logits: Array) -> Array | None:
        return np.asarray(self.answers(logits) > self.thresholds)

    def evidence(
        self, labels: Array, ours: Array, theirs: Array | None, texts: Texts, teacher: LabelledTask
    ) -> dict[str, Any]:
        p, q = self.answers(ours), None if theirs is None else teacher.answers(theirs)
        thresholds = self.thresholds, getattr(teacher, "thresholds", self.thresholds)
        return of_labels(labels, p, q, self.labels, thresholds, texts)

    row_metric = "f1_micro"

    def by_row(self, labels: Array, logits: Array) -> tuple[Array | None, Array]:
        """The two parts of the F1 of all labels together: 2 x right answers, and answers + labels."""
        said, there = self.answers(logits) > self.thresholds, labels > 0.5
        return None, np.stack([2 * (said & there).sum(1), said.sum(1) + there.sum(1)], 1)

    def describe(self) -> str:
        return f"labels: {', '.join(self.labels[:20])}" + (", …" if len(self.labels) > 20 else "")
