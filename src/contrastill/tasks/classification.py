"""One class a text."""

from copy import copy
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from contrastill import losses
from contrastill.evaluation.calibration import class_temperature, log_losses, softmax, temperature_in_words
from contrastill.report.evidence import Texts, of_classes
from contrastill.tasks.labelled import Array, LabelledTask, divided, temperatures_of

__all__ = ["Classification"]


class Classification(LabelledTask):
    """One class of several for each text, or pair of texts. An unlabelled row has the label -100.

    temperatures: (1,) what logits are divided by. A model keeps its own in its config, chosen on dev.
    """

    name = reads = "classification"
    problem_type = "single_label_classification"
    known_metrics = ("accuracy", "f1", "f1_macro", "matthews")
    label_dtype = torch.int64
    ignorant = "gives each class its share of the rows"
    has_probabilities = one_class = True

    @classmethod
    def fits(cls, config: Any) -> bool:
        return bool(config.num_labels > 1 and config.problem_type in (None, cls.problem_type))

    def with_config(self, config: Any) -> Self:
        made = copy(self)
        made.temperatures = temperatures_of(config, 1)
        return made

    def calibrated(self, logits: Array, labels: Array) -> dict[str, Any]:
        return {"temperatures": [class_temperature(logits, labels)]}

    def calibrated_in_words(self, logits: Array, labels: Array) -> dict[str, str]:
        before, after = float(log_losses(logits, labels).mean()), self.log_loss(logits, labels)
        return {"temperature": temperature_in_words(self.temperatures, before, after, len(labels))}

    def soft(self, student: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
        if teacher.shape[1] > student.shape[1]:  # of a file of answers: the last is that of classes not named
            return losses.bucket_kl(student, teacher, temperature)
        return losses.soft_kl(student, teacher, temperature)

    def hard(self, student: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        known, weights = labels != -100, self.class_weights
        errors = losses.hard_cross_entropy(student, labels)
        return errors, known if weights is None else weights.to(labels.device)[labels.where(known, 0)] * known

    def activate(self, logits: Tensor) -> Tensor:
        return divided(logits, self.temperatures).softmax(-1)

    def probabilities(self, logits: Array) -> Array:
        found: Array = softmax(divided(logits, self.temperatures), axis=1)
        return found

    def judgements(self, probabilities: Array, labels: Array) -> tuple[Array, Array]:
        return probabilities.max(1), probabilities.argmax(1) == labels

    def log_loss(self, logits: Array, labels: Array) -> float:
        return float(log_losses(divided(logits, self.temperatures), labels.astype(np.int64)).mean())

    def fit_head(self, features: Array, labels: Array, strength: float) -> tuple[Array, Array] | None:
        """Multinomial logistic regression. A class without rows is made as unlikely as the rarest one."""
        present, of_rows = np.unique(labels), None
        weights, biases = np.zeros((len(self.labels), features.shape[1])), np.zeros(len(self.labels))
        if self.class_weights is not None:
            of_rows = self.class_weights.numpy()[labels]
            of_rows = of_rows / of_rows.mean()  # or they would change the penalty
        if len(present) > 1:
            from sklearn.linear_model import LogisticRegression

            fitted = LogisticRegression(C=strength, max_iter=300).fit(features, labels, of_rows)
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

    def balanced(self, labels: Array) -> Array:
        """scikit-learn's: N / (C n) of a class with n of N rows, among C classes that have rows."""
        counts = self.counts(labels)
        return np.divide(counts.sum() / (counts > 0).sum(), counts, out=np.ones(len(counts)), where=counts > 0)

    def counts(self, labels: Array) -> Array:
        """(C,) labelled rows of each class."""
        return np.bincount(np.asarray(labels)[self.known(labels)].astype(np.int64), minlength=len(self.labels))

    def ignorance(self, labels: Array) -> float | None:
        counts = self.counts(labels) * (1 if self.class_weights is None else self.class_weights.numpy())
        share = counts / max(1e-12, counts.sum())
        return float(-(share * np.log(share, out=np.zeros_like(share), where=share > 0)).sum())

    def follows(self, logits: Array, labels: Array) -> bool:
        """By the number of right answers, against that of the same answers to the rows in any other order.

        Mean and variance of that number: Everitt 1968, "Moments of the statistics kappa and weighted kappa".
        """
        rows, classes, answers = len(labels), len(self.labels), logits.argmax(1)
        given, there = (np.bincount(ids.astype(np.int64), minlength=classes) for ids in (answers, np.asarray(labels)))
        alike = (given * there).astype(np.float64)
        spread = rows**2 * alike.sum() - rows * (alike * (given + there)).sum() + alike.sum() ** 2
        far = (answers == labels).sum() - alike.sum() / rows
        return bool(far > 1.96 * np.sqrt(max(0.0, spread) / (rows**2 * max(1, rows - 1))))

    def truth(self, labels: Array) -> Array | None:
        return np.asarray(labels)[:, None] == np.arange(len(self.labels))

    def marks(self, logits: Array) -> Array | None:
        return self.truth(logits.argmax(1))

    def evidence(
        self, labels: Array, ours: Array, theirs: Array | None, texts: Texts, teacher: LabelledTask
    ) -> dict[str, Any]:
        theirs = None if theirs is None else divided(theirs, teacher.temperatures)
        return of_classes(labels, divided(ours, self.temperatures), theirs, self.labels, texts)

    def by_row(self, labels: Array, logits: Array) -> tuple[Array | None, Array]:
        return labels.astype(np.int64), logits.argmax(1)

    def describe(self) -> str:
        return f"classes: {', '.join(self.labels[:20])}" + (", …" if len(self.labels) > 20 else "")
