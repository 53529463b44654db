"""Chart of quality against cost, and table of every score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from contrastill.report import charts, figures
from contrastill.report.charts import Chart, Point
from contrastill.report.model import Model, Score, alike
from contrastill.report.run import RunFiles
from contrastill.report.words import METRICS
from contrastill.results import LESS_IS_BETTER

__all__ = ["Measure", "measures", "scores", "shown", "tradeoff"]


@dataclass(frozen=True)
class Measure:
    """A column of scores. metric: None, where each model has one score. told: each score says what it is. about: an
    explanation."""

    name: str
    metric: str | None = None
    told: bool = False
    about: str = ""


def measures(found: Sequence[Model]) -> list[Measure]:
    """The columns of scores: one, or one a metric where models are scored by several."""
    if not any(model.beside for model in found):
        return [measure(found, None)]
    ordered = sorted(found, key=lambda model: model.kind != "trained")  # a teacher has no distance to itself
    return [measure(found, metric) for metric in dict.fromkeys(s.metric for model in ordered for s in model.scores)]


def measure(found: Sequence[Model], metric: str | None) -> Measure:
    kinds = {f"{score.words}, {score.where}" for model in found if (score := model.by(metric))}
    words = "score" if metric is None else figures.WORDS.get(metric, metric)
    about = f"{words[0].upper()}{words[1:]}: {METRICS[metric]}" if metric in METRICS else ""
    alike = len(kinds) == 1
    return Measure(kinds.pop() if alike else words, metric, not alike, about)


def shown(found: Sequence[Model]) -> dict[str, bool]:
    """Which optional columns of a table have values."""
    return {
        "kept": any(model.kept is not None for model in found),
        "timed": any(model.latency_ms for model in found),
    }


def tradeoff(groups: Sequence[tuple[str | None, Sequence[Model]]]) -> Chart | None:
    """Quality against latency; against size where fewer than two models were timed. Same metric, same rows only: those
    of the table, unless exported models were scored on dev alone."""
    every = [model for _, found in groups for model in found]
    on_dev = any(m.checked and not m.score for m in every) and any(m.checked and m.kind == "trained" for m in every)

    def score_of(model: Model) -> Score | None:
        return model.checked if on_dev else model.score

    first = next((score for m in every if (score := score_of(m)) and m.kind == "trained"), None)
    if first is None or first.metric in LESS_IS_BETTER:
        return None
    comparable = [
        (n, group, model, score)
        for n, (group, found) in enumerate(groups)
        for model in found
        if model.kind != "yardstick" and (score := score_of(model)) and alike(score, first)
    ]
    timed = [each for each in comparable if each[2].latency_ms]
    use_time = len(timed) >= 2
    teachers = {(m.size_mb, score.value) for _, _, m, score in comparable if m.kind == "teacher"}

    def name_of(group: str | None, model: Model) -> str:
        if group is None or (model.kind == "teacher" and len(teachers) == 1):
            return model.name
        return group if model.kind == "trained" else f"{group}: {model.name}"

    points, seen = [], set()
    trained = {(model.size_mb, score.value) for _, _, model, score in comparable if model.kind == "trained"}
    for n, group, model, score in timed if use_time else comparable:
        x = model.latency_ms if use_time else model.size_mb
        name = name_of(group, model)
        key = (model.kind, x, score.value)
        itself = (model.size_mb, score.value) in trained  # the teacher's own run is among those compared
        if not x or model.kind == "before" or (model.kind == "teacher" and (key in seen or itself)):
            continue
        seen.add(key)
        low, high = (None if v is None else v * score.factor for v in (score.low, score.high))
        points.append(Point(name, x, score.value * score.factor, low, high, model.kind, n))
    if len(points) < 2:
        return None
    unit = " (%)" if first.factor == 100 else ""
    x_label = "milliseconds for one text (log scale)" if use_time else "megabytes (log scale)"
    alt = "; ".join(f"{p.name}: {p.y:.2f} at {p.x:.3g}" for p in points)
    note = "Up is better, left is cheaper."
    if on_dev:
        note += f" This chart shows {first.where} scores, unlike the table: exported models have no others."
    untimed = dict.fromkeys(name_of(group, model) for _, group, model, _ in comparable if not model.latency_ms)
    for point in points:
        untimed.pop(point.name, None)  # the same teacher, timed beside another run
    if use_time and untimed:
        note += f" Not timed, so not drawn: {', '.join(untimed)}."
    if any(point.low is not None for point in points):
        note += " Bars are 95\u00a0% intervals."
    if not use_time:
        note += " No latencies were measured: the chart shows size instead."
    if groups[0][0] is not None:
        note += " Diamonds are teachers, squares exported bundles, circles the models in PyTorch."
    title = "Quality against latency" if use_time else "Quality against size"
    picture, marks = charts.tradeoff(points, x_label, f"{first.words}, {first.where}{unit}", alt)
    return Chart(title, picture, note, key=marks)


def place(score: tuple[str, str, bool]) -> int:
    """Where the row of a score (rows, metric, x 100) stands: dev, test, then the STS sets and their mean."""
    where, _, hundred = score
    return {"dev": 0, "test": 1}.get(where, 2) + 3 * hundred + (where == "mean")


def scores(run: RunFiles) -> dict[str, Any] | None:
    """Every score in metrics.json: of each split and metric, or of each STS set; and who has the better one."""
    found = run.result.columns
    columns = list(found)
    tables = [{(one.where, one.metric, one.hundred): one.value for one in column} for column in found.values()]
    wanted = sorted({key: None for table in reversed(tables) for key in table}, key=place)
    rows = [
        (where, [table.get((where, metric, hundred)) for table in tables], "" if hundred else metric, hundred)
        for where, metric, hundred in wanted
    ]
    if not rows:
        return None
    known = [n for n, _ in enumerate(columns) if any(values[n] is not None for _, values, _, _ in rows)]
    columns = [columns[n] for n in known]
    rows = [(where, [values[n] for n in known], metric, hundred) for where, values, metric, hundred in rows]
    table = []
    for where, values, metric, hundred in rows:
        factor = 100 if metric in figures.PERCENT else 1
        before, after = values if len(values) == 2 else (None, None)
        change = ""
        if before is not None and after is not None:
            change = figures.signed((after - before) * factor, 2 if factor == 100 or hundred else 4)
        cells = ["–" if value is None else figures.shown(value, metric, hundred) for value in values]
        name = f"{where} {figures.WORDS.get(metric, metric)}".strip()
        table.append({"name": name, "values": cells, "change": change})
    return {"columns": columns, "rows": table, "changes": len(columns) == 2}
