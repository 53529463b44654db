from collections.abc import Mapping

from torch import Tensor

from contrastill import losses
from contrastill.encoder import Encoding
from contrastill.methods.base import Stage
from contrastill.methods.embedding import EmbeddingMethod


class LEAF(EmbeddingMethod):
    """LEAF: squared distance of unit vectors, without negatives. Vujanic et al., 2025. arXiv:2509.12539."""

    name = "leaf"
    stages = (Stage("distil", {"distance": 1.0}),)

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"distance": losses.unit_distance(self.projected(student, teacher), teacher.pooled)}
