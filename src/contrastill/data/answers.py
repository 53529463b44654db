"""One cell of a teacher's answers, as the numbers that losses compare.

Shapes: C classes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from contrastill.data.cells import class_name, is_missing, number, some
from contrastill.errors import quoted
from contrastill.ranges import suggestion

__all__ = ["ROUNDING", "Fault", "reader"]

Array = np.ndarray[Any, Any]
ROUNDING = 1e-3  # of a sum of probabilities, and between answers to the same text that count as equal
SURENESS = "confidence"
SURE = 1e-6  # nearest that a probability of a label comes to 0 and 1


class Fault(Exception):
    """What is wrong with one row. what: the same of all rows with that fault; got: of this row; repair; column: where
    it is not that of the answers."""

    def __init__(self, what: str, got: str, repair: str, column: str = "") -> None:
        super().__init__(what, got, repair)
        self.what, self.got, self.repair, self.column = what, got, repair, column


def reader(kind: str, form: str, names: Sequence[str], ordered: bool) -> Callable[[Any, Any], Array | float]:
    """The function that reads a cell of this form (and the confidence beside it) as numbers."""
    if kind == "regression":
        return lambda cell, _: score_in(cell)
    cell_of = Cells(names, ordered)
    if kind == "multilabel":
        return {
            "logits": lambda cell, _: cell_of.numbers(cell),
            "probabilities": lambda cell, _: cell_of.chances(cell),
            "top": lambda cell, _: cell_of.chances(listed_top(cell)),
            "labels": lambda cell, _: cell_of.marks(cell),
        }[form]
    return {
        "logits": lambda cell, _: log_softmax(cell_of.numbers(cell)),
        "probabilities": lambda cell, _: cell_of.buckets(cell),
        "top": lambda cell, _: cell_of.buckets(listed_top(cell)),
        "confidence": lambda cell, sure: cell_of.sure(cell, sure),
        "labels": lambda cell, _: cell_of.votes(cell),
        "label": lambda cell, _: cell_of.sure(cell, 1.0),
    }[form]


def score_in(cell: Any) -> float:
    value = cell[0] if isinstance(cell, (list, tuple)) and len(cell) == 1 else cell
    found = number(value)
    if found is None:
        raise Fault("finite numbers", quoted(cell), "correct or remove those rows")
    return found


def listed_top(cell: Any) -> Any:
    """[{"label": …, "score": …}, …] as label -> score."""
    if isinstance(cell, (list, tuple)) and all(isinstance(one, Mapping) and "label" in one for one in cell):
        return {one["label"]: one.get("score") for one in cell}
    raise Fault('lists of {"label": …, "score": …}', quoted(cell), "write each answer so")


def log_softmax(logits: Array) -> Array:
    """(C,) -> (C + 1,)"""
    high = logits.max()
    return np.append(logits - high - np.log(np.exp(logits - high).sum()), -np.inf)


@dataclass(frozen=True)
class Cells:
    """Reads cells that name classes. ordered: whether lists of numbers have a meaning."""

    names: Sequence[str]
    ordered: bool

    @cached_property
    def places(self) -> dict[str, int]:
        return {name: n for n, name in enumerate(self.names)}

    def place(self, name: Any) -> int:
        found = class_name(name)
        if is_missing(name) or found not in self.places:
            raise Fault(
                f"the labels {some(self.names)}",
                quoted(name),
                f"pass --labels with every class, or correct those rows{suggestion(found, self.names)}",
            )
        return self.places[found]

    def by_class(self, cell: Any) -> dict[int, float]:
        """Class's number -> number, of an object, or a list in the order of the classes."""
        if isinstance(cell, (list, tuple)):
            if not self.ordered:
                raise Fault(
                    "an object {label: number}",
                    "a list, whose order nothing tells",
                    "pass --labels with every class in the order of the list, or write objects",
                )
            if len(cell) != len(self.names):
                raise Fault(
                    f"lists of {len(self.names)} numbers, one a class",
                    f"{len(cell)}",
                    "write one for each label of --labels, in their order",
                )
            cell = dict(zip(self.names, cell, strict=True))
        if not isinstance(cell, Mapping):
            raise Fault("an object {label: number}", quoted(cell), 'write JSON such as {"a": 0.8, "b": 0.2}')
        found = {}
        for name, value in cell.items():
            if is_missing(value) and not (isinstance(value, float) and math.isnan(value)):
                continue  # parquet gives every row of a struct all its fields
            read = number(value)
            if read is None:
                raise Fault("finite numbers", quoted(value), "correct or remove those rows")
            found[self.place(name)] = read
        if not found:
            raise Fault("an object {label: number}", "an empty one", "name a class, or remove those rows")
        return found

    def numbers(self, cell: Any) -> Array:
        """(C,) a number for every class."""
        found = self.by_class(cell)
        if len(found) < len(self.names):
            lacking = [name for n, name in enumerate(self.names) if n not in found]
            raise Fault(
                f"logits of all {len(self.names)} classes",
                f"none of {some(lacking)}",
                "write all, or, of some classes, their probabilities",
            )
        return np.array([found[n] for n in range(len(self.names))], np.float64)

    def shares(self, cell: Any) -> dict[int, float]:
        """Class's number -> probability."""
        found = self.by_class(cell)
        if wrong := [value for value in found.values() if not 0 <= value <= 1 + ROUNDING]:
            raise Fault(
                "probabilities from 0 to 1",
                f"{wrong[0]:g}",
                "write them so; other numbers may be logits (name the column 'logits')",
            )
        return {n: min(value, 1.0) for n, value in found.items()}

    def chances(self, cell: Any) -> Array:
        """(C,) logits of labels that each say yes or no, NaN where none is given."""
        found = np.full(len(self.names), np.nan)
        for n, value in self.shares(cell).items():
            found[n] = logit(value)
        return found

    def marks(self, cell: Any) -> Array:
        """(C,) logits of the labels of a list."""
        if not isinstance(cell, (list, tuple)):
            raise Fault("lists of labels", quoted(cell), 'write JSON such as ["a", "b"], and [] for none')
        found = np.full(len(self.names), logit(0.0))
        for one in cell:
            found[self.place(one)] = logit(1.0)
        return found

    def buckets(self, cell: Any) -> Array:
        """(C + 1,) logarithms of the probabilities of some classes, and of all others together."""
        found = self.shares(cell)
        total = sum(found.values())
        if total > 1 + ROUNDING:
            raise Fault(
                "probabilities that sum to 1, or to less where classes are left out",
                f"a sum of {total:g}",
                "divide them by their sum, or, if each label says yes or no by itself, pass --task multilabel",
            )
        if len(found) == len(self.names) and total < 1 - ROUNDING:
            raise Fault(
                "probabilities of all classes that sum to 1",
                f"a sum of {total:g}",
                "divide them by their sum, or leave out the classes whose probability is not known",
            )
        rest = max(0.0, 1 - total) if total < 1 - 1e-9 and len(found) < len(self.names) else 0.0
        return self.row({n: value / (total + rest) for n, value in found.items()}, rest / (total + rest))

    def sure(self, label: Any, confidence: Any) -> Array:
        """(C + 1,) of one class and its probability."""
        value, place = number(confidence), self.place(label)
        if value is None or not 0 < value <= 1:
            raise Fault(
                "confidences above 0, up to 1", quoted(confidence), "write shares, such as 0.9 for 90 %", SURENESS
            )
        if value < 1 / len(self.names) - ROUNDING:
            raise Fault(
                f"confidences of at least 1/{len(self.names)}, for a label that is the likeliest",
                f"{value:g}",
                "write the probabilities of the labels, or the label alone",
                SURENESS,
            )
        return self.row({place: value}, 1 - value)

    def votes(self, cell: Any) -> Array:
        """(C + 1,) of the labels that several annotators gave."""
        if not isinstance(cell, (list, tuple)) or not len(cell):
            raise Fault("lists of labels, one an annotator", quoted(cell), 'write JSON such as ["a", "a", "b"]')
        places = [self.place(one) for one in cell]
        return self.row({n: places.count(n) / len(places) for n in places}, 0.0)

    def row(self, found: Mapping[int, float], rest: float) -> Array:
        values = np.full(len(self.names) + 1, np.nan)
        for n, value in found.items():
            values[n] = log(value)
        values[-1] = log(rest)
        return values


def log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def logit(value: float) -> float:
    value = min(max(value, SURE), 1 - SURE)
    return math.log(value / (1 - value))
