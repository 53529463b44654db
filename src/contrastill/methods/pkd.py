from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from contrastill import losses
from contrastill.encoder import Encoding, pool_layer
from contrastill.methods.base import Method, Stage
from contrastill.methods.settings import LayerMap, Share, Temperature, Weight
from contrastill.tasks.base import Task


class PKD(Method):
    """BERT-PKD: Patient Knowledge Distillation. Sun et al., EMNLP 2019. arXiv:1908.09355.

    `(1 - alpha) CE + alpha KD + beta PT`, PT between the normalised [CLS] vectors of the mapped layers but the last.
    The paper's student has the teacher's width; at another width, each mapped layer gets a trained projection.

    temperature: temperature T of the soft labels (5, 10 or 20 in the paper).
    alpha: weight of the kd term (0.2, 0.5 or 0.7); the label loss has 1 - alpha.
    beta: weight of the patient term (10, 100, 500 or 1000).
    layer_map: matching teacher layers: "skip" (evenly spaced, without the last), "uniform" (with it) or "last".
    """

    name = "pkd"
    needs = {"hidden", "logits"}
    granularity = "cls"
    stages: Sequence[Stage] = (Stage("distil", {"kd": 0.5, "hard": 0.5, "patient": 100.0}),)

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        task: Task,
        *,
        temperature: Temperature = 5.0,
        alpha: Share = 0.5,
        beta: Weight = 100.0,
        layer_map: LayerMap = "skip",
    ) -> None:
        self.stages = (Stage("distil", {"kd": alpha, "hard": 1 - alpha, "patient": beta}),)
        super().__init__(student, teacher, task)
        self.temperature = temperature
        self.pairs = self.layers(layer_map)
        same = self.student.width == self.teacher.width
        self.project = nn.ModuleList(nn.Identity() if same else self.bridge(pair) for pair in self.pairs)

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        patient = [
            losses.normalised_mse(
                project(pool_layer(student.hidden[i], student.mask, "cls")[0][:, 0]),
                pool_layer(teacher.hidden[j], teacher.mask, "cls")[0][:, 0],
            )
            for project, (i, j) in zip(self.project, self.pairs, strict=True)
        ]
        return {
            "kd": self.kd(student, teacher, self.temperature),
            "hard": self.hard(student, batch),
            "patient": torch.stack(patient).mean(),
        }
