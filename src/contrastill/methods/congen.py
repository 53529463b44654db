from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from contrastill import losses
from contrastill.encoder import Encoding
from contrastill.methods.base import Stage
from contrastill.methods.embedding import EmbeddingMethod
from contrastill.methods.queue import Queue
from contrastill.methods.settings import Number, Temperature
from contrastill.tasks.base import Task


class ConGen(EmbeddingMethod):
    """ConGen: soft targets over teacher vectors. Limkonchotiwat et al., EMNLP 2022. ACL 2022.findings-emnlp.483.

    The student learns the teacher's distribution of similarity over the batch and a queue of past texts; the text's own
    vector is among the candidates.

    queue: number of past teacher vectors kept as candidates.
    temperature: temperature of the student's softmax.
    teacher_temperature: temperature of the teacher's softmax.
    """

    name = "congen"
    across_batch = True
    queued = frozenset({"congen"})
    stages = (Stage("distil", {"congen": 1.0}),)

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: Any,
        task: Task,
        *,
        queue: Number = 16384,
        temperature: Temperature = 0.05,
        teacher_temperature: Temperature = 0.05,
    ) -> None:
        super().__init__(student, teacher, task)
        self.queue = Queue(queue, 1, self.teacher.width)
        self.temperatures = temperature, teacher_temperature

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        s, t = self.vectors(student, teacher)
        candidates, _, _ = self.candidates(t, batch)
        ours, theirs = self.temperatures
        return {"congen": losses.contrast(s, candidates, losses.similarity_targets(t, candidates, theirs), ours)}
