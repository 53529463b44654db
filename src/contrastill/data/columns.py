"""The column of a file that holds the texts."""

from collections.abc import Iterable, Sequence
from typing import Any

from contrastill.errors import UserError, quoted, quoted_each
from contrastill.ranges import suggestion

__all__ = ["check_column", "check_width", "chosen", "lacks"]

WIDEST = 10_000  # columns of a table


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
    """A hint at the column with the most similar name, or nothing."""
    columns = list(columns)
    near = [c for c in columns if asked and c != asked and str(c).strip().lower() == asked.strip().lower()]
    return f"; do you mean {quoted(near[0])}?" if near else suggestion(asked, map(str, columns)) if asked else ""


def check_column(flag: str, column: str | None, there: Sequence[str], listing: str) -> None:
    """Raises a UserError if a column that an option names is not there. listing: the columns of the table, in words."""
    if column is not None and column not in there:
        raise UserError(
            f"expected a column {quoted(column)} ({flag}), but {listing}; pass {flag} with one of these"
            + lacks(column, there)
        )


def check_width(name: Any, width: int) -> None:
    if width > WIDEST:
        raise UserError(
            f"{name}: expected at most {WIDEST:,} columns, got {width:,}; are rows and columns exchanged, or is it one "
            "line without line ends?"
        )
