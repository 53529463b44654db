"""Base of the tasks whose texts have labels and whose models have a head: logits (B, C).

Shapes: B batch, N rows, C outputs.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from contrastill import evaluation
from contrastill.data.both import beside
from contrastill.data.collate import tokenise, truncated_share
from contrastill.data.windows import Encoded
from contrastill.errors import UserError, quoted
from contrastill.report.evidence import Texts
from contrastill.tasks.base import Task

__all__ = ["LabelledTask", "divided", "tags_tokens", "temperatures_of"]

Array = np.ndarray[Any, Any]


def tags_tokens(config: Any) -> bool:
    """Whether a model's config names a class that answers token by token."""
    return any(str(kind).endswith("ForTokenClassification") for kind in getattr(config, "architectures", None) or ())


def temperatures_of(config: Any, width: int) -> Array | None:
    """(width,): the `temperatures` of a model's config; None: it has none.

    Raises:
        UserError: they are not so many numbers above 0.
    """
    found = getattr(config, "temperatures", None)
    if found is None:
        return None
    good = isinstance(found, list | tuple) and len(found) == width
    if not good or not all(isinstance(one, int | float) and 0 < one < math.inf for one in found):
        raise UserError(
            f"config.json: expected temperatures to be a list of {width} numbers above 0, got {quoted(found)}; train "
            "the model again, or delete the entry"
        )
    return np.asarray(found, np.float64)


def divided(logits: Any, temperatures: Array | None) -> Any:
    """Logits (N, C), a tensor or an array, by temperatures (1,) or (C,); themselves, where these are 1."""
    if temperatures is None or (temperatures == 1).all():
        return logits
    if isinstance(logits, Tensor):
        return logits / (float(temperatures[0]) if len(temperatures) == 1 else logits.new_tensor(temperatures.tolist()))
    return np.asarray(logits, np.float64) / temperatures


class LabelledTask(Task):
    """A task with labels. labels: the names of its classes in the order of their ids; () where it has none."""

    outputs = frozenset({"logits", "hidden", "attention", "qkv"})
    problem_type: ClassVar[str]
    """transformers' word for it, in a model's config."""
    reads: ClassVar[str]
    """The kind of labels that `data.load_task` reads for it: the name of a built-in task."""
    several: ClassVar[bool] = False
    """Whether a text may have any number of labels."""
    thresholds: Any = None
    """Above which each label is answered, of a task with any number of labels."""
    class_weights: Tensor | None = None
    """(C,) of the classes in the label loss; None: all count alike."""
    unweighted: ClassVar[str] = "which takes no weights"
    """The reason, in words, of a task without `class_weights`."""
    has_probabilities: ClassVar[bool] = False
    """Whether its answers are probabilities of classes or labels, one row a text."""
    unbounded: ClassVar[bool] = False
    """Whether its label loss grows with the square of an output: a wrong one harms training without bound."""
    temperatures: Any = None
    """(1,) or (C,): what logits are divided by before they become probabilities; None: by nothing."""
    known_metrics: ClassVar[tuple[str, ...]]
    """Every metric that can judge it."""
    ignorant: ClassVar[str] = "knows nothing"
    """What a model does whose label loss is `ignorance`."""

    def __init__(self, labels: Sequence[str] = (), metrics: Sequence[str] | None = None) -> None:
        self.labels = tuple(labels)
        self.metrics = tuple(metrics or self.known_metrics)

    # ---- the model

    @classmethod
    def answered_by(cls, config: Any) -> bool:
        """Whether a model with this config answers this task."""
        return tags_tokens(config) == (cls.per == "token") and cls.fits(config)

    @classmethod
    @abstractmethod
    def fits(cls, config: Any) -> bool:
        """Whether the number and the kind of the outputs in this config suit this task."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the model's outputs."""
        return self.labels

    def head(self) -> dict[str, Any]:
        """The settings of a model's config that give it a head for this task."""
        return {
            "num_labels": len(self.names),
            "id2label": dict(enumerate(self.names)),
            "label2id": {name: n for n, name in enumerate(self.names)},
            "problem_type": self.problem_type,
        }

    def with_config(self, config: Any) -> Self:
        """The task with the settings (such as thresholds) of a model's config."""
        return self

    def with_answer(self, answer: Any) -> Self:
        """The task as a bundle with this `Answer` answers it."""
        return self.with_config(answer)

    def like(self, config: Any) -> Self:
        """The task with the outputs of a teacher with this config, whose classes are the data's."""
        return self

    def tuned(self, logits: Callable[[], Array], labels: Array) -> dict[str, Any]:
        """Entries of a model's config that are chosen on dev, by its logits (N, C), computed if needed, and labels."""
        return {}

    def calibrated(self, logits: Array, labels: Array) -> dict[str, Any]:
        """Entries of a model's config that fit its probabilities to dev, and change no answer: by its logits (N, C) and
        labels, of the task as the model answers it without temperatures."""
        return {}

    def calibrated_in_words(self, logits: Array, labels: Array) -> dict[str, str]:
        """What `calibrated` chose on these rows, of the task as the model answers it now, by name."""
        return {}

    def uncalibrated(self) -> dict[str, Any]:
        """Entries of the config of a model that gives the answers of this task without temperatures; None: no entry."""
        return {"temperatures": None}

    @abstractmethod
    def activate(self, logits: Tensor) -> Tensor:
        """Logits (B, C) -> answers (B, C): probabilities, or scores."""

    def answer(self, model: Any, features: Mapping[str, Tensor]) -> Tensor:
        return self.activate(model(**features).logits)

    def answers(self, logits: Array) -> Array:
        """Logits (N, C) as the scores read them; here as they are, for their order is that of probabilities."""
        return logits

    def probabilities(self, logits: Array) -> Array:
        """(N, C) probabilities of logits (N, C), divided by the task's temperatures."""
        raise NotImplementedError(f"{self.name!r} has no probabilities")

    def judgements(self, probabilities: Array, labels: Array) -> tuple[Array, Array]:
        """Of probabilities (N, C) and labels: the probability of each answer, and whether it is right, (M,) both."""
        raise NotImplementedError(f"{self.name!r} has no probabilities")

    def log_loss(self, logits: Array, labels: Array) -> float:
        """The mean log loss of logits (N, C), divided by the task's temperatures."""
        raise NotImplementedError(f"{self.name!r} has no probabilities")

    @property
    def judged_by(self) -> str:
        """The metric by which an exported model is compared with the original."""
        return self.metrics[0]

    def fit_head(self, features: Array, labels: Array, strength: float) -> tuple[Array, Array] | None:
        """The linear map from features to logits that fits the labels best: weights (C, D) and biases (C,).

        features: (N, D), standardised; every row has a label. strength: the inverse of the ridge penalty. None: the
        task has no such fit (the default), and its new heads start from random weights.
        """
        return None

    # ---- texts and answers: of one input and one row of logits a text; a task of tokens has its own

    longer: ClassVar[str] = "are cut"
    """What happens to texts longer than an input, in words."""

    def read(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Labelled texts as inputs of at most `max_length` tokens."""
        return Encoded(tokenise(rows, tokenizer, max_length))

    def read_both(
        self,
        rows: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        teacher: PreTrainedTokenizerBase,
        max_length: int,
        placed: bool,
    ) -> Encoded:
        """As `read`, with each input as the teacher reads it beside (`data.both`). placed: whether the method compares
        tokens."""
        ours, theirs = (tokenise(rows, each, max_length, placed=placed) for each in (tokenizer, teacher))
        return Encoded(beside(ours, theirs))

    def long_share(self, encoded: Encoded, rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> float:
        """The share of these texts, encoded so, that are longer than an input."""
        return truncated_share(rows, tokenizer, max_length)

    def fit_tokenizer(
        self, tokenizer: PreTrainedTokenizerBase, rows: Dataset, max_length: int
    ) -> tuple[PreTrainedTokenizerBase, str | None]:
        """The tokenizer of a model with a new head, and what was changed about it to suit these rows."""
        return tokenizer, None

    def labels_of(self, rows: Dataset) -> Array:
        """The labels of all rows: (N, …)."""
        return np.asarray(rows["label"][:], None if self.label_dtype is torch.int64 else np.float32)

    def predict(self, model: Any, batches: Iterable[Mapping[str, Tensor]], dtype: torch.dtype | None = None) -> Any:
        """The model's logits for the inputs in these batches, one after the other: (inputs, C)."""
        return evaluation.predict(model, batches, dtype=dtype)

    def gathered(self, logits: Any, order: Array, encoded: Encoded) -> Array:
        """Logits of inputs, which came in this order, as those of texts: (N, C)."""
        return np.asarray(logits)

    def tagged_by(self, spans: Sequence[Sequence[int]], encoded: Encoded) -> Array:
        """Logits of texts whose entities are given, of a task that has them: (N,)."""
        raise NotImplementedError(f"{self.name!r} has no entities")

    def losses_of_rows(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Label losses of the rows that a head is fitted to, times the rows' weights in the mean: (N, C), (N, …) ->
        (N,)."""
        errors, weights = self.hard(logits, labels, torch.ones(0))
        return errors * weights / weights.float().mean()

    def balanced(self, labels: Array) -> Array:
        """(C,) weights of the classes by which rare ones count as much as common ones; 1 where rows tell none.

        Raises:
            UserError: the task's label loss has no such weights.
        """
        raise UserError(
            f"--class-weights: expected classes or labels of whole texts, got the task {self.name!r}, {self.unweighted}"
            "; leave it out"
        )

    judged: ClassVar[str] = "rows"
    """What `judged_rows` counts."""

    def judged_rows(self, labels: Array) -> int:
        """The number of things that a score counts; here texts."""
        return len(labels)

    # ---- scores of answers (N, C), as fractions

    def check(self, answers: Array) -> None:
        """Checks that answers (N, C) come from a model of this task.

        Raises:
            UserError: they have another width.
        """
        expected, got = len(self.names), np.asarray(answers).shape[-1]
        if got != expected:
            raise UserError(
                f"expected a model with {expected} outputs for this task ({self.name}), got {got}; set num_labels to "
                "fit the task"
            )

    def score(self, answers: Array, labels: Array, metrics: Sequence[str] | None = None) -> dict[str, float]:
        """Each metric's score; by default all of the task's metrics."""
        self.check(answers)
        return evaluation.score(answers, labels, metrics or self.metrics)

    def interval(self, answers: Array, labels: Array, metric: str, **options: Any) -> tuple[float, float]:
        """Percentile interval of a metric over resampled rows; options: as `evaluation.bootstrap_interval` has."""
        return evaluation.bootstrap_interval(answers, labels, metric, **options)

    def paired(
        self, answers_a: Array, answers_b: Array, labels: Array, metric: str, **options: Any
    ) -> tuple[float, float, float]:
        """(a - b, low, high) of a metric of two models, scored on the same resampled rows."""
        return evaluation.paired_bootstrap(answers_a, answers_b, labels, metric, **options)

    def chance(self, labels: Array, metric: str) -> float:
        """The score of the best answer that is the same for every row."""
        return evaluation.majority(labels, metric)

    def of_types(self, answers: Array, labels: Array) -> dict[str, float] | None:
        """The F1 of each type of entity that is there; None: a task without them."""
        return None

    # ---- what labels and answers say by themselves

    @abstractmethod
    def known(self, labels: Array) -> Array:
        """True for each row with a label: (N,) bool."""

    def half_width(self, rows: int) -> float:
        """Half the width, in points, of the 95 % interval of a score of 0.8 on so many rows; here for a share."""
        return 196 * math.sqrt(0.8 * 0.2) / math.sqrt(max(1, rows))

    @abstractmethod
    def same_label(self, labels: Array) -> str | None:
        """The label of all rows in words; None where they differ."""

    @abstractmethod
    def same_answer(self, logits: Array, labels: Array) -> str | None:
        """The answer to all rows in words; None where they differ, or where their labels are the same too."""

    def ignorance(self, labels: Array) -> float | None:
        """The label loss of a model that knows nothing of these but how common each is; None where there is no such
        number."""
        return None

    def follows(self, logits: Array, labels: Array) -> bool:
        """Whether answers go with the labels (at 95 %), even if always giving the commonest scores as well; False where
        scores themselves tell."""
        return False

    def truth(self, labels: Array) -> Array | None:
        """(N, C) bool: the classes that rows have; None where there are no classes."""
        return None

    def marks(self, logits: Array) -> Array | None:
        """(N, C) bool: the classes that are answered; None where there are no classes."""
        return None

    @abstractmethod
    def evidence(
        self, labels: Array, ours: Array, theirs: Array | None, texts: Texts, teacher: "LabelledTask"
    ) -> dict[str, Any]:
        """Single answers for the run's page, of labels (N, …), logits (N, C), the teacher's, and the texts.

        teacher: the task as the teacher answers it.
        """

    row_metric: str | None = None
    """The metric that `by_row` tells, if it is not the first."""

    def by_row(self, labels: Array, logits: Array) -> tuple[Array | None, Array] | None:
        """Truth and answer of each row, (N,) both, by which runs compare; see `report.paired`. None: they do not."""
        return None

    @abstractmethod
    def describe(self) -> str:
        """The labels in a few words."""
