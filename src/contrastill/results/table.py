"""The table of a finished run: what the command line prints and a notebook shows."""

from dataclasses import dataclass, field
from html import escape

from contrastill.results.scores import LESS_IS_BETTER, YARDSTICKS, RunResult, Split

__all__ = ["ResultTable", "result_table"]


@dataclass(frozen=True)
class ResultTable:
    """A title, the heads of columns (the first of words, the others of figures), rows of cells, and lines below."""

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def html(self) -> str:
        """As HTML, every text of it escaped."""
        style = ' style="text-align: right"'
        head = "".join(f"<th{style if place else ''}>{escape(name)}</th>" for place, name in enumerate(self.columns))
        body = "".join(
            f"<tr><th>{escape(row[0])}</th>{''.join(f'<td{style}>{escape(cell)}</td>' for cell in row[1:])}</tr>"
            for row in self.rows
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if self.rows else ""
        notes = "".join(f"<div>{escape(note)}</div>" for note in self.notes)
        return f"<div><strong>{escape(self.title)}</strong>{table}{notes}</div>"


def result_table(result: RunResult) -> ResultTable:
    """The scores and sizes of a run's models: teacher and student, a model alone, or one before and after."""
    return before_and_after(result) if result.before_and_after else beside(result)


def beside(result: RunResult) -> ResultTable:
    """Scores and sizes of teacher and student, or of a model alone."""
    rows: list[list[str]] = []
    ours, metrics = list(result.models.values())[-1], dict[str, None]()
    for split in (split for split in ("dev", "test") if split in ours.splits):
        several = list(ours.splits[split].metrics) if ours.splits[split].intervals else []
        for metric in several or [str(result.metric)]:
            cells = [score_cell(scores.splits.get(split), metric, result.metric) for scores in result.models.values()]
            rows.append([f"{split} {metric}" if several else split, *cells])
        metrics |= dict.fromkeys(several)
    if (chosen_by := str(result.metric)) in ours.figures:
        known = [scores.figures.get(chosen_by) for scores in result.models.values()]  # of a teacher there may be none
        rows.append([f"dev {chosen_by}", *("" if value is None else f"{value:.4}" for value in known)])
    for label, name, form in (("parameters", "parameters", ",.0f"), ("MB", "size_mb", ".1f")):
        sizes = [scores.figures.get(name) for scores in result.models.values()]
        rows.append([label, *("" if value is None else format(value, form) for value in sizes)])
    for each in next(iter(result.sts.values()), {}):
        rows.append([each, *(f"{result.sts[name][each]:.2f}" for name in result.models)])
    kept = ", ".join(f"{split} {share:.1%}" for split, share in (result.kept or {}).items())
    notes = [f"kept of the teacher: {kept}"] if kept else []
    if lower := [metric for metric in metrics if metric in LESS_IS_BETTER]:
        notes.append(f"lower is better: {', '.join(lower)}")
    if given := {name: value for name, value in result.yardsticks.items() if name.endswith(" distinct_2")}:
        shown = ", ".join(f"{name.split()[0]} {value:.4f}" for name, value in given.items())
        notes.append(f"distinct_2 of the given answers: {shown}")
    for split, (metric, *apart) in result.against_baseline.items():
        factor, places = (1, 4) if metric in LESS_IS_BETTER else (100, 2)
        value, low, high = (f"{factor * each:+.{places}f}" for each in apart)
        unit = " x 100" if factor == 100 else ""
        notes.append(f"student minus baseline, {split} {metric}{unit}: {value} ({low} to {high})")
    notes += [f"{name}: {what}" for name, what in YARDSTICKS.items() if name in result.models]
    if result.figures.get("checkpoint") == 0:
        notes.append("no checkpoint was better on dev than the start: the weights before the first step are kept")
    if averaged := result.figures.get("averaged"):
        notes.append(f"weights: the mean of the last {averaged:.0f} checks")
    return ResultTable(f"{result.task} ({result.metric})", ["", *result.models], rows, notes)


def score_cell(split: Split | None, metric: str, first: str | None) -> str:
    """A score with its interval; "" where there is none: a file of answers may lack a split, a teacher has no kl."""
    if split is None or metric not in split.metrics:
        return ""
    found = split.ends(metric, first)
    return f"{split.metrics[metric]:.4f}" + (f" ({found[0]:.3f}-{found[1]:.3f})" if found else "")


def before_and_after(result: RunResult) -> ResultTable:
    """Scores of one model before and after."""
    rows, notes = [], []
    if (dev := result.changes.get("dev")) is not None:
        rows.append(["dev", f"{dev['before']:.2f}", f"{dev['after']:.2f}"])
    for name, after in result.sts.get("after", {}).items():
        rows.append([name, f"{result.sts['before'][name]:.2f}", f"{after:.2f}"])
    if found := result.changes.get("retrieval"):
        shares = ", ".join(f"{found[when]:.1f} % {when}" for when in ("before", "after"))
        held, chance = result.figures.get("held_out"), result.yardsticks.get("chance")
        which = f"{held:,} held-out pairs" if held else "training rows"
        more = f"{100 * chance:.1f} % by chance" if held and chance else "--dev scores the model on other texts"
        notes.append(f"{which} whose second text is the nearest: {shares}; {more}")
    notes.append(f"{result.figures['parameters']:,} parameters, {result.figures['size_mb']:.1f} MB")
    title = f"{result.base}, {result.figures['train_rows']:,} rows"
    return ResultTable(title, ["Spearman x 100", "before", "after"], rows, notes)
