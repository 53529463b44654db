"""Files with a token and its tag a line and a blank line between texts: CoNLL's and their kin.

A line's columns are set apart by tabs, or by runs of spaces and tabs; no other white space divides them.
"""

import itertools
import re
from collections import Counter
from dataclasses import dataclass

from contrastill.data.files import Text
from contrastill.errors import UserError, counted, quoted

__all__ = ["TAG", "Tokens", "looks_tagged", "read_tokens"]

DOCUMENT = "-DOCSTART-"
TAG = re.compile(r"([BIESMLU])-(.+)")
SPACES = re.compile(r"[ \t]+")
LOOKED_AT = 1000  # lines by which a file that may be something else is judged
Line = tuple[int, str]


@dataclass(frozen=True)
class Tokens:
    """The columns of a file, called "1", "2", …; a cell is the list of a text's tokens (or tags).

    lines: the number of each text's first line; the others follow it without a gap.
    """

    lines: list[int]
    columns: dict[str, list[list[str]]]
    notes: list[str]


def looks_tagged(text: Text) -> bool:
    """Whether the last of several columns is a tag (O, B-X, …) on each line: a header or a sentence has none."""
    bodies = ((number, line.strip(" \t\n")) for number, line in enumerate(text.lines(), 1))
    some = list(itertools.islice((each for each in bodies if each[1] and not comment(each[1])), LOOKED_AT))
    rows = [SPACES.split(body) for _, body in some if not body.startswith(DOCUMENT)]
    return bool(rows) and all(len(row) > 1 and is_tag(row[-1]) for row in rows)


def read_tokens(text: Text) -> Tokens:
    """The texts of a file.

    Lines that begin with -DOCSTART- end a text and are left out. So are comments before a text: lines that begin with
    "# " and do not have the columns of a token, the last of them a tag.

    Raises:
        UserError: no tokens; a line with another number of columns than the others.
    """
    texts, documents = divided(text)
    if not texts:
        raise UserError(f"{text.path}: expected a token and its tag a line, got no such line; add rows")
    layout = Layout.of(text, texts)
    notes, comments = list(text.notes), 0
    lines, rows = [], []
    for each in texts:
        found: list[list[str]] = []
        for number, line in each:
            if not found and comment(line) and not layout.holds(line):
                comments += 1
                continue
            if not found:
                lines.append(number)
            found.append(layout.fields(number, line))
        if found:
            rows.append(found)
    for count, what in ((documents, f"lines that begin with {DOCUMENT}"), (comments, 'comments (lines with "# ")')):
        if count:
            notes.append(f"{text.path}: {count:,} {what} were left out")
    if layout.note:
        notes.append(layout.note)
    columns = {str(n + 1): [[fields[n] for fields in row] for row in rows] for n in range(layout.width)}
    return Tokens(lines, columns, notes)


def divided(text: Text) -> tuple[list[list[Line]], int]:
    """The numbered lines of each text, and the number of lines that begin a document."""
    texts: list[list[Line]] = [[]]
    documents = 0
    for number, line in enumerate(text.lines(), 1):
        begins = line.startswith(DOCUMENT)
        documents += begins
        if not begins and line.strip(" \t\n"):
            texts[-1].append((number, line.rstrip("\n")))
        elif texts[-1]:
            texts.append([])
    return [each for each in texts if each], documents


def comment(line: str) -> bool:
    """Whether a line may be a comment; it may be the token "#" as well."""
    return line.startswith("# ") or line.rstrip() == "#"


def is_tag(cell: str) -> bool:
    return cell == "O" or TAG.fullmatch(cell) is not None


@dataclass
class Layout:
    """How the lines of a file are divided into columns."""

    text: Text
    tabs: bool
    width: int
    last: set[str]  # the last columns of lines that are surely tokens
    note: str = ""

    @classmethod
    def of(cls, text: Text, texts: list[list[Line]]) -> "Layout":
        every = [line for each in texts for line in each]
        lines = [line for line in every if not comment(line[1])] or every
        tabbed = sum("\t" in line for _, line in lines)
        by_tab = Counter(line.count("\t") + 1 for _, line in lines)
        by_space = Counter(len(SPACES.split(line.strip(" \t"))) for _, line in lines)
        if len(by_tab) == 1 and tabbed:
            found = cls(text, True, next(iter(by_tab)), set())
        elif len(by_space) == 1:
            found = cls(text, False, next(iter(by_space)), set())
            if tabbed:
                found.note = f"{text.path}: columns are divided by tabs in {tabbed:,} lines, by spaces in the others"
        else:
            tabs = tabbed > len(lines) / 2
            found = cls(text, tabs, (by_tab if tabs else by_space).most_common(1)[0][0], set())
        found.last = {found.divide(line)[-1] for _, line in lines if not comment(line)}
        return found

    def divide(self, line: str) -> list[str]:
        return line.split("\t") if self.tabs else SPACES.split(line.strip(" \t"))

    def holds(self, line: str) -> bool:
        """Whether a line that may be a comment is a token's."""
        fields = self.divide(line)
        return len(fields) == self.width and (self.width == 1 or is_tag(fields[-1]) or fields[-1] in self.last)

    def fields(self, number: int, line: str) -> list[str]:
        found = self.divide(line)
        if len(found) != self.width:
            raise UserError(
                f"{self.text.path}, line {number}: expected {counted(self.width, 'column')} divided "
                f"by {'tabs' if self.tabs else 'spaces'}, as most lines have, got {len(found)}: {quoted(line)}; "
                "correct the line"
            )
        return found
