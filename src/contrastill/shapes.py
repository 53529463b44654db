"""A student's sizes, and how they are written; without PyTorch, so that a command refuses a typing error at once."""

import re
from dataclasses import dataclass
from typing import Any

from contrastill.errors import UserError
from contrastill.ranges import suggestion

__all__ = ["AS_IS", "PRESETS", "STARTS", "Shape", "check_student", "read_shape"]

AS_IS = "as-is"
"""A student that is named by --start, whatever its shape."""
STARTS = ("random", "copy", "inherit")
"""Starts that are made of the teacher; any other is a model's name."""


@dataclass(frozen=True)
class Shape:
    """A student's sizes.

    layers: 0 of a static student, which has word vectors of width `hidden` alone. embedding: width of the tables, where
    a linear map makes `hidden` of it; None: the same. shared: whether all layers have the same weights.
    """

    layers: int
    hidden: int
    heads: int
    ffn: int
    embedding: int | None = None
    shared: bool = False

    def __str__(self) -> str:
        if not self.layers:
            return f"static-{self.hidden}"
        narrow = f"+e{self.embedding}" if self.embedding is not None else ""
        numbers = "/".join(map(str, (self.layers, self.hidden, self.heads, self.ffn)))
        return f"{numbers}{narrow}{'+shared' if self.shared else ''}"


PRESETS = {"4L-312": Shape(4, 312, 12, 1200), "6L-768": Shape(6, 768, 12, 3072)}  # TinyBERT and LRC-BERT; DistilBERT
SUGGESTED = (*PRESETS, "static-256", "4L-312+e128", "4L-312+shared", "4L-312+e128+shared", AS_IS)


def check_student(student: str, start: str) -> None:
    """Raises a UserError unless `student` is a shape, or as-is with a model as its start."""
    if student != AS_IS:
        read_shape(student)
    elif start in STARTS:
        raise UserError(
            f"--student {AS_IS} takes an encoder as it is: name its folder or Hub name with --start, got --start "
            f"{start}"
        )


def read_shape(text: str) -> tuple[Shape | int, dict[str, Any]]:
    """A preset, "<n>L" (n layers at the teacher's width), "layers/hidden/heads/ffn", or "static-<width>".

    A shape with layers may end in "+e<width>" (narrower tables) and "+shared" (one layer's weights for all).

    Returns: the sizes, of "<n>L" the number of layers; and what the options change in them.

    Raises:
        UserError: another text.
    """
    first, *more = text.strip().split("+")
    if first in PRESETS:
        return PRESETS[first], read_options(more, text)
    if match := re.fullmatch(r"(\d+)L", first):
        return int(match[1]), read_options(more, text)
    if match := re.fullmatch(r"(\d+)/(\d+)/(\d+)/(\d+)", first):
        layers, hidden, heads, ffn = map(int, match.groups())
        return Shape(layers, hidden, heads, ffn), read_options(more, text)
    if match := re.fullmatch(r"static-(\d+)", first):
        if more:
            raise UserError(
                f"expected {first} without options, got {text!r}: it has no layers to share, and its width is that of "
                "its word vectors; give a smaller number, such as static-128"
            )
        return Shape(0, int(match[1]), 0, 0), {}
    raise UserError(
        f'expected a student shape: one of {", ".join(PRESETS)}, or "<n>L" for n layers at the teacher\'s width, '
        f'or "layers/hidden/heads/ffn" such as "4/312/12/1200" (each with "+e128" for narrower word tables, '
        f'"+shared" for one layer\'s weights in all), or "static-256" for word vectors without layers; got {text!r}'
        + suggestion(text.strip(), SUGGESTED)
    )


def read_options(options: list[str], text: str) -> dict[str, Any]:
    """What "+e<width>" and "+shared" change.

    Raises:
        UserError: an option that there is not, or one given twice.
    """
    given: dict[str, Any] = {}
    for option in options:
        match = re.fullmatch(r"e(\d+)", option)
        if not match and option != "shared":
            raise UserError(
                f'expected "+e" and a width, such as +e128, or "+shared" after a student shape, got {"+" + option!r} '
                f"in {text!r}" + suggestion("+" + option, ("+e128", "+shared"))
            )
        name, value = ("embedding", int(match[1])) if match else ("shared", True)
        if name in given:
            raise UserError(
                f"expected each option of a student shape once, got two of {'+' + option[:1]!r} in {text!r}"
            )
        given[name] = value
    return given
