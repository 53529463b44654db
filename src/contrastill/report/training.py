"""The curves of a run: its loss terms, dev scores, learning rate and gradient norm, over steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from contrastill.report import charts, figures
from contrastill.report.charts import Chart, Line
from contrastill.report.run import RunFiles, dig, mapping, number, objects
from contrastill.report.words import CURVES, SHARES, TERMS

__all__ = ["curves", "dev_chart", "not_finite", "share_chart", "smoothed", "terms", "windows"]

Span = tuple[str, float, float, dict[str, Any]]  # a stage: name, first and last step, weights
Window = tuple[Any, float, float, float]  # stage, last step, steps, and the mean over them
FEWEST, SMOOTH = 16, 20  # points from which a curve is smoothed; the share of them on either side, one in so many
SMOOTHED = "Strong line: smoothed; faint line: as logged."
NOT_TERMS = {"grad_norm", "learning_rate", "stage", "epoch", "step", "total_flos", *SHARES}


def terms(run: RunFiles) -> list[str]:
    """The loss terms in the log, the sum first; alone where the only term is the sum."""
    found = dict.fromkeys(
        key for row in run.log if "loss" in row for key in row if key not in NOT_TERMS and not key.startswith("eval_")
    )
    found.pop("loss", None)
    return ["loss", *found] if len(found) != 1 else list(found)


def points(run: RunFiles, key: str) -> tuple[list[float], list[float]]:
    """Steps and values of what is logged under this name, where they are finite."""
    pairs = [(row["step"], number(row, key)) for row in run.log if key in row]
    good = [(float(step), value) for step, value in pairs if value is not None]
    return [step for step, _ in good], [value for _, value in good]


def windows(run: RunFiles, key: str) -> tuple[list[float], list[float]]:
    """Steps and values of a loss term, a point for as many steps as the log usually takes a mean over.

    What is logged at a save, or at the end, is the mean of fewer steps, at worst of a single batch, whose texts are
    all short or all long. Such means are joined with their neighbours of the same stage, each by its steps.
    """
    rows = [row for row in run.log if "loss" in row]
    steps = [row["step"] for row in rows]
    spans = [(row, step - before) for row, step, before in zip(rows, steps, [0.0, *steps], strict=False)]
    known = [(row, span, value) for row, span in spans if (value := number(row, key)) is not None and span > 0]
    if not known:
        return points(run, key)
    usual = sorted(span for _, span in spans)[len(spans) // 2]
    found: list[Window] = []
    for row, span, value in known:
        now = row.get("stage"), float(row["step"]), span, value
        if found and found[-1][0] == now[0] and found[-1][2] < usual:
            found[-1] = joined(found[-1], *now)
            continue
        found = whole(found, usual)
        found.append(now)
    found = whole(found, usual)
    return [step for _, step, _, _ in found], [value for _, _, _, value in found]


def whole(found: list[Window], usual: float) -> list[Window]:
    """The windows, with a short last one merged into its predecessor of the same stage."""
    if len(found) > 1 and found[-1][2] < usual and found[-2][0] == found[-1][0]:
        return [*found[:-2], joined(found[-2], *found[-1])]
    return found


def joined(before: Window, stage: Any, step: float, span: float, value: float) -> Window:
    """Two neighbouring windows merged."""
    both = before[2] + span
    return stage, step, both, (before[2] * before[3] + span * value) / both


def not_finite(run: RunFiles) -> str | None:
    at = [
        row["step"]
        for row in run.log
        if any(isinstance(value, float) and not math.isfinite(value) for key, value in row.items() if key != "step")
    ]
    if not at:
        return None
    return f"The log holds NaN or infinity, at step {at[0]:,.0f} first; such numbers are not drawn."


def stages(run: RunFiles) -> list[Span]:
    """(name, first step, last step, weights) of each stage that the log has reached."""
    known = objects(run.record.get("stages"))
    last = max((row["step"] for row in run.log), default=0)
    steps = run.result.figures
    total, shares = steps.get("planned_steps", steps.get("steps")), [number(stage, "share") or 0 for stage in known]
    found, begin, done = [], 0.0, 0.0
    for n, stage in enumerate(known, 1):
        done += shares[n - 1]
        if total and sum(shares):
            end = float(round(total * done / sum(shares)))
        else:
            end = max((float(row["step"]) for row in run.log if row.get("stage") == n), default=begin)
        if end > begin:
            found.append((str(stage.get("name", n)), begin, min(end, max(last, end)), mapping(stage.get("weights"))))
        begin = max(begin, end)
    return found


def smoothed(steps: Sequence[float], values: Sequence[float], ends: Sequence[float] = ()) -> list[float]:
    """Means over neighbouring points, as many on either side, none of another stage. ends: last steps of stages.

    Curves of few points are left as they are.
    """
    parts = np.searchsorted(ends, steps)  # the stage of each point
    found: list[float] = []
    for part in np.unique(parts):
        some = np.asarray(values, dtype=np.float64)[parts == part]
        wide = len(some) // SMOOTH if len(some) >= FEWEST else 0
        for n in range(len(some)):
            around = min(wide, n, len(some) - 1 - n)
            found.append(float(some[n - around : n + around + 1].mean()))
    return found


def curves(run: RunFiles) -> list[Chart]:
    """Each loss term, the dev scores, the learning rate and the gradient norm, over steps."""
    spans = stages(run)
    marks = [(name, first, last) for name, first, last, _ in spans]
    found = [chart for term in terms(run) if (chart := term_chart(run, term, spans))]
    found += [chart for name in SHARES if (chart := share_chart([(None, run)], name, marks))]
    if dev := dev_chart([(None, run)], marks):
        found.append(dev)
    for key, title in (("learning_rate", "learning rate"), ("grad_norm", "gradient norm")):
        steps, values = points(run, key)
        if steps:
            alt = f"{title} over {len(steps)} logged steps, at most {max(values):.3g}"
            line = drawn(title, steps, values, [last for _, _, last in marks]) if key == "grad_norm" else None
            lines = [line or Line(title, steps, values)]
            picture = charts.lines(lines, title, alt, stages=marks, height=2.0)
            found.append(Chart(title, picture, CURVES[key], small=True))
    return found


def drawn(name: str, steps: list[float], values: list[float], ends: Sequence[float], **options: Any) -> Line:
    """A curve, smoothed where it has points enough, with what was logged behind it."""
    smooth = smoothed(steps, values, ends)
    return Line(name, steps, smooth, raw=() if smooth == values else values, **options)


def term_chart(run: RunFiles, term: str, spans: Sequence[Span]) -> Chart | None:
    """A loss term over steps, and what it shows."""
    steps, values = windows(run, term)
    if not steps:
        return None
    marks = [(name, first, last) for name, first, last, _ in spans]
    queue = mapping(run.record.get("queue"))
    full, named = number(queue, "full_at"), queue.get("terms")
    queued = set(map(str, named)) if isinstance(named, list) else set()
    queued |= {"loss"} if queued else set()
    faint = tuple((first, last) for _, first, last, weights in spans if term != "loss" and not weights.get(term))
    notes = [TERMS.get(term, "")]
    if term == "hard" and (without := number(run.record, "data", "splits", "train", "unlabelled")):
        notes.append(f"The training rows without a label ({without:,.0f}) count as 0 in it.")
    elif (choice := choices(run, term)) > 1:
        notes.append(f"By chance among {choice:,} it is ln {choice:,} = {math.log(choice):.2f}.")
    if term == "loss" and len(terms(run)) > 1:
        notes.append("It is the weighted sum of the terms")
        notes[-1] += "; it may jump where a stage begins, as the weights change there." if len(spans) > 1 else "."
    if faint:
        notes.append("Dotted: logged, but not trained, in that stage.")
    filling = full if term in queued and full and steps[0] < full else None
    if filling:
        notes.append(filling_note(run, filling))
    line = drawn(term, steps, values, [last for _, _, last in marks], faint=faint)
    notes += [SMOOTHED] if line.raw else []
    alt = f"{term} from {values[0]:.4g} at step {steps[0]:.0f} to {values[-1]:.4g} at step {steps[-1]:.0f}"
    title = term if term != "loss" or len(terms(run)) == 1 else "loss (sum)"
    return Chart(title, charts.lines([line], title, alt, stages=marks, mark=filling), " ".join(filter(None, notes)))


def share_chart(
    runs: Sequence[tuple[str | None, RunFiles]], name: str, marks: Sequence[tuple[str, float, float]] = ()
) -> Chart | None:
    """A share over steps, from 0 to 1, of one run or of several."""
    found = [(run_name, n, *windows(run, name)) for n, (run_name, run) in enumerate(runs)]
    ends = [last for _, _, last in marks]
    lines = [drawn(each or name, steps, values, ends, group=n) for each, n, steps, values in found if steps]
    if not lines:
        return None
    alt = "; ".join(f"{line.name} ends at {line.values[-1]:.4g}" for line in lines)
    note = f"{SHARES[name]} {SMOOTHED if any(line.raw for line in lines) else ''}".strip()
    picture = charts.lines(lines, name, alt, stages=marks, share=True)
    return Chart(name, picture, note, key=charts.key([(line.name, line.group) for line in lines]))


def choices(run: RunFiles, term: str) -> int:
    """The texts or classes among which a term lets choose at the end of training; 0: it does not, or none are known."""
    if term == "hard" and run.evidence.get("kind") == "classification":
        return len(objects(run.evidence.get("classes")))
    columns = dig(run.record, "data", "columns")
    rows = number(run.record, "batch_rows") if term == "contrast" else number(run.settings, "batch_size")
    if term not in ("ckd", "contrast") or not rows or (term == "contrast" and not isinstance(columns, list)):
        return 0
    steps, queue = run.result.figures.get("steps") or 0, number(run.record, "queue", "size") or 0
    return int(rows * (len(columns) - 1 if term == "contrast" else 1) + min(queue, steps * rows))


def filling_note(run: RunFiles, full: float) -> str:
    """Why a term that reads a queue rises at first."""
    size, last = number(run.record, "queue", "size"), max(row["step"] for row in run.log)
    when = f"until it is full, at step {full:,.0f} (dashed)" if full <= last else f"to the end (it holds {size:,.0f})"
    return f"The queue of past texts grows {when}: each step compares more texts, so the loss may rise."


def dev_chart(
    runs: Sequence[tuple[str | None, RunFiles]], marks: Sequence[tuple[str, float, float]] = ()
) -> Chart | None:
    """The dev scores over steps: of one run all that fit on one axis, of several the one that selects."""
    drawn: list[tuple[str, Line]] = []  # with the metric's name
    for n, (name, run) in enumerate(runs):
        keys = list(dict.fromkeys(key for row in run.log for key in row if key.startswith("eval_")))
        chosen = f"eval_{run.result.metric}"
        keys.sort(key=lambda key: key != chosen)
        for key in keys[:1] if name is not None or "eval_loss" in keys else keys:
            metric, (steps, values) = key.removeprefix("eval_"), points(run, key)
            group = len(drawn) if name is None else n
            line = Line(name or figures.WORDS.get(metric, metric), steps, values, dots=True, group=group)
            if steps and (not drawn or (near(line, drawn[0][1]) if name is None else metric == drawn[0][0])):
                drawn.append((metric, line))
    if not drawn:
        return None
    names = dict.fromkeys(figures.WORDS.get(metric, metric) for metric, _ in drawn)
    lines = [line for _, line in drawn]
    alt = "; ".join(f"{line.name} ends at {line.values[-1]:.4g}" for line in lines)
    title = "dev " + " and ".join(names)
    chosen = f"{next(iter(names))} " if len(names) > 1 else ""
    note = f"The score on held-out rows during training; the {chosen}score selects the checkpoint."
    levels = []
    if len(runs) == 1 and drawn[0][0] == "agreement":
        known = runs[0][1].result.yardsticks
        named = (("before training", "untrained"), ("random neighbours", "chance"))
        levels = [(said, known[key]) for said, key in named if key in known]
    picture = charts.lines(lines, title, alt, stages=marks, levels=levels)
    return Chart(title, picture, note, key=charts.key([(line.name, line.group) for line in lines]))


def near(line: Line, other: Line) -> bool:
    """Whether two curves can share an axis."""
    return 0.4 <= (abs(line.values[-1]) + 1e-9) / (abs(other.values[-1]) + 1e-9) <= 2.5
