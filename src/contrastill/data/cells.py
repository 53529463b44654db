"""A single label cell: its class, its number, or its list of labels."""

import ast
import math
import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

__all__ = [
    "at",
    "class_name",
    "is_missing",
    "is_text",
    "is_whole",
    "listed",
    "loose",
    "number",
    "numeric",
    "several",
    "some",
]

WHOLE = re.compile(r"[+-]?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?")  # "01" is a name, no number
DIGITS = 18  # more than these and a float would name another integer
GROUPED = re.compile(r"[+-]?\d{1,3}(?:[ '’.,]\d{3})+(?:[.,]\d+)?")
COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
SEPARATORS = ("|", ";", ",")
LONGEST = 10_000  # characters; a longer cell is no list of labels


def is_missing(cell: Any) -> bool:
    return (
        cell is None or (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, float) and math.isnan(cell))
    )


def is_text(cell: Any) -> bool:
    """Whether a cell holds a text: not empty, valid Unicode."""
    try:
        return isinstance(cell, str) and bool(cell.strip()) and bool(cell.encode())
    except UnicodeEncodeError:  # half a surrogate pair, from a JSON escape cut in two
        return False


def class_name(cell: Any) -> str:
    """The class that a cell names. White space around it is no part of it; a whole number is that integer.

    1, 1.0, "1", " 1", "+1", "1.0" and "1e0" name the same class; "01" names another.
    """
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    name = str(cell).strip()
    if WHOLE.fullmatch(name.replace("\u2212", "-")):
        value = Decimal(name.replace("\u2212", "-"))
        if value.adjusted() < DIGITS and value == value.to_integral_value():
            return str(int(value))
    return name


def is_whole(name: str) -> bool:
    """Whether a class name is an integer."""
    return re.fullmatch(r"[+-]?\d+", name) is not None


def number(cell: Any) -> float | None:
    """The finite number in a cell, written with a decimal point; None if there is none."""
    if isinstance(cell, bool) or (isinstance(cell, str) and "_" in cell):  # Python's 1_000 is nobody's number
        return None
    try:
        value = float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def numeric(cell: Any) -> bool:
    """Whether a cell is a number in any usual notation: 3.5, 1e-3, 3,5, 1,234.5, 12%, $4."""
    if number(cell) is not None:
        return True
    if not isinstance(cell, str):
        return False
    bare = re.sub(r"\s", " ", cell).replace("\u2212", "-").strip(" %$€£¥")
    return bool(number(bare) is not None or GROUPED.fullmatch(bare) or COMMA.fullmatch(bare))


def listed(cell: Any) -> tuple[str, ...]:
    """The labels of a cell that is written as a list ("['a', 'b']", "[a, b]", "[1]"); () for any other cell."""
    if not isinstance(cell, str) or len(cell) > LONGEST:
        return ()
    written = re.fullmatch(r"\s*(?:\[(.*)\]|\((.*)\)|\{(.*)\})\s*", cell, re.DOTALL)
    if written is None:
        return ()
    square, inside = written[1] is not None, next(part for part in written.groups() if part is not None)
    try:
        found = ast.literal_eval(f"[{inside}]")
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # no literal, or a list as a key
        found = inside.split(",") if square and "," in inside else []
    if len(found) < (1 if square else 2) or not all(isinstance(part, (str, int, float)) for part in found):
        return ()
    return tuple(class_name(part) for part in found)


def divided(cell: Any, separator: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in str(cell).split(separator))
    return parts if len(parts) > 1 and all(parts) else ()


def several(cells: Sequence[Any]) -> tuple[str, int, int] | None:
    """Whether cells hold several labels each: (how they are set apart, the first such row, their number), or None.

    A list is always one. Of cells with "|", ";" or "," it is so where at least one in twenty has it, and the parts of
    most of these come back in other cells: "Paris, France" is one label, "food|drink" beside "food" and "drink" two.
    """
    lists = [row for row, cell in enumerate(cells) if listed(cell)]
    if lists:
        return "brackets", lists[0], len(lists)
    different = {str(cell).strip() for cell in cells}
    for separator in SEPARATORS:
        parts = {cell: divided(cell, separator) for cell in different if separator in cell}
        rows = [row for row, cell in enumerate(cells) if parts.get(str(cell).strip())]
        if len(rows) < 2 or len(rows) < len(cells) / 20:
            continue
        seen: dict[str, int] = {}
        for cell in different:
            for part in set(parts.get(cell) or (cell,)):
                seen[part] = seen.get(part, 0) + 1
        back = [cell for cell, each in parts.items() if each and all(seen[part] > 1 for part in each)]
        if len(back) > len(parts) / 2:
            return repr(separator), rows[0], len(rows)
    return None


def loose(name: str) -> str:
    """The name without regard to case, space, hyphen, underscore, and to how Unicode composes it."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    return "".join(c for c in plain if not (c.isspace() or c in "-_" or unicodedata.category(c) == "Cf"))


def at(index: Sequence[int], unit: str) -> str:
    """The rows in words: `3 rows (lines 4, 9, 12)`."""
    numbers = list(index)
    plural = "s" if len(numbers) > 1 else ""
    return f"{len(numbers)} row{plural} ({unit}{plural} {some(numbers)})"


def some(items: Sequence[Any], most: int = 8) -> str:
    """The first few, each bounded."""
    shown = (str(item) for item in items[:most])
    return ", ".join(s if len(s) <= 80 else s[:80] + "…" for s in shown) + (", …" if len(items) > most else "")
