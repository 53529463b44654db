"""Rows of a file one by one: their texts, and the columns that go with them. Needs neither torch nor pandas."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from contrastill.data.cells import is_text
from contrastill.data.columns import chosen, lacks
from contrastill.data.delimited import DELIMITED, Grid, check_delimiter
from contrastill.data.files import LINES, SUFFIXES, look_up, open_text, split_name, unknown
from contrastill.data.jsonlines import json_rows
from contrastill.data.parquet import BATCH, parquet
from contrastill.errors import UserError, quoted, quoted_each
from contrastill.memory import Held

__all__ = ["Record", "Records"]

Broken = Callable[[UserError], object]
KINDS = {str: "text", int: "whole", float: "number", bool: "bool"}


class Record(NamedTuple):
    """A row: its number in the file, its text (or two), and its kept cells."""

    number: int
    texts: str | tuple[str, str]
    kept: dict[str, Any]


@dataclass(frozen=True)
class Records:
    """The rows of a file, read as often as wanted in memory that does not grow with it.

    unit: what numbers them, "line" or "row". text, text_pair: columns of the texts, None in a file of lines.
    columns: of the file. types: column -> type in a parquet file.
    """

    source: str
    unit: str
    columns: tuple[str, ...]
    text: str | None
    text_pair: str | None
    keep: tuple[str, ...]
    encoding: str
    delimiter: str | None
    types: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        source: str,
        *,
        text: str | None = None,
        text_pair: str | None = None,
        keep: Sequence[str] | None = None,
        encoding: str = "utf-8",
        delimiter: str | None = None,
        usual: tuple[str | None, str | None] = (None, None),
    ) -> "Records":
        """Opens a file: a line each, or .csv .tsv .jsonl .json .parquet; .gz and .xz are unpacked on the way.

        keep: columns; None: "id", if there is one. usual: the text columns where none is asked for; a second one says
            that a row has two texts.

        Raises:
            UserError: no such file or column, a file that is not what its name says.
        """
        path, kind = look_up(source)
        suffix = ".jsonl" if isinstance(source, Held) else split_name(path)[1]
        if kind != "file" or suffix not in (*SUFFIXES, *LINES):
            raise unknown(path, f"a file of texts (.txt, or {', '.join(SUFFIXES)}, each also as .gz or .xz)")
        if delimiter is not None:
            check_delimiter(delimiter, [source])
        if suffix in LINES:
            if asked := [name for name in (text, text_pair, *(keep or ())) if name is not None]:
                raise UserError(f"{path}: expected no columns of a file with one text a line, got {quoted_each(asked)}")
            if usual[1] is not None:
                raise needs_pairs(source)
            return cls(source, "line", (), None, None, (), encoding, None)
        unit, columns, types, notes = columns_of(source, encoding, delimiter)
        keep = [name for name in columns if name == "id"] if keep is None else keep
        if usual[1] is not None and text_pair is None:
            if usual[1] not in columns:
                raise needs_pairs(source)
            text_pair = usual[1]
        if text is None and usual[0] in columns:
            text = usual[0]
        for flag, name in (("--text-pair", text_pair), *(("--keep", name) for name in keep)):
            if name is not None and name not in columns:
                raise UserError(
                    f"{path}: expected {flag} to be one of {quoted_each(columns)}, got {quoted(name)}"
                    + lacks(name, columns)
                )
        text = chosen(source, columns, text)
        if text == text_pair:
            raise UserError(f"{path}: expected two columns, got {quoted(text)} for --text and --text-pair")
        return cls(
            source, unit, columns, text, text_pair, tuple(dict.fromkeys(keep)), encoding, delimiter, types, notes
        )

    def __iter__(self) -> Iterator[Record]:
        return self.rows(None)

    def rows(self, broken: Broken | None) -> Iterator[Record]:
        """The rows in their order.

        broken: given the error of each row without a text and of each that cannot be read, which is then left out;
            None: it is raised.

        Raises:
            UserError: a broken row, or a file that is damaged beyond its rows.
        """
        for number, row in self.cells(broken):
            if self.text is None:
                found: tuple[Any, ...] = (row,)
            else:
                found = tuple(row.get(name) for name in (self.text, self.text_pair) if name is not None)
            if not all(map(is_text, found)):
                error = self.without_text(number, found)
                if broken is None:
                    raise error
                broken(error)
                continue
            kept = {name: row.get(name) for name in self.keep}
            yield Record(number, found[0] if len(found) == 1 else (found[0], found[1]), kept)

    def without_text(self, number: int, found: tuple[Any, ...]) -> UserError:
        place = next(n for n, cell in enumerate(found) if not is_text(cell))
        column = (self.text, self.text_pair)[place]
        where = f" in column {quoted(column)}" if column is not None else ""
        return UserError(
            f"{self.source}, {self.unit} {number}: expected a text{where}, got {quoted(found[place])} (empty, not a "
            "text or not valid Unicode); correct the row, or leave such rows out with --skip-broken"
        )

    def cells(self, broken: Broken | None) -> Iterator[tuple[int, Any]]:
        """(number, row) of each row: a dict of cells, or the line of a file of lines."""
        if isinstance(self.source, Held):
            columns = self.source.only.cells
            rows = (dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True))
            yield from enumerate(rows, 1)
            return
        path = look_up(self.source)[0]
        suffix = split_name(path)[1]
        if suffix in LINES:
            yield from numbered_lines(open_text(path, self.encoding).lines())
        elif suffix in DELIMITED:
            grid = Grid.of(path, self.encoding, self.delimiter)
            for number, row in grid.rows(broken):
                yield number, dict(zip(grid.header or (), row, strict=True))
        elif suffix == ".parquet":
            wanted = list(dict.fromkeys([str(self.text), *([self.text_pair] if self.text_pair else []), *self.keep]))
            with parquet(path) as file:
                batches = file.iter_batches(BATCH, columns=wanted, use_threads=False)
                yield from enumerate(itertools.chain.from_iterable(batch.to_pylist() for batch in batches), 1)
        else:
            yield from json_rows(open_text(path, self.encoding), broken)[1]


def needs_pairs(source: str) -> UserError:
    return UserError(
        f"{source}: expected two texts a row for a model of pairs; name their columns: --text, --text-pair"
    )


def columns_of(source: str, encoding: str, delimiter: str | None) -> tuple[str, tuple[str, ...], dict[str, Any], Any]:
    """Unit of the rows, columns, their types where the file has them, and the reader's decisions."""
    if isinstance(source, Held):
        return "row", tuple(source.only.cells), {}, ()
    path = look_up(source)[0]
    suffix = split_name(path)[1]
    if suffix == ".parquet":
        with parquet(path) as file:
            schema = file.schema_arrow
            return "row", tuple(schema.names), {name: schema.field(name).type for name in schema.names}, ()
    if suffix in DELIMITED:
        grid = Grid.of(path, encoding, delimiter)
        next(grid.rows(lambda error: None), None)
        if grid.header is None:
            raise UserError(f"{path}: expected rows, got a header only; add rows")
        return "line", tuple(grid.header), {}, (*grid.text.notes, *grid.notes)
    text = open_text(path, encoding)
    unit, rows = json_rows(text, lambda error: None)
    return unit, tuple(dict.fromkeys(itertools.chain.from_iterable(row for _, row in rows))), {}, tuple(text.notes)


def numbered_lines(lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    """The lines with their numbers; empty ones at the end of a file are its end."""
    empty: list[int] = []
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\n")
        if text:
            yield from ((each, "") for each in empty)
            empty.clear()
            yield number, text
        else:
            empty.append(number)


def kind_of(cell: Any) -> str | None:
    """The kind of a kept cell; None: it is empty."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    return KINDS.get(type(cell), "json")
