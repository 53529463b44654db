from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from contrastill import losses
from contrastill.methods.base import Stage, gather
from contrastill.methods.language import LanguageMethod
from contrastill.methods.settings import Share
from contrastill.ranges import Range
from contrastill.tasks.base import Task

REPLAY = 9  # stream of random numbers
RISE, MORE = 0.1, 0.1  # of the dev loss at which the share of own texts grows, and by how much


class DistiLLM(LanguageMethod):
    """DistiLLM: bounded divergences, own texts as far as they help. Ko et al., ICML 2024. arXiv:2402.03898.

    `KL(p_S || skew p_S + (1 - skew) p_T)` of each token, or `KL(p_T || skew p_T + (1 - skew) p_S)`. With source
    "adaptive", a share of the steps learns from the student's own texts: it begins at `share` and grows by 0.1
    whenever the dev loss has risen by 0.1 since it last grew. Such a step writes new texts with a probability that
    falls over the run, else it takes texts written earlier.

    The first stage learns from the given answers alone, as the paper's students have before.

    skew: of the mixture; 0: the plain divergence.
    reverse: whether the student's distribution comes first.
    source: of the answers: "adaptive", "given" or "student".
    replay: texts that are kept.
    share: of the steps that learn from own texts at first, with source "adaptive".
    """

    kept: Tensor
    lengths: Tensor
    keys: Tensor
    count: Tensor
    own: Tensor
    last: Tensor

    name = "distillm"
    stages = (Stage("answers", {"hard": 1.0}, 0.15), Stage("distil", {"soft": 1.0, "hard": 0.0}, 0.85))

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        task: Task,
        *,
        skew: Share = 0.1,
        reverse: bool = True,
        source: Annotated[str, Range(choices=("adaptive", "given", "student"))] = "adaptive",
        replay: Annotated[int, Range(at_least=1, at_most=1_000_000, unit="texts")] = 1000,
        share: Share = 0.0,
    ) -> None:
        super().__init__(student, teacher, task)
        self.skew, self.source = skew, source
        self.divergence = losses.skew_reverse_kl if reverse else losses.skew_kl
        width = self.task.longest_prompt + self.task.new_tokens
        self.register_buffer("kept", torch.full((replay, width), self.task.pad, dtype=torch.int32))
        self.register_buffer("lengths", torch.zeros(replay, 2, dtype=torch.int32))  # of prompt and answer
        self.register_buffer("keys", torch.zeros(replay, dtype=torch.int64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))  # texts ever kept
        self.register_buffer("own", torch.tensor(share))  # share of the steps that learn from own texts
        self.register_buffer("last", torch.tensor(torch.inf))  # dev loss when it last grew

    # ---- texts

    @property
    def writes(self) -> bool:
        return self.source != "given"

    def text(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.source == "given" or not self.stage.weights.get("soft"):
            return dict(batch)
        if self.source == "student":
            return self.by("student", batch)
        own, chance, full = float(self.own), self.chance(), int(self.count) >= len(self.kept)
        if chance < own * (1 - self.progress if full else 1):
            fresh = self.by("student", batch)
            self.keep(fresh)
            return {**fresh, **self.seen(1, 0)}
        if chance < own and int(self.count):
            return {**self.replayed(batch), **self.seen(0, 1)}
        return {**batch, **self.seen(0, 0)}

    def dearest(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.by("student", batch) if self.writes and self.stage.weights.get("soft") else dict(batch)

    def seen(self, fresh: float, replayed: float) -> dict[str, Tensor]:
        """The source of a step's texts, for the log."""
        return {"seen_fresh": torch.tensor(fresh), "seen_replayed": torch.tensor(replayed)}

    def keep(self, batch: Mapping[str, Tensor]) -> None:
        """Puts all processes' texts of a batch into the buffer, in place of the oldest ones."""
        prompt, answer = batch["prompt_mask"], batch["answer_mask"]
        ids = torch.cat([batch["prompt"], batch["answer"]], 1)
        real = torch.cat([prompt, answer], 1)
        order = (~real).int().argsort(dim=1, stable=True)  # real tokens first, in their order
        packed = ids.gather(1, order).where(real.gather(1, order), self.task.pad)
        packed = gather(pad(packed, (0, self.kept.shape[1]))[:, : self.kept.shape[1]])
        sizes = gather(torch.stack([prompt.sum(1), answer.sum(1)], 1))
        places = (torch.arange(len(packed), device=packed.device) + self.count) % len(self.kept)
        self.kept[places] = packed.to(self.kept.dtype)
        self.lengths[places] = sizes.to(self.lengths.dtype)
        self.keys[places] = gather(batch["key"])
        self.count += len(packed)

    def replayed(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As many texts of the buffer as the batch has rows, drawn for each row."""
        held = min(int(self.count), len(self.kept))
        draws = self.draw(REPLAY, batch["key"], 1)[:, 0].to(self.kept.device)
        rows = (draws * held).long().clamp(max=held - 1)
        sizes, ids = self.lengths[rows].long(), self.kept[rows].long()
        longest = sizes.amax(0).tolist()
        spot = torch.arange(longest[0], device=ids.device) - (longest[0] - sizes[:, :1])
        behind = torch.arange(longest[1], device=ids.device).expand(len(rows), -1)
        return {
            **batch,
            "prompt": ids.gather(1, spot.clamp(min=0)).where(spot >= 0, self.task.pad),
            "prompt_mask": spot >= 0,
            "answer": ids.gather(1, (behind + sizes[:, :1]).clamp(max=ids.shape[1] - 1)).where(
                behind < sizes[:, 1:], self.task.pad
            ),
            "answer_mask": behind < sizes[:, 1:],
            "key": self.keys[rows],
        }

    def after_check(self, metrics: Mapping[str, float]) -> None:
        """Lets the share of own texts grow where the dev loss has risen."""
        loss = metrics["loss"]
        if not self.stage.weights.get("soft"):
            return
        if loss >= float(self.last) + RISE:
            self.own.add_(MORE).clamp_(max=1)
            self.last.fill_(loss)
        elif torch.isinf(self.last):
            self.last.fill_(loss)

    # ---- terms

    def token_losses(self, student: Tensor, teacher: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"soft": self.divergence(student, teacher, self.skew)}
