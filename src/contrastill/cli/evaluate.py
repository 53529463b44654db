"""Commands that measure without training: evaluate, doctor, methods."""

import inspect
from dataclasses import asdict
from typing import Annotated, Any

import typer

from contrastill.cli.options import AS_JSON, Json, Kind, command, option_in, settings_of
from contrastill.cli.show import print_checks, print_evaluation, print_methods, print_suite, reporting
from contrastill.settings import Distillation, Evaluation, SuiteEvaluation

__all__ = ["register"]

EVALUATE = """Score a model: on labelled examples, or an embedding model on a suite of tasks (--suite).

    Examples:

    contrastill evaluate --model runs/student/student --data glue/mrpc --split dev

    contrastill evaluate --model runs/student --data intents-new.csv --json

    contrastill evaluate --model runs/student --data intents-new.csv --target 0.97 --oos chatter.txt

    With --target the exit code is 1 if no threshold reaches it.
    """
EVALUATE_SUITE = """Score a model: a sentence-embedding one on a suite of tasks.

    Examples:

    contrastill evaluate --suite sts --model runs/disco/student

    contrastill evaluate --suite mteb --tasks NFCorpus --model runs/disco/student --json
    """
DOCTOR = """Check the machine and, given a teacher and data, everything a distillation would check, without training.

    Examples:

    contrastill doctor

    contrastill doctor --teacher runs/teacher/model --data intents.csv
    """

ON_EXAMPLES = Kind(Evaluation, EVALUATE, "a score on labelled examples", "--data DATA")
ON_A_SUITE = Kind(
    SuiteEvaluation,
    EVALUATE_SUITE,
    "a score on a suite",
    "--suite sts",
    lambda words: option_in(words, "--suite") is not None,
)
KINDS = (ON_EXAMPLES, ON_A_SUITE)


def evaluate(as_json: bool, **options: Any) -> None:
    if options["suite"] is not None:
        return evaluate_suite(as_json, options)
    with reporting(as_json) as show:
        chosen = settings_of(Evaluation, options, kinds=KINDS)
        from contrastill.training.examples import score_model

        made = score_model(chosen)
        show(made.to_json(), lambda: print_evaluation(made))
        if made.scores.more.get("target", {}).get("reached") is False:
            raise typer.Exit(1)


def evaluate_suite(as_json: bool, options: dict[str, Any]) -> None:
    with reporting(as_json) as show:
        chosen = settings_of(SuiteEvaluation, options, kinds=KINDS)
        from contrastill.training.suite import evaluate_suite as score

        result, intervals = score(chosen)
        show(result, lambda: print_suite(f"{chosen.suite}: {chosen.model}", result, intervals))


def doctor(as_json: bool, **options: Any) -> None:
    with reporting(as_json) as show:
        from contrastill.machine import describe_machine

        result: dict[str, Any] = {"machine": describe_machine()}
        report = None
        if any(value not in (None, []) for value in options.values()):
            from contrastill.training import check_run, fit_student, plan_distillation
            from contrastill.training.checks import Report

            chosen = settings_of(Distillation, {**options, "out": options["out"] or "."})
            chosen, changed = fit_student(chosen) if options["student"] is None else (chosen, [])
            report = Report([*changed, *check_run(plan_distillation(chosen)).checks])
            result["checks"] = report.as_dict()
        show(result, lambda: print_checks(result["machine"], report))
        if report is not None and report.failed:
            raise typer.Exit(1)


def methods(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="METHOD", help="Methods by name, or package.module:Class (default: all).", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the distillation methods: their papers, stages and settings, what they cost and what students kept.

    Examples:

    contrastill methods lrc_bert kd

    contrastill methods --json
    """
    with reporting(as_json) as show:
        from contrastill.methods import METHODS, measured, method_class, method_ranges, method_settings, teacher_runs

        classes = {name: method_class(name) for name in names or METHODS}
        ranges = {name: method_ranges(name) for name in classes}
        result: dict[str, Any] = {
            name: {
                "paper": (inspect.getdoc(cls) or "").partition("\n")[0],
                "needs": sorted(cls.needs),
                "settings": method_settings(name),
                "ranges": {key: one.as_dict() for key, one in ranges[name].items()},
                "stages": {stage.name: {"share": stage.share, "weights": dict(stage.weights)} for stage in cls.stages},
                "teacher": teacher_runs(cls),
                "measured": [asdict(one) for one in measured(name)],
            }
            for name, cls in classes.items()
        }

        def allowed(name: str, setting: str) -> str:
            range_ = ranges[name][setting]
            return " | ".join(range_.choices) if range_.choices else str(range_)

        show(result, lambda: print_methods(result, allowed, measured))


def register(app: typer.Typer) -> None:
    command(app, evaluate, KINDS, AS_JSON)
    command(app, doctor, Kind(Distillation, DOCTOR), AS_JSON)
    app.command()(methods)
