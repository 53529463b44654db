"""Kind, classes and ids of a task's labels: judged by the training cells, then the same for every split."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from contrastill.data.cells import at, class_name, is_whole, loose, number, numeric, several, some
from contrastill.data.read import Table
from contrastill.data.schema import METRICS, Schema
from contrastill.errors import UserError, quoted

__all__ = ["Names", "encode_labels", "judge_labels", "matching", "unnamed"]

MANY = 20  # different cells from which on a column that hardly repeats itself is taken for an id or a free text


@dataclass(frozen=True)
class Names:
    """Class names that are known before any label is read, in the order of their ids, and who gave them."""

    names: tuple[str, ...]
    giver: str  # "--labels", "the source", "the model"

    @property
    def loosely(self) -> bool:
        """A model's names may be spelt otherwise in the data."""
        return self.giver == "the model"


def judge_labels(
    task: Schema, table: Table, cells: "pd.Series[Any]", kind: str | None, known: Names | None, decided: dict[str, str]
) -> Schema:
    """The task with its kind, classes and metrics, judged by the training labels; what was decided goes to `decided`.

    Raises:
        UserError: the cells speak for more than one reading; the message names the first that does not fit.
    """
    if kind == "regression" and known is not None and known.giver == "--labels":
        raise UserError(
            f"expected no class names for regression, got {some(known.names)}; leave --labels out, or --task regression"
        )
    asked = kind is not None
    if kind != "regression" and known is None:
        refuse_several(table, task, cells)
    if kind is None and known is not None:
        kind, why = "classification", f"{known.giver} names the classes"
    elif kind is None:
        kind, why = kind_of(table, task, cells)
    else:
        why = "as --task says"
    decided["kind"] = f"{kind}: {why}"
    if kind == "regression":
        return replace(task, kind=kind, metrics=METRICS[kind])
    if known is None:
        names, order = names_of(table, task, cells)
    else:
        names, order = tuple(class_name(name) for name in known.names), f"in the order of {known.giver}"
    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError(
            f"{table.name}: expected at least two different classes in column {task.label!r}, got {some(names)}; "
            "add rows of another class" + (f", or correct {known.giver}" if known is not None else "")
        )
    if known is None and not asked and all(map(is_whole, names)):
        decided["kind"] += "; --task regression reads them as scores"
    decided["classes"] = f"{len(names)}, {order}: {some(names)}"
    return replace(task, kind=kind, labels=names, metrics=("accuracy", "f1"))


def kind_of(table: Table, task: Schema, cells: "pd.Series[Any]") -> tuple[str, str]:
    """The kind, and the evidence for it. Cells that speak for both are refused."""
    plain = cells.map(lambda cell: number(cell) is not None).astype(bool)
    other = ~plain & cells.map(numeric).astype(bool)
    odd = ~plain & ~other
    fractions = int(sum(not float(cell).is_integer() for cell in cells[plain]))
    column = f"column {task.label!r}"
    if odd.all():
        if any(isinstance(cell, float) for cell in cells):
            raise UserError(
                f"{table.name}: expected finite numbers in {column}, got {quoted(cells[odd].iloc[0])} in "
                f"{at(cells.index[odd], table.unit)}; correct them"
            )
        return "classification", f"all {len(cells)} cells of {task.label!r} are names"
    if odd.any() and (fractions or other.any()):
        raise UserError(
            f"{table.name}: expected finite numbers in {column}, as {len(cells) - int(odd.sum())} of {len(cells)} "
            f"cells are, got {quoted(cells[odd].iloc[0])} in {at(cells.index[odd], table.unit)}; correct or remove "
            "those rows, or pass --task classification if every different cell is a class"
        )
    if odd.any():
        few, many = (plain, "names") if plain.sum() <= odd.sum() else (odd, "numbers")
        raise UserError(
            f"{table.name}: expected names or numbers in {column}, got both: {many}, but "
            f"{quoted(cells[few].iloc[0])} in {at(cells.index[few], table.unit)}: a number may be a class's id or its "
            "name; write all rows the same way, or pass --task classification if every different cell is a class"
        )
    if other.any():
        raise UserError(
            f"{table.name}: expected numbers with a decimal point in {column}, got {quoted(cells[other].iloc[0])} in "
            f"{at(cells.index[other], table.unit)}; write them like 3.5 or 1234, or pass --task classification if "
            "every different cell is a class"
        )
    if fractions:
        return "regression", f"all {len(cells)} cells of {task.label!r} are numbers, {fractions} with fractions"
    values = {int(float(cell)) for cell in cells}
    span = f"{len(values)} different, {min(values)} to {max(values)}"
    return "classification", f"all {len(cells)} cells of {task.label!r} are whole numbers ({span})"


def names_of(table: Table, task: Schema, cells: "pd.Series[Any]") -> tuple[tuple[str, ...], str]:
    """The class names that the cells hold, and the order they are in."""
    found = {class_name(cell) for cell in cells}
    if len(found) >= MANY and len(found) > len(cells) / 2:
        scores = ", --task regression if these are scores" if all(map(is_whole, found)) else ""
        raise UserError(
            f"{table.name}: expected classes of several rows each in column {task.label!r}, got {len(found)} "
            f"different cells in {len(cells)} rows ({some(sorted(found), 3)}): it looks like an id or a free text; "
            f"choose another column with --label{scores}, or --labels with every class if these are classes"
        )
    alike: dict[Any, str] = {}
    for name in sorted(found):
        value = number(name)
        key = loose(name) if value is None else value
        if key in alike:
            lines = cells.index[[class_name(cell) == name for cell in cells]]
            raise UserError(
                f"{table.name}: expected one spelling for a class in column {task.label!r}, got {alike[key][:80]!r} "
                f"and {name[:80]!r}, the second in {at(lines, table.unit)}; write them the same way, or pass --labels "
                "with every class if they are two"
            )
        alike[key] = name
    if all(number(name) is not None for name in found):
        return tuple(sorted(found, key=lambda name: (number(name), name))), "by value"
    return tuple(sorted(found)), "by alphabet"


def refuse_several(table: Table, task: Schema, cells: "pd.Series[Any]") -> None:
    """Raises a UserError if cells look like lists of several labels."""
    found = several(list(cells))
    if found is None:
        return
    how, row, count = found
    cell = quoted(cells.iloc[row])
    if how == "','" and all(numeric(each) for each in cells):
        or_else = "or, if these are numbers with a decimal comma, write a decimal point"
    else:
        or_else = "or, if each different cell is one class, pass --labels with every class"
    raise UserError(
        f"{table.name}: expected one label a row in column {task.label!r}, got {cell} in {table.unit} "
        f"{cells.index[row]}, several separated by {how} ({count} of {len(cells)} rows); pass --task multilabel"
        + ("" if how == "brackets" else f" --separator {how}")
        + f" if a row has any number of labels, {or_else}"
    )


def encode_labels(
    cells: "pd.Series[Any]", task: Schema, table: Table, known: Names | None
) -> tuple[list[int] | list[float], str]:
    """Cells as found -> class ids or finite numbers; and how the cells were read.

    Cells are ids only if all of them are, and no class name has a digit in it.
    """
    if task.kind == "regression":
        return scores_of(cells, task, table), "numbers"
    names = [class_name(cell) for cell in cells]
    place = {name: n for n, name in enumerate(task.labels)}
    if known is not None and known.loosely:
        place |= matching(sorted(set(names)), task.labels)
    unknown = [line for line, name in zip(cells.index, names, strict=True) if name not in place]
    if not unknown:
        respelt = sorted(set(names) - set(task.labels))
        return [place[name] for name in names], "names" + (f" ({some(respelt)} spelt otherwise)" if respelt else "")
    ids = {str(n): n for n in range(len(task.labels))}
    digits = any(character.isdigit() for name in task.labels for character in name)
    if not digits and all(name in ids for name in names):
        return [ids[name] for name in names], f"ids of classes (0 is {task.labels[0][:80]!r})"
    wrong = {name for name in names if name not in place}
    mixed = any(name in ids for name in wrong)
    hint = ""
    if mixed and digits:
        hint = "numbers are not read as ids where class names have digits: write the names; "
    elif mixed:
        hint = "some cells are names and some numbers, which are read as ids only if all are: write the names; "
    elif near := matching(sorted(wrong), task.labels):
        one = min(near)
        hint = f"{one[:80]!r} looks like {task.labels[near[one]][:80]!r}: write it so; "
    giver = known.giver if known is not None else "the training rows"
    repair = "pass --labels with every class" if known is None or known.giver == "--labels" else ""
    raise UserError(
        f"{table.name}: expected the classes of {giver} ({some(task.labels)}), got "
        f"{some(sorted({repr(name) for name in wrong}))} in {at(unknown, table.unit)}; {hint}"
        "correct or remove those rows" + (f", or {repair}" if repair else "")
    )


def scores_of(cells: "pd.Series[Any]", task: Schema, table: Table) -> list[float]:
    values = [number(cell) for cell in cells]
    wrong = [line for line, value in zip(cells.index, values, strict=True) if value is None]
    if wrong:
        first = cells[wrong[0]]
        how = "write them like 3.5 or 1234" if numeric(first) else "correct them"
        raise UserError(
            f"{table.name}: expected finite numbers in column {task.label!r}, got {at(wrong, table.unit)} without, the "
            f"first {quoted(first)}; {how}, or pass --task classification if these are class names"
        )
    return [float(value) for value in values if value is not None]


def matching(names: Sequence[str], theirs: Sequence[str]) -> dict[str, int]:
    """The place in `theirs` of each name that has one: the same name, else the same number, else the same but for
    case, space, hyphen and underscore, where that is one to one in both and neither is a number."""
    place = {name: n for n, name in enumerate(theirs)}
    found = {name: place[name] for name in names if name in place}
    for read in (number, spelling_of):
        ours, others = Counter(map(read, names)), Counter(map(read, theirs))
        where = {read(name): n for n, name in enumerate(theirs)}
        for name in names:
            key = read(name)
            if name not in found and key is not None and ours[key] == 1 == others[key]:
                found[name] = where[key]
    return found


def unnamed(names: Sequence[str]) -> bool:
    """Whether these are the names that transformers makes up."""
    return all(re.fullmatch(r"LABEL_\d+", name) for name in names)


def spelling_of(name: str) -> str | None:
    return None if number(name) is not None else loose(name)
