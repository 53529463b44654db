from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from contrastill import losses
from contrastill.methods.base import Stage, gather
from contrastill.methods.language import LanguageMethod
from contrastill.methods.settings import Share
from contrastill.tasks.base import Task


class ATKD(LanguageMethod):
    """Adaptive teaching. Zhong et al., ACL 2024. arXiv:2402.11890.

    `KL(p_T || p_S) = TKD + u DKD`: TKD of the target against all other words, DKD among the others, u their
    probability by the teacher. `easy mean(DKD) + (1 - easy) mean(TKD + DKD)`: the first mean is over the easy tokens of
    a step, those with the least u, the second over the hard ones.

    easy: weight of the easy tokens.
    share: of the tokens that are easy.
    hard: weight of the given answers themselves, whose easy tokens teach the target nothing.
    """

    name = "atkd"
    across_batch = True
    stages = (Stage("distil", {"easy": 0.2, "difficult": 0.8, "hard": 0.0}),)

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        task: Task,
        *,
        easy: Share = 0.2,
        share: Share = 0.5,
        hard: Share = 0.0,
    ) -> None:
        self.stages = (Stage("distil", {"easy": easy, "difficult": 1 - easy, "hard": hard}),)
        super().__init__(student, teacher, task)
        self.share = share

    def token_losses(self, student: Tensor, teacher: Tensor, target: Tensor) -> dict[str, Tensor]:
        of_target, of_others, unsure = losses.decoupled(student, teacher, target)
        return {"of_target": of_target, "of_others": of_others, "unsure": unsure}

    def reduced(self, values: Mapping[str, Tensor], tokens: Tensor) -> dict[str, Tensor]:
        of_others, unsure = values["of_others"], values["unsure"].detach()
        easy = unsure < threshold(unsure, self.share)
        counts = torch.stack([easy.sum(), (~easy).sum()]).float()
        easy_tokens, others = gather(counts[None]).mean(0).clamp(min=1e-9)
        return {
            "easy": (of_others * easy).sum() / easy_tokens,
            "difficult": ((values["of_target"] + of_others) * ~easy).sum() / others,
            **super().reduced({"hard": values["hard"]}, tokens),
        }


def threshold(unsure: Tensor, share: float) -> Tensor:
    """The value below which this share of the whole step's tokens lies, over all processes: ()."""
    counts = gather(torch.tensor([len(unsure)], device=unsure.device))
    longest = int(counts.max())
    padded = torch.nn.functional.pad(unsure, (0, longest - len(unsure)), value=torch.nan)
    known = gather(padded)
    return known[~known.isnan()].quantile(share)
