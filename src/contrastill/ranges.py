"""One check for every setting: the type of its annotation, and the range that its table gives.

What comes from a command line, a `run.json` or a Python caller goes through `checked`, so all three are refused alike.
"""

import math
import os
import types
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Annotated, Any, Union, get_args, get_origin

from contrastill.errors import UserError, quoted

__all__ = ["Range", "checked", "parsed", "suggestion", "typed"]

LONGEST = 4095  # bytes of a path on Linux, and more than a name of anything needs
LONGEST_NAME = 1000  # characters of what names no file
LONGEST_PART = 255  # bytes between two slashes
SHOWN = 80  # characters of a value in a message


@dataclass(frozen=True)
class Range:
    """The values that a setting may have. A bound that is None does not bind; a list is checked item by item.

    unit: the plural noun that a number counts ("tokens").
    path: the text names a file or folder, or may do so: longer ones than a file system takes are refused.
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    choices: tuple[str, ...] | None = None
    unit: str | None = None
    path: bool = False

    def holds(self, value: Any) -> bool:
        return (
            (self.choices is None or value in self.choices)
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        """The range for `--help`: "0 < x <= 1"; "" if there is none."""
        if self.choices is not None:
            return ""  # the help names them, and what each does
        low = f"{shown(self.at_least)} <= " if self.at_least is not None else ""
        low = f"{shown(self.above)} < " if self.above is not None else low
        high = f" <= {shown(self.at_most)}" if self.at_most is not None else ""
        high = f" < {shown(self.below)}" if self.below is not None else high
        return f"{low}x{high}" if low or high else ""

    def words(self) -> str:
        """The range in a message: "from 1 to 32", "above 0, at most 100"; "" if there is none."""
        if self.at_least is not None and self.at_most is not None:
            return f"from {shown(self.at_least)} to {shown(self.at_most)}"
        if self.at_least is not None and self.below is not None:
            return f"from {shown(self.at_least)} to below {shown(self.below)}"
        bounds = (
            ("of at least", self.at_least),
            ("above", self.above),
            ("at most", self.at_most),
            ("below", self.below),
        )
        return ", ".join(f"{word} {shown(bound)}" for word, bound in bounds if bound is not None)

    def as_dict(self) -> dict[str, Any]:
        """The bounds that bind, for JSON."""
        names = ("at_least", "above", "at_most", "below", "choices", "unit")
        found = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return found | ({"choices": list(self.choices)} if self.choices is not None else {})


def shown(bound: float) -> str:
    return f"{int(bound):,}" if bound == int(bound) else f"{bound:g}"


def suggestion(name: str, known: Any) -> str:
    """ "; did you mean 'x'?" for the closest of the known names; "" where none is close."""
    by_case = {str(each).lower(): each for each in known}
    close = get_close_matches(str(name).lower()[:LONGEST_PART], by_case, n=1)
    return f"; did you mean {by_case[close[0]]!r}?" if close else ""


def typed(annotation: Any) -> tuple[Any, Range, bool]:
    """An annotation's type, the `Range` in it, and whether it may be None: `Annotated[int, Range(...)] | None`."""
    range_, optional = Range(), False
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *rest = get_args(annotation)
            range_ = next((one for one in rest if isinstance(one, Range)), range_)
        elif get_origin(annotation) in (Union, types.UnionType):
            optional = True
            (annotation,) = (one for one in get_args(annotation) if one is not types.NoneType)
        else:
            return annotation, range_, optional


def checked(value: Any, annotation: Any, range_: Range | None = None, *, name: str) -> Any:
    """The value in the annotation's type, if it is one and lies in the range.

    numpy's scalars, integers for floats, paths for texts and tuples for lists are converted to the type; no other value
    is: True is no number, 1.0 is no integer, "no" is no bool. Values of a dict may be text (`--stages joint=0.5`).

    Raises:
        UserError: another type, NaN or infinity, a value outside the range. The message begins with `name`.
    """
    kind, own, optional = typed(annotation)
    range_ = range_ or own
    if value is None and optional:
        return None
    if getattr(value, "shape", None) == () and hasattr(value, "dtype") and hasattr(value, "item"):
        value = value.item()
    if get_origin(kind) is list:
        return items_of(value, get_args(kind)[0], range_, name)
    if get_origin(kind) is dict:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise UserError(f"{name}: expected names with values, got {quoted(value)}")
        of = get_args(kind)[1]
        return {key: parsed(one, of, range_, name=f"{name} {key[:SHOWN]}") for key, one in value.items()}
    found = converted(value, kind)
    if found is None or not range_.holds(found):
        close = suggestion(value, range_.choices) if isinstance(value, str) and range_.choices else ""
        raise UserError(f"{name}: expected {expected(kind, range_)}, got {quoted(value)}{close}")
    if isinstance(found, str):
        check_text(found, range_, name)
    return found


def items_of(value: Any, kind: Any, range_: Range, name: str) -> list[Any]:
    """The items of a list; a single value is a list of it."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if converted(value, kind) is not None:
        value = [value]
    if not isinstance(value, list | tuple):
        raise UserError(f"{name}: expected a list, each {expected(kind, range_)}; got {quoted(value)}")
    if not value:
        raise UserError(f"{name}: expected {expected(kind, range_)}, or several; got none")
    return [checked(one, kind, range_, name=name) for one in value]


def converted(value: Any, kind: Any) -> Any:
    """The value as a `kind`; None if it is none."""
    if kind is Any:  # a method's setting: the method's table knows its type
        return value if isinstance(value, str | bool | int | float) else None
    if kind is bool or isinstance(value, bool):
        return value if kind is bool and isinstance(value, bool) else None
    if kind is str:
        return os.fsdecode(value) if isinstance(value, str | os.PathLike) else None
    if kind is int:
        return int(value) if isinstance(value, Integral) else None
    if kind is float and isinstance(value, Real):
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None
    return None


def check_text(text: str, range_: Range, name: str) -> None:
    """Refuses texts that cannot name a file, column or class, before a library fails on them."""
    if not text or (range_.path and not text.strip()):  # a tab may stand between fields
        raise UserError(f"{name}: expected a text, got {text!r}")
    if "\0" in text:
        raise UserError(f"{name}: expected a text without NUL characters, got {quoted(text)}")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UserError(
            f"{name}: expected a text in this terminal's encoding, got {quoted(text)}; use a UTF-8 locale "
            "(export LC_ALL=C.UTF-8, or PYTHONUTF8=1), or rename it"
        )
    if not range_.path:
        if len(text) > LONGEST_NAME:
            raise UserError(f"{name}: expected a text of at most {LONGEST_NAME:,} characters, got {quoted(text)}")
        return
    if len(text.encode()) > LONGEST or max(len(part.encode()) for part in text.split("/")) > LONGEST_PART:
        raise UserError(
            f"{name}: expected a name of at most {LONGEST_PART} bytes between slashes and {LONGEST:,} in all, "
            f"got {quoted(text)}"
        )


def expected(kind: Any, range_: Range) -> str:
    if range_.choices is not None:
        return f"one of {', '.join(range_.choices)}"
    noun = {int: "a whole number", float: "a number", bool: "yes or no (true or false)", str: "a text"}.get(
        kind, "a text, a number, or true or false"
    )
    unit = f"({range_.unit})" if range_.unit else ""
    return " ".join(part for part in (noun, range_.words(), unit) if part)


def parsed(value: Any, annotation: Any, range_: Range | None = None, *, name: str) -> Any:
    """As `checked`, of a value that may be text, as `--set name=value` gives it.

    Raises:
        UserError: as `checked` does.
    """
    kind, own, _ = typed(annotation)
    range_ = range_ or own
    if isinstance(value, str) and kind in (int, float):
        try:
            number = kind(value)
            if not math.isfinite(number):
                raise OverflowError
        except (ValueError, OverflowError):
            raise UserError(f"{name}: expected {expected(kind, range_)}, got {quoted(value)}") from None
        value = number
    elif isinstance(value, str) and kind is bool and value.lower() in ("true", "false"):
        value = value.lower() == "true"
    return checked(value, kind, range_, name=name)
