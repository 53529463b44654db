from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from contrastill import losses
from contrastill.encoder import Encoder, Encoding
from contrastill.methods.base import Method, Stage, gather, gather_with_gradient, processes
from contrastill.methods.queue import Queue
from contrastill.methods.settings import Number, Scale, Temperature, Weight
from contrastill.tasks.pairs import Pairs


class SimCSE(Method):
    """SimCSE, which is DisCo's stage 2 too: contrast of texts that belong together. Gao et al., 2021. arXiv:2104.08821.

    Each anchor learns to pick its positive among the positives and hard negatives of the whole batch (InfoNCE, with a
    gradient to both sides); without pairs, a text is its own positive under another dropout mask. With a teacher, the
    term `anchor` holds the similarities within the batch to the teacher's, which may have any width (Xu et al. 2023,
    arXiv:2310.13499; all of that paper is `distillcse`). A text is never its own negative, nor is a copy of it.

    scale: factor of the cosines in `contrast` (1 / temperature).
    queue: number of past positives kept as negatives, as they were then.
    anchor_weight: weight of the `anchor` term.
    anchor_temperature: temperature of the `anchor` term's softmaxes.
    """

    name = "simcse"
    needs = {"pooled"}
    uses_teacher = False  # may: see the constructor
    per_group = True
    across_batch = True
    queued = frozenset({"contrast"})
    stages = (Stage("contrast", {"contrast": 1.0}),)

    def __init__(
        self,
        student: PreTrainedModel | Encoder,
        teacher: Any,
        task: Pairs,
        *,
        scale: Scale = 20.0,
        queue: Number = 0,
        anchor_weight: Weight = 1.0,
        anchor_temperature: Temperature = 0.05,
    ) -> None:
        if teacher is not None:
            self.uses_teacher = True
            self.stages = (Stage("contrast", {"contrast": 1.0, "anchor": anchor_weight}),)
        super().__init__(student, teacher, task)
        self.columns, self.scale, self.anchor_temperature = task.columns, scale, anchor_temperature
        self.queue = Queue(queue, 1, self.student.width)
        self.positives: tuple[Tensor, Tensor] | None = None  # of the last pass, for the queue

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        vectors, keys = F.normalize(student.pooled.float(), dim=-1), batch["text_key"]
        with torch.autocast(vectors.device.type, enabled=False):  # times a scale of 20, its rounding is a few tenths
            terms = {"contrast": self.contrast(vectors, keys)}
            if self.uses_teacher:
                terms["anchor"] = self.anchor(vectors, F.normalize(teacher.pooled.float(), dim=-1), keys)
        return terms

    def contrast(self, vectors: Tensor, keys: Tensor) -> Tensor:
        """InfoNCE (eq. 1 and 5) of unit vectors and text keys: (C B, D), (C B,) -> ()."""
        rows = len(vectors) // self.columns
        candidates, theirs = gather_with_gradient(vectors[rows:]), gather(keys[rows:])
        first = len(vectors[rows:]) * (dist.get_rank() if processes() > 1 else 0)
        own = first + torch.arange(rows, device=keys.device)
        self.positives = gather(vectors[rows : 2 * rows].detach()), gather(keys[rows : 2 * rows])
        past, theirs = self.queue.with_batch(candidates.unsqueeze(1), theirs)
        allowed = losses.negatives_of(keys[:rows], theirs) & losses.negatives_of(keys[rows : 2 * rows], theirs)
        return losses.contrast(
            vectors[:rows], past[:, 0], own, 1 / self.scale, allowed.scatter(1, own.unsqueeze(1), True)
        )

    def anchor(self, vectors: Tensor, teacher: Tensor, keys: Tensor) -> Tensor:
        """Cross-entropy of both models' softmaxes over the other texts: (C B, D), (C B, D_T), (C B,) -> ()."""
        theirs = gather(keys)
        allowed = losses.negatives_of(keys, theirs)
        target = self.targets(teacher, gather(teacher), theirs, allowed)
        return losses.contrast(vectors, gather_with_gradient(vectors), target, self.anchor_temperature, allowed)

    def targets(self, teacher: Tensor, others: Tensor, keys: Tensor, allowed: Tensor) -> Tensor:
        """Each text's distribution over the whole batch: (n, D_T), (N, D_T), (N,), (n, N) -> (n, N)."""
        return losses.similarity_targets(teacher, others, self.anchor_temperature, allowed)

    def after_step(self, teacher: Encoding, batch: Mapping[str, Tensor]) -> None:
        if self.queue.size and self.training and self.positives is not None:
            vectors, keys = self.positives
            self.queue.push(vectors.unsqueeze(1), keys)
