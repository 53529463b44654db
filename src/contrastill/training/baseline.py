"""The baseline of a distilled student: the same student, trained on the labels or given answers alone."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from contrastill.processes import processes
from contrastill.report import leave_report
from contrastill.report.paired import answers_of, difference
from contrastill.report.run import objects, read_run
from contrastill.report.written import with_model
from contrastill.results import CARD, write_text
from contrastill.settings import Distillation, LanguageDistillation
from contrastill.training.budget import epochs_of
from contrastill.training.card import scores_table
from contrastill.training.folder import BASELINE, RunFolder
from contrastill.training.labelled_plans import plan_distillation
from contrastill.training.language_plans import plan_language_distillation
from contrastill.training.plan import Plan
from contrastill.training.run import Run, finished, saving, train

__all__ = ["with_baseline"]

logger = logging.getLogger(__name__)

Asked = Distillation | LanguageDistillation


def with_baseline(done: Run, folder: RunFolder, asked: Asked) -> Run:
    """Trains the baseline of a finished run in its folder, unless it is there, and puts its scores and the differences
    beside the student's: in metrics.json, on the card and on the page."""
    twin = baseline(done, folder, asked)
    if not folder.main:
        return done
    *others, student = done.result.models
    models = {name: done.result.models[name] for name in others if name != BASELINE}
    models |= {BASELINE: twin.result.models[student], student: done.result.models[student]}
    more = {**done.result.more, "against_baseline": differences(done.folder, twin.folder)}
    made = replace(done, result=replace(done.result, models=models, more=more))
    if made.metrics != done.metrics:
        card = (made.model / CARD).read_text(encoding="utf-8")
        before, after = (scores_table(result, student) for result in (done.result, made.result))
        write_text(made.model / CARD, card.replace(before, after))
        folder.write("metrics.json", made.metrics)
        leave_report(folder.path, lambda: shown_together(made.folder, twin.folder))
    return made


def baseline(done: Run, folder: RunFolder, asked: Asked) -> Run:
    """The baseline's run: made, resumed, or found finished."""
    place, figures = folder.path / BASELINE, done.result.figures
    steps = int(figures.get("planned_steps", figures["steps"]))
    settings = without_teacher(asked, folder)
    processes().wait_for_everyone()
    record = place / "run.json"
    begun = record.is_file() and record.stat().st_size > 0
    processes().wait_for_everyone()  # all have looked before one writes it
    logger.info("baseline: the same student without its teacher, %s steps, in %s", f"{steps:,}", place)
    with RunFolder("distill", settings, begun) as twin, saving(twin):

        def plan() -> Plan:
            decided = twin.decided(settings)
            return (
                plan_of_answers(decided, folder.path)
                if isinstance(decided, LanguageDistillation)
                else plan_of_labels(decided, steps)
            )

        return finished(twin, "student") or train(twin, plan, begun)


def without_teacher(asked: Asked, folder: RunFolder) -> Asked:
    """The settings of the baseline: those of the run, with the method that learns from labels or answers alone."""
    own: dict[str, Any] = {"set": {}, "stages": {}, "with_baseline": False}
    own |= {"out": str(folder.path / BASELINE), "overwrite": True}
    if isinstance(asked, LanguageDistillation):
        return replace(asked, method="sft", **own)
    rate = folder.record.setting("learning_rate", float, int)
    length: dict[str, Any] = {"epochs": None, "minutes": None, "learning_rate": rate}  # epochs follow from the steps
    return replace(asked, method="finetune", unlabelled=None, **length, **own)


def plan_of_labels(settings: Distillation, steps: int) -> Plan:
    run = plan_distillation(settings)
    run.settings = replace(run.settings, epochs=epochs_of(steps, max(1, len(run.examples) // run.batch_size)))
    run.decided["length of the run"] = f"{steps:,} steps, as the distilled student"
    return run


def plan_of_answers(settings: LanguageDistillation, student: Path) -> Plan:
    """Keeps its answers to the rows that the student's page shows."""
    run = plan_language_distillation(settings)
    run.beside = [
        one["row"] for one in objects(read_run(student).evidence.get("samples")) if isinstance(one.get("row"), int)
    ]
    return run


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


def shown_together(ours: Path, theirs: Path) -> dict[str, Any] | None:
    """The student's evidence with the baseline's answers to the same samples; None: the baseline keeps none."""
    found, answers = read_run(ours).evidence, objects(read_run(theirs).evidence.get("beside"))
    return with_model(found, BASELINE, answers) if answers else None
