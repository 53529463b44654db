"""Doubts about a finished run: of its start, of its loss, and what its kind of run adds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from contrastill.training.doubts import LAST, Remedies, ended_at, losses
from contrastill.training.plan import Plan

__all__ = ["warnings"]


def warnings(run: Plan, history: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each doubt about a run that has just been scored: what was seen, and the one thing to change.

    history: the log, a mapping a logged step.
    """
    begun = getattr(run.method.student.model, "doubt", None)  # of a start that was made for this run
    remedies = Remedies.of(run.settings, run.usual_rate, history, stopped=run.stopped is not None)
    rose = diverged(run, history, remedies.slower)
    remedies = replace(remedies, rose=bool(rose))
    return [*([begun] if begun else []), *rose, *run.doubts(history, remedies)]


def diverged(run: Plan, history: Sequence[Mapping[str, Any]], advice: str) -> list[str]:
    """Doubts a loss whose last values all lie above its start: one dear batch is no rise. (Not while a queue fills:
    more texts to compare raise the loss.)"""
    seen = losses(history)
    if len(seen) < 2 * LAST or any(name.endswith("pushed") for name, _ in run.model.named_buffers()):
        return []
    first, last = seen[0], seen[-LAST:]
    if not min(last) > max(1.1 * first, first):
        return []
    return [f"the loss rose from {first:.3g} to {ended_at(last):.3g}; {advice}"]
