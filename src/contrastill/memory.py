"""Rows that a Python caller passes as objects instead of a file: their cells and a fingerprint of them.

Nothing is imported for it: a DataFrame or a Dataset is known by what it has.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, Union

from contrastill.errors import UserError, quoted

__all__ = ["Columns", "Held", "Rows", "check_held", "held"]


class Frame(Protocol):
    """A pandas DataFrame."""

    @property
    def columns(self) -> Any: ...


class Dataset(Protocol):
    """A `datasets.Dataset`; a `DatasetDict` has several."""

    @property
    def column_names(self) -> Any: ...


Rows = Union[  # noqa: UP007
    Frame, Dataset, Mapping[str, Any], Sequence[Mapping[str, Any]], tuple[Sequence[str], Sequence[Any]], Sequence[str]
]
"""Rows as objects: a DataFrame, a Dataset, splits by name, columns by name, dicts, (texts, labels), or texts."""
KINDS = "a DataFrame, a Dataset or DatasetDict, a list of dicts, (texts, labels), or a list of texts"
SAID = re.compile(r" rows? passed in Python, sha256 [0-9a-f]{16}")


@dataclass(frozen=True)
class Columns:
    """A table, cells as found. classes: column -> names, where the object has them; items: those of lists' items."""

    cells: Mapping[str, list[Any]]
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    items: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return len(next(iter(self.cells.values()), []))


class Held(str):
    """Rows in memory. As a text it says what they are, with a fingerprint: all that a record keeps, and by which a
    resumed run knows them again.

    splits: name -> table; of one table alone, "train". alone: whether it is one table. plain: whether these are texts
    without columns.
    """

    splits: Mapping[str, Columns]
    alone: bool
    plain: bool

    @classmethod
    def of(cls, kind: str, splits: Mapping[str, Columns], *, alone: bool = True, plain: bool = False) -> Self:
        digest, rows = hashlib.sha256(), 0
        for name, table in splits.items():
            content = [name, *table.cells.items(), *table.classes.items(), *table.items.items()]
            digest.update(json.dumps(content, default=repr).encode())
            rows += table.rows
        if not rows:
            raise UserError(f"expected rows, got {kind} without any; add rows")
        noun = "row" if rows == 1 else "rows"
        made = cls(f"{kind} of {rows} {noun} passed in Python, sha256 {digest.hexdigest()[:16]}")
        made.splits, made.alone, made.plain = splits, alone, plain
        return made

    def __deepcopy__(self, _: Any) -> Self:
        return self

    @property
    def only(self) -> Columns:
        """The one table.

        Raises:
            UserError: there are several.
        """
        if len(self.splits) > 1:
            raise UserError(f"expected one table, got {', '.join(map(quoted, self.splits))}; pass one of them")
        return next(iter(self.splits.values()))


def check_held(source: str) -> None:
    """Checks that a source is not the mere description of rows that were passed in Python.

    Raises:
        UserError: it is; nobody has the rows.
    """
    if SAID.search(source) and not isinstance(source, Held):
        raise UserError(
            f"{source}: these rows are not stored; pass the same ones in Python with resume=True, or save "
            "them to a file and pass that file"
        )


def held(value: Any, name: str) -> Any:
    """Rows as `Held`; a path, a name or None as it is. name: of the setting, for the message.

    Raises:
        UserError: it is none of these, or rows that do not fit each other.
    """
    if value is None or isinstance(value, (str, os.PathLike)):
        return value
    try:
        found = rows_of(value)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    if found is None:
        raise UserError(f"{name}: expected a file's name, {KINDS}; got {quoted(value)}")
    return found


def rows_of(value: Any) -> Held | None:
    kind = type(value).__name__
    if isinstance(value, Mapping):
        tables = {str(name): table_of(each) for name, each in value.items()}
        splits = {name: table for name, table in tables.items() if table is not None}
        if splits and len(splits) == len(tables):
            return Held.of(kind, splits, alone=False)
        columns = {str(name): listed(cells) for name, cells in value.items()}
        return Held.of(kind, {"train": of_columns(columns)})
    if isinstance(value, tuple) and len(value) == 2 and not isinstance(value[0], (str, Mapping)):
        columns = {"text": listed(value[0]), "label": listed(value[1])}
        return Held.of("texts and labels", {"train": of_columns(columns)})
    table = table_of(value)
    if table is not None:
        return Held.of(kind, {"train": table})
    texts = listed(value) if hasattr(value, "tolist") or isinstance(value, (list, tuple)) else []
    if texts and all(isinstance(text, str) for text in texts):
        if all(map(is_file, texts)):
            raise UserError(
                f"expected texts, got a list of the names of files ({quoted(Path(texts[0]).name)}, …); pass one name "
                "by itself, not in a list, and several files as one"
            )
        return Held.of("texts", {"train": Columns({"text": texts})}, plain=True)
    return None


def is_file(text: str) -> bool:
    try:
        return Path(text).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # too long for a name, a null byte, a home that nobody has
        return False


def table_of(value: Any) -> Columns | None:
    """A table of columns; None: the object is none."""
    if hasattr(value, "column_names") and hasattr(value, "features"):
        classes = {name: tuple(kind.names) for name, kind in value.features.items() if hasattr(kind, "names")}
        items = {name: inner for name, kind in value.features.items() if (inner := names_within(kind))}
        return Columns({name: named(value[name][:], classes.get(name)) for name in value.column_names}, classes, items)
    if hasattr(value, "columns") and hasattr(value, "astype"):
        names = [str(name) for name in value.columns]
        if len(set(names)) < len(names):
            raise UserError(f"expected different column names, got {quoted(names)}; rename some")
        whole = value.astype(object)
        return Columns({name: whole.iloc[:, place].tolist() for place, name in enumerate(names)})
    if isinstance(value, (list, tuple)) and value and all(isinstance(row, Mapping) for row in value):
        names = list(dict.fromkeys(str(name) for row in value for name in row))
        rows = [{str(name): cell for name, cell in row.items()} for row in value]
        return Columns({name: [row.get(name) for row in rows] for name in names})
    return None


def names_within(feature: Any) -> tuple[str, ...]:
    """The names of the ids in a column of lists: of tags, or of the labels of spans; () if it has none."""
    inner = getattr(feature, "feature", feature if isinstance(feature, Mapping) else None)
    if isinstance(inner, Mapping):  # spans: a list of structs, or a struct of lists
        parts = (getattr(part, "feature", part) for part in inner.values())
        inner = next((part for part in parts if hasattr(part, "names")), None)
    return tuple(getattr(inner, "names", None) or ())


def of_columns(columns: Mapping[str, list[Any]]) -> Columns:
    if len({len(cells) for cells in columns.values()}) > 1:
        lengths = ", ".join(f"{len(cells)} {name!r}" for name, cells in columns.items())
        raise UserError(f"expected columns of equal length, got {lengths}")
    return Columns(columns)


def listed(cells: Any) -> list[Any]:
    found = cells.tolist() if hasattr(cells, "tolist") else cells
    if isinstance(found, (str, bytes, Mapping)) or not hasattr(found, "__iter__"):
        raise UserError(f"expected {KINDS}, or columns by name; got {quoted(cells)} for a column")
    return list(found)


def named(cells: list[Any], names: Sequence[str] | None) -> list[Any]:
    """Class ids as class names; -1, a hidden label, as None."""
    if names is None:
        return cells
    return [names[cell] if cell is not None and 0 <= cell < len(names) else None for cell in cells]
