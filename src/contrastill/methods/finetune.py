from collections.abc import Mapping

from torch import Tensor

from contrastill.encoder import Encoding
from contrastill.methods.base import Method, Stage


class Finetune(Method):
    """Training on the labels alone, without a teacher: makes teachers, and is the baseline of every student."""

    name = "finetune"
    uses_teacher = False
    stages = (Stage("finetune", {"hard": 1.0}),)

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"hard": self.hard(student, batch)}
