from collections.abc import Mapping

from torch import Tensor
from transformers import PreTrainedModel

from contrastill import losses
from contrastill.encoder import Encoding
from contrastill.errors import UserError
from contrastill.methods.base import Method, Stage, gather, gather_with_gradient
from contrastill.methods.settings import Temperature, Weight
from contrastill.tasks.base import Task


class DIST(Method):
    """DIST: knowledge distillation from a stronger teacher. Huang et al., NeurIPS 2022. arXiv:2205.10536.

    `CE + beta T^2 (1 - rho_classes) + gamma T^2 (1 - rho_examples)`: Pearson's correlation of both softmaxes over the
    classes of an example, and over the examples of a batch, class by class. The student need not have the teacher's
    probabilities, only their relations. Of two classes the first correlation is 1 or -1: they are refused.

    temperature: temperature T of both softmaxes.
    beta: weight of the inter-class term.
    gamma: weight of the intra-class term.
    """

    name = "dist"
    across_batch = True
    stages = (Stage("distil", {"hard": 1.0, "inter": 1.0, "intra": 1.0}),)

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        task: Task,
        *,
        temperature: Temperature = 1.0,
        beta: Weight = 1.0,
        gamma: Weight = 1.0,
    ) -> None:
        self.stages = (Stage("distil", {"hard": 1.0, "inter": beta, "intra": gamma}),)
        super().__init__(student, teacher, task)
        if len(task.labels) < 3:
            raise UserError(
                f"method 'dist' correlates the probabilities of an example's classes: expected at least 3 classes, got "
                f"{len(task.labels)}; choose method 'kd'"
            )
        self.temperature = temperature

    @classmethod
    def serves(cls, task: Task | type[Task]) -> bool:
        return super().serves(task) and task.one_class

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        T, s, t = self.temperature, gather_with_gradient(student.logits), gather(teacher.logits)
        return {
            "hard": self.hard(student, batch),
            "inter": T**2 * losses.inter_class(student.logits, teacher.logits, T),
            "intra": T**2 * losses.intra_class(s, t, T),
        }
