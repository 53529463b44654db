"""One class a text."""

import math
from typing import Any

import numpy as np
import torch
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
