"""The one exception type that means: the user can repair this. The command line prints it without a traceback."""

from collections.abc import Iterable

__all__ = ["CheckFailed", "UserError", "first_line", "quoted", "quoted_each"]


class UserError(ValueError):
    """Bad input. The message says what was expected, what was found, and what to do about it."""


class CheckFailed(UserError):
    """Nothing was wrong with the input, but a check that was asked for says no; exit code 1."""


def quoted(value: object, most: int = 80) -> str:
    """A value from data as Python writes it, control characters escaped, cut after `most` characters."""
    try:
        shown = repr(value[: most + 1] if isinstance(value, str) else value)
    except (RecursionError, ValueError):  # nested without end, or an integer too long to write
        return f"a {type(value).__name__} too large to show"
    return shown if len(shown) <= most else f"{shown[:most]}…"


def quoted_each(values: Iterable[object], most: int = 20) -> str:
    """The first `most` values, each `quoted`, and how many more there are."""
    values = list(values)
    more = f" and {len(values) - most:,} more" if len(values) > most else ""
    return ", ".join(quoted(value, 60) for value in values[:most]) + more


def first_line(error: BaseException) -> str:
    """The first line of a library's error; the name of its class, if it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
