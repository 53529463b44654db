"""A file's rows, read strictly and by one set of rules, whole as a table or one by one as a stream.

What is wrong with a file is said with its name and line.
"""

import csv
import itertools
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, Features

from contrastill.data.files import DAMAGED, PACKED, SUFFIXES, Text, open_bytes, open_text, split_name, torn, unknown
from contrastill.errors import UserError, quoted, quoted_each

__all__ = [
    "DELIMITED",
    "Table",
    "check_delimiter",
    "chosen",
    "lacks",
    "read_column",
    "read_lines",
    "read_table",
    "table_of",
]

DELIMITED = (".csv", ".tsv")
WORDS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}  # delimiters that are recognised
WIDEST = 10_000  # columns of a table
LONGEST = 100_000_000  # characters of a cell: an unclosed quote takes no more memory than that
BATCH = 8_192  # rows of a parquet file at a time


@dataclass(frozen=True)
class Table:
    name: str  # of the file or the Hub split, for messages
    frame: pd.DataFrame  # cells as found (dtype object); the index counts lines or rows from 1, as an editor does
    unit: str = "line"  # what the index counts: "line" or "row"
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # column -> names, where the source has them
    dropped: int = 0  # broken rows left out
    notes: tuple[str, ...] = ()  # what reading decided, a sentence each


def read_table(
    path: Path, encoding: str, *, delimiter: str | None = None, glue_header: Sequence[str] | None = None
) -> Table:
    """Read one .csv, .tsv, .jsonl, .json or .parquet file, plain or compressed.

    `glue_header` reads a GLUE file: quotes are text, rows broken over lines are left out and counted (qqp has some, and
    the Hub's copy leaves them out too), and the header, if not empty, is that of a file without one.
    """
    suffix = split_name(path)[1]
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
        raise unknown(path, f"a file ending in {', '.join(SUFFIXES)} (or that and .gz, .xz)")
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


def read_column(
    path: Path, column: str | None, encoding: str, *, delimiter: str | None = None, say: Callable[[str], object]
) -> tuple[str, Iterator[tuple[int, Any]]]:
    """What counts the rows ("line" or "row"), with the number and cell of each, in memory that does not grow.

    A .json file that is one array or object is held in memory. column: without it, the one called "text".
    """
    suffix = split_name(path)[1]
    if suffix == ".parquet":
        return "row", parquet_column(path, column)
    if suffix in DELIMITED:
        grid = Grid.of(path, encoding, delimiter)
        rows = grid.rows()
        first = next(rows, None)
        if first is None or grid.header is None:
            raise UserError(f"{path}: expected rows, got a header only; add rows")
        at = grid.header.index(chosen(str(path), grid.header, column))
        for note in (*grid.text.notes, *grid.notes):
            say(note)
        return "line", ((line, row[at]) for line, row in itertools.chain([first], rows))
    text = open_text(path, encoding)
    unit, objects = json_rows(text)
    some = next(objects, None)
    if some is None:
        raise UserError(f"{path}: expected rows, got none; add rows")
    names = list(some[1])
    if (column or "text") not in names:  # the table's columns are the keys of all rows
        names = list(
            dict.fromkeys(itertools.chain(names, *(row for _, row in json_rows(open_text(path, encoding))[1])))
        )
    key = chosen(str(path), names, column)
    for note in text.notes:
        say(note)
    return unit, ((number, row.get(key)) for number, row in itertools.chain([some], objects))


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
    columns = {column: cells_of(arrow[column], classes.get(column)) for column in dataset.column_names}
    if not len(dataset) or not columns:
        raise UserError(f"{name}: expected rows, got {'a header only' if columns else 'none'}; add rows")
    return Table(name, pd.DataFrame(columns, dtype=object, index=range(1, len(dataset) + 1)), "row", classes)


def cells_of(column: Any, names: Sequence[str] | None) -> list[Any]:
    cells: list[Any] = column.to_pylist()
    if names is None:
        return cells
    return [names[cell] if cell is not None and 0 <= cell < len(names) else None for cell in cells]


def chosen(name: str, columns: Sequence[str], asked: str | None) -> str:
    """The column of texts: the one asked for, else "text"."""
    if asked is None:
        found = [column for column in columns if column.strip().lower() == "text"]
        if len(found) == 1:
            return found[0]
    elif asked in columns:
        return asked
    raise UserError(
        f"{name}: expected the column of the texts (--text) to be one of {quoted_each(columns)}, got {quoted(asked)}"
        + lacks(asked, columns)
    )


def lacks(asked: str | None, columns: Iterable[str]) -> str:
    """A hint at the column that differs from the one asked for in case or white space alone, or nothing."""
    near = [c for c in columns if asked and c != asked and str(c).strip().lower() == asked.strip().lower()]
    return f"; do you mean {quoted(near[0])}?" if near else ""


def check_width(name: Any, width: int) -> None:
    if width > WIDEST:
        raise UserError(
            f"{name}: expected at most {WIDEST:,} columns, got {width:,}; are rows and columns exchanged, or is it one "
            "line without line ends?"
        )


# ---- .csv and .tsv


def check_delimiter(delimiter: str, files: Iterable[str]) -> None:
    """That --delimiter says something about one of the files."""
    files = list(files)
    if not any(split_name(Path(file))[1] in DELIMITED for file in files):
        raise UserError(
            f"--delimiter {quoted(delimiter)} is for .csv and .tsv files, got {quoted_each(files, 3)}; leave it out"
        )


def delimiter_of(spelt: str) -> str:
    """The character that --delimiter names."""
    named = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}.get(spelt, spelt)
    if len(named) != 1 or named.isalnum() or named in '"\r\n\0':
        raise UserError(
            f"expected one character between fields, or 'tab', got --delimiter {quoted(spelt)}; for example "
            "--delimiter ';'"
        )
    return named


@dataclass
class Grid:
    """A file of delimited fields. Reading it fills in `header` first, and counts rows that were left out."""

    text: Text
    delimiter: str
    given: bool = False  # by --delimiter
    quoted: bool = True
    glue_header: Sequence[str] | None = None
    skip: int = 0  # lines before the header
    header: list[str] | None = None
    dropped: int = 0
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, path: Path, encoding: str, delimiter: str | None, glue_header: Sequence[str] | None = None) -> "Grid":
        """Judge how the fields of a file are delimited and quoted.

        Where the header of a file has none of the delimiter that its name promises, another one that divides every row
        alike is taken. Quotes between tabs are csv quotes if every line, taken alone, is valid quoted csv as wide as
        the header; else they are text.
        """
        own = "\t" if split_name(path)[1] == ".tsv" else ","
        grid = cls(open_text(path, encoding), own if delimiter is None else delimiter_of(delimiter))
        grid.given, grid.glue_header = delimiter is not None, glue_header
        if glue_header is not None:
            grid.quoted = False
            return grid
        lines = grid.text.lines()
        first = next((line for line in lines if line.strip("\r\n")), "")
        if told := re.fullmatch(r'"?sep=(.)"?[;,]*\s*', first):  # Excel's own word on it
            grid.skip, first = 1, next(lines, "")
            if not grid.given:
                grid.delimiter, grid.given = told[1], True
                grid.notes.append(f"{path}: fields are delimited by {name_of(told[1])}, as its first line says")
        del lines  # closes the file
        others = [other for other in WORDS if other in first and other != own]
        if not grid.given and others and own not in first:
            grid.detect(others)
        else:
            grid.judge_quotes()
        return grid

    def detect(self, others: Sequence[str]) -> None:
        own, agree, reason = self.delimiter, [], ""
        for other in others:
            grid = Grid(self.text, other, skip=self.skip)
            grid.judge_quotes()
            if uneven := grid.uneven():
                reason = reason or f" ({uneven})"
            else:
                agree.append(grid)
        if len(agree) != 1:
            which = " or ".join(f"--delimiter '{other if other != chr(9) else 'tab'}'" for other in others)
            raise UserError(
                f"{self.text.path}: expected {name_of(own)}s between fields, got a header without one that seems to be "
                f"delimited by {name_of(others[0])}; pass {which}" + ("" if agree else reason)
            )
        self.delimiter, self.quoted = agree[0].delimiter, agree[0].quoted
        self.notes.append(f"{self.text.path}: fields are delimited by {name_of(self.delimiter)}, not {name_of(own)}")

    def judge_quotes(self) -> None:
        if self.delimiter == "\t" and self.text.holds('"'):
            self.quoted = not self.uneven()

    def uneven(self) -> str:
        """The first row that is malformed or not as wide as the header, in words, or nothing."""
        header: list[str] = []
        try:
            for line, row in self.fields():
                header = header or row
                if len(row) != len(header):
                    return self.ragged(line, len(row), header)
        except UserError as error:
            return str(error)
        return ""

    def fields(self) -> Iterator[tuple[int, list[str]]]:
        """Line number and fields of the header and of each row."""
        path = self.text.path
        csv.field_size_limit(LONGEST)
        quoting: Any = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        lines = itertools.islice(self.text.lines(), self.skip, None)
        reader = csv.reader(lines, delimiter=self.delimiter, quoting=quoting, strict=True)
        while True:
            line = reader.line_num + 1 + self.skip
            try:
                row = next(reader, None)
            except csv.Error as error:
                raise UserError(
                    f"{path}, line {line}: expected well-formed fields, got {error} (the row runs on to line "
                    f"{reader.line_num + self.skip}); mend its quotes"
                ) from error
            if row is None:
                return
            if self.delimiter == "\t" and row and reader.line_num + self.skip != line:
                raise UserError(f"{path}, line {line}: a quoted field runs over the end of the line")
            if row:  # else a blank line
                yield line, row

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Line number and fields of each row, every row as wide as the header."""
        path, whole, bare = self.text.path, list[str](), 0
        for line, row in self.fields():
            if self.header is None:
                headless = self.glue_header and len(row) == len(self.glue_header)
                whole = list(self.glue_header or ()) if headless else row
                bare = self.take_header(whole)
                if not headless:
                    continue
            if len(row) != len(whole):
                if self.glue_header is None:
                    raise UserError(self.ragged(line, len(row), whole))
                self.dropped += 1
                continue
            if bare:
                if "".join(row[-bare:]).strip():
                    raise UserError(
                        f"{path}, line {line}: expected empty cells below the empty names that end the header, got "
                        f"{quoted_each(cell for cell in row[-bare:] if cell.strip())}; name the columns"
                    )
                row = row[:-bare]
            yield line, row

    def take_header(self, row: list[str]) -> int:
        """Set the names, without white space around them; the number of empty ones at the end, which are left out."""
        path = self.text.path
        check_width(path, len(row))
        names, bare = [name.strip() for name in row], 0
        if self.glue_header is None:
            bare = len(names) - max((n for n, name in enumerate(names, 1) if name), default=0)
        if bare == len(names):
            raise UserError(f"{path}: expected the names of the columns in its first row, got empty ones; add them")
        names = names[: len(names) - bare]
        if twice := sorted(name for name in dict.fromkeys(names) if names.count(name) > 1):
            raise UserError(
                f"{path}: expected different column names, got [{quoted_each(twice)}] more than once; rename one"
            )
        if bare:
            self.notes.append(f"{path}: {bare} empty columns at the end were left out")
        self.header = names
        return bare

    def ragged(self, line: int, width: int, header: Sequence[str]) -> str:
        names = ", ".join(name[:60] for name in header[:20])
        stray = "tab" if self.delimiter == "\t" else f"{name_of(self.delimiter)} or quote"
        hint = f"look for a missing or stray {stray}"
        for other in WORDS:
            if not self.given and other != self.delimiter and any(other in name for name in header):
                hint += f", or pass --delimiter {'tab' if other == chr(9) else repr(other)}"
        wanted = f"{len(header)} fields as in the header ({names})"
        return f"{self.text.path}, line {line}: expected {wanted}, got {width}; {hint}"


def name_of(delimiter: str) -> str:
    return WORDS.get(delimiter, quoted(delimiter))


# ---- .json and .jsonl


class Repeated(ValueError):
    """A key stands twice in one JSON object."""


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        raise Repeated(quoted(next(key for key, _ in pairs if key in seen or seen.add(key))))  # type: ignore[func-returns-value]
    return found


DECODER = json.JSONDecoder(object_pairs_hook=once)


def decoded(text: str, where: str, line: int) -> Any:
    """One JSON value that begins on this line of the file."""
    try:
        return DECODER.decode(text.rstrip(" \t\n"))
    except json.JSONDecodeError as error:
        wrong = f"one JSON object a line or one array of objects, got {error.msg}; mend that line"
        raise UserError(f"{where}, line {line + error.lineno - 1}: expected {wrong}") from error
    except Repeated as error:
        wrong = f"each key once in an object, got {error} twice; rename or remove one"
    except RecursionError:
        wrong = "an object of texts and numbers, got values nested too deeply; leave them out"
    except ValueError:  # Python's limit on the digits of an integer
        wrong = "numbers of at most 4,300 digits, got a longer one; write it as a text"
    place = f", line {line}" if text.count("\n") < 2 else ""
    raise UserError(f"{where}{place}: expected {wrong}")


def json_rows(text: Text) -> tuple[str, Iterator[tuple[int, dict[str, Any]]]]:
    """JSON lines, one array of objects, or one object with a list for each column, whatever the name says.

    Returns "line" or "row", and the number and object of each.
    """
    name = str(text.path)
    numbered = ((number, line) for number, line in enumerate(text.lines(), 1) if line.strip())
    number, first = next(numbered, (1, ""))
    second = next(numbered, None)
    begin = first.lstrip()[:1]
    if begin == "[" or (begin == "{" and (second is None or goes_on(first, second[1]))):
        value = decoded("".join(text.lines()), name, 1)
        if isinstance(value, list):
            return "row", ((n, an_object(row, f"{name}, row {n}")) for n, row in enumerate(value, 1))
        if second is None and any(not isinstance(cell, (list, dict)) for cell in value.values()):
            return "line", iter([(number, value)])
        return "row", enumerate(columns_as_rows(value, name), 1)  # type: ignore[return-value]
    lines = itertools.chain([(number, first)], [second] if second else [], numbered)
    return "line", ((n, an_object(decoded(line, name, n), f"{name}, line {n}")) for n, line in lines)


def goes_on(first: str, second: str) -> bool:
    """Whether a JSON object is not at its end with the first line."""
    try:
        DECODER.decode(first)
    except json.JSONDecodeError as error:
        return error.pos >= len(first.rstrip()) and not second.lstrip().startswith("{")
    except (ValueError, RecursionError):
        pass  # said when the line is read
    return False


def an_object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a JSON object with the columns as keys, got {quoted(value)}")
    return value


def columns_as_rows(value: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """The rows of one object that holds a list for each column."""
    lists = {key: cells for key, cells in value.items() if isinstance(cells, list)}
    lengths = {key: len(cells) for key, cells in lists.items()}
    of_objects = [key for key, cells in lists.items() if cells and all(isinstance(cell, dict) for cell in cells)]
    if len(lists) < len(value) or of_objects or len(set(lengths.values())) != 1:
        found = f"an object with the keys {quoted_each(value, 8)}"
        if of_objects:
            repair = f"save the list under {quoted(of_objects[0])} by itself"
        elif value and len(lists) == len(value):
            found, repair = f"lists of {quoted_each(lengths.values(), 8)} cells", "mend the shorter ones"
        else:
            repair = "with pandas: to_json(orient='records')"
        raise UserError(
            f"{name}: expected one JSON object a line, one array of objects, or one object with a list a column, "
            f"got {found}; {repair}"
        )
    return (dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True))


# ---- .parquet


@contextmanager
def parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """A parquet file, opened; a packed one is unpacked to disk, for it is read from its end."""
    try:
        with open_bytes(path) as file, tempfile.TemporaryFile() as whole:
            packed = path.suffix.lower() in PACKED
            if packed:
                shutil.copyfileobj(file, whole)
            found = pq.ParquetFile(whole if packed else file)
            names = found.schema_arrow.names
            if twice := sorted({each for each in names if names.count(each) > 1}):
                raise UserError(f"{path}: expected different column names, got [{quoted_each(twice)}] more than once")
            yield found
    except UserError:
        raise
    except Exception as error:  # what pyarrow and datasets raise on damaged files is of many kinds
        if path.suffix.lower() in PACKED and isinstance(error, DAMAGED):
            raise torn(path, error) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{path}: expected a parquet file, got something else ({reason}); write it again") from error


def parquet_column(path: Path, column: str | None) -> Iterator[tuple[int, Any]]:
    with parquet(path) as file:
        names = file.schema_arrow.names
        check_width(path, len(names))
        key = chosen(str(path), names, column)
        feature = Features.from_arrow_schema(file.schema_arrow).get(key)
        if not file.metadata.num_rows:
            raise UserError(f"{path}: expected rows, got a header only; add rows")
        number = 0
        for batch in file.iter_batches(BATCH, columns=[key], use_threads=False):
            for cell in cells_of(batch.column(0), feature.names if isinstance(feature, ClassLabel) else None):
                number += 1
                yield number, cell
