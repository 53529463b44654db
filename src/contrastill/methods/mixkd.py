from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor
from torch.distributions import Beta
from transformers import PreTrainedModel

from contrastill.encoder import Encoding
from contrastill.methods.base import Method, Stage, batch_mean
from contrastill.methods.settings import Temperature, Weight
from contrastill.ranges import Range
from contrastill.tasks.base import Task


class MixKD(Method):
    """MixKD: the teacher's answers to mixtures of two texts. Liang et al., ICLR 2021. arXiv:2011.00593.

    `CE(z_S(x), y) + labels CE(z_S(x'), y') + mixed T^2 KL(z_T(x') || z_S(x'))`: x' is `share x_i + (1 - share) x_j` of
    the word vectors of two texts of a batch, of each model's own, y' the same of their labels, share drawn from
    Beta(beta, beta) for each text. The teacher reads the mixture, so that no cache can hold what it says.

    beta: of the distribution of the shares; 1: all shares are equally likely, near 0: the texts are hardly mixed.
    labels: weight of the mixed labels.
    mixed: weight of the teacher's answers to mixtures.
    temperature: temperature T of these answers.
    """

    name = "mixkd"
    asks_live = True
    stages = (Stage("distil", {"hard": 1.0, "mixed_hard": 1.0, "mixed": 1.0}),)

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        task: Task,
        *,
        beta: Annotated[float, Range(above=0, at_most=1000)] = 1.0,
        labels: Weight = 1.0,
        mixed: Weight = 1.0,
        temperature: Temperature = 2.0,
    ) -> None:
        self.stages = (Stage("distil", {"hard": 1.0, "mixed_hard": labels, "mixed": mixed}),)
        super().__init__(student, teacher, task)
        self.beta, self.temperature = beta, temperature
        self.mixture: dict[str, Tensor] = {}

    @classmethod
    def serves(cls, task: Task | type[Task]) -> bool:
        return super().serves(task) and task.per == "text"

    def run_teacher(self, batch: Mapping[str, Tensor]) -> Encoding:
        """Draws the mixtures of a step, which both of a perturbed student's passes read."""
        rows, device = len(batch["input_ids"]), batch["input_ids"].device
        partner = torch.randperm(rows).to(device)
        share = Beta(torch.tensor(self.beta), torch.tensor(self.beta)).sample((rows,)).to(device)
        self.mixture = {"partner": partner, "share": share}
        return super().run_teacher({**batch, **self.mixture})

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        mixed = self.student({**batch, **self.mixture}, self.needs)
        return {
            "hard": self.hard(student, batch),
            "mixed_hard": self.mixed_hard(mixed, batch["labels"]),
            "mixed": self.kd(mixed, teacher, self.temperature),
        }

    def mixed_hard(self, mixed: Encoding, labels: Tensor) -> Tensor:
        """The label loss of the mixtures: (). A mixture has labels where both of its texts have."""
        partner, share = self.mixture["partner"], self.mixture["share"]
        if labels.is_floating_point():  # scores, or a 0 or 1 for each label
            by_row = share.view(-1, *[1] * (labels.dim() - 1))
            labels = by_row * labels + (1 - by_row) * labels[partner]
            return batch_mean(*self.task.hard(mixed.logits, labels, mixed.mask))
        # the cross-entropy to a mixture of two classes is the mixture of the cross-entropies
        own, own_weights = self.task.hard(mixed.logits, labels, mixed.mask)
        other, other_weights = self.task.hard(mixed.logits, labels[partner], mixed.mask)
        both = (labels != -100) & (labels[partner] != -100)
        own_share, other_share = share * own_weights, (1 - share) * other_weights
        weights = own_share + other_share
        errors = (own_share * own + other_share * other) / weights.where(both, 1.0)
        return batch_mean(errors, weights * both)
