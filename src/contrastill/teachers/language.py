"""A language model as a teacher that runs in every step."""

import copy
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from contrastill.forward import autocasting
from contrastill.language import CausalLM
from contrastill.losses import SparseLogits
from contrastill.teachers.base import fingerprint

__all__ = ["FrozenLM", "LanguageTeacher", "Part"]

Part = Callable[[slice], Tensor | SparseLogits]
"""Gives the logits (n, V), or the likeliest outcomes, of some of a batch's answer tokens."""


class LanguageTeacher(Protocol):
    """Gives a distribution for each answer token of a batch, without gradient."""

    def tokens(self, batch: Mapping[str, Tensor]) -> Part:
        """The teacher's answer to a batch; its logits are formed for as many tokens at a time as are asked for."""

    @property
    def model(self) -> Any:
        """The language model, which writes texts of its own; None: its outputs are stored."""

    @property
    def words(self) -> int:
        """The number of words among which it has a distribution, the first ones of the tokenizer."""

    @property
    def fingerprint(self) -> str:
        """sha256 of all that its outputs depend on, beside the text."""


class FrozenLM:
    """A teacher: no gradient, no state-dict entry, always in eval mode, on the device of the batch that it is given.

    Not an `nn.Module`, as `FrozenEncoder`: what is no module cannot be trained or saved by accident.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.lm = CausalLM(model.requires_grad_(False).eval())
        self.lowered: CausalLM | None = None

    @property
    def model(self) -> PreTrainedModel:
        return self.lm.model

    @property
    def width(self) -> int:
        return self.lm.width

    @property
    def depth(self) -> int:
        return self.lm.depth

    @property
    def words(self) -> int:
        return int(self.model.config.vocab_size)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.model)

    def of(self, device: torch.device) -> CausalLM:
        """The model on a device, in the type in which products are computed there just now."""
        if self.model.device != device:
            self.lm.to(device)
        if not autocasting(device.type):
            return self.lm
        if self.lowered is None:  # autocast would cast the frozen weights anew in every step
            self.lowered = copy.deepcopy(self.lm).to(torch.bfloat16)
        return self.lowered.to(device)

    @torch.no_grad()
    def tokens(self, batch: Mapping[str, Tensor]) -> Callable[[slice], Tensor]:
        lm = self.of(batch["prompt"].device)
        states = lm.states(batch)

        @torch.no_grad()
        def part(some: slice) -> Tensor:
            return lm.head(states[some])

        return part
