"""The rows of .csv and .tsv files, one by one: how fields are delimited and quoted is judged, and each row checked."""

import csv
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contrastill.data.columns import check_width
from contrastill.data.files import Text, open_text, split_name
from contrastill.errors import UserError, quoted, quoted_each

__all__ = ["DELIMITED", "Grid", "check_delimiter"]

DELIMITED = (".csv", ".tsv")
Broken = Callable[[UserError], object]
WORDS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}  # delimiters that are recognised
LONGEST = 100_000_000  # characters of a cell: an unclosed quote takes no more memory than that


def check_delimiter(delimiter: str, files: Iterable[str]) -> None:
    """Checks that one of the files has fields to which --delimiter applies."""
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
                    f"{reader.line_num + self.skip}); correct its quotes"
                ) from error
            if row is None:
                return
            if self.delimiter == "\t" and row and reader.line_num + self.skip != line:
                raise UserError(f"{path}, line {line}: a quoted field runs over the end of the line")
            if row:  # else a blank line
                yield line, row

    def rows(self, broken: Broken | None = None) -> Iterator[tuple[int, list[str]]]:
        """Line number and fields of each row, every row as wide as the header.

        broken: given the error of each row of another width, which is then left out; None: it is raised.
        """
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
                    error = UserError(self.ragged(line, len(row), whole))
                    if broken is None:
                        raise error
                    broken(error)
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
        """Sets the column names, stripped; returns the number of empty ones at the end, which are left out."""
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
