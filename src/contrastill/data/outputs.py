"""A teacher's answers in a file: read strictly, as the numbers that losses compare.

Forms, by the columns of the file, the first that is there: logits, probabilities (of all classes or of some), top,
label with confidence (or score), labels, label; for regression score; for entities spans. So the answers of
`contrastill predict --keep text` are such a file. In .csv and .tsv a cell may hold JSON.

Shapes: N texts, C classes.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contrastill.data.answers import ROUNDING, Fault, reader
from contrastill.data.cells import at, class_name, is_text, number, some
from contrastill.data.columns import check_column
from contrastill.data.load import load_task, text_key
from contrastill.data.read import Table, held_table, read_table
from contrastill.errors import UserError, quoted
from contrastill.memory import Held, check_held

__all__ = ["FORMS", "Outputs", "OutputsFile", "named_in", "open_outputs", "read_outputs"]

Array = np.ndarray[Any, Any]
PROBABILITY = "probability_"
NUMBERED = re.compile(r"label_([1-9]\d*)")
FORMS: dict[str, tuple[str, ...]] = {
    "classification": ("logits", "probabilities", "top", "confidence", "labels", "label"),
    "multilabel": ("logits", "probabilities", "top", "labels"),
    "regression": ("logits", "score", "label"),
    "tagging": ("spans",),
}
"""Kind of task -> the forms of answers that it reads, the one that says most first."""


@dataclass(frozen=True)
class OutputsFile:
    """A table of answers, its columns of texts, and the forms that it has."""

    table: Table
    source: Any  # as it was given
    text: str
    text_pair: str | None
    forms: tuple[str, ...]

    @property
    def keys(self) -> Array:
        """(N,) the key of each row's text or texts."""
        columns = [self.table.frame[name].tolist() for name in (self.text, self.text_pair) if name is not None]
        return np.array([text_key(*texts) for texts in zip(*columns, strict=True)], np.int64)


@dataclass(frozen=True, eq=False)
class Outputs:
    """The answers to N texts.

    keys: (N,) of the texts, sorted. values: classification (N, C + 1), logarithms of probabilities, NaN for classes
    without one of their own, in the last column that of all these together; multilabel (N, C), logits, NaN for labels
    without one; regression (N, 1), scores; tagging (N,) objects, flat triplets of start, end and type's number. form:
    their column. merged: rows left out as copies.
    """

    keys: Array
    values: Array
    form: str
    merged: int = 0

    def rows_of(self, keys: Array) -> Array:
        """(M,) the row of each text; -1: it has no answer."""
        place = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        return np.where(self.keys[place] == keys, place, -1)


# ---- the file


def open_outputs(
    source: Any,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    of_data: tuple[str, str | None] = ("text", None),
    encoding: str = "utf-8",
    delimiter: str | None = None,
) -> OutputsFile:
    """Reads the file and finds its columns. text, text_pair: as asked for; of_data: the columns of the data, which the
    file has by default.

    Raises:
        UserError: a column is missing, a row has no text, no column holds answers.
    """
    check_held(source)
    table = held_table(source) if isinstance(source, Held) else read_table(Path(source), encoding, delimiter=delimiter)
    there = [str(column) for column in table.frame.columns]
    listing = f"{table.name} has the columns {some([repr(column) for column in there], 20)}"
    first, second = of_data
    text = text or (first if first in there else "text")
    text_pair = text_pair or (None if second is None else second if second in there else "text_pair")
    for flag, column in (("--text", text), ("--text-pair", text_pair)):
        check_column(flag, column, there, listing)
        if column is not None and not (good := table.frame[column].map(is_text).astype(bool)).all():
            raise UserError(
                f"{table.name}: expected text in column {column!r}, got {at(table.frame.index[~good], table.unit)} "
                "without (empty, white space, not a string or not valid Unicode); fill them in or remove them"
            )
    forms = forms_of([column for column in there if column not in (text, text_pair)])
    if not forms:
        known = list(dict.fromkeys(form for each in FORMS.values() for form in each))
        raise UserError(
            f"expected a column of answers ({', '.join(known)}) beside the text, but {listing}; name it so "
            "(docs/teacher-outputs.md)"
        )
    return OutputsFile(table, source, text, text_pair, forms)


def forms_of(columns: Sequence[str]) -> tuple[str, ...]:
    """The forms that a table with these columns has."""
    found = [
        name for name in ("logits", "probabilities", "top", "labels", "label", "score", "spans") if name in columns
    ]
    if "probabilities" not in found and any(column.startswith(PROBABILITY) for column in columns):
        found.append("probabilities")
    if "top" not in found and listed_in(columns):
        found.append("top")
    if "label" in found and ("confidence" in columns or "score" in columns):
        found.append("confidence")
    return tuple(found)


def listed_in(columns: Sequence[str]) -> list[tuple[str, str]]:
    """The columns of the likeliest labels and their probabilities, as `predict --top` writes them in fields: label,
    score, label_2, score_2, … (label_1 where there are several labels a text)."""
    numbers = sorted(int(found[1]) for name in columns if (found := NUMBERED.fullmatch(name)))
    pairs = [(f"label_{n}", f"score_{n}") for n in numbers if f"score_{n}" in columns]
    first = [("label", "score")] if {"label", "score"} <= set(columns) else []
    return [*first, *pairs] if pairs else []


def form_for(file: OutputsFile, kind: str) -> str:
    """The form in which the file is read.

    Raises:
        UserError: it has none for such a task.
    """
    found = next((form for form in FORMS[kind] if form in file.forms), None)
    if found is None:
        raise UserError(
            f"{file.table.name}: expected answers for {kind} ({', '.join(FORMS[kind])}), got the columns "
            f"{', '.join(file.forms)}; rename them, or pass --task if the data are of another kind"
        )
    return found


def named_in(file: OutputsFile, kind: str) -> tuple[str, ...]:
    """The classes that the answers name, numbers by value, else by alphabet; of lists of numbers none."""
    form, found = form_for(file, kind), set[str]()
    for row in cells_of(file, form):
        value = row[0]
        if form in ("label", "confidence"):
            found.add(class_name(value))
        elif isinstance(value, Mapping):
            found |= {class_name(name) for name, one in value.items() if one is not None}
        elif isinstance(value, (list, tuple)) and form in ("labels", "top"):
            found |= {class_name(one.get("label") if isinstance(one, Mapping) else one) for one in value}
    if all(number(name) is not None for name in found):
        return tuple(sorted(found, key=lambda name: (number(name), name)))
    return tuple(sorted(found))


def cells_of(file: OutputsFile, form: str) -> list[tuple[Any, Any]]:
    """The value of each row, JSON read, and beside a label its confidence."""
    frame = file.table.frame
    if form == "confidence":
        sure = "confidence" if "confidence" in frame else "score"  # as `predict` calls it
        return list(zip(frame["label"].tolist(), frame[sure].tolist(), strict=True))
    if form == "probabilities" and form not in frame:
        columns = [str(name) for name in frame.columns if str(name).startswith(PROBABILITY)]
        names = [name.removeprefix(PROBABILITY) for name in columns]
        rows = zip(*(frame[column].tolist() for column in columns), strict=True)
        return [(dict(zip(names, row, strict=True)), None) for row in rows]
    if form == "top" and form not in frame:
        listed = listed_in([str(name) for name in frame.columns])
        parts = [zip(frame[label].tolist(), frame[score].tolist(), strict=True) for label, score in listed]
        return [([{"label": name, "score": value} for name, value in row], None) for row in zip(*parts, strict=True)]
    cells = frame[form].tolist()
    return [(cell if form in ("label", "score") else parsed(cell), None) for cell in cells]


def parsed(cell: Any) -> Any:
    """A cell that is written as JSON as its value; numpy's arrays as lists; any other as it is."""
    if isinstance(cell, str):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    return cell.tolist() if isinstance(cell, np.ndarray) else cell


# ---- its answers


def read_outputs(file: OutputsFile, kind: str, names: Sequence[str], *, ordered: bool, **reading: Any) -> Outputs:
    """The answers of a file.

    names: classes, or types of entities, in the order of their ids. ordered: whether the user gave that order, so that
    lists without names have a meaning. reading: encoding and delimiter.

    Raises:
        UserError: an answer that is none; two different ones to the same text.
    """
    form = form_for(file, kind)
    if kind == "tagging":
        return unique(file, file.keys, spans_of(file, names, reading), form, same_spans)
    read = reader(kind, form, names, ordered)
    width = {"classification": len(names) + 1, "regression": 1}.get(kind, len(names))
    values = np.full((len(file.table.frame), width), np.nan, np.float32)
    faults: dict[str, list[tuple[int, Fault]]] = {}
    for n, (line, (cell, more)) in enumerate(zip(file.table.frame.index, cells_of(file, form), strict=True)):
        try:
            values[n] = read(cell, more)
        except Fault as fault:
            faults.setdefault(fault.what, []).append((line, fault))
    for what, found in faults.items():
        first = found[0][1]
        column = first.column or ("label" if form == "confidence" else form)
        if column == "confidence" and column not in file.table.frame:
            column = "score"
        raise UserError(
            f"{file.table.name}: expected {what} in column {column!r}, got {first.got} in "
            f"{at([line for line, _ in found], file.table.unit)}; {first.repair}"
        )
    return unique(file, file.keys, values, form, same_logs if kind == "classification" else same_numbers)


def unique(file: OutputsFile, keys: Array, values: Array, form: str, same: Callable[[Any, Any], bool]) -> Outputs:
    """One answer a text."""
    order = np.argsort(keys, kind="stable")
    first = np.ones(len(order), bool)
    first[1:] = keys[order][1:] != keys[order][:-1]
    kept = order[np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))]
    twice = [(n, one) for n, one in zip(order[~first], kept[~first], strict=True)]
    differ = [(int(n), int(one)) for n, one in twice if not same(values[n], values[one])]
    if differ:
        lines = [file.table.frame.index[n] for n, _ in differ]
        text = quoted(file.table.frame[file.text].iloc[differ[0][0]])
        raise UserError(
            f"{file.table.name}: expected one answer a text, got {at(sorted(lines), file.table.unit)} with another "
            f"than an earlier row of the same text, the first {text}; keep one of them"
            + (", or write their answers as one list in a column 'labels'" if form == "label" else "")
        )
    return Outputs(keys[order][first], values[order][first], form, len(twice))


def same_logs(one: Array, other: Array) -> bool:
    """Whether two rows of logarithms name the same classes with about the same probabilities."""
    return same_numbers(np.exp(one), np.exp(other))


def same_numbers(one: Array, other: Array) -> bool:
    return bool(np.allclose(one, other, atol=ROUNDING, equal_nan=True))


def same_spans(one: Any, other: Any) -> bool:
    return list(one) == list(other)


def spans_of(file: OutputsFile, names: Sequence[str], reading: Mapping[str, Any]) -> Array:
    """(N,) objects: the flat triplets of each row."""
    data = load_task(
        file.source, text=file.text, label="spans", kind="tagging", labels=list(names), dev_share=0.0, **reading
    )
    assert data.train is not None
    found = np.empty(len(data.train), object)
    for n, label in enumerate(data.train["label"]):
        found[n] = label
    return found
