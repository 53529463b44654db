"""The protocol of teachers, for methods, which ask them, and for the cache, which stores their outputs."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from contrastill.encoder import Batch, Encoding

__all__ = ["LiveTeacher", "Teacher", "fingerprint"]

Predict = Callable[[Any, Sequence[Mapping[str, Tensor]]], np.ndarray]
"""A model and batches -> (N, C) logits."""


class Teacher(Protocol):
    """Answers a batch without gradient: a model that runs, outputs that are stored, or several teachers as one."""

    @property
    def width(self) -> int:
        """Numbers of a hidden state, or of a vector."""

    @property
    def depth(self) -> int:
        """Layers whose hidden states it gives, the embedding output not counted; 0: it gives none."""

    @property
    def heads(self) -> int:
        """Of each layer's attention; 0: it gives none."""

    @property
    def gives(self) -> Mapping[str, int]:
        """Each output it was trained to give, of {"logits", "hidden", "attention", "qkv", "pooled"}, and how many
        numbers a row of it has."""

    @property
    def answers(self) -> str:
        """What has a row of logits: the "text", or each of its "tokens"."""

    @property
    def fingerprint(self) -> str:
        """sha256 of all that its outputs depend on, beside the text."""

    def __call__(self, batch: Batch, needs: Collection[str]) -> Encoding:
        """The outputs named in `needs`, of a padded batch."""


class LiveTeacher(Teacher, Protocol):
    """A teacher that runs a model."""

    @property
    def model(self) -> Any:
        """A `PreTrainedModel` or a `SentenceTransformer`."""

    @property
    def prompt(self) -> str:
        """Default prompt, put before every text ("query: ")."""

    @property
    def transformer(self) -> PreTrainedModel | None:
        """The bare encoder in it; None: there is none (a table of word vectors)."""

    def to(self, device: torch.device) -> None:
        """Moves the model."""

    def in_bfloat16(self) -> Self:
        """A copy whose weights are bfloat16."""

    def logits(self, batches: Sequence[Mapping[str, Tensor]], predict: Predict) -> np.ndarray:
        """(N, C) float32, for scores."""


def fingerprint(model: nn.Module, facts: Mapping[str, Any] | None = None) -> str:
    """sha256 over the model's weights, by name, and `facts` (else its config) without what changes no output."""
    if facts is None:
        own: Any = model.config
        facts = own.to_dict()
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    config = {k: v for k, v in facts.items() if k not in ("_name_or_path", "transformers_version", "dtype")}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    return digest.hexdigest()
