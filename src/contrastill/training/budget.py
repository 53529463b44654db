"""How long a run on labelled rows trains, and at which learning rate, where neither was asked for."""

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from contrastill.processes import processes
from contrastill.training.trial import trial

if TYPE_CHECKING:
    from contrastill.training.labelled import LabelledPlan

__all__ = ["PRESETS", "STATIC_RATE", "Preset", "default_rate", "epochs_of", "settle_budget"]

TRAINED = {"finetune": (768, 5e-5), "distill": (312, 3e-4)}
"""Command -> a width, and the rate at which models of that width are trained. Decision 11."""
POWER = 1.5  # by which narrower models take higher rates
HIGHEST = 3e-4  # of rates that are not asked for
STATIC_RATE = 1e-3
"""Of models without layers."""
FEW = 2_000  # pairs below which models are fine-tuned at lower rates
TIMED = 5  # steps for --minutes, of which the first is not counted
SCORED = 0.4  # of a training step's time that scoring as many rows takes


@dataclass(frozen=True)
class Preset:
    """A length of run: passes over the rows, but at least and at most so many steps (one pass is always made)."""

    passes: float
    least: int
    most: int

    def steps(self, one: int) -> int:
        """one: steps of a pass."""
        return max(min(max(math.ceil(self.passes * one), self.least), self.most), one)


PRESETS = {"quick": Preset(1, 60, 1_000), "good": Preset(4, 200, 4_000), "best": Preset(10, 600, 12_000)}


def default_rate(command: str, width: int, pairs: int | None = None) -> float:
    """The highest learning rate for a model of this width, to two digits. pairs: their number, if rows are pairs."""
    known, rate = TRAINED[command]
    few = math.sqrt(min(1.0, pairs / FEW)) if pairs is not None and command == "finetune" else 1.0
    return float(f"{few * min(HIGHEST, rate * (known / width) ** POWER):.1e}")


def settle_budget(run: "LabelledPlan") -> None:
    """Decides the run's passes and learning rate where its settings leave them open, and notes why in `decided`."""
    settings, one = run.settings, max(1, len(run.examples) // run.batch_size)
    if settings.learning_rate is None:
        rate, width = run.usual_rate, run.method.student.model.config.hidden_size
        settings = replace(settings, learning_rate=rate)
        few = f", and few pairs, {len(run.examples):,}" if rate < default_rate(run.origin.command, width) else ""
        why = f"by the trained model's width, {width}{few}" if run.method.student.depth else "of a model without layers"
        run.decided["learning rate"] = f"{rate:g} ({why})"
    if settings.epochs is None:
        if settings.minutes is None:
            steps, why = PRESETS[settings.preset].steps(one), f"preset {settings.preset!r}"
        else:
            seconds = seconds_a_step(run)
            dev = len(run.splits["dev"].labels) if "dev" in run.splits else 0
            scoring = (settings.checks + 1) * SCORED * seconds * dev / run.batch_size
            steps = max(1, int((60 * settings.minutes - scoring) / seconds))
            why = f"{settings.minutes:g} minutes at {seconds:.2g} s a step"
        settings = replace(settings, epochs=epochs_of(steps, one))
        run.decided["length of the run"] = f"{steps:,} steps, {settings.epochs:.3g} passes over the rows ({why})"
    run.settings = settings


def epochs_of(steps: int, one: int) -> float:
    """The epochs that come to so many steps, of `one` a pass."""
    epochs = steps / one
    return math.nextafter(epochs, 0) if math.ceil(epochs * one) > steps else epochs


def seconds_a_step(run: "LabelledPlan") -> float:
    """Mean wall time of a training step without its update; model and random state stay as they were."""
    rows, begun = np.random.default_rng(run.settings.seed).permutation(len(run.examples)), 0.0
    with trial(run, processes().device) as step:
        for number in range(TIMED):
            step(np.roll(rows, -number * run.batch_size)[: run.batch_size])
            if number == 0:
                begun = time.perf_counter()
        took = time.perf_counter() - begun
    return took / (TIMED - 1)
