from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from contrastill import losses
from contrastill.encoder import Encoding, pool_layer
from contrastill.errors import UserError
from contrastill.methods.base import Method, Stage, gather
from contrastill.methods.queue import Queue
from contrastill.methods.settings import Number, Pool, Temperature, Weight
from contrastill.tasks.base import Task


class RRDTask(Method):
    """RRD on labelled tasks: relational representation distillation. Giakoumoglou et al., 2024. arXiv:2407.12073.

    `hard CE + kd KD + rrd RRD`. The compared vector of a text is pooled from the last layer, of either model; the
    student's is projected to the teacher's width. The candidates are those of `rrd`: the teacher's vectors of the other
    texts of the batch and of the memory bank, never of the text itself or a copy of it. Of the first batch there is no
    bank yet.

    pool: vector of a text: "mean" (of the last layer's real tokens) or "cls" (its first token).
    queue: size of the memory bank, in texts.
    temperature: temperature of the student's softmax over the candidates.
    teacher_temperature: temperature of the teacher's softmax over the candidates.
    kd_temperature: temperature T of the soft labels.
    rrd: weight of the rrd term.
    kd: weight of the soft labels; 0: the paper's RRD, without them.
    hard: weight of the labels.
    """

    name = "rrd_task"
    needs = {"hidden", "logits"}
    across_batch = True
    queued = frozenset({"rrd"})
    stages = (Stage("distil", {"rrd": 1.0, "kd": 1.0, "hard": 1.0}),)

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        task: Task,
        *,
        pool: Pool = "mean",
        queue: Number = 16384,
        temperature: Temperature = 0.1,
        teacher_temperature: Temperature = 0.05,
        kd_temperature: Temperature = 4.0,
        rrd: Weight = 1.0,
        kd: Weight = 1.0,
        hard: Weight = 1.0,
    ) -> None:
        self.stages = (Stage("distil", {"rrd": rrd, "kd": kd, "hard": hard}),)
        super().__init__(student, teacher, task)
        if not self.student.depth and pool == "cls":
            raise UserError(
                "method 'rrd_task' expected --set pool=mean for a static student, got cls: without layers the first "
                "token is the same for every text"
            )
        self.granularity, self.kd_temperature = pool, kd_temperature
        self.temperatures = temperature, teacher_temperature
        self.project = self.bridge((self.student.depth, self.teacher.depth))
        self.queue = Queue(queue, 1, self.teacher.width)

    @classmethod
    def serves(cls, task: Task | type[Task]) -> bool:
        return super().serves(task) and task.per == "text"

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            "rrd": self.relations(student, teacher, batch),
            "kd": self.kd(student, teacher, self.kd_temperature),
            "hard": self.hard(student, batch),
        }

    def relations(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of the student's and the teacher's similarities to the candidates: ()."""
        own, _ = pool_layer(student.hidden[self.student.depth], student.mask, self.granularity)
        s, t = F.normalize(self.project(own[:, 0]).float(), dim=-1), self.vectors(teacher)
        rows, keys = self.queue.with_batch(gather(t).unsqueeze(1), gather(batch["text_key"]))
        candidates, allowed = rows[:, 0], losses.negatives_of(batch["text_key"], keys)
        ours, theirs = self.temperatures
        targets = losses.similarity_targets(t, candidates, theirs, allowed)
        return losses.contrast(s, candidates, targets, ours, allowed)

    @torch.no_grad()
    def vectors(self, teacher: Encoding) -> Tensor:
        """The teacher's compared vectors, (B, D_T), of length 1."""
        pooled, _ = pool_layer(teacher.hidden[self.teacher.depth].float(), teacher.mask, self.granularity)
        return F.normalize(pooled[:, 0], dim=-1)

    def after_step(self, teacher: Encoding, batch: Mapping[str, Tensor]) -> None:
        if self.queue.size and self.training:
            self.queue.push(gather(self.vectors(teacher)).unsqueeze(1), gather(batch["text_key"]))
