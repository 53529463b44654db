"""A gradient cache, around any method that compares texts by their vectors alone."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from contrastill.encoder import Encoding
from contrastill.errors import UserError
from contrastill.methods.base import Method

__all__ = ["Chunked"]


class Chunked(nn.Module):
    """Trains `method` with the activations of `chunk` texts in memory at a time (Gao et al. 2021, arXiv:2101.06983).

    The student reads the batch chunk by chunk, texts of about equal length together, and keeps their vectors alone. The
    loss is that of all vectors; on the way back each chunk is computed again, with the same random numbers (dropout),
    and takes its part of the gradient. Loss and gradient are those of the whole batch, for one more forward pass.

    Raises:
        UserError: the method compares more of a text than its vector.
    """

    def __init__(self, method: Method, chunk: int) -> None:
        super().__init__()
        if set(method.needs) != {"pooled"}:
            raise UserError(
                f"expected a method that compares vectors of texts alone, got {method.name!r}, which compares "
                f"{' and '.join(sorted(method.needs))}; choose a smaller batch size"
            )
        if chunk < 1:
            raise UserError(f"expected a chunk of at least 1 text, got {chunk}")
        self.method, self.chunk = method, chunk

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        method = self.method
        batch = method.prepare(batch)
        teacher = method.run_teacher(batch)
        result = method.weighted_sum(method.losses(self.read(batch), teacher, batch))
        method.after_step(teacher, batch)
        return result

    def read(self, batch: Mapping[str, Tensor]) -> Encoding:
        """The student's vectors; its activations are not kept."""
        method, mask = self.method, batch["attention_mask"]
        order = mask.sum(1).argsort(descending=True, stable=True)
        parts = [
            checkpoint(
                method.student, {name: value[rows] for name, value in batch.items()}, method.needs, use_reentrant=False
            )
            for rows in order.split(self.chunk)
        ]
        return Encoding(mask.bool(), pooled=torch.cat([part.pooled for part in parts])[order.argsort()])
