"""What a run's end says against it: chance, one answer for everything, a loss that rose, a dev set too small."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from contrastill.training.labelled import LabelledPlan
from contrastill.training.plan import Plan

__all__ = ["warnings"]

WIDE = 5.0  # points to either side of a score, beyond which it can hardly choose a checkpoint
FAST = 1e-3  # learning rates above it are the first thing to change
LAST = 3  # logged losses whose mean is a run's end: the very last may be that of one short batch


def warnings(run: Plan, history: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each doubt about a run that has just been scored: what was seen, and the one thing to change.

    history: the log, a mapping a logged step.
    """
    rate = run.settings.learning_rate
    slower = f"lower --learning-rate (it was {rate:g})"
    begun = getattr(run.method.student.model, "doubt", None)  # of a start that was made for this run
    found = [*diverged(run, history, slower)]
    if isinstance(run, LabelledPlan):
        found += at_chance(run, slower if rate > FAST or found else "train longer (--epochs), or on more rows")
        if "dev" not in run.splits:
            found += learnt_nothing(run, history, slower)
    return [*([begun] if begun else []), *found]


def at_chance(run: LabelledPlan, advice: str) -> list[str]:
    """Answers on dev that are all the same, or no better than the commonest label."""
    dev, task, metric = run.splits.get("dev"), run.task, run.task.metrics[0]
    if dev is None or "ours" not in dev.kept:
        return []
    if (answer := task.same_answer(dev.kept["ours"], dev.labels)) is not None:
        return [f"the {run.name} answers {answer} to every dev text; {advice}"]
    scores = dev.reported
    value, (low, high), chance = scores["metrics"][metric], scores["interval"], task.chance(dev.labels, metric)
    if low > chance:
        return []
    few = task.half_width(len(dev.labels)) > WIDE and value > chance
    return [
        f"dev {metric} {value:.3f} ({low:.3f} to {high:.3f}) does not differ from that of always giving the commonest "
        f"answer ({chance:.3f}); {'score it on more rows (--dev FILE)' if few else advice}"
    ]


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


def learnt_nothing(run: LabelledPlan, history: Sequence[Mapping[str, Any]], advice: str) -> list[str]:
    """Without dev, a label loss that ended where ignorance is."""
    seen, ignorance = losses(history), run.task.ignorance
    if not seen or ignorance is None or run.teacher is not None:
        return []
    last = float(np.mean(seen[-LAST:]))
    if last < 0.98 * ignorance:
        return []
    outputs = len(run.task.names)
    return [
        f"the loss ended at {last:.3g}, and a model that knows nothing of {outputs} classes has {ignorance:.3g}; "
        f"{advice}"
    ]
