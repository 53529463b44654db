"""Entities of a text as (start, end, type): checked, trimmed, sorted; where a wrong one stands."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from contrastill.data.read import Table
from contrastill.errors import UserError, quoted

__all__ = ["Marked", "Picked", "Span", "checked", "is_at", "place", "plain"]

Span = tuple[int, int, str]


@dataclass(frozen=True)
class Picked:
    """The columns of a table, and what the labels are: "spans" or "tags" (the texts are then lists of tokens)."""

    text: str
    label: str
    form: str


@dataclass
class Marked:
    """What was found and repaired in a table, for the decisions."""

    form: str = ""
    scheme: str = ""
    entities: int = 0
    begun: list[str] = field(default_factory=list)  # places of entities without a beginning
    unfinished: list[str] = field(default_factory=list)
    trimmed: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)

    def said(self) -> dict[str, str]:
        of = f"of {self.entities:,} entities"
        letters = " (or M-, E-, L-)" if self.scheme not in ("BIO", "") else ""
        repaired = [
            f"{len(places):,} {of} {what} (the first in {places[0]})"
            for places, what in ((self.begun, f"began with I-{letters}"), (self.unfinished, "had no end"))
            if places
        ]
        found = {"format": self.form, "scheme of tags": self.scheme, "tags repaired": " and ".join(repaired)}
        for what, places in (
            ("white space around entities left out", self.trimmed),
            ("entities given twice", self.twice),
            ("entities inside others left aside", self.nested),
        ):
            if places:
                found[what] = f"{len(places):,} {of} (the first in {places[0]})"
        return {what: how for what, how in found.items() if how}


def plain(cell: Any) -> Any:
    """A cell as Python's own lists and dicts; one that is written as JSON in a string is read."""
    if hasattr(cell, "tolist"):
        return cell.tolist()
    if isinstance(cell, str) and cell.lstrip()[:2] in ("[]", "[{", "[[", "{}", '{"', '["', "[ ", "{ "):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    return list(cell) if isinstance(cell, tuple) else cell


def checked(
    text: str, given: Sequence[tuple[int, int, str, Any]], where: str, marked: Marked, *, nests: bool = False
) -> tuple[Span, ...]:
    """The spans of a text, checked, trimmed and sorted. nests: an entity inside another is left aside.

    Raises:
        UserError: a span that is not in the text, or two that overlap.
    """
    spans: list[Span] = []
    marked.entities += len(given)
    at_row = where.rpartition(", ")[2]
    for start, end, kind, surface in given:
        shown = f"[{start}, {end}, {quoted(kind, 60)}]"
        if not 0 <= start < end <= len(text):
            raise UserError(
                f"{where}: expected a span within its text of {len(text)} characters, its start before its end, got "
                f"{shown}{other_units(text, start, end, surface)}; correct it"
            )
        if surface is not None and text[start:end] != surface:
            raise UserError(
                f"{where}: expected the text {quoted(surface)} of the span {shown} at that place, got "
                f"{quoted(text[start:end])}{other_units(text, start, end, surface)}; correct the offsets"
            )
        first = start + len(text[start:end]) - len(text[start:end].lstrip())
        last = first + len(text[start:end].strip())
        if first == last:
            raise UserError(f"{where}: expected characters in the span {shown}, got white space alone; remove it")
        if (first, last) != (start, end):
            marked.trimmed.append(at_row)
        spans.append((first, last, kind))
    spans.sort(key=lambda span: (span[0], -span[1], span[2]))
    kept: list[Span] = []
    for span in spans:
        before = kept[-1] if kept else None
        if before == span:
            marked.twice.append(at_row)
        elif before is None or before[1] <= span[0]:
            kept.append(span)
        elif nests and span[1] <= before[1] and span[:2] != before[:2]:
            marked.nested.append(at_row)
        else:
            both = " and ".join(f"[{s}, {e}, {quoted(k, 60)}] ({quoted(text[s:e], 60)})" for s, e, k in (before, span))
            raise UserError(f"{where}: expected spans that do not overlap, got {both}; remove one")
    return tuple(kept)


def is_at(text: str | bytes, start: int, end: int, surface: str | bytes) -> bool:
    return 0 <= start < end <= len(text) and text[start:end] == surface


def other_units(text: str, start: int, end: int, surface: Any) -> str:
    """A hint at offsets that count something else than characters."""
    if isinstance(surface, str) and surface:
        for codec, size, what in (("utf-16-le", 2, "UTF-16 code units"), ("utf-8", 1, "bytes of UTF-8")):
            if is_at(text.encode(codec), start * size, end * size, surface.encode(codec, "replace")):
                return f" (it is there if offsets count {what}: count characters, Unicode's code points)"
        if is_at(text, start, end + 1, surface):
            return " (it is there if the end is inclusive: add 1 to each end)"
    if 0 <= start < end:
        for codec, size, what in (("utf-16-le", 2, "UTF-16 code units"), ("utf-8", 1, "bytes of UTF-8")):
            if len(text) < end <= len(text.encode(codec)) // size:
                return f" (do the offsets count {what}? Count characters, Unicode's code points)"
    return ""


def place(table: Table, line: Any, n: int = 0) -> str:
    """Where a row is; of a table with a token a line, where its token n is."""
    if table.tokens and table.unit == "line":
        return f"{table.name}, line {int(line) + n}"
    return f"{table.name}, {table.unit} {line}" + (f", tag {n + 1}" if n else "")
