"""The exception type for mistakes that the user can correct. The command line prints it without a traceback."""

from collections.abc import Iterable

__all__ = ["CheckFailed", "UserError", "counted", "first_line", "lacking", "quoted", "quoted_each"]

TRAINING = {
    *("torch", "transformers", "accelerate", "datasets", "safetensors", "pandas", "pyarrow", "sklearn", "scipy"),
    *("xxhash", "psutil", "jinja2", "markupsafe", "matplotlib", "tqdm", "huggingface_hub"),
}
"""Modules of the extra `train`, and what it brings: none is needed to run a bundle."""


class UserError(ValueError):
    """Bad input. The message says what was expected, what was found, and what to do about it."""


class CheckFailed(UserError):
    """A requested check failed, although the input was valid; exit code 1."""


def counted(count: int, noun: str) -> str:
    """(1, "thread") -> "1 thread"; (2, "thread") -> "2 threads"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


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


def lacking(error: ModuleNotFoundError) -> str | None:
    """The install hint for a missing package of the extra `train`; None for other modules."""
    if (error.name or "").partition(".")[0] not in TRAINING:
        return None
    return f"this needs the packages for training ({error}): pip install 'contrastill[train]'"


def first_line(error: BaseException) -> str:
    """The first line of a library's error; the name of its class, if it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
