from collections.abc import Mapping

from torch import Tensor
from torch.nn.functional import one_hot
from transformers import PreTrainedModel

from contrastill import losses
from contrastill.encoder import Encoding
from contrastill.methods.base import Method, Stage, gather, gather_with_gradient
from contrastill.methods.settings import Weight
from contrastill.tasks.base import Task


class Comparative(Method):
    """Comparative knowledge distillation. Wilf et al., WACV 2025. arXiv:2311.02253.

    `CE + relative MSE(z_a - z_b, t_a - t_b) + labels MSE(z_a - z_b, y_a - y_b)` of all pairs a, b of a batch: logits z
    of the student, t of the teacher, one-hot labels y. The teacher is asked once a text and answers every pair. As
    differences do not see what all answers have in common, the label loss is beside them (ours).

    relative: weight of the differences to the teacher's.
    labels: weight of the differences to the labels'.
    """

    name = "comparative"
    across_batch = True
    stages = (Stage("distil", {"hard": 1.0, "relative": 1.0, "labels": 1.0}),)

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        task: Task,
        *,
        relative: Weight = 1.0,
        labels: Weight = 1.0,
    ) -> None:
        self.stages = (Stage("distil", {"hard": 1.0, "relative": relative, "labels": labels}),)
        super().__init__(student, teacher, task)

    @classmethod
    def serves(cls, task: Task | type[Task]) -> bool:
        return super().serves(task) and task.per == "text"

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        z, labels = gather_with_gradient(student.logits), gather(batch["labels"])
        targets, known = as_answers(labels, z.shape[1])
        return {
            "hard": self.hard(student, batch),
            "relative": losses.difference_mse(z, gather(teacher.logits)),
            "labels": losses.difference_mse(z, targets, known) * known.float().mean() ** 2,  # their share of all pairs
        }


def as_answers(labels: Tensor, outputs: int) -> tuple[Tensor, Tensor]:
    """Labels as a model would answer them: (B,) or (B, C) -> (B, C), and (B,) bool, the rows that have one."""
    if labels.is_floating_point():
        values = labels.reshape(len(labels), -1)
        known = ~values.isnan().any(1)
        return values.where(known.unsqueeze(1), 0.0), known
    known = labels != -100
    return one_hot(labels.where(known, 0), outputs).float(), known
