"""Files of answers, written row by row; a file appears under its name only when complete."""

import contextlib
import csv
import gzip
import json
import lzma
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from contrastill.answers import flat
from contrastill.data.files import PACKED, check_place, split_name
from contrastill.errors import UserError
from contrastill.locks import locked

__all__ = ["FORMATS", "check_out", "json_lines", "written"]

Rows = list[dict[str, Any]]
Write = Callable[[Rows], None]
FORMATS = (".jsonl", ".csv", ".tsv", ".parquet")


def check_out(out: Path, overwrite: bool, data: Path | None) -> None:
    """Checks that the answers may be written to a file.

    Raises:
        UserError: a name of another kind, a folder, a file that is there, no folder for it.
    """
    suffix = split_name(out)[1]
    if suffix not in FORMATS or (suffix == ".parquet" and out.suffix.lower() in PACKED):
        raise UserError(f"--out: expected a file ending in {', '.join(FORMATS)}, got {out.name!r}")
    check_place(out, data)
    if out.exists() and not overwrite:
        raise UserError(f"{out} exists already; pass --overwrite to replace it, or another --out")
    if suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise UserError(f"a .parquet file needs pyarrow ({error}); pip install pyarrow, or choose .jsonl") from None


@contextlib.contextmanager
def written(out: Path, kinds: Mapping[str, Any]) -> Iterator[Write]:
    """Gives `write(rows)`; the file is in its place when the block has ended without an error.

    kinds: column -> "text", "number", "whole", "bool", "numbers", "texts", "json", or a type of pyarrow.

    Raises:
        UserError: another process writes the same file, or it could not be written.
    """
    part = out.with_name(out.name + ".part")
    try:
        with part.open("ab") as lock:
            if not locked(lock):
                raise UserError(f"{part}: another process writes it; wait for it, or choose another --out")
            try:
                lock.truncate(0)
                with writer(split_name(out)[1])(part, out, kinds) as write:
                    yield write
                os.replace(part, out)
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{out} could not be written ({error}); nothing was kept. Choose another --out") from error


def writer(suffix: str) -> Callable[..., contextlib.AbstractContextManager[Write]]:
    return {".jsonl": jsonl_file, ".parquet": parquet_file}.get(suffix, table_file)


@contextlib.contextmanager
def opened(part: Path, out: Path) -> Iterator[IO[str]]:
    """The text file, packed as its name says, on the disk when the block has ended."""
    pack: Any = {".gz": gzip.open, ".xz": lzma.open}.get(out.suffix.lower(), open)
    with pack(part, "wt", encoding="utf-8", newline="") as file:
        yield file
    with part.open("rb+") as whole:
        os.fsync(whole.fileno())


@contextlib.contextmanager
def jsonl_file(part: Path, out: Path, kinds: Mapping[str, Any]) -> Iterator[Write]:
    with opened(part, out) as file:
        yield json_lines(file)


def json_lines(file: IO[str]) -> Write:
    """Writes an object a line."""

    def write(rows: Rows) -> None:
        file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)

    return write


@contextlib.contextmanager
def table_file(part: Path, out: Path, kinds: Mapping[str, Any]) -> Iterator[Write]:
    with opened(part, out) as file:
        table = csv.writer(file, delimiter="\t" if split_name(out)[1] == ".tsv" else ",", lineterminator="\n")
        table.writerow(kinds)

        def write(rows: Rows) -> None:
            table.writerows([cell(row.get(name)) for name in kinds] for row in map(flat, rows))

        yield write


@contextlib.contextmanager
def parquet_file(part: Path, out: Path, kinds: Mapping[str, Any]) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    known = {
        "text": pa.string(), "number": pa.float64(), "whole": pa.int64(), "bool": pa.bool_(), "json": pa.string(),
        "numbers": pa.list_(pa.float32()), "texts": pa.list_(pa.string()),
    }  # fmt: skip
    schema = pa.schema([(name, known[kind] if isinstance(kind, str) else kind) for name, kind in kinds.items()])
    with pq.ParquetWriter(part, schema) as file:

        def write(rows: Rows) -> None:
            columns: dict[str, list[Any]] = {name: [] for name in kinds}
            for row in map(flat, rows):
                for name, cells in columns.items():
                    value = row.get(name)
                    cells.append(as_json(value) if kinds[name] == "json" and value is not None else value)
            file.write_table(pa.table(columns, schema=schema))

        yield write


def cell(value: Any) -> str:
    """A value as a field of a .csv file: texts as they are, all else as JSON."""
    return "" if value is None else value if isinstance(value, str) else as_json(value)


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
