"""Texts of a corpus, a few at a time: files larger than memory, plain or packed, and Hub data sets."""

import contextlib
import itertools
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

from contrastill.data.cells import is_missing, is_text
from contrastill.data.columns import chosen
from contrastill.data.delimited import DELIMITED, check_delimiter
from contrastill.data.files import LINES, SUFFIXES, look_up, open_text, split_name, unknown
from contrastill.data.read import read_column
from contrastill.errors import UserError, first_line, quoted
from contrastill.hub import hub_answers
from contrastill.memory import Held

__all__ = ["has_columns", "stream_texts"]

logger = logging.getLogger(__name__)


def stream_texts(
    source: str,
    *,
    text: str | None = None,
    encoding: str = "utf-8",
    delimiter: str | None = None,
    say: Callable[[str], object] = logger.info,
) -> Iterator[str]:
    """The texts of a file of lines, of a column of a .csv, .tsv, .jsonl, .json or .parquet file, or of a Hub data set.

    source: a file (.gz and .xz are unpacked on the way), or `org/name` or `org/name:config` on the Hub (its train
        split, streamed). text: the column; not for a file of lines. White space around a text goes; cells without text
        are left out. say: told in a sentence what was decided, and at the end what was left out.

    Raises:
        UserError: no such file or column, a file that is damaged or not what its name says, no text at all.
    """
    if isinstance(source, Held):
        column = chosen(source, list(source.only.cells), text)
        yield from texts_of(source, iter(enumerate(source.only.cells[column], 1)), "row", say)
        return
    path, kind = look_up(source)
    suffix = split_name(path)[1]
    cells: Iterator[tuple[int, Any]]
    unit, known = "row", kind == "file" and suffix in (*SUFFIXES, *LINES)
    if known and delimiter is not None and suffix not in DELIMITED:
        check_delimiter(delimiter, [source])
    if known and suffix in LINES:
        if text is not None:
            raise UserError(
                f"{path}: expected no column for a file with one text a line, got {quoted(text)}; leave --text out, or "
                f"let the file's name end in what it is ({', '.join(SUFFIXES)})"
            )
        lines = open_text(path, encoding)
        for note in lines.notes:
            say(note)
        unit, cells = "line", enumerate(lines.lines(), 1)
    elif known:
        unit, cells = read_column(path, text, encoding, delimiter=delimiter, say=say)
    elif not kind and re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?", source) and suffix not in (*SUFFIXES, ".txt"):
        cells = hub_column(source, text)
    elif kind == "folder":
        raise UserError(f"expected a file of texts or a Hub data set, got the folder {quoted(source)}; pass its files")
    else:
        raise unknown(
            path, f"a file of texts (.txt, or {', '.join(SUFFIXES)}, each also as .gz or .xz) or a Hub data set"
        )
    yield from texts_of(source, cells, unit, say)


def has_columns(source: str) -> bool:
    """Whether a column may be asked for: not of a file with one text a line."""
    if isinstance(source, Held):
        return not source.plain
    path, kind = look_up(source)
    return kind != "file" or split_name(path)[1] not in LINES


def texts_of(source: str, cells: Iterator[tuple[int, Any]], unit: str, say: Callable[[str], object]) -> Iterator[str]:
    """The texts among numbered cells, without white space around them; a sentence on the others."""
    read, empty, others, first = 0, 0, 0, ""
    try:
        for number, cell in cells:
            if is_text(cell):
                read += 1
                yield cell.strip()
                continue
            if is_missing(cell):
                empty += 1
            else:
                others += 1
            first = first or f", the first on {unit} {number}" + ("" if is_missing(cell) else f": {quoted(cell)}")
    finally:
        left = " and ".join(
            f"{count:,} {what if count == 1 else what.replace(' ', 's ', 1)}"
            for count, what in ((empty, f"{unit} without text"), (others, "cell with something else"))
            if count
        )
        if left and read:
            say(f"{source}: left out {left}{first}")
    if not read:
        raise UserError(
            f"{source}: expected texts, got none{f' ({left}{first})' if left else ''}; is it the right column?"
        )


def hub_column(source: str, text: str | None) -> Iterator[tuple[int, Any]]:
    from datasets import load_dataset

    hub_answers()
    name, _, config = source.partition(":")
    try:
        rows = load_dataset(name, *([config] if config else []), split="train", streaming=True)
        first = None if rows.column_names else next(iter(rows), None)
        names = rows.column_names or list(first or {})
    except Exception as error:  # the library raises many: offline, unknown name, gated, malformed
        raise UserError(f"expected to read {source}, got {reason(error)}; check the name and the network") from error
    if not names:
        raise UserError(f"{source}: expected rows, got none; choose another data set")
    key = chosen(source, names, text)
    with contextlib.closing(iter(rows)) as each:
        for number in itertools.count(1):
            try:
                row = next(each, None)
            except Exception as error:
                raise UserError(f"{source}: could not be read beyond row {number - 1} ({reason(error)})") from error
            if row is None:
                return
            yield number, row.get(key)


def reason(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"
