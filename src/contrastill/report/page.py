"""The content of the page, section by section; the templates hold its layout."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from contrastill import __version__
from contrastill.errors import counted
from contrastill.report import charts, figures, record, results
from contrastill.report.answers import evidence
from contrastill.report.calibration import reliability
from contrastill.report.model import Score
from contrastill.report.next_steps import next_steps, unmeasured
from contrastill.report.overview import measures, scores, shown, tradeoff
from contrastill.report.run import RunFiles, dig, objects
from contrastill.report.tiles import tiles
from contrastill.report.together import side_by_side
from contrastill.report.training import curves, not_finite
from contrastill.report.written import diversity
from contrastill.results import YARDSTICKS

__all__ = ["comparison_page", "run_page"]

environment = Environment(
    loader=PackageLoader("contrastill.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
SCRIPT = environment.loader.get_source(environment, "page.js")[0] if environment.loader else ""
environment.globals |= {
    "yardsticks": YARDSTICKS,
    "version": __version__,
    "script": Markup(SCRIPT),
    # the policy lets this script run and no other: not one that a text smuggles in
    "script_hash": f"sha256-{b64encode(sha256(SCRIPT.encode()).digest()).decode()}",
}
environment.filters |= {
    "percent": figures.percent,
    "signed": figures.signed,
    "times": figures.times,
    "millions": figures.millions,
    "megabytes": figures.megabytes,
    "milliseconds": figures.milliseconds,
    "duration": figures.duration,
}


def run_page(run: RunFiles) -> str:
    """The page of one run."""
    charts.restart()
    return environment.get_template("run.html").render(title=f"{run.name}: {run.command}", run=sections(run))


def comparison_page(runs: Sequence[RunFiles], reference: int = 0) -> str:
    """One page of several runs: a comparison, then each run alone.

    reference: the number of the run to which differences are given.
    """
    charts.restart()
    names = distinct_names(runs)
    gate = next((found for run in runs if (found := results.gate_of(run))), None)
    each = [sections(run, name, gate) for run, name in zip(runs, names, strict=True)]
    return environment.get_template("compare.html").render(
        title="Comparison of " + ", ".join(names), runs=each, together=side_by_side(runs, names, each, reference)
    )


def distinct_names(runs: Sequence[RunFiles]) -> list[str]:
    """The runs' names, with their folder's where two are alike, and numbered where that is not enough."""
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = ["/".join(run.folder.resolve().parts[-2:]) for run in runs]
    return [name if names.count(name) == 1 else f"{name} ({n})" for n, name in enumerate(names, 1)]


def sections(run: RunFiles, name: str | None = None, gate: Score | None = None) -> dict[str, Any]:
    """Everything on one run's page; empty or None where there is nothing to show."""
    found, bad = results.models(run, gate), not_finite(run)
    doubted = record.warnings(run)
    pointer = f"{counted(len(doubted), 'doubt')} about this run: see “Decisions and doubts”."
    problems = [*run.problems, *([bad] if bad else []), *record.doubts(run), *([pointer] if doubted else [])]
    return {
        "name": name or run.name,
        "command": run.command,
        "about": about(run),
        "finished": run.finished,
        "problems": problems,
        "headline": results.headline(run),
        "tiles": tiles(run, found),
        "models": found,
        "measures": measures(found),
        "shown": shown(found),
        "rows_scored": results.rows_scored(run, found),
        "against_teacher": results.against_teacher(run),
        "against_baseline": results.against_baseline(run),
        "diversity": diversity(run.result),
        "timed": next((model.timed for model in found if model.timed), None),
        "tradeoff": tradeoff([(None, found)]),
        "scores": scores(run),
        "next": next_steps(run),
        "timeable": not unmeasured(run),
        "decisions": record.decisions(run),
        "warnings": doubted,
        "curves": curves(run),
        "evidence": evidence(run),
        "reliability": reliability(run),
        "speed": record.speed(run),
        "exports": record.exports(run),
        "data": record.data(run),
        "settings": record.settings(run),
        "checks": [record.check(each) for each in objects(run.record.get("preflight"))],
        "machine": record.machine(run),
        "times": record.phases(run),
    }


def about(run: RunFiles) -> list[str]:
    """The run in a few words: task, method, teacher."""
    asked, method = run.settings, run.settings.get("method")
    teacher = asked.get("teacher") or asked.get("teacher_outputs") or asked.get("model")
    names = [teacher] if isinstance(teacher, str) else teacher if isinstance(teacher, list) else []
    role = "teacher" if asked.get("teacher") or asked.get("teacher_outputs") else "of"
    task = run.result.task or dig(run.record, "data", "task")
    return [
        *([f"task {task}"] if task else []),
        *([f"method {method}"] if method else []),
        *(f"{role} {short(str(each))}" for each in names),
        *([f"student {asked['student']}"] if asked.get("student") else []),
    ]


def short(name: str) -> str:
    """The end of a path; a Hub name as it is."""
    return name if name.count("/") <= 1 and not name.startswith((".", "/")) else "/".join(Path(name).parts[-2:])
