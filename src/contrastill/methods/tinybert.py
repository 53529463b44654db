from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from contrastill import losses
from contrastill.encoder import Encoding
from contrastill.errors import UserError
from contrastill.methods.base import Method, Stage
from contrastill.methods.settings import LayerMap, Temperature
from contrastill.tasks.base import Task


class TinyBERT(Method):
    """TinyBERT's task distillation. Jiao et al., Findings of EMNLP 2020. arXiv:1909.10351.

    First embeddings, hidden states and attention scores (before softmax) of the mapped layers; then, as a second run,
    the teacher's soft labels. The paper gives them 20 and 3 epochs.

    temperature: temperature of the soft labels.
    layer_map: matching teacher layers: "uniform" (evenly spaced), "skip" or "last".
    relative: each layer's embedding, hidden and attention term is divided by the teacher's mean square; else the term
        with the largest numbers is all that is learnt (not in the paper).
    """

    name = "tinybert"
    needs = {"hidden", "attention", "logits"}
    stages = (
        Stage("intermediate", {"embedding": 1.0, "hidden": 1.0, "attention": 1.0}, share=20 / 23),
        Stage("prediction", {"soft": 1.0}, share=3 / 23, fresh=True),
    )

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        task: Task,
        *,
        temperature: Temperature = 1.0,
        layer_map: LayerMap = "uniform",
        relative: bool = False,
    ) -> None:
        super().__init__(student, teacher, task)
        self.temperature, self.relative = temperature, relative
        self.balanced_by = "" if relative else "--set relative=true"
        self.pairs = self.layers(layer_map)
        self.project_embedding, self.project_hidden = self.bridge((0, 0)), self.bridge(*self.pairs)
        if self.student.heads != self.teacher.heads:
            raise UserError(
                f"tinybert compares attention head by head: expected a student with the teacher's "
                f"{self.teacher.heads} heads, got {self.student.heads}; choose another student shape or method"
            )

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        def distance(loss: Callable[..., Tensor], ours: Tensor, theirs: Tensor) -> Tensor:
            found = loss(ours, theirs, teacher.mask)
            if not self.relative:
                return found
            return found / loss(torch.zeros_like(theirs), theirs, teacher.mask).clamp(min=1e-12)

        hidden = [
            distance(losses.hidden_mse, self.project_hidden(student.hidden[i]), teacher.hidden[j])
            for i, j in self.pairs
        ]
        attention = [
            distance(losses.attention_mse, student.attention[i - 1], teacher.attention[j - 1]) for i, j in self.pairs
        ]
        return {
            "embedding": distance(losses.hidden_mse, self.project_embedding(student.hidden[0]), teacher.hidden[0]),
            "hidden": torch.stack(hidden).sum(),
            "attention": torch.stack(attention).sum(),
            **self.on_task(soft=lambda: self.soft(student, teacher, self.temperature)),
        }
