"""A language model as a teacher that runs in every step, or once for each text by which students are scored."""

import copy
import hashlib
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Protocol, Self

import torch
from torch import Tensor
from transformers import PreTrainedModel

from contrastill.forward import autocasting
from contrastill.language import CausalLM
from contrastill.losses import SparseLogits
from contrastill.teachers.base import fingerprint

__all__ = ["FrozenLM", "LanguageTeacher", "Part", "RecalledLM"]

RECALLED = 2**29  # bytes of states that are kept: those of 230,000 answer tokens of a model 576 wide

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
        return logits_of(lm, lm.states(batch))


class RecalledLM:
    """A teacher that recalls the batches that it has read, for scores on a split that is read again at each check.

    It keeps the states of their answer tokens before the head, on the CPU, as far as `most` bytes go; other batches
    are read anew.
    """

    def __init__(self, teacher: FrozenLM, most: int = RECALLED) -> None:
        self.teacher, self.left = teacher, most
        self.kept: dict[bytes, Tensor] = {}

    def on(self, device: torch.device) -> Self:
        """Itself, once its model is on a device."""
        self.teacher.of(device)
        return self

    @property
    def model(self) -> PreTrainedModel:
        return self.teacher.model

    @torch.no_grad()
    def tokens(self, batch: Mapping[str, Tensor]) -> Callable[[slice], Tensor]:
        lm = self.teacher.of(batch["prompt"].device)
        key = batch_key(batch, str(lm.model.dtype))
        if (states := self.kept.get(key)) is None:
            states = lm.states(batch)
            if states.nbytes <= self.left:
                self.left -= states.nbytes
                self.kept[key] = states.cpu()
        return logits_of(lm, states.to(batch["prompt"].device))


def logits_of(lm: CausalLM, states: Tensor) -> Callable[[slice], Tensor]:
    """Gives the logits (n, V) of some of the states (N, D)."""

    @torch.no_grad()
    def part(some: slice) -> Tensor:
        return lm.head(states[some])

    return part


def batch_key(batch: Mapping[str, Tensor], kind: str) -> bytes:
    """16 bytes that stand for what a model reads of a batch, in numbers of this kind."""
    digest = hashlib.blake2b(kind.encode(), digest_size=16)
    for name in ("prompt", "prompt_mask", "answer", "answer_mask"):
        digest.update(str(tuple(batch[name].shape)).encode())
        digest.update(batch[name].cpu().numpy().tobytes())
    return digest.digest()
