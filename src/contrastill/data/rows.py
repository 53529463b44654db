"""Which columns hold what, and whether every row of them is fit to train on."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from contrastill.data.read import Table
from contrastill.data.tasks import METRICS, Task
from contrastill.errors import UserError

__all__ = ["checked_rows", "columns_of", "encode_labels", "hides_labels", "judge_labels"]

PAIR_NAMES = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("text", "text_pair"),
    ("text1", "text2"),
    ("text_a", "text_b"),
)
TEXT_NAMES = ("text", "sentence", "utterance", "question", "query", "review", "tweet", "content")
LABEL_NAMES = ("label", "labels", "category", "intent", "class", "score", "target")


def columns_of(name: str, table: Table, text: str | None, text_pair: str | None, label: Any) -> Task:
    """A task with the text, text pair and label columns asked for, or those whose names leave no doubt; no kind yet."""
    there = [str(column) for column in table.frame.columns]
    lower = {column.lower(): column for column in there}
    listing = f"{table.name} has the columns {', '.join(map(repr, there))} (its first row must name them)"
    parts = label.split(",") if isinstance(label, str) and label not in there else label
    if isinstance(parts, (list, tuple)) and len(parts) > 1:
        raise UserError(_multi_label(f"the label columns {', '.join(parts)}"))
    for flag, column in (("--text", text), ("--text-pair", text_pair), ("--label", label)):
        if column is not None and column not in there:
            raise UserError(f"expected a column {column!r} ({flag}), but {listing}; pass {flag} with one of these")
    if text is None:
        pairs = [pair for pair in PAIR_NAMES if set(pair) <= set(lower)]
        single = [name for name in TEXT_NAMES if name in lower and not any(name in pair for pair in pairs)]
        if len(pairs) + len(single) != 1 or text_pair is not None:
            raise UserError(
                f"expected to be told which column holds the text: {listing}; pass --text COLUMN, and --text-pair "
                "COLUMN if there are two texts a row"
            )
        text = lower[pairs[0][0] if pairs else single[0]]
        text_pair = lower[pairs[0][1]] if pairs else None
    if label is None:
        guesses = [lower[name] for name in LABEL_NAMES if name in lower and lower[name] not in (text, text_pair)]
        if len(guesses) != 1:
            raise UserError(f"expected to be told which column holds the label: {listing}; pass --label COLUMN")
        label = guesses[0]
    if len({text, text_pair, label}) < 3:
        raise UserError(f"expected different columns, got text {text!r}, text pair {text_pair!r}, label {label!r}")
    return Task(name, "", text, text_pair, label, (), ())


def hides_labels(table: Table, label: str) -> bool:
    return label not in table.frame or bool(table.frame[label].map(_is_missing).all())


def checked_rows(table: Table, task: Task, split: str, *, benchmark: bool, notes: list[str]) -> pd.DataFrame:
    """The rows as example_id, text, text_pair, label (cells as found); the index still counts the source's lines.

    The split "unlabelled" has no label. A benchmark's broken rows are dropped and noted, for its user cannot mend them;
    in own data they are errors.
    """
    wanted = {"text": task.text, "text_pair": task.text_pair, "label": None if split == "unlabelled" else task.label}
    wanted = {ours: theirs for ours, theirs in wanted.items() if theirs is not None}
    for ours, column in wanted.items():
        if column not in table.frame:
            repair = "; name it so, or pass --text, --text-pair and --label"
            if ours == "label":
                repair += "; or, if the rows have no labels, pass the file by --unlabelled"
            there = ", ".join(map(repr, table.frame.columns))
            raise UserError(f"{table.name}: expected a column {column!r}, got {there}{repair}")
    rows = pd.DataFrame({ours: table.frame[theirs] for ours, theirs in wanted.items()}, dtype=object)
    rows.insert(0, "example_id", [f"{split}-{i}" for i in range(len(rows))])

    good = {ours: rows[ours].map(_is_text).astype(bool) for ours in wanted if ours != "label"}
    for ours, mask in good.items():
        if not mask.all() and not benchmark:
            raise UserError(
                f"{table.name}: expected text in column {wanted[ours]!r}, got {_at(rows.index[~mask], table)} without "
                "(empty, white space, not a string or not valid Unicode); fill them in or remove them"
            )
    whole = pd.DataFrame(good).all(axis=1)
    if dropped := table.dropped + int((~whole).sum()):
        notes.append(f"{table.name}: {dropped} broken rows were left out")
    rows = rows[whole]

    if "label" in wanted:
        missing = rows["label"].map(_is_missing).astype(bool)
        if missing.any():
            raise UserError(
                f"{table.name}: expected a label in column {task.label!r}, got {_at(rows.index[missing], table)}"
                " without; label or remove them, or put them in a file of their own and pass it by --unlabelled"
            )
        if rows["label"].map(lambda cell: isinstance(cell, (list, tuple, dict))).any():
            raise UserError(_multi_label(f"lists in column {task.label!r} of {table.name}"))
    return rows


def judge_labels(task: Task, table: Table, cells: pd.Series, kind: str | None, labels: Sequence[Any] | None) -> Task:
    """The task with its kind, classes and metrics, judged by the training labels."""
    names = tuple(str(name).strip() for name in labels) if labels is not None else table.classes.get(task.label, ())
    if kind is None:
        numbers = [_number(cell) for cell in cells]
        fractions = any(number is not None and not number.is_integer() for number in numbers)
        kind = "regression" if fractions and None not in numbers and not names else "classification"
    if kind == "regression":
        if labels is not None:
            raise UserError(f"expected no class names for regression, got {list(labels)}; leave --labels out")
        return replace(task, kind=kind, metrics=METRICS[kind])
    if not names:
        found = {_class_name(cell) for cell in cells}
        whole = all(re.fullmatch(r"[+-]?\d+", name) for name in found)
        names = tuple(sorted(found, key=(lambda name: (int(name), name)) if whole else None))
    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError(
            f"{table.name}: expected at least two different classes in column {task.label!r}, got {', '.join(names)}; "
            "add rows of another class" + (", or correct --labels" if labels is not None else "")
        )
    return replace(task, kind=kind, labels=names, metrics=("accuracy", "f1"))


def encode_labels(cells: pd.Series, task: Task, table: Table, *, given: bool) -> list[int] | list[float]:
    """Cells as found -> class ids or finite numbers."""
    if task.kind == "regression":
        values = [_number(cell) for cell in cells]
        wrong = [line for line, v in zip(cells.index, values, strict=True) if v is None or not math.isfinite(v)]
        if wrong:
            raise UserError(
                f"{table.name}: expected finite numbers in column {task.label!r}, got {_at(wrong, table)} without, the "
                f"first {cells[wrong[0]]!r}; mend them, or pass --kind classification if these are class names"
            )
        return [float(value) for value in values if value is not None]
    ids = {name: i for i, name in enumerate(task.labels)}
    if not any(name.isdecimal() for name in ids):
        ids |= {str(i): i for i in range(len(ids))}  # cells may hold the ids themselves
    names = [_class_name(cell) for cell in cells]
    unknown = [line for line, name in zip(cells.index, names, strict=True) if name not in ids]
    if unknown:
        source = "given by --labels" if given else "of the task"
        raise UserError(
            f"{table.name}: expected labels {source} ({_some(task.labels)}), got "
            f"{_some(sorted({repr(name) for name in names if name not in ids}))} in {_at(unknown, table)}; "
            "correct or remove those rows, or pass --labels with every class"
        )
    return [ids[name] for name in names]


def _multi_label(found: str) -> str:
    return (
        f"expected one label a row, got {found}: multi-label is not supported; keep one label a row, "
        "or train one yes / no classifier per label"
    )


def _is_text(cell: Any) -> bool:
    try:
        return isinstance(cell, str) and bool(cell.strip()) and bool(cell.encode())
    except UnicodeEncodeError:  # half a surrogate pair, from a JSON escape cut in two
        return False


def _is_missing(cell: Any) -> bool:
    return (
        cell is None or (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, float) and math.isnan(cell))
    )


def _class_name(cell: Any) -> str:
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def _number(cell: Any) -> float | None:
    if isinstance(cell, bool) or (isinstance(cell, str) and "_" in cell):  # Python's 1_000 is nobody's number
        return None
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return None


def _at(index: Iterable[int], table: Table) -> str:
    """The rows in words: `3 rows (lines 4, 9, 12)`."""
    numbers = list(index)
    several = "s" if len(numbers) > 1 else ""
    return f"{len(numbers)} row{several} ({table.unit}{several} {_some(numbers)})"


def _some(items: Sequence[Any], most: int = 8) -> str:
    return ", ".join(map(str, items[:most])) + (", ..." if len(items) > most else "")
