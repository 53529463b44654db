"""Base of the methods for sentence embeddings: a projected student vector, compared with the teacher's.

Shapes: B batch, N candidates, D_S student's width, D_T teacher's.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from contrastill.encoder import Encoding
from contrastill.errors import UserError
from contrastill.methods.base import Method, gather, processes
from contrastill.methods.queue import Queue
from contrastill.tasks.base import Task

__all__ = ["EmbeddingMethod"]


class EmbeddingMethod(Method):
    """The student's pooled vector goes through a trained linear map `W` to the teacher's space, and is compared there.

    teacher: answers with `pooled` (B, D_T), and has `width`: a `CachedTeacher` of vectors.

    `W` has no bias, so that the angles it makes are those of an inner product of the student's own space.
    """

    needs = {"pooled"}

    def __init__(self, student: PreTrainedModel, teacher: Any, task: Task) -> None:
        super().__init__(student, teacher, task)
        self.project = self.bridge((0, 0), bias=False)
        self.queue = Queue(0, 1, self.teacher.width)  # of past vectors, which stay on as candidates

    def bridge_inputs(self, student: Encoding, teacher: Encoding, i: int, j: int) -> tuple[Tensor, Tensor]:
        return student.pooled, F.normalize(teacher.pooled, dim=-1)

    def projected(self, student: Encoding, teacher: Encoding) -> Tensor:
        """(B, D_S) -> (B, D_T)

        Raises:
            UserError: the teacher's vectors have another width.
        """
        if teacher.pooled.shape[-1] != self.project.out_features:
            raise UserError(
                f"expected teacher vectors of {self.project.out_features} numbers, as the projection has, got "
                f"{teacher.pooled.shape[-1]}; the teacher is not the one that the method was made for"
            )
        return self.project(student.pooled).float()

    def vectors(self, student: Encoding, teacher: Encoding) -> tuple[Tensor, Tensor]:
        """Projected student's and teacher's, (B, D_T) both, of length 1."""
        return F.normalize(self.projected(student, teacher), dim=-1), F.normalize(teacher.pooled.float(), dim=-1)

    @torch.no_grad()
    def candidates(self, teacher: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The whole batch's teacher vectors, then the queue's: (N, D_T); their text keys (N,); own places (B,).

        teacher: (B, D_T), of length 1.
        """
        rows, keys = self.queue.with_batch(gather(teacher).unsqueeze(1), gather(batch["text_key"]))
        rank = dist.get_rank() if processes() > 1 else 0
        return rows[:, 0], keys, rank * len(teacher) + torch.arange(len(teacher), device=teacher.device)

    def after_step(self, teacher: Encoding, batch: Mapping[str, Tensor]) -> None:
        if self.queue.size and self.training:
            vectors = F.normalize(teacher.pooled.float(), dim=-1)
            self.queue.push(gather(vectors).unsqueeze(1), gather(batch["text_key"]))
