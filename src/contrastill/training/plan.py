"""Everything a run needs before training, for every kind of run."""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.data.collate import Known
from contrastill.data.corpus import Corpus
from contrastill.errors import UserError
from contrastill.loading import Length
from contrastill.machine import bf16_pays
from contrastill.methods import Method
from contrastill.processes import processes
from contrastill.results import RunResult
from contrastill.settings import Settings
from contrastill.training.checks import Check
from contrastill.training.doubts import Remedies
from contrastill.training.folder import RunFolder
from contrastill.training.order import GroupedByLength, Order
from contrastill.vocabulary import Cut

__all__ = ["FITTED", "CorpusPlan", "Plan", "Trained", "autocast_dtype", "scored_sets", "shorten_queue"]

logger = logging.getLogger(__name__)

USUAL_RATE = 5e-5
FITTED = 512  # texts on which projections are started
FEWEST_PAIRS = 3  # scored pairs whose ranks tell anything


@dataclass(frozen=True)
class Trained:
    """The end of a training. last: its last step, whose weights the model has; best, score: the step of the best
    checkpoint, and its dev score (None: nothing is scored on dev); load_best: gives the model that one's weights.

    load_mean: gives the model the mean of its last weights, and returns their steps (of fewer than two, it changes
    nothing); None: not asked for. stopped: why it ended before its time, in words.
    """

    last: int
    best: int | None
    score: float | None
    load_best: Callable[[], None]
    load_mean: Callable[[], tuple[int, ...]] | None = None
    stopped: str | None = None


class Plan(ABC):
    """Data, models and method of a run, as `train` asks for them, in the order in which it asks."""

    settings: Any  # a `Settings`, and the options of this kind of run
    name: str  # of the trained model's folder: "student" or "model"
    tokenizer: Tokenizer
    teacher: PreTrainedModel | None
    method: Method
    model: nn.Module  # the trained module: the method, or a wrapper of it
    examples: Any  # tokenised training rows: a map-style dataset
    collate: Callable[[Any], dict[str, Tensor]]
    length: Length  # at which texts are cut
    dtype: torch.dtype | None  # of autocast; None: float32
    metric: str | None  # on dev, that selects the checkpoint
    checkpoint: int | None = None  # the step that was kept, once there is one; 0: the start
    stopped: str | None = None  # why training ended before its time, in words

    # ---- the training texts

    lengths: np.ndarray  # tokens of each row
    words: np.ndarray  # the token ids that occur, sorted
    cut_share: float  # of rows that the length limit cuts

    @property
    def highest(self) -> int:
        """The highest token id in all texts that the student will read, dev and test included."""
        return int(self.words[-1])

    @property
    def readers(self) -> Sequence[tuple[int, PreTrainedModel]]:
        """Models that read the texts, and the highest token id that each of them meets."""
        models = [self.method.student.model, self.teacher]
        return [(self.highest, model) for model in models if model is not None]

    @property
    @abstractmethod
    def known(self) -> Sequence[Known]:
        """The share of the texts that the tokenizer knows, then that of each teacher's other tokenizer."""

    @abstractmethod
    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """These rows as a padded batch."""

    @property
    def costs(self) -> np.ndarray:
        """The most tokens of each row that a step may learn from."""
        return self.lengths

    def dearest(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A batch of rows as the dearest step of the method's stage learns from them."""
        return batch

    @property
    def batch_size(self) -> int:
        """Rows a step, over all processes."""
        return int(self.settings.batch_size)

    @property
    def steps(self) -> int:
        """Steps of the run, from its first to its last."""
        return math.ceil(self.settings.epochs * max(1, len(self.examples) // self.batch_size))

    def order(self) -> Order:
        """Of the training rows."""
        whole = len(self.examples) >= self.batch_size  # else there is the incomplete batch alone
        return GroupedByLength(self.lengths, self.batch_size, self.settings.seed, whole)

    @property
    def teacher_forwards(self) -> int | None:
        """Texts that this process has run the teacher on for the cache; None: nothing is stored."""
        return None

    # ---- checks and doubts beside those of every run

    def checks_of_rows(self) -> list[Check]:
        """Checks of the training rows, made before any model runs."""
        return []

    def checks_of_teacher(self) -> list[Check]:
        """Checks that run the teacher."""
        return []

    def checks_of_pace(self, seconds: float, memory: float) -> list[Check]:
        """Checks of the time of a dearest step, without its update, and of the memory (bytes) that training needs."""
        return []

    @property
    def usual_rate(self) -> float:
        """The learning rate of a run like this to which none was given."""
        rate = next(f.default for f in fields(self.settings) if f.name == "learning_rate")
        return rate if isinstance(rate, float) else USUAL_RATE

    def doubts(self, history: Sequence[Mapping[str, Any]], remedies: Remedies) -> list[str]:
        """Doubts about the scored run, a sentence each, with the remedy to try first."""
        return []

    # ---- a run's steps

    @abstractmethod
    def fingerprints(self) -> dict[str, Any]:
        """Facts that must be the same when the run is resumed."""

    @abstractmethod
    def use_cache(self) -> None:
        """Runs the teacher on texts whose outputs are not stored, where they are to be."""

    def fit_bridges(self) -> None:
        """Starts the method's projections on some of the training texts."""
        some = np.random.default_rng(self.settings.seed).permutation(len(self.examples))[:FITTED]
        device = processes().device
        batches = (self.batch(some[n : n + 32]) for n in range(0, len(some), 32))
        self.method.to(device).fit_bridges({k: v.to(device) for k, v in batch.items()} for batch in batches)

    def score_start(self, folder: RunFolder) -> Sequence[Mapping[str, Any]] | None:
        """Scores the student before its first step, where the run is about what it gains: the first lines of the log.
        None: it is not."""
        return None

    @property
    @abstractmethod
    def check(self) -> Callable[[], Mapping[str, float]] | None:
        """Gives the student's dev metrics, `metric` among them; None: there is nothing to select by."""

    @property
    def selection(self) -> str:
        """The kept checkpoint, in words."""
        return f"the checkpoint with the best dev {self.metric}" if self.check else "the last checkpoint"

    def choose(self, trained: Trained) -> int | None:
        """Gives the model the weights that are kept; their step, where dev selects it."""
        if trained.best is not None:
            trained.load_best()
        return trained.best

    def trim_vocabulary(self) -> Cut | None:
        """Leaves the trained model the pieces of words of the training texts alone, where the settings say so. Scores,
        evidence and the saved model are of that model; the training is over, and its texts are read as before."""
        return None

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The data, for run.json."""

    @abstractmethod
    def results(self) -> RunResult:
        """The scores of the trained student and its teacher."""

    def evidence(self) -> dict[str, Any] | None:
        """Single answers for the run's page; asked for after `results`. None: there are none."""
        return None

    @property
    def row_keys(self) -> Iterable[int] | None:
        """The `text_key` of each training row, by which later runs recognise theirs; None: rows have none."""
        return None

    @abstractmethod
    def save(self, folder: RunFolder) -> Path:
        """Writes the trained model, and returns its folder."""

    @abstractmethod
    def card(self, result: RunResult) -> str:
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
        self.lengths, self.words = self.examples.lengths, np.unique(corpus.own.tokens)
        self.cut_share = corpus.cut / len(corpus.content)

    @property
    def known(self) -> Sequence[Known]:
        return self.corpus.known

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
    """The batch itself: a corpus already gives whole batches."""
    return batches[0]


def autocast_dtype(settings: Settings) -> torch.dtype | None:
    """The type to compute in: bfloat16, or None for float32."""
    precision = settings.precision
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and bf16_pays()) else None


def scored_sets(settings: Any) -> tuple[Any, Any]:
    """The scored pairs that select a checkpoint and the STS sets, each None where the settings name none.

    Read before any work, so that a faulty file stops the command at once.

    Raises:
        UserError: a file that cannot be read as such; pairs too few for a correlation.
    """
    from contrastill.evaluation.sts import load_scored_pairs, load_sts

    dev = load_scored_pairs(settings.dev, settings.encoding, settings.delimiter) if settings.dev else None
    if dev is not None and len(dev.scores) < FEWEST_PAIRS:
        raise UserError(
            f"--dev: expected at least {FEWEST_PAIRS} scored pairs, got {len(dev.scores)}: a rank correlation of fewer "
            "tells nothing; add pairs, or leave it out"
        )
    return dev, load_sts(None if settings.sts == "hub" else settings.sts) if settings.sts else None


def shorten_queue(given: dict[str, Any], rows: int) -> dict[str, Any]:
    """A method's settings, with a queue of no more than so many training rows: it holds each once."""
    if given.get("queue", 0) <= rows:
        return given
    logger.info("the queue holds each training row once at most: %s, not %s", rows, given["queue"])
    return given | {"queue": rows}
