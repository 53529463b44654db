"""Doubts about the answers that a language model wrote on dev, once its run is over."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from contrastill.training.doubts import Remedies, noise_of
from contrastill.training.language_checks import without_end

if TYPE_CHECKING:
    from contrastill.training.language import LanguagePlan

__all__ = ["endless", "unended"]

MANY = 0.1  # share of the answers by which the student must have more without an end


def unended(answers: Sequence[Sequence[int]], ends: Collection[int]) -> int:
    """The number of written answers that stop at the last place without an end token."""
    return sum(not ids or ids[-1] not in ends for ids in answers)


def endless(run: LanguagePlan, remedies: Remedies) -> list[str]:
    """Doubts a model of whose answers on dev many more have no end than of the teacher's (without one: of the given
    answers), beyond the noise of both shares."""
    written, dev = run.written.get("dev", {}), run.splits.get("dev")
    if dev is None or run.name not in written:
        return []
    rows, ends = len(dev.rows), run.task.ends
    ours = unended(written[run.name], ends)
    whose, theirs = "the given", without_end(dev, ends)
    if "teacher" in written:
        whose, theirs = "the teacher's", unended(written["teacher"], ends)
    noise = math.hypot(noise_of(ours / rows, rows), noise_of(theirs / rows, rows))
    if (ours - theirs) / rows <= max(MANY, noise):
        return []
    return [
        f"{ours:,} of the {rows:,} answers on dev have no end within {run.task.new_tokens} tokens, of {whose} "
        f"{theirs:,}; {remedies.longer}"
    ]
