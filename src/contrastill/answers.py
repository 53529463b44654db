"""Answers of a model as rows of numbers: name of the graph's output, width, JSON form, similarity to other answers.

numpy and tokenizers alone: a bundle, a server and `predict` read it without torch. `ANSWERS`: task -> class.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from contrastill.errors import UserError
from contrastill.spans import Scheme, Tagged, is_scheme, stacked, types_in

__all__ = [
    "ANSWERS",
    "Answer",
    "ClassAnswer",
    "LabelsAnswer",
    "ScoreAnswer",
    "TagsAnswer",
    "VectorAnswer",
    "above_0",
    "answer_of",
    "cosines",
    "flat",
    "names",
    "only_classes",
    "whole",
]

Array = np.ndarray[Any, Any]
ABSTAIN = ("threshold", "target")
"""Entries of "abstain" in bundle.json, from 0 to 1."""
CLEAR = 0.05
"""The lead of the first class over the second within which two machines may name different ones."""
TEXT, NUMBER, NUMBERS, TEXTS, JSON, BOOL = "text", "number", "numbers", "texts", "json", "bool"
"""Kinds of a column of answers."""


class Answer(ABC):
    """The answers of a model of one task: a row of `width` numbers for each text.

    metadata: the entries "labels" (None: it has no classes) and "dimensions" of a bundle.json.
    """

    task: ClassVar[str]
    output: ClassVar[str]
    """Name of the graph's output."""
    endpoint: ClassVar[str] = "/predict"
    """Path of the server that gives it."""
    several: ClassVar[bool] = False
    """Whether an answer may name any number of labels."""
    vector: ClassVar[bool] = False
    """Whether it has no label of its own, and is judged by its likeness to other texts' answers."""
    longer: ClassVar[str] = "are cut"
    """What happens to texts longer than the model's input, in words."""
    per_word: ClassVar[bool] = False
    """Whether a text has a row of numbers for each of its words, as `spans.Tagged`, and not one."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.labels: tuple[str, ...] | None = None if metadata["labels"] is None else tuple(metadata["labels"])

    @property
    def classes(self) -> tuple[str, ...] | None:
        """What an answer names; None: it has no classes."""
        return self.labels

    @classmethod
    def fits(cls, metadata: Mapping[str, Any]) -> dict[str, bool]:
        """Entry of bundle.json -> whether its value is one that this answer may have."""
        return {"labels": metadata["labels"] is None}

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers in a row."""

    @property
    @abstractmethod
    def words(self) -> str:
        """The answer in words: "probabilities of 77 classes"."""

    @abstractmethod
    def record(self, row: Array, top: int = 1, probabilities: bool = False) -> dict[str, Any]:
        """One answer as JSON. top: classes listed, the likeliest first; probabilities: those of all classes too."""

    @abstractmethod
    def columns(self, top: int = 1, probabilities: bool = False) -> dict[str, str]:
        """Column -> kind of the record as a row of a table, in `flat` form."""

    def marks(self, answers: Array) -> Array | None:
        """(N, classes) bool: the classes that each of (N, width) answers names; None: the answer has no classes."""
        return None

    def abstains(self, answers: Array) -> Array:
        """(N,) bool: whether each of (N, width) answers says that it abstains."""
        return np.zeros(len(answers), bool)

    def named(self, answers: Array) -> list[Any] | None:
        """The class of each answer, as JSON; None: the task has no classes."""
        return None

    def contradicts(self, row: Array, named: Any) -> bool:
        """Whether an answer names another class than `named` did, by more than rounding may do."""
        return False

    def may_be_named(self, value: Any) -> bool:
        """Whether a JSON value has the form that `named` returns."""
        return value is None

    def finite(self, answers: Array) -> Array:
        """(N,) bool: whether each answer has no NaN and no infinity."""
        return np.array([bool(np.isfinite(stacked(answers[n : n + 1])).all()) for n in range(len(answers))], bool)

    def strength(self, answers: Array) -> Array:
        """(N, classes) of (N, width) answers: how much each says for each class that `marks` tells."""
        return answers

    def stored(self, answers: Array) -> list[Any]:
        """Answers as JSON, to six digits; `restored` is the way back."""
        return list(np.round(answers.astype(float), 6).tolist())

    def restored(self, stored: Any, texts: int) -> Array | None:
        """(texts, width); None: damaged."""
        answers = np.array(stored, np.float64)
        return answers if answers.shape == (texts, self.width) and np.isfinite(answers).all() else None

    def directions(self, answers: Array) -> Array:
        """Answers as vectors whose angle measures their similarity."""
        return answers

    def likeness(self, stored: Array, here: Array) -> float:
        """The lowest similarity of (N, width) answers to stored ones, at most 1."""
        return float(cosines(stored, here).min())

    def agreement(self, ours: Array, theirs: Array) -> dict[str, float | None]:
        """Agreement of (N, width) answers with others, for the card of an export."""
        mine, other = self.marks(ours), self.marks(theirs)
        equal = None if mine is None or other is None else float((mine == other).all(1).mean())
        return {**apart(ours, theirs), "equal_labels": equal}


class ClassAnswer(Answer):
    """The probability of each class; they sum to 1."""

    task, output = "classification", "probabilities"
    labels: tuple[str, ...]

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        super().__init__(metadata)
        abstain = metadata.get("abstain")
        self.least: float | None = None if abstain is None else abstain["threshold"]
        """The probability of its class below which an answer says that it abstains; None: none says so."""

    @classmethod
    def fits(cls, metadata: Mapping[str, Any]) -> dict[str, bool]:
        found = metadata.get("abstain")
        good = found is None or (isinstance(found, dict) and all(share(found.get(name)) for name in ABSTAIN))
        return {"labels": names(metadata["labels"], 2), "abstain": good}

    @property
    def width(self) -> int:
        return len(self.labels)

    @property
    def words(self) -> str:
        return f"probabilities of {self.width} classes"

    def record(self, row: Array, top: int = 1, probabilities: bool = False) -> dict[str, Any]:
        best = [{"label": self.labels[n], "score": float(row[n])} for n in np.argsort(-row, kind="stable")[:top]]
        found: dict[str, Any] = dict(best[0])
        if self.least is not None:
            found["abstain"] = bool(self.abstains(row[None])[0])
        if top > 1:
            found["top"] = best
        if probabilities:
            found["probabilities"] = dict(zip(self.labels, map(float, row), strict=True))
        return found

    def columns(self, top: int = 1, probabilities: bool = False) -> dict[str, str]:
        found = {"label": TEXT, "score": NUMBER} | ({} if self.least is None else {"abstain": BOOL})
        for place in range(2, min(top, self.width) + 1):
            found |= {f"label_{place}": TEXT, f"score_{place}": NUMBER}
        return found | ({f"probability_{name}": NUMBER for name in self.labels} if probabilities else {})

    def marks(self, answers: Array) -> Array:
        return np.eye(self.width, dtype=bool)[answers.argmax(1)]

    def abstains(self, answers: Array) -> Array:
        least = 0.0 if self.least is None else self.least
        said: Array = answers.max(1) < least
        return said

    def named(self, answers: Array) -> list[Any]:
        return [self.labels[n] for n in answers.argmax(1)]

    def contradicts(self, row: Array, named: Any) -> bool:
        return named not in self.labels or bool(row[self.labels.index(named)] < row.max() - CLEAR)

    def may_be_named(self, value: Any) -> bool:
        return isinstance(value, str)


class LabelsAnswer(Answer):
    """The probability of each label; each says by itself whether the text has it: where it is above its threshold."""

    task, output, several = "multilabel", "probabilities", True
    labels: tuple[str, ...]

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        super().__init__(metadata)
        self.thresholds: Array = np.asarray(metadata.get("thresholds") or [0.5] * self.width, np.float64)

    @classmethod
    def fits(cls, metadata: Mapping[str, Any]) -> dict[str, bool]:
        found, known = metadata.get("thresholds"), names(metadata["labels"], 2)
        shares = isinstance(found, list) and all(isinstance(one, (int, float)) and 0 <= one <= 1 for one in found)
        good = found is None or (known and shares and len(found) == len(metadata["labels"]))
        return {"labels": known, "thresholds": good}

    @property
    def width(self) -> int:
        return len(self.labels)

    @property
    def words(self) -> str:
        return f"probabilities of {self.width} labels"

    def record(self, row: Array, top: int = 1, probabilities: bool = False) -> dict[str, Any]:
        order = np.argsort(-row, kind="stable")
        above = [n for n in order if row[n] > self.thresholds[n]]
        found: dict[str, Any] = {
            "labels": [self.labels[n] for n in above],
            "scores": [float(row[n]) for n in above],
        }
        if top > 1:
            found["top"] = [{"label": self.labels[n], "score": float(row[n])} for n in order[:top]]
        if probabilities:
            found["probabilities"] = dict(zip(self.labels, map(float, row), strict=True))
        return found

    def columns(self, top: int = 1, probabilities: bool = False) -> dict[str, str]:
        found = {"labels": TEXTS, "scores": NUMBERS}
        for place in range(1, min(top, self.width) + 1) if top > 1 else ():
            found |= {f"label_{place}": TEXT, f"score_{place}": NUMBER}
        return found | ({f"probability_{name}": NUMBER for name in self.labels} if probabilities else {})

    def marks(self, answers: Array) -> Array:
        said: Array = answers > self.thresholds
        return said

    def named(self, answers: Array) -> list[Any]:
        return [[self.labels[n] for n in np.flatnonzero(row)] for row in self.marks(answers)]

    def contradicts(self, row: Array, named: Any) -> bool:
        if not isinstance(named, list) or not set(named) <= set(self.labels):
            return True
        there = np.isin(self.labels, named)
        return bool(((row > self.thresholds) != there)[np.abs(row - self.thresholds) > CLEAR].any())

    def may_be_named(self, value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)


class TagsAnswer(Answer):
    """The probability of each tag for each word of a text, and the entities that follow."""

    task, output, per_word = "tagging", "probabilities", True
    longer = "are longer, and read in overlapping parts"
    labels: tuple[str, ...]

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        super().__init__(metadata)
        self.scheme = Scheme(self.labels)

    @classmethod
    def fits(cls, metadata: Mapping[str, Any]) -> dict[str, bool]:
        return {"labels": names(metadata["labels"], 2) and is_scheme(metadata["labels"])}

    @property
    def width(self) -> int:
        return len(self.labels)

    @property
    def words(self) -> str:
        return f"entities of {len(self.scheme.types)} types"

    @property
    def classes(self) -> tuple[str, ...]:
        return self.scheme.types

    def record(self, row: Any, top: int = 1, probabilities: bool = False) -> dict[str, Any]:
        """The entities in the order of the text. Offsets are characters (code points) of the text as it was given, ends
        exclusive. top, probabilities: for each word, its likeliest tags, or those of all tags."""
        found = row.spans(self.scheme)
        record: dict[str, Any] = {
            "spans": [
                {"start": one.start, "end": one.end, "label": one.type, "score": one.score,
                 "text": row.text[one.start : one.end]}
                for one in found
            ]
        }  # fmt: skip
        if top > 1 or probabilities:
            record["words"] = [self.word(row, n, top, probabilities) for n in range(len(row.starts))]
        return record

    def word(self, row: Any, number: int, top: int, probabilities: bool) -> dict[str, Any]:
        start, end, values = int(row.starts[number]), int(row.ends[number]), row.values[number]
        order = np.argsort(-values, kind="stable")[: max(1, top)]
        found: dict[str, Any] = {"start": start, "end": end, "text": row.text[start:end]}
        found["top"] = [{"label": self.labels[n], "score": float(values[n])} for n in order]
        if probabilities:
            found["probabilities"] = dict(zip(self.labels, map(float, values), strict=True))
        return found

    def columns(self, top: int = 1, probabilities: bool = False) -> dict[str, str]:
        return {"spans": JSON} | ({"words": JSON} if top > 1 or probabilities else {})

    def marks(self, answers: Array) -> Array:
        """(N, types): the types that are found."""
        return types_in(answers, self.scheme)

    def strength(self, answers: Array) -> Array:
        """The score of the surest entity of each type."""
        found = np.zeros((len(answers), len(self.scheme.types)))
        for row, one in enumerate(answers):
            for span in one.spans(self.scheme):
                place = self.scheme.types.index(span.type)
                found[row, place] = max(found[row, place], span.score)
        return found

    def named(self, answers: Array) -> list[Any]:
        return [[list(span[:3]) for span in one.spans(self.scheme)] for one in answers]

    def contradicts(self, row: Any, named: Any) -> bool:
        """Whether a word has another tag than the entities named say, by more than rounding may do."""
        kinds = self.scheme.types
        if not self.may_be_named(named) or not {kind for _, _, kind in named} <= set(kinds):
            return True
        there = [(start, end, kinds.index(kind)) for start, end, kind in named]
        tags = self.scheme.encode(there, row.starts, row.ends)
        if not len(tags):
            return bool(named)
        said = np.concatenate(
            [row.values[:, self.scheme.kinds < 0].sum(1, keepdims=True), row.values @ self.scheme.members], 1
        )
        return bool((said[np.arange(len(tags)), self.scheme.kinds[tags] + 1] < said.max(1) - CLEAR).any())

    def may_be_named(self, value: Any) -> bool:
        return isinstance(value, list) and all(
            isinstance(one, list)
            and len(one) == 3
            and isinstance(one[2], str)
            and all(isinstance(n, int) for n in one[:2])
            for one in value
        )

    def stored(self, answers: Array) -> list[Any]:
        return [np.round(one.values.astype(float), 6).tolist() for one in answers]

    def restored(self, stored: Any, texts: int) -> Array | None:
        if not isinstance(stored, list) or len(stored) != texts:
            return None
        found = np.empty(texts, object)
        for n, one in enumerate(stored):
            values = np.array(one, np.float64).reshape(-1, self.width) if one else np.zeros((0, self.width))
            if len(values) != len(one) or not np.isfinite(values).all():
                return None
            places = np.zeros(len(values), np.int64)
            found[n] = Tagged("", places, places, values)
        return found

    def likeness(self, stored: Array, here: Array) -> float:
        if [len(one.values) for one in stored] != [len(one.values) for one in here]:
            return 0.0
        return super().likeness(stacked(stored), stacked(here)) if len(stacked(stored)) else 1.0

    def agreement(self, ours: Array, theirs: Array) -> dict[str, float | None]:
        """equal_labels: the share of texts with the same entities."""
        same = [a == b for a, b in zip(self.named(ours), self.named(theirs), strict=True)]
        return {**apart(stacked(ours), stacked(theirs)), "equal_labels": float(np.mean(same))}


class ScoreAnswer(Answer):
    """One score."""

    task, output = "regression", "scores"
    width = 1
    words = "one score"

    def record(self, row: Array, top: int = 1, probabilities: bool = False) -> dict[str, Any]:
        return {"score": float(row[0])}

    def columns(self, top: int = 1, probabilities: bool = False) -> dict[str, str]:
        return {"score": NUMBER}

    def directions(self, answers: Array) -> Array:
        return np.append(answers, np.ones((len(answers), 1), answers.dtype), axis=1)  # one number has no direction

    def likeness(self, stored: Array, here: Array) -> float:
        return 1 - float(np.abs(stored - here).max() / max(np.abs(stored).max(), 1e-12))

    def agreement(self, ours: Array, theirs: Array) -> dict[str, float | None]:
        return {**super().agreement(ours, theirs), "cosine_mean": None, "cosine_min": None}


class VectorAnswer(Answer):
    """A vector of length 1."""

    task, output, endpoint, vector = "embedding", "sentence_embedding", "/embed", True

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        super().__init__(metadata)
        self.dimensions: int = metadata["dimensions"]

    @classmethod
    def fits(cls, metadata: Mapping[str, Any]) -> dict[str, bool]:
        return super().fits(metadata) | {"dimensions": whole(metadata.get("dimensions"))}

    @property
    def width(self) -> int:
        return self.dimensions

    @property
    def words(self) -> str:
        return f"a vector of {self.dimensions} numbers"

    def record(self, row: Array, top: int = 1, probabilities: bool = False) -> dict[str, Any]:
        return {"vector": row.astype(float).tolist()}

    def columns(self, top: int = 1, probabilities: bool = False) -> dict[str, str]:
        return {"vector": NUMBERS}


ANSWERS: dict[str, type[Answer]] = {
    kind.task: kind for kind in (ClassAnswer, LabelsAnswer, ScoreAnswer, VectorAnswer, TagsAnswer)
}


def answer_of(metadata: Mapping[str, Any]) -> Answer:
    """The answer of a model with these entries: "task", "labels", "dimensions".

    Raises:
        UserError: a task of none of `ANSWERS`.
    """
    kind = ANSWERS.get(metadata["task"])
    if kind is None:
        raise UserError(f"expected a task of {', '.join(ANSWERS)}, got {str(metadata['task'])[:80]!r}")
    return kind(metadata)


def flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as a row of a table: "top" as label_2, score_2, … behind a "label" of its own, else from label_1 on;
    "probabilities" as probability_NAME."""
    found = {name: value for name, value in record.items() if name not in ("top", "probabilities")}
    named = 1 if "label" in record else 0
    for place, one in enumerate(record.get("top", ())[named:], named + 1):
        found |= {f"{name}_{place}": value for name, value in one.items()}
    return found | {f"probability_{name}": value for name, value in record.get("probabilities", {}).items()}


def apart(ours: Array, theirs: Array) -> dict[str, float | None]:
    """How far (N, width) numbers are from others."""
    between = cosines(ours, theirs) if len(ours) else np.ones(1)
    return {
        "max_abs_difference": float(np.abs(ours - theirs).max(initial=0.0)),
        "cosine_mean": float(between.mean()),
        "cosine_min": float(between.min()),
    }


def cosines(a: Array, b: Array) -> Array:
    """(N,) cosines of the rows of (N, D) and (N, D)."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1, dtype=np.float64) / np.maximum(norms, 1e-12)


def names(value: Any, least: int) -> bool:
    """Whether a JSON value is a list of at least so many different names."""
    return (
        isinstance(value, list)
        and len(value) >= least
        and all(isinstance(one, str) and one.strip() for one in value)
        and len(set(value)) == len(value)
    )


def only_classes(flag: str, answers: str) -> str:
    """The message for an option that needs one class a text. flag: the option; answers: the model's, in words."""
    return (
        f"{flag}: expected a model that gives a text one class of several, got one that answers {answers}; such "
        "answers have no single probability of being right"
    )


def share(value: Any) -> bool:
    """Whether a JSON value is a number from 0 to 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def above_0(value: Any) -> bool:
    """Whether a JSON value is a list of finite numbers above 0, one or more."""
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(one, int | float) and not isinstance(one, bool) and 0 < one < math.inf for one in value)
    )


def whole(value: Any) -> bool:
    """Whether a JSON value is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
