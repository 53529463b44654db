from collections.abc import Mapping

from torch import Tensor
from transformers import PreTrainedModel

from contrastill.encoder import Encoding
from contrastill.methods.base import Method, Stage
from contrastill.methods.settings import Share, Temperature
from contrastill.tasks.base import Task


class KD(Method):
    """Knowledge distillation on soft labels. Hinton et al., 2015. arXiv:1503.02531.

    `alpha T^2 KL(teacher || student) + (1 - alpha) CE`. Unlabelled rows are used by the kd term alone.

    temperature: temperature T of the soft labels.
    alpha: weight of the kd term; the label loss has 1 - alpha.
    """

    name = "kd"
    stages = (Stage("distil", {"kd": 0.5, "hard": 0.5}),)

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        task: Task,
        *,
        temperature: Temperature = 2.0,
        alpha: Share = 0.5,
    ) -> None:
        self.stages = (Stage("distil", {"kd": alpha, "hard": 1 - alpha}),)
        super().__init__(student, teacher, task)
        self.temperature = temperature

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"kd": self.kd(student, teacher, self.temperature), "hard": self.hard(student, batch)}
