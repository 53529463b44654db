"""Base of the methods for language models: texts to learn from, and a value a token.

Shapes: B batch, N answer tokens of the batch, n some of them, D width, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from contrastill.language import CausalLM, answer_tokens, token_slices
from contrastill.losses import SparseLogits, outcome_of, outcomes, same_outcomes
from contrastill.methods.base import Method, Stage, processes
from contrastill.sampling import Decoding, Text, sample, uniform
from contrastill.tasks.base import Task
from contrastill.tasks.language import Language
from contrastill.teachers.language import FrozenLM, Part

__all__ = ["LanguageMethod"]

PLAIN = Decoding()
SEEN = "seen_"  # before the name of a figure of a batch, (), that is for the log
STEP, STUDENT, TEACHER = range(3)  # streams of random numbers


class LanguageMethod(Method):
    """A method for language models. Subclasses state `stages`, `token_losses()`, and where texts come from: `text()`
    and `writes`. The term "hard", the cross-entropy of the answers, is there in every stage that names it.

    A term is the mean over all answer tokens of a step, over all parts of an accumulated batch and all processes: their
    number is known once the texts are there, so these are written before the first part is learnt from.
    """

    needs = {"tokens"}
    task: Language

    def __init__(self, student: PreTrainedModel, teacher: Any, task: Task) -> None:
        teacher = FrozenLM(teacher) if isinstance(teacher, PreTrainedModel) else teacher
        super().__init__(CausalLM(student), teacher, task)
        self.step, self.progress = -1, 0.0  # of a trial, before the first one

    def token_losses(self, student: Tensor, teacher: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The paper's terms of each token, which compare two distributions: name -> (n,).

        student, teacher: (n, V) logits, or (n, k + 1) of a teacher's k likeliest words and any other. target: (n,) the
        number of the text's own word among these.
        """
        raise NotImplementedError

    @property
    def writes(self) -> bool:
        """Whether it learns from answers that are written in training, so that nothing of its teacher can be stored."""
        return False

    def text(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The batch with the answers that are learnt from: by default those that are given."""
        return dict(batch)

    def dearest(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The batch with answers of the dearest source that the stage may learn from."""
        return self.text(batch)

    # ---- one training step

    def set_stage(self, step: int, total: int) -> Stage:
        self.step, self.progress = step, step / max(1, total)
        return super().set_stage(step, total)

    @torch.no_grad()
    def before_step(self, batches: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Writes the answers of a step, and adds "tokens", (): their number in the mean part of it."""
        written = [self.text(batch) for batch in batches]
        total = torch.stack([batch["answer_mask"].sum() for batch in written]).sum().float()
        if processes() > 1:
            dist.all_reduce(total)
        mean = total / (len(written) * processes())
        return [{**batch, "tokens": mean} for batch in written]

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        read = batch if "tokens" in batch else self.before_step([batch])[0]
        seen = {name.removeprefix(SEEN): value for name, value in read.items() if name.startswith(SEEN)}
        return {**self.loss_of(read), **seen}

    def loss_of(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The loss of a batch's answers as they are: {"loss": (), and each term: ()}."""
        teacher, target = self.distributions(batch), answer_tokens(batch)
        values = self.by_token(self.student.states(batch), teacher, target)
        return self.weighted_sum(self.reduced(values, batch.get("tokens", torch.tensor(float(len(target))))))

    def distributions(self, batch: Mapping[str, Tensor]) -> Part | None:
        """What the teacher says of a batch's answers; None: there is no teacher."""
        return self.teacher.tokens(batch) if self.uses_teacher else None

    def by_token(self, states: Tensor, teacher: Part | None, target: Tensor) -> dict[str, Tensor]:
        """The terms of all tokens: name -> (N,). Logits are formed for some of them at a time, and again for their
        gradient, so that the memory for them does not grow with the batch."""

        def losses(states: Tensor, some: slice) -> dict[str, Tensor]:
            student = self.student.head(states)
            found = {} if teacher is None else self.compared(student, teacher(some), target[some])
            if "hard" in self.stage.weights:
                found["hard"] = cross_entropy(student.float(), target[some], reduction="none")
            return found

        parts = token_slices(len(target), int(self.student.model.config.vocab_size))
        if len(parts) == 1:
            return losses(states, parts[0])
        values: list[dict[str, Tensor]] = [
            checkpoint(losses, states[some], some, use_reentrant=False) for some in parts
        ]
        return {name: torch.cat([value[name] for value in values]) for name in values[0]}

    def compared(self, student: Tensor, teacher: Tensor | SparseLogits, target: Tensor) -> dict[str, Tensor]:
        """`token_losses` of the student's logits (n, V) and the teacher's answer, over the outcomes of both."""
        if not isinstance(teacher, SparseLogits):
            return self.token_losses(*same_outcomes(student, teacher), target)
        return self.token_losses(*outcomes(student[:, : self.teacher.words], teacher), outcome_of(teacher, target))

    def reduced(self, values: Mapping[str, Tensor], tokens: Tensor) -> dict[str, Tensor]:
        """Terms of a step, of their values a token. tokens: (), the answer tokens of the mean part of a step."""
        return {name: value.sum() / tokens.clamp(min=1) for name, value in values.items()}

    # ---- texts

    def draw(self, stream: int, keys: Tensor, places: int) -> Tensor:
        """Random numbers of a step, of each row by its key and of each place: (B, places)."""
        return uniform(self.task.seed, self.step, keys, places, stream)

    def chance(self) -> float:
        """A random number of the step, the same one on all processes."""
        return float(self.draw(STEP, torch.zeros(1, dtype=torch.int64), 1))

    def written(self, batch: Mapping[str, Tensor], text: Text) -> dict[str, Tensor]:
        """The batch with a sampled text as its answers."""
        return {**batch, "answer": text.ids, "answer_mask": text.mask}

    def by(self, writer: str, batch: Mapping[str, Tensor], decoding: Decoding = PLAIN) -> dict[str, Tensor]:
        """The batch with answers that "student" or "teacher" writes."""
        task, device = self.task, batch["prompt"].device
        ours, theirs = self.student.model, self.teacher.of(device).model
        stream, model = (STUDENT, ours) if writer == "student" else (TEACHER, theirs)
        u = self.draw(stream, batch["key"], task.new_tokens).to(device)
        common = min(ours.config.vocab_size, theirs.config.vocab_size)  # heads may be padded
        text = sample(model, batch["prompt"], batch["prompt_mask"], u, task.ends, task.pad, decoding, common)
        return self.written(batch, text)
