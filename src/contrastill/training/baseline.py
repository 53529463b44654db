"""The baseline of a distilled student: the same student, trained on the labels alone."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from contrastill.processes import processes
from contrastill.report import leave_report
from contrastill.report.paired import answers_of, difference
from contrastill.report.run import read_run
from contrastill.settings import Distillation
from contrastill.training.budget import epochs_of
from contrastill.training.folder import BASELINE, RunFolder
from contrastill.training.labelled import LabelledPlan
from contrastill.training.labelled_plans import plan_distillation
from contrastill.training.run import Run, finished, saving, train

__all__ = ["with_baseline"]

logger = logging.getLogger(__name__)


def with_baseline(done: Run, folder: RunFolder, asked: Distillation) -> Run:
    """Trains the baseline of a finished run in its folder, unless it is there, and puts its scores and the differences
    beside the student's: in metrics.json and on the page."""
    twin = baseline(done, folder, asked)
    if not folder.main:
        return done
    *others, student = done.result.models
    models = {name: done.result.models[name] for name in others if name != BASELINE}
    models |= {BASELINE: twin.result.models[student], student: done.result.models[student]}
    more = {**done.result.more, "against_baseline": differences(done.folder, twin.folder)}
    made = replace(done, result=replace(done.result, models=models, more=more))
    if made.metrics != done.metrics:
        folder.write("metrics.json", made.metrics)
        leave_report(folder.path)
    return made


def baseline(done: Run, folder: RunFolder, asked: Distillation) -> Run:
    """The baseline's run: made, resumed, or found finished."""
    place, rate = folder.path / BASELINE, folder.record.setting("learning_rate", float, int)
    figures = done.result.figures
    steps = int(figures.get("planned_steps", figures["steps"]))
    own: dict[str, Any] = {"method": "finetune", "set": {}, "stages": {}, "unlabelled": None, "with_baseline": False}
    length = {"epochs": None, "minutes": None, "learning_rate": rate}  # epochs follow from the steps
    settings = replace(asked, **own, **length, out=str(place), overwrite=True)
    processes().wait_for_everyone()
    record = place / "run.json"
    begun = record.is_file() and record.stat().st_size > 0
    processes().wait_for_everyone()  # all have looked before one writes it
    logger.info("baseline: the same student on the labels alone, %s steps, in %s", f"{steps:,}", place)
    with RunFolder("distill", settings, begun) as twin, saving(twin):

        def plan() -> LabelledPlan:
            run = plan_distillation(twin.decided(settings))
            run.settings = replace(run.settings, epochs=epochs_of(steps, max(1, len(run.examples) // run.batch_size)))
            run.decided["length of the run"] = f"{steps:,} steps, as the distilled student"
            return run

        return finished(twin, "student") or train(twin, plan, begun)


def differences(ours: Path, theirs: Path) -> dict[str, dict[str, Any]]:
    """Split -> metric, student minus baseline with its 95 % interval, and rows; of splits whose answers are kept."""
    runs, found = [read_run(ours), read_run(theirs)], dict[str, dict[str, Any]]()
    for split in ("dev", "test"):
        first, second = (answers_of(run, split) for run in runs)
        apart = difference(first, second) if first is not None and second is not None else None
        if first is not None and apart is not None:
            value, low, high = apart
            rows = len(first.given)
            found[split] = {"metric": first.metric, "difference": value, "low": low, "high": high, "rows": rows}
    return found
