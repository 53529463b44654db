"""A file's rows, read strictly and by one set of rules, as a table or as a stream.

What is wrong with a file is said with its name and line.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import ClassLabel, Dataset, Features

from contrastill.data.columns import check_width, chosen
from contrastill.data.conll import looks_tagged, read_tokens
from contrastill.data.delimited import DELIMITED, Grid
from contrastill.data.files import CONLL, LINES, SUFFIXES, open_text, split_name, unknown
from contrastill.data.jsonlines import json_rows
from contrastill.data.parquet import BATCH, parquet
from contrastill.errors import UserError
from contrastill.memory import Held, names_within

__all__ = [
    "Table",
    "held_table",
    "read_column",
    "read_columns",
    "read_lines",
    "read_table",
    "table_of",
]


@dataclass(frozen=True)
class Table:
    name: str  # of the file or the Hub split, for messages
    frame: pd.DataFrame  # cells as found (dtype object); the index counts lines or rows from 1, as an editor does
    unit: str = "line"  # what the index counts: "line" or "row"
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # column -> names, where the source has them
    dropped: int = 0  # broken rows left out
    notes: tuple[str, ...] = ()  # what reading decided, a sentence each
    items: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # column of lists -> names of what they hold
    tokens: bool = False  # a text's cells are lists of tokens and tags, a line each; the columns are "1", "2", …


def read_table(
    path: Path,
    encoding: str,
    *,
    delimiter: str | None = None,
    glue_header: Sequence[str] | None = None,
    tagged: bool = False,
) -> Table:
    """Read one .csv, .tsv, .jsonl, .json or .parquet file, or one with a token a line, plain or compressed.

    tagged: entities are asked for. A .txt file is then one with a token a line, and so is a .tsv file if each of its
    lines ends in a tag.

    `glue_header` reads a GLUE file: quotes are text, rows broken over lines are left out and counted (qqp has some, and
    the Hub's copy leaves them out too), and the header, if not empty, is that of a file without one.
    """
    suffix = split_name(path)[1]
    if suffix in CONLL or (tagged and is_tagged(path, encoding, delimiter)):
        tokens = read_tokens(open_text(path, encoding))
        frame = pd.DataFrame(tokens.columns, index=tokens.lines, dtype=object)
        return Table(str(path), frame, "line", notes=tuple(tokens.notes), tokens=True)
    if suffix == ".parquet":
        with parquet(path) as file:
            return table_of(Dataset(file.read()), str(path))
    if suffix in DELIMITED:
        grid = Grid.of(path, encoding, delimiter, glue_header)
        lines, rows = [], []
        for line, row in grid.rows():
            lines.append(line)
            rows.append(row)
        if grid.header is None or not rows:
            raise UserError(f"{path}: expected rows, got a header only; add rows")
        frame = pd.DataFrame(rows, columns=grid.header, index=lines, dtype=object)
        return Table(str(path), frame, "line", {}, grid.dropped, (*grid.text.notes, *grid.notes))
    if suffix not in SUFFIXES:
        raise unknown(path, f"a file ending in {', '.join(SUFFIXES)}, or {', '.join(CONLL)} (or that and .gz, .xz)")
    text = open_text(path, encoding)
    unit, objects = json_rows(text)
    found = dict(objects)
    width = len(dict.fromkeys(itertools.chain.from_iterable(found.values())))
    check_width(path, width)
    if not width:
        raise UserError(f"{path}: expected rows, got none; add rows")
    return Table(
        str(path),
        pd.DataFrame(list(found.values()), index=list(found), dtype=object),
        unit,
        notes=tuple(text.notes),
    )


def is_tagged(path: Path, encoding: str, delimiter: str | None) -> bool:
    """Whether a file whose name leaves it open has a token and its tag a line, where entities are asked for."""
    suffix = split_name(path)[1]
    return suffix in LINES or (suffix == ".tsv" and delimiter is None and looks_tagged(open_text(path, encoding)))


def read_column(
    path: Path, column: str | None, encoding: str, *, delimiter: str | None = None, say: Callable[[str], object]
) -> tuple[str, Iterator[tuple[int, Any]]]:
    """The unit of the rows ("line" or "row"), with the number and cell of each, in constant memory. column: without it,
    the one called "text"."""

    def choose(names: Sequence[str]) -> list[str]:
        return [chosen(str(path), names, column)]

    unit, rows = read_columns(path, choose, encoding, delimiter=delimiter, say=say)
    return unit, ((number, cell) for number, (cell,) in rows)


def read_columns(
    path: Path,
    choose: Callable[[Sequence[str]], Sequence[str]],
    encoding: str,
    *,
    delimiter: str | None = None,
    say: Callable[[str], object],
) -> tuple[str, Iterator[tuple[int, tuple[Any, ...]]]]:
    """The unit of the rows ("line" or "row"), with the number and cells of each, in constant memory.

    A .json file that is one array or object is held in memory. choose: the columns, of the names that are there; it
    raises a UserError if they do not do.
    """
    suffix = split_name(path)[1]
    if suffix == ".parquet":
        return "row", parquet_columns(path, choose)
    if suffix in DELIMITED:
        grid = Grid.of(path, encoding, delimiter)
        rows = grid.rows()
        first = next(rows, None)
        if first is None or grid.header is None:
            raise UserError(f"{path}: expected rows, got a header only; add rows")
        places = [grid.header.index(key) for key in choose(grid.header)]
        for note in (*grid.text.notes, *grid.notes):
            say(note)
        return "line", ((line, tuple(row[at] for at in places)) for line, row in itertools.chain([first], rows))
    text = open_text(path, encoding)
    unit, objects = json_rows(text)
    some = next(objects, None)
    if some is None:
        raise UserError(f"{path}: expected rows, got none; add rows")
    try:
        keys = choose(list(some[1]))
    except UserError:  # the table's columns are the keys of all rows
        every = itertools.chain(some[1], *(row for _, row in json_rows(open_text(path, encoding))[1]))
        keys = choose(list(dict.fromkeys(every)))
    for note in text.notes:
        say(note)
    return unit, ((number, tuple(row.get(key) for key in keys)) for number, row in itertools.chain([some], objects))


def read_lines(path: Path, encoding: str) -> tuple[list[str], int]:
    """The lines of a text file that are not blank, and the number of blank ones."""
    lines = [line.rstrip("\n") for line in open_text(path, encoding).lines()]
    while lines and not lines[-1]:
        lines.pop()  # the end of a file is no blank line
    kept = [line for line in lines if line.strip()]
    return kept, len(lines) - len(kept)


def table_of(dataset: Dataset, name: str) -> Table:
    """A `datasets.Dataset` as a table: class ids become class names, -1 (hidden label) becomes None."""
    check_width(name, len(dataset.column_names))
    arrow = dataset.with_format("arrow")[:]
    classes = {c: tuple(f.names) for c, f in dataset.features.items() if isinstance(f, ClassLabel)}
    items = {c: names for c, f in dataset.features.items() if (names := names_within(f))}
    columns = {column: cells_of(arrow[column], classes.get(column)) for column in dataset.column_names}
    if not len(dataset) or not columns:
        raise UserError(f"{name}: expected rows, got {'a header only' if columns else 'none'}; add rows")
    return Table(
        name, pd.DataFrame(columns, dtype=object, index=range(1, len(dataset) + 1)), "row", classes, items=items
    )


def held_table(source: Held, split: str | None = None) -> Table:
    """Rows in memory as a table. split: its name; None: there is one."""
    columns = source.only if split is None else source.splits[split]
    name = str(source) if source.alone else f"{source}, {split}"
    check_width(name, len(columns.cells))
    frame = pd.DataFrame(dict(columns.cells), dtype=object, index=range(1, columns.rows + 1))
    return Table(name, frame, "row", columns.classes, items=columns.items)


def cells_of(column: Any, names: Sequence[str] | None) -> list[Any]:
    cells: list[Any] = column.to_pylist()
    if names is None:
        return cells
    return [names[cell] if cell is not None and 0 <= cell < len(names) else None for cell in cells]


def parquet_columns(
    path: Path, choose: Callable[[Sequence[str]], Sequence[str]]
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    with parquet(path) as file:
        names = file.schema_arrow.names
        check_width(path, len(names))
        keys, features = choose(names), Features.from_arrow_schema(file.schema_arrow)
        if not file.metadata.num_rows:
            raise UserError(f"{path}: expected rows, got a header only; add rows")
        classes = [kind.names if isinstance(kind := features.get(key), ClassLabel) else None for key in keys]
        number = 0
        for batch in file.iter_batches(BATCH, columns=list(keys), use_threads=False):
            columns = [cells_of(batch.column(key), names) for key, names in zip(keys, classes, strict=True)]
            for cells in zip(*columns, strict=True):
                number += 1
                yield number, cells
