from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from contrastill.encoder import Encoding
from contrastill.methods.base import Stage
from contrastill.methods.embedding import EmbeddingMethod


class MSEKD(EmbeddingMethod):
    """MSE-KD, DisCo's own baseline: squared distance of vectors. Gao et al., 2021. arXiv:2112.05638.

    As in the authors' code nothing is normalised, and the mean is over width too (here times the width, so that a
    learning rate means the same at any width; Adam does not see the factor).
    """

    name = "mse_kd"
    stages = (Stage("distil", {"mse": 1.0}),)

    def bridge_inputs(self, student: Encoding, teacher: Encoding, i: int, j: int) -> tuple[Tensor, Tensor]:
        return student.pooled, teacher.pooled.float()

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        width = teacher.pooled.shape[-1]
        return {"mse": width * F.mse_loss(self.projected(student, teacher), teacher.pooled.float())}
