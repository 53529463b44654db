"""A Hugging Face model as a teacher that runs in every step."""

import copy
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from contrastill.encoder import Batch, Encoder, Encoding
from contrastill.forward import autocasting
from contrastill.teachers.base import Predict, fingerprint

__all__ = ["FrozenEncoder"]


class FrozenEncoder:
    """A teacher: no gradient, no state-dict entry, always in eval mode, on the device of the batch it is given.

    Deliberately not an `nn.Module`: what is no module cannot be trained, saved, or switched to train mode by accident.
    """

    prompt = ""

    def __init__(self, model: PreTrainedModel) -> None:
        self.encoder = Encoder(model.eval())
        self.encoder.requires_grad_(False)
        self.lowered: Encoder | None = None

    @property
    def model(self) -> PreTrainedModel:
        return self.encoder.model

    @property
    def transformer(self) -> PreTrainedModel:
        """The model without its head."""
        base: Any = self.model.base_model
        return base

    @property
    def width(self) -> int:
        return self.encoder.width

    @property
    def depth(self) -> int:
        return self.encoder.depth

    @property
    def heads(self) -> int:
        return self.encoder.heads

    @property
    def gives(self) -> Mapping[str, int]:
        head = {} if self.transformer is self.model else {"logits": int(self.model.config.num_labels or 0)}
        return {"hidden": self.width, "attention": self.heads, "qkv": 3 * self.width, **head}

    @property
    def answers(self) -> str:
        return "tokens" if type(self.model).__name__.endswith("ForTokenClassification") else "text"

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.model)

    @torch.no_grad()
    def __call__(self, batch: Batch, needs: Collection[str]) -> Encoding:
        device = batch["input_ids"].device
        if self.model.device != device:
            self.to(device)
        if not autocasting(device.type):
            return self.encoder(batch, needs)
        if self.lowered is None:  # autocast would cast the frozen weights anew in every step
            self.lowered = copy.deepcopy(self.encoder).to(torch.bfloat16)
        # Autocast takes norms back to float32: memory traffic that a GPU waits for, and the stored pass does without.
        with torch.autocast(device.type, enabled=False) if device.type == "cuda" else nullcontext():
            return self.lowered.to(device)(batch, needs)

    def to(self, device: torch.device) -> None:
        self.encoder.to(device)

    def in_bfloat16(self) -> "FrozenEncoder":
        copied: Any = copy.deepcopy(self.model)
        return FrozenEncoder(copied.to(torch.bfloat16))

    def logits(self, batches: Sequence[Mapping[str, Tensor]], predict: Predict) -> np.ndarray:
        return predict(self.model, batches)
