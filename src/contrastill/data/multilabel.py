"""Cells with any number of labels: lists, names with a separator, or a column of yes and no for each label."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from contrastill.data.cells import at, class_name, is_missing, is_whole, listed, several, some
from contrastill.data.classes import Names, matching
from contrastill.data.read import Table
from contrastill.data.schema import METRICS, Schema
from contrastill.errors import UserError, quoted

__all__ = ["encode_sets", "gathered", "judge_sets", "label_columns", "lists", "rarest", "separated", "sets_of_labels"]

YES, NO = {"1", "true", "yes", "y", "t"}, {"0", "false", "no", "n", "f", ""}
MOST = 5000  # labels of a task


def lists(cells: "pd.Series[Any]") -> bool:
    """Whether cells are lists, as jsonl and parquet have them."""
    return bool(cells.map(lambda cell: isinstance(cell, (list, tuple)) or hasattr(cell, "tolist")).any())


def label_columns(label: str | Sequence[str] | None, there: Sequence[str]) -> list[str]:
    """The columns of a setting that names several, "a,b,c"; [] if it names one, or none."""
    parts = label.split(",") if isinstance(label, str) and label not in there else label
    if not isinstance(parts, (list, tuple)) or len(parts) < 2:
        return []
    names = [part.strip() for part in parts]
    if absent := [name for name in names if name not in there]:
        raise UserError(
            f"expected the label columns {some(names)} (--label), got none named {quoted(absent[0])}; the file has "
            f"{some(there, 20)}"
        )
    if len(set(names)) < len(names):
        raise UserError(f"expected each label column once (--label), got {some(names)}")
    return names


def gathered(table: Table, columns: Sequence[str], into: str) -> Table:
    """The table with a column `into` of the names of the columns in which a row has a yes.

    Raises:
        UserError: a cell is neither yes nor no.
    """
    found: list[list[str]] = [[] for _ in range(len(table.frame))]
    for column in columns:
        if column not in table.frame:
            raise UserError(
                f"{table.name}: expected a label column {column!r}, got none; give every file the same ones"
            )
        words = table.frame[column].map(lambda cell: "" if is_missing(cell) else class_name(cell).lower())
        odd = ~words.isin(YES | NO)
        if odd.any():
            raise UserError(
                f"{table.name}: expected 0 or 1 (true or false, yes or no) in the label column {column!r}, got "
                f"{quoted(table.frame[column][odd].iloc[0])} in {at(words.index[odd], table.unit)}; correct them"
            )
        for row, word in zip(found, words, strict=True):
            if word in YES:
                row.append(column)
    frame = table.frame.copy()
    frame[into] = pd.Series(found, index=frame.index, dtype=object)
    return replace(table, frame=frame)


def sets_of_labels(
    cells: "pd.Series[Any]", table: Table, column: str, separator: str | None, known: Names | None
) -> "pd.Series[Any]":
    """Cells as tuples of label names; an empty cell or list has none.

    Lists of 0 and 1, as long as there are known labels, say yes or no to each; other whole numbers are names, or, where
    labels are known whose names have no digits, their ids.

    Raises:
        UserError: texts with what looks like a separator that was not named; a label twice in a row.
    """
    if separator is None and not lists(cells):
        filled = cells[~cells.map(is_missing).astype(bool)]
        found = several(list(filled))
        if found is not None and found[0] != "brackets":
            raise UserError(
                f"{table.name}: expected --separator for the labels in column {column!r}, got none and cells like "
                f"{quoted(filled.iloc[found[1]])}; pass --separator {found[0]}"
            )
    places = zeros_and_ones(cells)
    if known is None and places:
        raise UserError(
            f"{table.name}: expected names of labels in column {column!r}, got {places} zeros and ones in every row; "
            f"pass --labels, once for each of the {places} labels"
        )
    ids = ids_of(cells, known)
    rows = []
    for cell in cells:
        parts = parts_of(cell, separator)
        if known is not None and places == len(known.names):
            names = [name for name, part in zip(known.names, parts, strict=True) if class_name(part) == "1"]
        else:
            names = [class_name(part) for part in parts]
        rows.append(tuple(ids.get(name, name) for name in names))
    twice = [line for line, row in zip(cells.index, rows, strict=True) if len(set(row)) < len(row)]
    if twice:
        raise UserError(
            f"{table.name}: expected each label once a row in column {column!r}, got one twice in "
            f"{at(twice, table.unit)}; remove the second"
        )
    return pd.Series(rows, index=cells.index, dtype=object)


def parts_of(cell: Any, separator: str | None) -> list[Any]:
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if isinstance(cell, (list, tuple)):
        return [part for part in cell if not is_missing(part)]
    if is_missing(cell) or (isinstance(cell, str) and cell.strip() in ("[]", "()")):
        return []
    if isinstance(cell, dict):
        raise UserError(f"expected labels, or a list of them, got {quoted(cell)}")
    if (written := listed(cell)) and separator is None:
        return list(written)
    return [part.strip() for part in str(cell).split(separator) if part.strip()] if separator else [cell]


def zeros_and_ones(cells: "pd.Series[Any]") -> int | None:
    """The common length of the cells, if all are lists of 0 and 1 of one length, of two or more."""
    rows = [cell.tolist() if hasattr(cell, "tolist") else cell for cell in cells]
    first = rows[0] if rows else None
    if not isinstance(first, (list, tuple)) or len(first) < 2:
        return None
    alike = all(isinstance(row, (list, tuple)) and len(row) == len(first) for row in rows)
    return len(first) if alike and all(class_name(part) in ("0", "1") for row in rows for part in row) else None


def ids_of(cells: "pd.Series[Any]", known: Names | None) -> dict[str, str]:
    """Ids -> names, where labels are known whose names have no digits."""
    if known is None or any(character.isdigit() for name in known.names for character in name):
        return {}
    return {str(n): class_name(name) for n, name in enumerate(known.names)}


def judge_sets(
    task: Schema, table: Table, rows: "pd.Series[Any]", known: Names | None, why: str, decided: dict[str, str]
) -> Schema:
    """The schema with its labels, judged by the training rows; what was decided goes to `decided`.

    Raises:
        UserError: fewer than two labels, or more than 5 000.
    """
    counts = Counter(label for row in rows for label in row)
    decided["kind"] = f"multilabel: {why}"
    if known is None:
        by_value = all(map(is_whole, counts))
        names = tuple(sorted(counts, key=int if by_value else str))
        order = "by value" if by_value else "by alphabet"
    else:
        names, order = tuple(class_name(name) for name in known.names), f"in the order of {known.giver}"
    if not 2 <= len(names) <= MOST or len(set(names)) < len(names):
        raise UserError(
            f"{table.name}: expected 2 to {MOST:,} different labels in column {task.label!r}, got {len(names)} "
            f"({some(names)}); "
            + ("choose another column (--label)" if len(names) > MOST else "add rows with others, or --labels with all")
        )
    decided["classes"] = f"{len(names)}, {order}: {some(names)}"
    without = sum(not row for row in rows)
    decided["labels a row"] = f"{sum(counts.values()) / max(1, len(rows)):.2f} in the mean, none in {without} rows"
    if never := [name for name in names if not counts[name]]:
        decided["labels without a training row"] = f"{len(never)} ({some(never)})"
    return replace(task, kind="multilabel", labels=names, metrics=METRICS["multilabel"])


def encode_sets(rows: "pd.Series[Any]", task: Schema, table: Table, known: Names | None) -> list[list[float]]:
    """Tuples of names -> 0 and 1 for each label.

    Raises:
        UserError: a label that the training rows, or whoever gives the labels, do not know.
    """
    place = {name: n for n, name in enumerate(task.labels)}
    seen = sorted({name for row in rows for name in row})
    if known is not None and known.loosely:
        place |= matching(seen, task.labels)
    if unknown := [name for name in seen if name not in place]:
        lines = [line for line, row in rows.items() if set(row) & set(unknown)]
        giver = known.giver if known is not None else "the training rows"
        raise UserError(
            f"{table.name}: expected the labels of {giver} ({some(task.labels)}), got {some([*map(repr, unknown)])} in "
            f"{at(lines, table.unit)}; correct or remove them, or pass --labels with every label"
        )
    found = []
    for row in rows:
        hot = [0.0] * len(task.labels)
        for name in row:
            hot[place[name]] = 1.0
        found.append(hot)
    return found


def rarest(labels: Sequence[Sequence[float]]) -> list[int]:
    """The rarest label of each row, -1 where it has none: rows are divided by it, so that each part has every label."""
    counts = [sum(row[n] for row in labels) for n in range(len(labels[0]) if labels else 0)]
    return [
        min((n for n, there in enumerate(row) if there), key=lambda n: (counts[n], n), default=-1) for row in labels
    ]


def separated(frames: Mapping[str, pd.DataFrame], task: Schema) -> dict[str, str]:
    """Remarks on labels with hardly any rows."""
    counts = {
        split: [sum(row[n] for row in frame["label"] if not math.isnan(row[0])) for n in range(len(task.labels))]
        for split, frame in frames.items()
    }
    train, dev = counts["train"], counts.get("dev")
    groups = {
        "labels in dev alone": [] if dev is None else [n for n, rows in enumerate(dev) if rows and not train[n]],
        "labels without dev rows": [] if dev is None else [n for n, rows in enumerate(dev) if not rows],
    }
    return {what: f"{len(ns)} ({some([task.labels[n] for n in ns])})" for what, ns in groups.items() if ns}
