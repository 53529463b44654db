import math
from collections.abc import Mapping

from torch import Tensor
from transformers import PreTrainedModel

from contrastill import losses
from contrastill.encoder import Encoding
from contrastill.errors import UserError
from contrastill.methods.base import Method, Stage
from contrastill.methods.settings import Count, Share, Temperature
from contrastill.tasks.base import Task

MOST_HEADS = 48


class MiniLM(Method):
    """MiniLMv2: multi-head self-attention relation distillation. Wang et al., Findings of ACL 2021. arXiv:2012.15828.

    The student's last layer learns how the tokens' queries relate to each other in one layer of the teacher, and so of
    keys and values. Both sides are split anew into equally many heads, so that neither widths nor heads have to match,
    and nothing is projected. Then, as a second run, soft labels and labels (the paper fine-tunes on labels).

    heads: number of relation heads; 0: the most, up to 48, that divide both widths.
    teacher_layer: layer of the teacher that is compared; 0: the last. The paper takes an upper middle one of large
        teachers (21 of 24).
    temperature: temperature T of the soft labels.
    alpha: weight of the kd term in the second stage; the label loss has 1 - alpha.
    """

    name = "minilm"
    needs = {"qkv", "logits"}
    stages = (
        Stage("relations", {"queries": 1.0, "keys": 1.0, "values": 1.0}, share=0.5),
        Stage("prediction", {"kd": 0.5, "hard": 0.5}, share=0.5, fresh=True),
    )

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        task: Task,
        *,
        heads: Count = 0,
        teacher_layer: Count = 0,
        temperature: Temperature = 2.0,
        alpha: Share = 0.5,
    ) -> None:
        first, second = self.stages
        self.stages = (first, Stage(second.name, {"kd": alpha, "hard": 1 - alpha}, second.share, fresh=True))
        super().__init__(student, teacher, task)
        if not self.student.depth:
            raise UserError("method 'minilm' compares a layer, and a static student has none; use method 'kd'")
        if teacher_layer > self.teacher.depth:
            raise UserError(f"expected a teacher_layer of at most {self.teacher.depth}, got {teacher_layer}")
        shared = math.gcd(self.student.width, self.teacher.width)
        if heads and shared % heads:
            fit = ", ".join(str(n) for n in range(1, shared + 1) if shared % n == 0)
            raise UserError(
                f"expected a number of heads that divides the widths of student and teacher ({self.student.width}, "
                f"{self.teacher.width}), got {heads}; choose one of {fit}"
            )
        self.heads = heads or max(n for n in range(1, MOST_HEADS + 1) if shared % n == 0)
        self.pairs = [(self.student.depth, teacher_layer or self.teacher.depth)]
        self.temperature = temperature

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        ((i, j),) = self.pairs
        ours, theirs = (side.chunk(3, -1) for side in (student.qkv[i - 1], teacher.qkv[j - 1]))
        relations = [losses.relation_kl(s, t, teacher.mask, self.heads) for s, t in zip(ours, theirs, strict=True)]
        return {
            **dict(zip(("queries", "keys", "values"), relations, strict=True)),
            **self.on_task(kd=lambda: self.kd(student, teacher, self.temperature)),
            **self.on_task(hard=lambda: self.hard(student, batch)),
        }
