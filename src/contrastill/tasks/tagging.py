"""Entities in a text: a tag for each of its words."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from contrastill import evaluation, losses
from contrastill.data.both import windows_beside
from contrastill.data.windows import Encoded, inexact_share, triplets, windows_of
from contrastill.evaluation.spans import SPAN_METRICS, counts_of, f1, paired_span_interval, span_interval, span_scores
from contrastill.loading import split_words
from contrastill.report.evidence import Texts, of_spans, softmax
from contrastill.spans import Scheme, Tagged, tagged, types_in
from contrastill.tasks.classification import Classification
from contrastill.tasks.labelled import Array, LabelledTask

__all__ = ["Tagging"]

INEXACT, LOOKED_AT = 0.005, 5_000
"""Share of entities that lie across tokens from which on tokens are split; texts by which it is judged."""


class Tagging(LabelledTask):
    """Entities (persons, places, …) as spans of characters; the model gives each word a tag.

    labels: the types of the entities. tags: the model's outputs, in order; by default "O", and "B-" and "I-" of each
        type. The labels of N texts are an object array of (entities, 3) integers (start, end, type's number), None for
        a text without labels; answers are an object array of `Tagged`.
    """

    name = reads = "tagging"
    per = "token"
    problem_type = ""
    known_metrics = tuple(SPAN_METRICS)
    label_dtype = torch.int64
    ignorant = "gives each tag its share of the words"
    longer = "are longer, and read in overlapping parts"
    row_metric = "f1"
    judged = "entities"
    unweighted = "whose loss is over words, most of them outside entities: weights would buy recall with precision"

    def __init__(
        self, labels: Sequence[str] = (), metrics: Sequence[str] | None = None, tags: Sequence[str] | None = None
    ) -> None:
        super().__init__(labels, metrics)
        self.scheme = Scheme.bio(self.labels) if tags is None else Scheme(tags)

    # ---- the model

    @classmethod
    def fits(cls, config: Any) -> bool:
        return bool(config.num_labels > 1)

    @property
    def names(self) -> tuple[str, ...]:
        return self.scheme.tags

    def head(self) -> dict[str, Any]:
        return {name: value for name, value in super().head().items() if name != "problem_type"}

    def with_config(self, config: Any) -> Self:
        tags = [str(config.id2label[n]) for n in range(config.num_labels)]
        return type(self)(Scheme(tags).types, self.metrics, tags)

    def with_answer(self, answer: Any) -> Self:
        return type(self)(answer.classes, self.metrics, answer.labels)

    def like(self, config: Any) -> Self:
        return self.with_config(config)

    def activate(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)

    def fit_head(self, features: Array, labels: Array, strength: float) -> tuple[Array, Array] | None:
        """As a classification of words."""
        return Classification(self.names).fit_head(features, labels, strength)

    # ---- loss terms: means over the words of a text, at their first word pieces, then over texts

    def soft(self, student: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
        return losses.token_soft_kl(student, teacher, mask, temperature)

    def hard(self, student: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return losses.token_cross_entropy(student, labels), (labels != -100).any(1)

    def losses_of_rows(self, logits: Tensor, labels: Tensor) -> Tensor:
        return losses.hard_cross_entropy(logits, labels)

    # ---- texts and answers

    def read(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        return windows_of(rows, tokenizer, max_length, self.scheme)

    def read_both(
        self,
        rows: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        teacher: PreTrainedTokenizerBase,
        max_length: int,
        placed: bool,
    ) -> Encoded:
        encoded = self.read(rows, tokenizer, max_length)
        return Encoded(windows_beside(encoded, teacher, max_length, placed), encoded.readings)

    def long_share(self, encoded: Encoded, rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> float:
        return sum(one.long for one in encoded.readings or ()) / max(1, len(rows))

    def fit_tokenizer(
        self, tokenizer: PreTrainedTokenizerBase, rows: Dataset, max_length: int
    ) -> tuple[PreTrainedTokenizerBase, str | None]:
        """Tokens are split at words where entities end inside them, as in Chinese with pieces of several characters."""
        some = rows.select(range(min(LOOKED_AT, len(rows))))
        before = inexact_share(some, tokenizer, max_length)
        split = split_words(tokenizer) if before > INEXACT else None
        after = before if split is None else inexact_share(some, split, max_length)
        if split is None or after > before / 2:
            said = f"{before:.1%} of the entities begin or end inside a token: they can't be found exactly"
            return tokenizer, said if before > INEXACT else None
        said = (
            f"made to split around punctuation and characters of scripts without spaces: {before:.1%} of the entities"
        )
        return split, f"{said} began or ended inside a token, now {after:.1%}"

    def labels_of(self, rows: Dataset) -> Array:
        return objects(
            None if len(label) == 1 else np.array(triplets(label), np.int64).reshape(-1, 3) for label in rows["label"]
        )

    def predict(self, model: Any, batches: Iterable[Mapping[str, Tensor]], dtype: torch.dtype | None = None) -> Any:
        return evaluation.predict_tokens(model, batches, dtype=dtype)

    def gathered(self, logits: Any, order: Array, encoded: Encoded) -> Array:
        assert encoded.readings is not None
        of_input = dict(zip(order.tolist(), logits, strict=True))
        return tagged(encoded.readings, (of_input[number] for number in range(len(of_input))))

    def tagged_by(self, spans: Sequence[Sequence[int]], encoded: Encoded) -> Array:
        assert encoded.readings is not None
        found = []
        for label, reading in zip(spans, encoded.readings, strict=True):
            tags = self.scheme.encode(triplets(label), reading.starts, reading.ends)
            values = np.where(tags[:, None] == np.arange(len(self.names)), 0.0, -1e4)
            found.append(Tagged(reading.text, reading.starts, reading.ends, values, len(reading.windows)))
        return objects(found)

    def answers(self, logits: Array) -> Array:
        return objects(Tagged(one.text, one.starts, one.ends, softmax(one.values), one.windows) for one in logits)

    # ---- scores: an entity is right if its start, its end and its type are

    def judged_rows(self, labels: Array) -> int:
        return sum(len(label) for label in labels if label is not None)

    def check(self, answers: Array) -> None:
        for one in answers[:1]:
            super().check(one.values)

    def counts(self, answers: Array, labels: Array) -> Array:
        """(N, types, 3) of each text and type: entities that are right, that are answered, that are there."""
        self.check(answers)
        return counts_of([one.spans(self.scheme) for one in answers], labels, self.labels)

    def score(self, answers: Array, labels: Array, metrics: Sequence[str] | None = None) -> dict[str, float]:
        return span_scores(self.counts(answers, labels), metrics or self.metrics)

    def interval(self, answers: Array, labels: Array, metric: str, **options: Any) -> tuple[float, float]:
        return span_interval(self.counts(answers, labels), metric, **options)

    def paired(
        self, answers_a: Array, answers_b: Array, labels: Array, metric: str, **options: Any
    ) -> tuple[float, float, float]:
        first, second = (self.counts(answers, labels) for answers in (answers_a, answers_b))
        return paired_span_interval(first, second, metric, **options)

    def chance(self, labels: Array, metric: str) -> float:
        return 0.0

    def of_types(self, answers: Array, labels: Array) -> dict[str, float]:
        sums = self.counts(answers, labels).sum(0)
        return {kind: float(f1(one[None])) for kind, one in zip(self.labels, sums, strict=True) if one[2]}

    # ---- what labels and answers say by themselves

    def known(self, labels: Array) -> Array:
        return np.array([label is not None for label in labels], bool)

    def same_label(self, labels: Array) -> str | None:
        return "no entity" if len(labels) and not self.judged_rows(labels) else None

    def same_answer(self, logits: Array, labels: Array) -> str | None:
        return None if self.same_label(labels) is not None or self.marks(logits).any() else "no entity"

    def truth(self, labels: Array) -> Array:
        numbers = np.arange(len(self.labels))
        return np.array([np.isin(numbers, [] if label is None else label[:, 2]) for label in labels]).reshape(
            -1, len(numbers)
        )

    def marks(self, logits: Array) -> Array:
        return types_in(logits, self.scheme)

    def evidence(
        self, labels: Array, ours: Array, theirs: Array | None, texts: Texts, teacher: LabelledTask
    ) -> dict[str, Any]:
        assert isinstance(teacher, Tagging)
        p, q = self.answers(ours), None if theirs is None else self.answers(theirs)
        scheme = self.scheme
        q_spans = None if q is None else [one.spans(teacher.scheme) for one in q]
        return of_spans(labels, p, q, [one.spans(scheme) for one in p], q_spans, self.labels, texts)

    def by_row(self, labels: Array, logits: Array) -> tuple[Array | None, Array]:
        """The two parts of the F1 of all entities together: 2 x right ones, and answered + true ones."""
        right, said, there = self.counts(logits, labels).sum(1).T
        return None, np.stack([2 * right, said + there], 1)

    def describe(self) -> str:
        return f"entities: {', '.join(self.labels[:20])}" + (", …" if len(self.labels) > 20 else "")


def objects(values: Iterable[Any]) -> Array:
    """(N,) array of objects."""
    found = list(values)
    made = np.empty(len(found), object)
    for n, value in enumerate(found):
        made[n] = value
    return made
