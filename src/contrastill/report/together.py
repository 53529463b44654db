"""Comparison of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contrastill.report import charts, figures
from contrastill.report.answers import MOST_CLASSES, histogram
from contrastill.report.charts import Chart, Line
from contrastill.report.model import Model
from contrastill.report.overview import measures, shown, tradeoff
from contrastill.report.paired import answers_of, difference
from contrastill.report.record import doubts
from contrastill.report.results import in_points
from contrastill.report.run import RunFiles, mapping, number, objects
from contrastill.report.training import dev_chart, share_chart, smoothed, stages, terms, windows
from contrastill.report.words import SHARES, TERMS
from contrastill.results import HELD_OUT_PAIRS, LESS_IS_BETTER

__all__ = ["side_by_side"]


def side_by_side(
    runs: Sequence[RunFiles], names: Sequence[str], each: Sequence[dict[str, Any]], reference: int
) -> dict[str, Any]:
    named = list(zip(names, runs, strict=True))
    every = [model for one in each for model in one["models"]]
    timed = list(dict.fromkeys(model.timed for model in every if model.timed))
    return {
        "warnings": [*unlike(runs, timed), *(f"{name}: {doubt}" for name, run in named for doubt in doubts(run))],
        "timed": timed,
        "models": every,
        "teachers": teachers(named, each),
        "differences": differences([named[reference], *named[:reference], *named[reference + 1 :]]),
        "measures": measures(every),
        "shown": shown(every),
        "tradeoff": tradeoff([(name, one["models"]) for name, one in zip(names, each, strict=True)]),
        "charts": overlays(named),
        "scores": joined_scores(names, each),
        "classes": joined_classes(named),
        "histogram": histogram(named),
        "settings": differing(names, [one["settings"] for one in each]),
        "machine": differing(names, [one["machine"] for one in each]),
        "times": differing(names, [{name: figures.duration(s) for name, s, _ in one["times"]} for one in each]),
    }


def teachers(named: Sequence[tuple[str, RunFiles]], each: Sequence[dict[str, Any]]) -> list[tuple[Model, str]]:
    """Each teacher once, with the names of its runs; "" if there is only one teacher."""
    found: dict[Any, list[tuple[str, Model]]] = {}
    for (name, run), one in zip(named, each, strict=True):
        for model in one["models"]:
            if model.kind == "teacher":
                print_of = run.record.get("teacher_fingerprint")
                key = (str(print_of or name), model.size_mb, model.score)
                found.setdefault(key, []).append((name, model))
    rows = []
    for its in found.values():
        models = [model for _, model in its]
        known = next((model for model in models if model.latency_ms), models[0])
        rows.append((known, f"of {', '.join(name for name, _ in its)}" if len(found) > 1 else ""))
    return rows


def differences(named: Sequence[tuple[str, RunFiles]]) -> dict[str, Any] | None:
    """The difference of each run from the first with answers, on the rows that both were scored on: test, else dev."""
    best: dict[str, Any] | None = None
    for split in ("test", "dev", "texts held out", HELD_OUT_PAIRS):
        answers = [(name, found) for name, run in named if (found := answers_of(run, split))]
        if len(answers) < 2:
            continue
        (base, first), *others = answers
        hundred = any(run.result.before_and_after for _, run in named)
        rows = []
        for name, other in others:
            if apart := difference(other, first):
                said, between = in_points(other.metric, apart, hundred)
                clear = apart[1] > 0 or apart[2] < 0
                verdict = ("higher" if apart[0] > 0 else "lower") if clear else "no difference shown"
                verdict += ", better" * (clear and other.metric in LESS_IS_BETTER and apart[0] < 0)
                verdict += ", worse" * (clear and other.metric in LESS_IS_BETTER and apart[0] > 0)
                rows.append((name, said, between, verdict))
        if len(rows) > (0 if best is None else len(best["rows"])):
            words = figures.WORDS.get(first.metric, first.metric)
            best = {"base": base, "split": split, "metric": words, "of": len(first.given), "rows": rows}
            best["unlike"] = [name for name, _ in named if name not in {base, *(row[0] for row in rows)}]
    return best


def unlike(runs: Sequence[RunFiles], timed: Sequence[str]) -> list[str]:
    """Why figures of these runs may not compare."""
    found = []
    for key, what in (("data_fingerprint", "data"), ("teacher_fingerprint", "teachers")):
        if len({str(run.record.get(key)) for run in runs if run.record.get(key)}) > 1:
            found.append(f"The runs have different {what}: compare their figures with care.")
    if len({run.result.metric for run in runs if run.scored}) > 1:
        found.append("The runs are measured by different metrics: the chart shows only those with the first run's.")
    processors = {str(run.record["machine"].get("cpu")) for run in runs if mapping(run.record.get("machine"))}
    if len(timed) > 1 or (timed and len(processors) > 1):
        found.append("Speed was not measured in the same way or on the same machine: compare latencies with care.")
    return found


def overlays(named: Sequence[tuple[str, RunFiles]]) -> list[Chart]:
    """The dev scores of all runs, and each loss term that several have; their sum only where the method is the same."""
    found = [dev] if (dev := dev_chart(named)) else []
    methods = {(run.command, str(run.settings.get("method"))) for _, run in named}
    found += [chart for name in SHARES if (chart := share_chart(named, name)) and len(chart.key) > 1]
    for term in dict.fromkeys(term for _, run in named for term in terms(run)):
        if term == "loss" and len(methods) > 1:
            continue
        drawn = [Line(name, *smooth(run, term), group=n) for n, (name, run) in enumerate(named)]
        drawn = [line for line in drawn if line.steps]
        if len(drawn) > 1:
            alt = "; ".join(f"{line.name} ends at {line.values[-1]:.4g}" for line in drawn)
            key = charts.key([(line.name, line.group) for line in drawn])
            found.append(
                Chart(term, charts.lines(drawn, term, alt), f"{TERMS.get(term, '')} Smoothed.".strip(), key=key)
            )
    return found


def smooth(run: RunFiles, term: str) -> tuple[list[float], list[float]]:
    steps, values = windows(run, term)
    return steps, smoothed(steps, values, [last for _, _, last, _ in stages(run)])


def joined_scores(names: Sequence[str], each: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Table of the trained models' scores: a row for each score, a column for each run."""
    tables = [{row["name"]: row["values"][-1] for row in (one["scores"] or {"rows": []})["rows"]} for one in each]
    rows = list(dict.fromkeys(name for table in tables for name in table))
    return {"columns": names, "rows": [(row, [t.get(row, "–") for t in tables]) for row in rows]} if rows else None


def joined_classes(named: Sequence[tuple[str, RunFiles]]) -> dict[str, Any] | None:
    """Each run's F1 of the classes on which they differ most."""
    tables = [
        {str(each.get("name")): number(each, "ours", "f1") for each in objects(run.evidence.get("classes"))}
        for _, run in named
    ]
    if sum(map(bool, tables)) < 2:
        return None
    spread = []
    for name in dict.fromkeys(name for table in tables for name in table):
        values = [table.get(name) for table in tables]
        known = [value for value in values if value is not None]
        if len(known) > 1:
            spread.append((max(known) - min(known), name, values))
    spread.sort(key=lambda row: -row[0])
    return {"columns": [name for name, _ in named], "rows": spread[: 2 * MOST_CLASSES], "of": len(spread)}


def differing(names: Sequence[str], tables: Sequence[dict[str, str]]) -> dict[str, Any] | None:
    """The rows in which the runs differ."""
    rows = [
        (key, [table.get(key, "–") for table in tables])
        for key in dict.fromkeys(key for table in tables for key in table)
        if key not in ("out", "overwrite", "force", "memory available gb")
        and len({table.get(key, "–") for table in tables}) > 1
    ]
    return {"columns": names, "rows": rows} if rows else None
