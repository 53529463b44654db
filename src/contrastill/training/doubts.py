"""Doubts about a finished run, each a function of its log, its scores and its labels: what was seen, and the one
thing to change first. Nothing is said of a difference that is within its noise. docs/advice.md lists them all."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from contrastill.data.cells import some

__all__ = [
    "ENOUGH",
    "LAST",
    "WIDE",
    "Curve",
    "Remedies",
    "ended_at",
    "fell",
    "gained_nothing",
    "harmed",
    "losses",
    "missed_classes",
    "near_chance",
    "never_rose",
    "noise_of",
    "still_rises",
]

Log = Sequence[Mapping[str, Any]]
Array = np.ndarray[Any, Any]

LAST = 3  # logged losses whose mean is a run's end: the very last may be that of one short batch
LEARNT = 0.1  # share of a loss at chance that must be gone
ENOUGH = 200  # steps, the least that a run makes by default: below them more are the first thing to try
GAIN = 0.005  # of a score, from which on training has gained something
WIDE = 5.0  # points in either direction of a score, beyond which it can hardly choose a checkpoint


# ---- what to change first


@dataclass(frozen=True)
class Remedies:
    """Options to try, as they are typed. usual: the command's own learning rate; rose: whether the loss did; patience:
    that which ended the run."""

    rate: float
    usual: float
    epochs: float
    steps: int
    rose: bool = False
    patience: int | None = None

    @classmethod
    def of(cls, settings: Any, usual: float, history: Log, rose: bool = False, stopped: bool = False) -> Self:
        steps = max((int(row.get("step", 0)) for row in history), default=0)
        patience = settings.patience if stopped else None
        return cls(float(settings.learning_rate), usual, float(settings.epochs), steps, rose, patience)

    @property
    def slower(self) -> str:
        rate = self.usual if self.rate > self.usual else self.rate / 3
        return f"try --learning-rate {rate:.1g} (it was {self.rate:g})"

    @property
    def faster(self) -> str:
        return f"try --learning-rate {self.usual:g} (it was {self.rate:g})"

    @property
    def longer(self) -> str:
        """Advice to train twice as long, for at least `ENOUGH` steps."""
        if self.patience is not None:
            return f"try --patience {2 * self.patience} (it was {self.patience})"
        most = max(2.0, ENOUGH / max(1, self.steps))
        return f"try --epochs {math.ceil(self.epochs * most)} (it was {self.epochs:g})"

    def shorter(self, share: float) -> str:
        epochs = self.epochs * share
        return (
            f"try --epochs {math.ceil(epochs) if epochs > 1 else max(0.1, round(epochs, 1))} (it was {self.epochs:g})"
        )

    @property
    def certain(self) -> str | None:
        """Advice for a run that learnt too little, where its rate or its length is clearly wrong."""
        if self.rose or self.rate > 10 * self.usual:
            return self.slower
        if self.rate < self.usual / 3:
            return self.faster
        if self.steps < ENOUGH:
            return self.longer
        return self.slower if self.rate > 3 * self.usual else None

    @property
    def first(self) -> str:
        return self.certain or self.longer

    @property
    def collapsed(self) -> str:
        """Advice for a model with one answer: of CoLA's runs at the usual rate a third of it helped more than three
        times the steps (docs/evidence.md#rates-and-lengths)."""
        return self.certain or self.slower


# ---- noise


def noise_of(score: float, rows: int, correlation: bool = False) -> float:
    """To either side of a share of so many rows, or of a correlation over them, at 95 %.

    Of a share as Agresti and Coull count it, with two more rows right and two more wrong: that of 1.0 has a noise too.
    """
    if correlation:
        return 1.96 * (1 - min(1.0, score**2)) / math.sqrt(max(1, rows))
    share = (min(1.0, max(0.0, score)) * rows + 2) / (rows + 4)
    return 1.96 * math.sqrt(share * (1 - share) / (rows + 4))


# ---- the log


def losses(history: Log, term: str = "loss") -> list[float]:
    """The logged losses, or one term of them, of the last stage."""
    rows = [row for row in history if "loss" in row]
    return [float(row[term]) for row in rows if row.get("stage") == rows[-1].get("stage") and term in row]


def ended_at(seen: Sequence[float]) -> float | None:
    return float(np.mean(seen[-LAST:])) if seen else None


@dataclass(frozen=True)
class Curve:
    """A metric on dev at each check of the last stage, which began at step `begin`."""

    metric: str
    steps: Sequence[int]
    values: Sequence[float]
    begin: int = 0

    @classmethod
    def of(cls, history: Log, metric: str | None) -> Self:
        trained = [row for row in history if "loss" in row]
        others = [int(row["step"]) for row in trained if row.get("stage") != trained[-1].get("stage")]
        begin, key = max(others, default=0), f"eval_{metric}"
        rows = [row for row in history if key in row and row["step"] > begin]
        return cls(str(metric), [int(row["step"]) for row in rows], [float(row[key]) for row in rows], begin)

    def until(self, share: float) -> int:
        """The number of checks in the first `share` of the stage."""
        place = self.begin + share * (self.steps[-1] - self.begin)
        return sum(step <= place + 0.5 for step in self.steps)


# ---- doubts


def near_chance(end: float | None, chance: float | None, name: str, ignorant: str, remedy: str) -> list[str]:
    """Doubts a loss that ended above nine tenths of its chance level. ignorant: words for a model at that level."""
    if end is None or chance is None or chance <= 0 or end < (1 - LEARNT) * chance:
        return []
    than = "no better than" if end >= 0.98 * chance else "little below"
    return [f"the {name} ended at {end:.3g}, {than} the {chance:.3g} of a model that {ignorant}; {remedy}"]


def still_rises(curve: Curve, noise: float, longer: str, beside: str = "") -> list[str]:
    """A best score among the last two checks that is above all scores of the first two thirds by more than noise.

    noise: half the 95 % interval of the score. beside: words about another score.
    """
    if len(curve.values) < 3:
        return []
    before = curve.until(2 / 3)
    best = int(np.argmax(curve.values))
    if not 0 < before < len(curve.values) or best < len(curve.values) - 2:
        return []
    earlier, later = max(curve.values[:before]), curve.values[best]
    if later - earlier <= noise:
        return []
    return [
        f"dev {curve.metric} still rose at the end, from {earlier:.3g} in the first two thirds to {later:.3g} "
        f"(noise {noise:.2g}){beside}; {longer}"
    ]


def fell(curve: Curve, noise: float, fitted: bool, remedies: Remedies) -> list[str]:
    """A best score in the first third, from which the last one is down by more than noise.

    fitted: whether the training rows were learnt, so that more passes over them only hurt.
    """
    if len(curve.values) < 3:
        return []
    best, last = int(np.argmax(curve.values)), curve.values[-1]
    if best >= curve.until(1 / 3) or curve.values[best] - last <= noise:
        return []
    share = min(1.0, 2 * curve.steps[best] / curve.steps[-1])
    return [
        f"dev {curve.metric} was best at step {curve.steps[best]} of {curve.steps[-1]} ({curve.values[best]:.3g}) and "
        f"fell to {last:.3g}; {remedies.shorter(share) if fitted else remedies.slower}"
    ]


def harmed(curve: Curve, start: float | None, noise: float, slower: str) -> list[str]:
    """Doubts training if all scores are below the start's by more than noise."""
    if start is None or not curve.values or start - max(curve.values) <= noise:
        return []
    best = max(curve.values)
    return [f"dev {curve.metric} was {start:.3g} before training, and {best:.3g} at its best check; {slower}"]


def gained_nothing(curve: Curve, start: float | None, rows: int, remedy: str | None) -> list[str]:
    """Doubts training if no score is a row or half a point above the start's, and rate or length is clearly wrong."""
    if start is None or remedy is None or not curve.values or max(curve.values) - start > max(GAIN, 1 / rows):
        return []
    return [f"dev {curve.metric} was {start:.3g} before training, and {max(curve.values):.3g} at its best; {remedy}"]


def never_rose(
    curve: Curve, ours: float, theirs: float, noise: float, remedy: str, start: float | None = None
) -> list[str]:
    """A student five points and more below its teacher, beyond noise, whose dev score never left that of the start (of
    the first check, where the start has none)."""
    if len(curve.values) < 3 or theirs - ours <= max(noise, WIDE / 100):
        return []
    first, when = (curve.values[0], "at the first check") if start is None else (start, "before training")
    if max(curve.values) - first > noise:
        return []
    return [
        f"dev {curve.metric} is no better than {when} ({first:.3g}, now {ours:.3g}, noise {noise:.2g}), "
        f"and the teacher has {theirs:.3g}; {remedy}"
    ]


def missed_classes(there: Array, found: Array, names: Sequence[str], noun: str = "classes") -> tuple[str, Array]:
    """What was seen of classes that are never answered right, and which they are; "" if they are few.

    there, found: (C,) dev rows of each class, and those answered right. Few: under a third of the classes with dev
    rows, or no more than would be missed (at 95 %) if each row were answered right half the time.
    """
    judged = there > 0
    missed = judged & (found == 0)
    by_luck = 0.5 ** there[judged].astype(np.float64)
    limit = by_luck.sum() + 1.96 * math.sqrt(float((by_luck * (1 - by_luck)).sum()))
    if not missed.any() or missed.sum() < judged.sum() / 3 or missed.sum() <= limit:
        return "", missed
    which = some([names[int(n)] for n in np.flatnonzero(missed)], 5)
    return f"{missed.sum()} of the {judged.sum()} {noun} on dev have an F1 of 0 ({which})", missed
