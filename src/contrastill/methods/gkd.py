from collections.abc import Mapping

from torch import Tensor
from transformers import PreTrainedModel

from contrastill import losses
from contrastill.methods.base import Stage
from contrastill.methods.language import LanguageMethod
from contrastill.methods.settings import Share, Source
from contrastill.tasks.base import Task


class GKD(LanguageMethod):
    """Generalised knowledge distillation. Agarwal et al., ICLR 2024. arXiv:2306.13649.

    `JSD_beta(p_T || p_S)` of each token of a text: `beta KL(p_T || m) + (1 - beta) KL(p_S || m)`, where
    `m = beta p_T + (1 - beta) p_S`; beta 0 is KL(p_T || p_S), beta 1 KL(p_S || p_T).

    beta: between the two divergences.
    source: writer of the answers: "given" (the data's), "teacher" (sequence-level KD, Kim and Rush 2016) or "student"
        (on-policy).
    share: of the steps, those whose answers `source` writes; in the others they are the given ones.
    """

    name = "gkd"
    stages = (Stage("distil", {"jsd": 1.0}),)

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        task: Task,
        *,
        beta: Share = 0.0,
        source: Source = "given",
        share: Share = 1.0,
    ) -> None:
        super().__init__(student, teacher, task)
        self.beta, self.source, self.share = beta, source, share

    @property
    def writes(self) -> bool:
        return self.source != "given"

    def text(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.source == "given" or self.chance() >= self.share:
            return dict(batch)
        return self.by(self.source, batch)

    def dearest(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(batch) if self.source == "given" or not self.share else self.by(self.source, batch)

    def token_losses(self, student: Tensor, teacher: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"jsd": losses.jensen_shannon(student, teacher, self.beta)}
