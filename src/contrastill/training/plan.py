"""A run before its first step, whatever it trains."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.data import Corpus, Known
from contrastill.loading import Length
from contrastill.machine import bf16_pays
from contrastill.methods import Method
from contrastill.settings import Settings
from contrastill.training.folder import RunFolder, processes

__all__ = ["CorpusPlan", "Plan", "autocast_dtype"]

FITTED = 512  # texts on which projections are started


class Plan(ABC):
    """Data, models and method of a run: what `train` asks of it, in the order in which it asks."""

    settings: Any  # a `Settings`, and what else this kind of run has
    name: str  # of the trained model's folder: "student" or "model"
    tokenizer: Tokenizer
    teacher: PreTrainedModel | None
    method: Method
    model: nn.Module  # what is trained: the method, or a wrapper of it
    examples: Any  # tokenised training rows: a map-style dataset
    collate: Callable[[Any], dict[str, Tensor]]
    length: Length  # at which texts are cut
    dtype: torch.dtype | None  # of autocast; None: float32
    metric: str | None  # on dev, that selects the checkpoint

    unlabelled: int = 0  # training rows without a label among rows that have one

    # ---- the training texts

    @property
    @abstractmethod
    def lengths(self) -> np.ndarray:
        """Tokens of each row."""

    @property
    @abstractmethod
    def words(self) -> np.ndarray:
        """The token ids that occur, sorted."""

    @property
    def highest(self) -> int:
        """Token id of all texts that the student will read, those it is scored on among them."""
        return int(self.words[-1])

    @property
    @abstractmethod
    def known(self) -> Sequence[Known]:
        """How much of them the tokenizer knows, and after it each teacher's that is another."""

    @property
    @abstractmethod
    def cut_share(self) -> float:
        """The share of rows that the length limit cuts."""

    @abstractmethod
    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """These rows as a padded batch."""

    # ---- a run's steps

    @abstractmethod
    def fingerprints(self) -> dict[str, str]:
        """What a resumed run must share with its beginning."""

    @abstractmethod
    def use_cache(self) -> None:
        """Runs the teacher on texts whose outputs are not stored, where they are to be."""

    def fit_bridges(self) -> None:
        """Starts the method's projections on some of the training texts."""
        some = np.random.default_rng(self.settings.seed).permutation(len(self.examples))[:FITTED]
        device = processes().device
        batches = (self.batch(some[n : n + 32]) for n in range(0, len(some), 32))
        self.method.to(device).fit_bridges({k: v.to(device) for k, v in batch.items()} for batch in batches)

    @property
    @abstractmethod
    def check(self) -> Callable[[], Mapping[str, float]] | None:
        """Gives the student's dev metrics, `metric` among them; None: there is nothing to select by."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The data, for run.json."""

    @abstractmethod
    def results(self) -> dict[str, Any]:
        """What metrics.json says of the trained student and its teacher."""

    def evidence(self) -> dict[str, Any] | None:
        """What the run's page shows of single answers; asked for after `results`. None: there is nothing."""
        return None

    @abstractmethod
    def save(self, folder: RunFolder) -> Path:
        """Writes the trained model, and returns its folder."""

    @abstractmethod
    def card(self, metrics: dict[str, Any]) -> str:
        """README.md of the model's folder."""


class CorpusPlan(Plan):
    """A run on texts without labels; some of them are held out."""

    corpus: Corpus
    held: Corpus
    examples: Corpus

    def hold_out(self, corpus: Corpus, held: int) -> None:
        """Keeps `held` texts from training, drawn by the run's seed."""
        order = np.random.default_rng((self.settings.seed, 1)).permutation(len(corpus))
        self.corpus, self.collate = corpus, unwrap_batch
        self.held, self.examples = corpus.part(np.sort(order[:held])), corpus.part(np.sort(order[held:]))

    @cached_property
    def lengths(self) -> np.ndarray:  # type: ignore[override]
        return self.examples.lengths

    @cached_property
    def words(self) -> np.ndarray:  # type: ignore[override]
        return np.unique(self.corpus.tokens)

    @property
    def known(self) -> Sequence[Known]:
        return self.corpus.known

    @property
    def cut_share(self) -> float:
        return self.corpus.cut / len(self.corpus.content)

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        return self.examples.batch(rows)

    def describe(self) -> dict[str, Any]:
        return {
            "texts": len(self.corpus.content),
            "duplicates_left_out": self.corpus.duplicates,
            "held_out": len(self.held),
            "train": len(self.examples),
            "tokens": int(self.lengths.sum()),
            "decisions": {"length": self.length.cutting(self.cut_share)},
        }


def unwrap_batch(batches: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """A corpus hands over whole batches."""
    return batches[0]


def autocast_dtype(settings: Settings) -> torch.dtype | None:
    """The type to compute in: bfloat16, or None for float32."""
    precision = settings.precision
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and bf16_pays()) else None
