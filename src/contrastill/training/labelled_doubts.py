"""Doubts about the result of a run on labelled rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastill.shapes import AS_IS
from contrastill.students import fitting_shape, shape_of
from contrastill.training.doubts import (
    ENOUGH,
    WIDE,
    Curve,
    Remedies,
    ended_at,
    fell,
    gained_nothing,
    harmed,
    losses,
    missed_classes,
    near_chance,
    never_rose,
    noise_of,
    still_rises,
)
from contrastill.training.labelled_checks import noun

if TYPE_CHECKING:
    from contrastill.training.labelled import LabelledPlan

__all__ = ["doubts"]

Log = Sequence[Mapping[str, Any]]

TELLING = 5  # rows: a model that answers half of such rows right misses all of so many once in 32 times
FEW = 8  # training rows of a class, at most, whose lack explains that it is not learnt
AHEAD = 0.9  # of the interval of the difference that must lie above 0: one false alarm in twenty
MOST = 0.9  # of a stage's loss in one term, from which on the others are hardly learnt
UNEVEN = 0.8  # share of the training rows in one class, from which on that class may drown the others


def doubts(run: LabelledPlan, history: Log, remedies: Remedies) -> list[str]:
    """All doubts about a run; if it learnt nothing, only those about that."""
    ended, ahead = loss_near_chance(run, history, remedies), vectors_ahead(run)
    if nothing := at_chance(run, remedies, bool(ended)) or ended:
        return [*outweighed(run, history), *nothing, *ahead]
    dev = run.splits.get("dev")
    if dev is None or dev.reported is None or dev.reported.interval is None:
        return []
    low, high = dev.reported.interval
    curve = Curve.of(history, run.task.metrics[0])
    ours, theirs = dev.reported.metrics[curve.metric], teacher_on_dev(run)
    noise = max((high - low) / 2, noise_of(ours, len(dev.labels)))
    behind = theirs is not None and theirs - ours > max(noise, WIDE / 100)
    rises = still_rises(curve, noise, remedies.longer, f", and the teacher has {theirs:.3g}" if behind else "")
    start = start_on_dev(run)
    down = harmed(curve, start, noise, remedies.slower) or fell(curve, noise, loss_is_gone(history), remedies)
    more = remedies.certain or larger(run)
    stuck = [] if theirs is None else never_rose(curve, ours, theirs, noise, more, start)
    stuck = down or stuck or gained_nothing(curve, start, len(dev.labels), remedies.certain)
    return [*missed(run, remedies, bool(rises)), *rises, *stuck, *ahead]


def vectors_ahead(run: LabelledPlan) -> list[str]:
    """Doubts a model of pairs behind a linear fit on the vectors of each text by itself."""
    dev, metric = run.splits.get("dev"), run.task.metrics[0]
    if dev is None or dev.reported is None or "vectors" not in dev.kept:
        return []
    theirs, ours = (dev.tasks[who].answers(dev.kept[who]) for who in ("vectors", "ours"))
    _, low, _ = run.task.paired(theirs, ours, dev.labels, metric, level=AHEAD)
    if low <= 0:
        return []
    fits, has = run.vectors["dev"].metrics[metric], dev.reported.metrics[metric]
    return [
        f"a linear fit on the vectors of each text by itself has dev {metric} {fits:.3f}, the model {has:.3f}; add "
        f"labelled pairs (there are {len(run.labelled_rows):,}), or take that fit (docs/teacher.md)"
    ]


def outweighed(run: LabelledPlan, history: Log) -> list[str]:
    """Doubts a stage whose loss is nearly all of one term, of a method that can make its terms alike in size."""
    for number, stage in enumerate(run.method.stages if run.method.balanced_by else [], 1):
        rows = [row for row in history if "loss" in row and row.get("stage") == number]
        if not rows or len(stage.weights) < 2:
            continue
        shares = {
            term: float(np.median([weight * row.get(term, 0) / (row["loss"] or 1) for row in rows]))
            for term, weight in stage.weights.items()
        }
        term = max(shares, key=shares.__getitem__)
        if shares[term] >= MOST:
            return [
                f"{shares[term]:.0%} of the loss of stage {stage.name!r} was {term!r}: the other terms were hardly "
                f"learnt; try {run.method.balanced_by}"
            ]
    return []


def at_chance(run: LabelledPlan, remedies: Remedies, untrained: bool) -> list[str]:
    """Doubts answers on dev that are all the same, or no better than the commonest label.

    untrained: whether the loss agrees; else more rows may show that a score is above chance.
    """
    dev, task, metric = run.splits.get("dev"), run.task, run.task.metrics[0]
    if dev is None or dev.reported is None or dev.reported.interval is None:
        return []
    logits = dev.kept["ours"]
    task = dev.tasks.get("ours", task)
    if (answer := task.same_answer(logits, dev.labels)) is not None:
        return same_answer(run, answer, remedies)
    value, (low, high), chance = dev.reported.metrics[metric], dev.reported.interval, task.chance(dev.labels, metric)
    if low > chance or task.follows(logits, dev.labels):
        return []
    few = not untrained and task.half_width(len(dev.labels)) > WIDE and value > chance
    return [
        f"dev {metric} {value:.3f} ({low:.3f} to {high:.3f}) does not differ from that of always giving the commonest "
        f"answer ({chance:.3f}); {'score it on more rows (--dev FILE)' if few else remedies.first}"
    ]


def same_answer(run: LabelledPlan, answer: str, remedies: Remedies) -> list[str]:
    """Doubts a model with one answer for every dev text: dev or train lacks other labels, or nothing was learnt."""
    dev, task = run.splits["dev"], run.task
    said = f"the {run.name} answers {answer} to every dev text"
    truth, marks = task.truth(dev.labels), dev.tasks.get("ours", task).marks(dev.kept["ours"])
    if truth is None or marks is None:
        return [f"{said}; {remedies.collapsed}"]
    others = int((truth != marks).any(1).sum())
    if others < TELLING:
        return [f"{said}, of which {others} have another label: too few to tell; score it on more rows (--dev FILE)"]
    labels = run.labels
    known = task.truth(labels[task.known(labels)])
    share = 0.0 if known is None else float((known == marks[0]).all(1).mean())
    if remedies.certain is None and share >= UNEVEN:
        return [
            f"{said}, as {share:.0%} of the training rows have it; add rows with others, or leave out some of these"
        ]
    return [f"{said}; {remedies.collapsed}"]


def loss_near_chance(run: LabelledPlan, history: Log, remedies: Remedies) -> list[str]:
    """Doubts a label loss that ended near that of an untrained model. (Rows without labels are in its mean.)"""
    seen = losses(history, "hard") or (losses(history) if run.teacher is None else [])
    if run.unlabelled:
        return []
    chance = run.task.ignorance(run.labels)
    return near_chance(ended_at(seen), chance, "loss on labels", run.task.ignorant, remedies.first)


def loss_is_gone(history: Log) -> bool:
    """Whether the training rows were learnt: the label loss ended below a tenth of its start."""
    seen = losses(history, "hard") or losses(history)
    end = ended_at(seen)
    return end is not None and end < 0.1 * seen[0]


def missed(run: LabelledPlan, remedies: Remedies, rising: bool) -> list[str]:
    """Classes that are never answered right on dev, of those that the teacher, if there is one, answers right."""
    dev, task = run.splits["dev"], run.task
    truth, ours = task.truth(dev.labels), dev.tasks.get("ours", task).marks(dev.kept["ours"])
    if truth is None or ours is None:
        return []
    there = truth.sum(0)
    if (theirs := dev.kept.get("theirs")) is not None:
        known = dev.tasks.get("theirs", task).marks(theirs)
        there = np.where((truth & known).any(0), there, 0)
    seen, which = missed_classes(there, (truth & ours).sum(0), task.labels, noun(run))
    if not seen:
        return []
    labels = run.labels
    trained = task.truth(labels[task.known(labels)])
    rows = ENOUGH if trained is None else int(np.median(trained.sum(0)[which]))
    if remedies.certain is None and not rising and rows <= FEW:
        return [f"{seen}, with {rows} training rows in the median; add rows of them, or merge them with others"]
    return [f"{seen}; {remedies.first}"]


def larger(run: LabelledPlan) -> str:
    """Advice for a student that trained well but is too small or started at random."""
    if run.teacher is None:
        return ""
    if run.settings.student == AS_IS:
        return f"try a larger --start (it was {run.settings.start})"
    start, own, theirs = run.settings.start, shape_of(run.method.student.model.config), shape_of(run.teacher.config)
    if start == "random":
        return "try --start inherit (it was random)"
    if not own.layers:
        return f"try --student {fitting_shape('4L-312', run.teacher.config)} (it was {run.settings.student})"
    layers = own.layers if own.hidden < theirs.hidden else min(theirs.layers, own.layers + 2)
    return f"try --student {layers}L (it was {run.settings.student})"


def start_on_dev(run: LabelledPlan) -> float | None:
    """The dev score before the first step, where the run has one."""
    return None if run.start is None else float(run.start[0])


def teacher_on_dev(run: LabelledPlan) -> float | None:
    if run.teacher is None:
        return None
    return float(run.teacher_scores["dev"].metrics[run.task.metrics[0]])
