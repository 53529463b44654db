from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import PreTrainedModel

from contrastill import losses
from contrastill.encoder import Encoder
from contrastill.methods.base import Stage, processes
from contrastill.methods.settings import Number, Scale, Share, Temperature, Weight
from contrastill.methods.simcse import SimCSE
from contrastill.tasks.pairs import Pairs


class DistillCSE(SimCSE):
    """DistillCSE: contrast, and a teacher's similarities with noise. Xu et al., EMNLP 2023. arXiv:2310.13499.

    As `simcse` with a teacher, but of the rows' first texts alone; the teacher's softmax is sharper than the student's,
    and its probabilities change places with those of about equally similar texts (group-P shuffling), so that the
    student does not learn the teacher's errors of order. Of several teachers the similarities are averaged.

    scale: factor of the cosines in `contrast` (1 / temperature).
    queue: number of past positives kept as negatives, as they were then.
    anchor_weight: weight of the `anchor` term.
    anchor_temperature: temperature of the student's softmax in the `anchor` term.
    teacher_temperature: temperature of the teacher's softmax in the `anchor` term.
    group: share of the probability that a group of shuffled texts holds, by the teacher's softmax without a
        temperature: 0.1 is about a tenth of the other rows of a batch; 0: no shuffling.
    """

    name = "distillcse"
    uses_teacher = True
    stages = (Stage("contrast", {"contrast": 1.0, "anchor": 1.0}),)

    def __init__(
        self,
        student: PreTrainedModel | Encoder,
        teacher: Any,
        task: Pairs,
        *,
        scale: Scale = 20.0,
        queue: Number = 0,
        anchor_weight: Weight = 1.0,
        anchor_temperature: Temperature = 0.025,
        teacher_temperature: Temperature = 0.0125,
        group: Share = 0.1,
    ) -> None:
        anchor: dict[str, float] = {"anchor_weight": anchor_weight, "anchor_temperature": anchor_temperature}
        super().__init__(student, teacher, task, scale=scale, queue=queue, **anchor)
        self.teacher_temperature, self.group = teacher_temperature, group

    def anchor(self, vectors: Tensor, teacher: Tensor, keys: Tensor) -> Tensor:
        """The term of the rows' first texts. Among all texts, a positive, which is the nearest, would be shuffled away
        from its own anchor."""
        rows = len(vectors) // self.columns
        return super().anchor(vectors[:rows], teacher[:rows], keys[:rows])

    def targets(self, teacher: Tensor, others: Tensor, keys: Tensor, allowed: Tensor) -> Tensor:
        targets = losses.similarity_targets(teacher, others, self.teacher_temperature, allowed)
        if not self.group:
            return targets
        probabilities = losses.similarity_targets(teacher, others, 1.0, allowed)
        return losses.group_shuffled(targets, probabilities, self.group, allowed, self.draw(keys, len(teacher)))

    def draw(self, keys: Tensor, rows: int) -> Tensor:
        """Random numbers of this process's texts and the whole batch's, by text key: (N,) -> (rows, N).

        A pair of texts has the same number wherever the two stand in the batch, and on whichever process.
        """
        numbers, first = torch.rand(len(keys), len(keys), device=keys.device), 0
        if processes() > 1:
            dist.broadcast(numbers, 0)
            first = rows * dist.get_rank()
        place = keys.argsort(stable=True).argsort()
        return numbers[place[first : first + rows]][:, place]
