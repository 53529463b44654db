import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from contrastill import losses
from contrastill.encoder import Encoding
from contrastill.errors import UserError
from contrastill.methods.base import Stage
from contrastill.methods.embedding import EmbeddingMethod
from contrastill.methods.queue import Queue
from contrastill.methods.settings import Number, Temperature
from contrastill.tasks.base import Task


class DisCo(EmbeddingMethod):
    """DisCo (DistilCSE), stage 1: contrastive knowledge distillation (CKD). Gao et al., 2021. arXiv:2112.05638.

    The student learns to pick the teacher's vector of the same text among those of the batch and a queue of past texts
    (InfoNCE, student to teacher). Copies of a text are not its negatives. Stage 2 is `simcse`.

    queue: number of past teacher vectors kept as negatives.
    temperature: temperature at the start; it is learnt.
    least_temperature: lower bound of the learnt temperature. Without it the temperature falls towards 0 as soon as the
        student distinguishes most texts, and only the few confused ones still train it (docs/decisions/0006).
    """

    name = "disco"
    across_batch = True
    queued = frozenset({"ckd"})
    stages = (Stage("distil", {"ckd": 1.0}),)

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: Any,
        task: Task,
        *,
        queue: Number = 16384,
        temperature: Temperature = 0.1,
        least_temperature: Temperature = 0.1,
    ) -> None:
        super().__init__(student, teacher, task)
        self.queue = Queue(queue, 1, self.teacher.width)
        if least_temperature > temperature:
            raise UserError(f"expected a least_temperature of at most {temperature}, got {least_temperature}")
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.least_temperature = least_temperature

    def run_teacher(self, batch: Mapping[str, Tensor]) -> Encoding:
        with torch.no_grad():  # clamped in the loss, it would have no gradient to rise again by
            self.log_scale.clamp_(max=-math.log(self.least_temperature))
        return super().run_teacher(batch)

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        s, t = self.vectors(student, teacher)
        candidates, keys, own = self.candidates(t, batch)
        allowed = losses.negatives_of(batch["text_key"], keys).scatter(1, own.unsqueeze(1), True)
        return {"ckd": losses.contrast(s, candidates, own, torch.exp(-self.log_scale), allowed)}
