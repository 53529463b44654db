"""The scores and costs that were measured of each method, in the form that programs read."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from contrastill.errors import counted
from contrastill.methods.base import Method
from contrastill.methods.language import LanguageMethod

__all__ = ["Measured", "measured", "teacher_runs"]

FILE = Path(__file__).with_name("measured.json")
"""Made by benchmarks/measured.py from the results that docs/evidence.md shows."""


@dataclass(frozen=True)
class Measured:
    """How a method did on one task, beside others from the same start in as many steps.

    on: data and start. kept: share of the teacher's score, mean over seeds. step: seconds of a step divided by those
    of a step on labels alone, where both were timed in one run. page: the table.
    """

    method: str
    on: str
    kept: float
    seeds: int
    step: float | None
    page: str

    def __str__(self) -> str:
        seeds = counted(self.seeds, "seed")
        step = "" if self.step is None else f"; a step takes {self.step:.2f} x one on labels alone"
        return f"{self.kept:.1%} of the teacher's score on {self.on} ({seeds}){step}; {self.page}"


@cache
def measured(method: str) -> tuple[Measured, ...]:
    """The measurements of a method; none where there are none."""
    return tuple(one for one in read() if one.method == method)


@cache
def read() -> tuple[Measured, ...]:
    return tuple(Measured(**one) for one in json.loads(FILE.read_text("utf-8")))


def teacher_runs(method: type[Method]) -> str:
    """How often a method's teacher runs, in words."""
    if not method.uses_teacher:
        return "never, by default"
    if method.asks_live:
        return "in every step"
    if issubclass(method, LanguageMethod) and method.writes is not LanguageMethod.writes:
        return "once on each given text, whose outputs are stored; in every step that writes texts"
    return "once on each text; its outputs are stored"
