"""Doubts about a finished run: of its start, and of its loss."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from contrastill.training.plan import Plan

__all__ = ["warnings"]

FAST = 1e-3  # learning rates above it are the first thing to change
LAST = 3  # logged losses whose mean is a run's end: the very last may be that of one short batch


def warnings(run: Plan, history: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each doubt about a run that has just been scored: what was seen, and the one thing to change.

    history: the log, a mapping a logged step.
    """
    rate = run.settings.learning_rate
    slower = f"lower --learning-rate (it was {rate:g})"
    begun = getattr(run.method.student.model, "doubt", None)  # of a start that was made for this run
    rose = diverged(run, history, slower)
    return [*([begun] if begun else []), *rose, *run.doubts(history, slower, rate > FAST or bool(rose))]


def losses(history: Sequence[Mapping[str, Any]]) -> list[float]:
    """The logged losses of the last stage."""
    rows = [row for row in history if "loss" in row]
    return [float(row["loss"]) for row in rows if row.get("stage") == rows[-1].get("stage")]


def diverged(run: Plan, history: Sequence[Mapping[str, Any]], advice: str) -> list[str]:
    """A loss above its start. (Where a queue fills, it rises for having more to tell apart: nothing is said.)"""
    seen = losses(history)
    if len(seen) < 2 * LAST or any(name.endswith("pushed") for name, _ in run.model.named_buffers()):
        return []
    first, last = seen[0], float(np.mean(seen[-LAST:]))
    if not last > max(1.1 * first, first):
        return []
    return [f"the loss rose from {first:.3g} to {last:.3g}; {advice}"]
