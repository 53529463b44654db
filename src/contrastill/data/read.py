"""A file of rows, read strictly: what is wrong with it is said with its name and line, before any work starts."""

import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset

from contrastill.errors import UserError

__all__ = ["SUFFIXES", "Table", "read_lines", "read_table", "split_name", "table_of"]

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")  # each may be followed by .gz or .xz


@dataclass(frozen=True)
class Table:
    name: str  # of the file or the Hub split, for messages
    frame: pd.DataFrame  # cells as found (dtype object); the index counts lines or rows from 1, as an editor does
    unit: str = "line"  # what the index counts: "line" or "row"
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # column -> names, where the source has them
    dropped: int = 0  # broken rows left out


def split_name(path: Path) -> tuple[str, str]:
    """train.csv.gz -> ("train", ".csv")."""
    name = path.with_suffix("") if path.suffix.lower() in (".gz", ".xz") else path
    return name.stem, name.suffix.lower()


def read_table(path: Path, encoding: str, *, glue_header: Sequence[str] | None = None) -> Table:
    """Read one .csv, .tsv, .jsonl, .json or .parquet file, plain or compressed.

    Quotes in a .tsv are csv quotes if every line, taken alone, is valid quoted csv as wide as the header; else they are
    text. `glue_header` reads a GLUE file: quotes are text, rows broken over lines are left out and counted (qqp has
    some, and the Hub's copy leaves them out too), and the header, if not empty, is that of a file without one.
    """
    _, suffix = split_name(path)
    if suffix not in SUFFIXES:
        raise UserError(
            f"{path}: expected a file ending in {', '.join(SUFFIXES)} (or that and .gz, .xz), got {path.name}"
        )
    if suffix == ".parquet":
        try:
            return table_of(Dataset(pq.read_table(io.BytesIO(_bytes(path)))), str(path))
        except pa.ArrowInvalid as error:
            raise UserError(f"{path}: expected a parquet file, got something else ({error}); write it again") from error
    text = _text(path, encoding)
    if suffix in (".json", ".jsonl"):
        return _json(path, text)
    if suffix == ".csv":
        return _delimited(path, text, ",", csv.QUOTE_MINIMAL)
    if glue_header is None and '"' in text:
        try:
            return _delimited(path, text, "\t", csv.QUOTE_MINIMAL)
        except UserError:
            pass  # not consistently quoted: the quotes are text
    return _delimited(path, text, "\t", csv.QUOTE_NONE, glue_header)


def read_lines(path: Path, encoding: str) -> tuple[list[str], int]:
    """The lines of a text file that are not blank, and the number of blank ones."""
    lines = _text(path, encoding).rstrip("\n").split("\n")
    kept = [line for line in lines if line.strip()]
    return kept, len(lines) - len(kept)


def table_of(dataset: Dataset, name: str) -> Table:
    """A `datasets.Dataset` as a table: class ids become class names, -1 (hidden label) becomes None."""
    arrow = dataset.with_format("arrow")[:]
    columns: dict[str, list[Any]] = {column: arrow[column].to_pylist() for column in dataset.column_names}
    classes = {c: tuple(f.names) for c, f in dataset.features.items() if isinstance(f, ClassLabel)}
    for column, names in classes.items():
        columns[column] = [None if i is None or i < 0 else names[i] for i in columns[column]]
    return _table(name, pd.DataFrame(columns, dtype=object, index=range(1, len(dataset) + 1)), "row", classes)


def _table(
    name: str, frame: pd.DataFrame, unit: str, classes: Mapping[str, tuple[str, ...]], dropped: int = 0
) -> Table:
    if frame.empty:
        raise UserError(f"{name}: expected rows, got {'a header only' if len(frame.columns) else 'none'}; add rows")
    return Table(name, frame, unit, classes, dropped)


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"expected a file, got {str(path)!r}, which does not exist; check the path")
    data = path.read_bytes()
    unpack = {".gz": gzip.decompress, ".xz": lzma.decompress}.get(path.suffix.lower())
    try:
        data = unpack(data) if unpack else data
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UserError(f"{path}: expected a whole {path.suffix} file, got {error}; copy or pack it again") from error
    if not data.strip():
        raise UserError(f"{path}: expected rows, got an empty file; check how it was written")
    return data


def _text(path: Path, encoding: str) -> str:
    data = _bytes(path)
    try:
        text = data.decode(encoding)
    except LookupError as error:
        raise UserError(
            f"expected the name of an encoding, got {encoding!r}; try --encoding utf-8 or latin-1"
        ) from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        other = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1"
        raise UserError(
            f"{path}: expected {encoding} text, got bytes that are not, on line {line} (byte {error.start}); "
            f"pass the file's encoding, for example --encoding {other}"
        ) from error
    # A carriage return alone never ends a row (csv would stumble over it): it is white space.
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", " ")


def _delimited(path: Path, text: str, delimiter: str, quoting: int, glue_header: Sequence[str] | None = None) -> Table:
    csv.field_size_limit(2**31 - 1)  # the default, 128 KiB, is less than a long document
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, quoting=quoting, strict=True)  # type: ignore[arg-type]
    header: list[str] | None = None
    rows, lines, dropped = [], [], 0
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise UserError(
                f"{path}, line {line}: expected well-formed fields, got {error}; mend its quotes"
            ) from error
        if row is None:
            break
        if not row:
            continue  # a blank line
        if delimiter == "\t" and reader.line_num != line:
            raise UserError(f"{path}, line {line}: a quoted field runs over the end of the line")
        if header is None:
            headless = glue_header and len(row) == len(glue_header)
            header = list(glue_header) if glue_header and headless else row
            if not headless:
                continue
        if len(row) == len(header):
            rows.append(row)
            lines.append(line)
        elif glue_header is not None:
            dropped += 1
        else:
            raise UserError(
                f"{path}, line {line}: expected {len(header)} fields as in the header ({', '.join(header)}), "
                f"got {len(row)}; look for a missing or stray {'tab' if delimiter == chr(9) else 'comma or quote'}"
            )
    header = header or []
    twice = {column for column in header if header.count(column) > 1}
    if twice:
        raise UserError(f"{path}: expected different column names, got {sorted(twice)} more than once; rename one")
    frame = pd.DataFrame(rows, columns=header, index=lines, dtype=object)
    return _table(str(path), frame, "line", {}, dropped)


def _json(path: Path, text: str) -> Table:
    """JSON lines, or one array of objects, whatever the name says."""
    array = text.lstrip().startswith("[")
    unit, rows, number = ("row" if array else "line"), {}, 1
    try:
        if array:
            rows = dict(enumerate(json.loads(text), 1))
        for number, line in enumerate([] if array else text.split("\n"), 1):
            if line.strip():
                rows[number] = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {number + error.lineno - 1}: expected one JSON object a line or one array of objects, "
            f"got {error.msg}; mend that line"
        ) from error
    bad = [number for number, row in rows.items() if not isinstance(row, dict)]
    if bad:
        raise UserError(
            f"{path}, {unit} {bad[0]}: expected a JSON object with the columns as keys, got {rows[bad[0]]!r:.60}"
        )
    frame = pd.DataFrame(list(rows.values()), index=list(rows), dtype=object)
    return _table(str(path), frame, unit, {})
