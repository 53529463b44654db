from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor
from transformers import PreTrainedModel

from contrastill import losses
from contrastill.methods.base import Stage
from contrastill.methods.language import STUDENT, TEACHER, LanguageMethod
from contrastill.methods.settings import Nucleus
from contrastill.ranges import Range
from contrastill.sampling import Decoding, interleave
from contrastill.tasks.base import Task

Heat = Annotated[float, Range(at_least=0, at_most=1000)]


class SKD(LanguageMethod):
    """Speculative knowledge distillation. Xu et al., ICLR 2025. arXiv:2410.11325.

    The student writes; a token that is not among the `top_k` likeliest of the teacher is replaced by one that the
    teacher draws. `KL(p_T || p_S)` of each token of the text. With top_k of the whole vocabulary the text is the
    student's own, with 0 the teacher's.

    top_k: rank up to which the teacher accepts a token.
    draft: tokens that the student writes before the teacher looks: changes the speed, and no text.
    temperature: of the student's draws; 0: its likeliest token.
    top_p: likeliest words that the student draws from, as a share of its probability.
    teacher_temperature: of the teacher's draws.
    teacher_top_p: likeliest words that the teacher draws from, as a share of its probability.
    """

    name = "skd"
    stages = (Stage("distil", {"soft": 1.0}),)

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        task: Task,
        *,
        top_k: Annotated[int, Range(at_least=0, at_most=10_000_000)] = 25,
        draft: Annotated[int, Range(at_least=1, at_most=1024, unit="tokens")] = 5,
        temperature: Heat = 0.5,
        top_p: Nucleus = 0.5,
        teacher_temperature: Heat = 0.2,
        teacher_top_p: Nucleus = 0.5,
    ) -> None:
        super().__init__(student, teacher, task)
        self.top_k, self.draft = top_k, draft
        self.decodings = Decoding(temperature, top_p), Decoding(teacher_temperature, teacher_top_p)

    @property
    def writes(self) -> bool:
        return True

    def text(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        task, device = self.task, batch["prompt"].device
        numbers = [self.draw(stream, batch["key"], task.new_tokens) for stream in (STUDENT, TEACHER)]
        text = interleave(
            self.student.model,
            self.teacher.of(device).model,
            batch["prompt"],
            batch["prompt_mask"],
            torch.stack(numbers).to(device),
            task.ends,
            task.pad,
            self.top_k,
            self.draft,
            self.decodings,
        )
        accepted = text.accepted.sum() / text.mask.sum().clamp(min=1)
        return {**self.written(batch, text), "seen_accepted": accepted}

    def token_losses(self, student: Tensor, teacher: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"soft": losses.forward_kl(student, teacher)}
