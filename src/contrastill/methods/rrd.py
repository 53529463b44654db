from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from contrastill import losses
from contrastill.encoder import Encoding
from contrastill.methods.base import Stage
from contrastill.methods.embedding import EmbeddingMethod
from contrastill.methods.queue import Queue
from contrastill.methods.settings import Number, Temperature
from contrastill.tasks.base import Task


class RRD(EmbeddingMethod):
    """RRD: relational representation distillation. Giakoumoglou et al., 2024. arXiv:2407.12073.

    As ConGen, but the candidates are other texts alone: the teacher's memory bank (here also the rest of the batch, so
    that the first steps have some), never the text itself or a copy of it. The paper projects both sides to 128
    numbers; here the student is projected to the teacher's space, as in every method beside it.

    queue: size of the memory bank, in texts.
    temperature: temperature of the student's softmax.
    teacher_temperature: temperature of the teacher's softmax, which is sharper.
    """

    name = "rrd"
    across_batch = True
    queued = frozenset({"rrd"})
    stages = (Stage("distil", {"rrd": 1.0}),)

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: Any,
        task: Task,
        *,
        queue: Number = 16384,
        temperature: Temperature = 0.1,
        teacher_temperature: Temperature = 0.05,
    ) -> None:
        super().__init__(student, teacher, task)
        self.queue = Queue(queue, 1, self.teacher.width)
        self.temperatures = temperature, teacher_temperature

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        s, t = self.vectors(student, teacher)
        candidates, keys, _ = self.candidates(t, batch)
        allowed = losses.negatives_of(batch["text_key"], keys)
        ours, theirs = self.temperatures
        targets = losses.similarity_targets(t, candidates, theirs, allowed)
        return {"rrd": losses.contrast(s, candidates, targets, ours, allowed)}
