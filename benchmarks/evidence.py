"""docs/evidence.md and its figures from benchmarks/results/*.jsonl: nothing in them is typed by hand.

python benchmarks/evidence.py          (--check: exit code 1 if the page is not what the results say)
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from evidence_rows import (
    HERE,
    RESULTS,
    Rows,
    at_best_rates,
    by_axis,
    left,
    mean_and_spread,
    of_differences,
    on_cores,
    rate_of,
    score,
    step_costs,
    study,
    with_rate,
)
from evidence_texts import (
    ABLATIONS,
    ABOUT,
    ADDITIONS,
    BASELINES,
    CAPTIONS,
    CONTRAST,
    GENERAL,
    GLUE,
    INTENTS,
    METHODS,
    MORE,
    PAPERS,
    PUBLISHED,
    RATES,
    ROBUSTNESS,
    SHORT,
    STAGES,
    TERMS,
    UNSTEADY,
)
from markdown_parts import table, write_or_check

from contrastill import Study
from contrastill.studies import Cells
from contrastill.studies.paired import Difference, differences, words
from contrastill.studies.plot import forest

PAGE = HERE.parent / "docs" / "evidence.md"
FIGURES = HERE.parent / "docs" / "figures"
METRICS = {"matthews": "Matthews correlation", "accuracy": "accuracy", "spearman": "Spearman correlation", "f1": "F1"}
TEACHERS = {"CoLA": "cola", "RTE": "rte", "MRPC": "mrpc", "STS-B": "stsb", "SST-2": "sst2", "BANKING77": "banking77"}
EPOCHS = 5  # passes over CoLA
SHAPE = "4L-312"  # the shape of all students but some of the map
TASKS = ("task", "method")
MAP = ("set", "labels", "size", "start", "method")
FEW = {"+ texts": "and texts", "of MPNet": "(teacher MPNet)"}
SEEDS = {"CoLA": 5, "RTE": 5, "MRPC": 5, "STS-B": 3, "SST-2": 3, "BANKING77": 3}  # asked of each
STARTS = {
    "random": "random weights",
    "weak": "a weak general student, `models/4L-312`",
    "general": "a general student, `models/bert-4L-312`",
    "MiniLM": "a larger encoder that exists, `all-MiniLM-L6-v2`",
    "inherit": "its teacher's weights (`inherit`)",
}
FROM = ", from "
SO = ("better", "level", "worse")
SCORES = {
    "kl": ("KL", 3), "perplexity": ("perplexity", 1), "own_nats": ("own nats", 3), "distinct_2": ("distinct-2", 3),
    "rouge_l": ("ROUGE-L", 3),
}  # fmt: skip


def teacher_of(found: Study, task: str) -> dict[str, Any] | None:
    return found.table().get(found.identity((TEACHERS[task], 0)))


def missing(rows: Rows, axis: str, values: Sequence[str]) -> str:
    """Which cells the tables lack, by task."""
    made = by_axis(rows, "task")
    lacking = {
        task: sum(max(0, count - len(by_axis(made.get(task, []), axis).get(value, []))) for value in values)
        for task, count in SEEDS.items()
    }
    said = ", ".join(f"{task} {count} of {SEEDS[task] * len(values)}" for task, count in lacking.items() if count)
    return f"Cells that are missing: {said}. The command continues the table." if said else "No cell is missing."


def results(found: Study, rows: Rows, axis: str, to: str, figure: str) -> list[str]:
    """The tables of one study: scores, shares of the teacher, differences, cost."""
    made = {task: by_axis(some, axis) for task, some in by_axis(rows, "task").items()}
    tasks = [task for task in SEEDS if task in made]
    values = list(dict.fromkeys(value for each in made.values() for value in each))
    teachers = [teacher_of(found, task) for task in tasks]
    lines = [["teacher", *("" if row is None else f"{100 * row['dev']:.1f}" for row in teachers)]]
    shares, costs = list[list[str]](), list[list[str]]()
    for value in values:
        lines.append([f"`{value}`", *(with_rate(made[task].get(value)) for task in tasks)])
        cells = [
            statistics.mean(row["kept"] for row in some) if (some := made[task].get(value)) else None for task in tasks
        ]
        known = [cell for cell in cells if cell is not None]
        mean = [f"{100 * statistics.mean(known):.1f}" if len(known) == len(tasks) else ""] if len(tasks) > 1 else []
        shares.append([f"`{value}`", *("" if cell is None else f"{100 * cell:.1f}" for cell in cells), *mean])
        runs = [row for task in tasks for row in made[task].get(value, [])]
        hours = sum(sum(row["seconds"].values()) for row in runs) / 3600
        forwards = sum(row.get("teacher_forwards", 0) for row in runs)
        costs.append([f"`{value}`", str(len(runs)), f"{hours:.1f}", f"{forwards:,}"])
    metrics = [METRICS[next(iter(made[task].values()))[0]["metric"]] for task in tasks]
    columns = [f"{task}<br>{metric}" for task, metric in zip(tasks, metrics, strict=True)]
    apart = beside(rows, axis, to)
    return [
        table(["on dev, × 100", *columns], lines),
        "Mean and standard deviation, with the number of seeds and the learning rate.",
        "Share of the teacher's score, in %:",
        table(["", *tasks, *(["mean"] if len(tasks) > 1 else [])], shares),
        f"Differences to `{to}`, paired by seed (scores as they are, not × 100; the figure shows the same):",
        table(
            ["task", "", "difference", "95 % over seeds", "better in", "so"],
            [[one.label, less(one, to), *words(one)] for one in apart],
        ),
        f"![Differences to {to} with their intervals](figures/{figure})",
        "Spent, on one core beside other work ([what a step costs](benchmarks.md#a-step-of-each-method)):",
        table(["", "runs", "hours", "texts read by the teacher"], costs),
    ]


def beside(rows: Rows, axis: str, to: str) -> list[Difference]:
    """The differences to the value `to`; of values with another start ("..., from ...") to `to` with that start, where
    that was run."""
    starts: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        _, known, start = row["axes"][axis].partition(FROM)
        starts.setdefault(to + known + start, []).append(row)
    return [
        one
        for theirs, some in starts.items()
        if theirs in by_axis(some, axis)
        for one in differences(some, axis, theirs)
    ]


def less(one: Difference, usual: str) -> str:
    return f"`{one.value}`" if one.to == usual else f"`{one.value}` less `{one.to}`"


def page() -> str:
    parts = ["# Evidence", ABOUT, *in_short()]
    glue, rows = glue_at_best_rates()
    if rows:
        parts += ["## GLUE", f"{GLUE}{on_cores(rows)} {missing(rows, 'method', axis_values(glue, 'method'))}"]
        parts += results(glue, rows, "method", "kd", "glue.svg")
        tasks = next(iter(PUBLISHED.values())).keys()
        published = [[name, *(f"{row[task]:.1f}" for task in tasks)] for name, row in PUBLISHED.items()]
        parts += [PAPERS, table(["× 100", *tasks], published)]
    if (more := study("more", 3)).rows():
        parts += ["### More steps, other words, a start that knows more", *of_more(more)]
    if (rates := study("rates", 5)).rows():
        parts += ["### Rates and lengths", RATES, *of_rates(rates)]
    if noisy := robustness("method"):
        parts += ["### Typos and dropped words", ROBUSTNESS, noisy]
    if (ablation := study("ablation", 3)).rows():
        parts += [
            "### Ablations of LRC-BERT",
            f"{ABLATIONS}{on_cores(ablation.rows())} {left(ablation)}",
            *results(ablation, ablation.rows(), "ablation", "LRC-BERT", "ablation.svg"),
        ]
    if mapped := map_rows():
        parts += ["## Where contrast pays", *of_map(mapped)]
    if (baselines := study("baselines", 3)).rows():
        parts += ["### All methods, from random weights", *of_methods(baselines, BASELINES)]
    if (terms := study("terms", 3)).rows():
        parts += ["### What each part adds", *of_variants(terms, "ablation", "LRC-BERT", TERMS)]
        if noisy := robustness("ablation"):
            parts += [UNSTEADY, noisy]
    if (methods := study("methods", 3)).rows():
        parts += ["## BANKING77", *of_methods(methods, METHODS)]
    if (stages := study("stages", 3)).rows():
        parts += ["## Stages of LRC-BERT", *of_stages(stages)]
    if (general := study("general", 3)).rows():
        parts += ["## General students", *of_general(general)]
    if (additions := study("additions", 5)).rows():
        parts += ["## Language models: additions", *of_additions(additions)]
    if (captions := study("captions", 3)).rows():
        parts += ["## Language models: captions", *of_captions(captions)]
    if (intents := RESULTS / "intents.json").exists():
        parts += ["## Language models: intents as text", *of_intents(json.loads(intents.read_text()))]
    return "\n\n".join(part.strip() for part in parts) + "\n"


@dataclass(frozen=True)
class Compared:
    """LRC-BERT beside `kd`, each at its best rate. start: one of `STARTS`; what: the task."""

    start: str
    what: str
    apart: Difference
    ours: Rows
    theirs: Rows


def in_short() -> list[str]:
    """Of several sections, by start: where LRC-BERT is better than `kd`, level and worse; of three seeds or more."""
    told = [one for one in all_compared() if one.apart.seeds > 2]
    lines = [
        [about, *("; ".join(in_a_cell(one) for one in told if [one.start, one.apart.so] == [start, so]) for so in SO)]
        for start, about in STARTS.items()
    ]
    head = ["the student starts from", "LRC-BERT is better", "level", "worse"]
    return ["## In short", SHORT, table(head, lines)] if told else []


def in_a_cell(one: Compared) -> str:
    return f"{one.what} {100 * one.apart.mean:+.1f} ({one.apart.seeds})"


def glue_at_best_rates() -> tuple[Study, list[dict[str, Any]]]:
    """The study of GLUE, and its rows at the best rates."""
    found = study("glue", max(SEEDS.values()))
    return found, at_best_rates(found.rows(), TASKS)


def all_compared() -> list[Compared]:
    _, glue = glue_at_best_rates()
    rates = at_best_rates(comparable(study("rates", 5)))
    stages = at_best_rates(study("stages", 3).rows(), ("set", "stages"))
    found = [compared("general", one, glue) for one in to_kd(glue, "method", "lrc_bert")]
    found += [compared("MiniLM", one, glue) for one in to_kd(glue, "method", f"lrc_bert{FROM}MiniLM")]
    for one in to_kd(rates, "method", "lrc_bert"):
        found.append(replace(compared("weak", one, rates), what="CoLA"))
    found += [compared("inherit", one, stages) for one in to_kd(stages, "stages", "halves")]
    rows = at_best_rates(map_rows(), MAP)
    for one in to_kd(rows, "method", "lrc_bert"):
        *what, start = one.label.split(", ")
        found.append(replace(compared(start, one, rows), what=", ".join(what).removesuffix(f", {SHAPE}")))
    return found


def compared(start: str, one: Difference, rows: Rows) -> Compared:
    named = [", ".join(filter(None, (one.label, value))) for value in (one.value, one.to)]
    ours, theirs = ([row for row in rows if row["name"] == name] for name in named)
    return Compared(start, one.label, one, ours, theirs)


def to_kd(rows: Rows, axis: str, value: str) -> list[Difference]:
    """The differences of one value to kd, from its own start."""
    return [one for one in beside(rows, axis, "kd") if one.value == value]


def of_more(found: Study) -> list[str]:
    """A task with more of something; the methods side by side, and each with more beside itself without."""
    rows, methods = found.rows(), axis_values(found, "method")
    lines = []
    for more, some in by_axis(rows, "more").items():
        made = by_axis(some, "method")
        steps = f"{some[0]['steps']:,}"
        lines.append(
            [more, steps, *(f"{score(made[one])} ({len(made[one])})" if one in made else "" for one in methods)]
        )
    apart = [[one.label.split(", ", 1)[1], f"`{one.value}` less `kd`", *words(one)]
             for one in differences(rows, "method", "kd")]  # fmt: skip
    for one in differences(rows, "more", "as above"):
        method = one.label.split(", ")[1]
        apart.append([one.value, f"`{method}` less `{method}` as above", *words(one)])
    return [
        f"{MORE}{on_cores(rows)} {left(found)}",
        table(["Matthews correlation on dev, × 100 (seeds)", "steps", *(f"`{one}`" for one in methods)], lines),
        table(["", "", "difference", "95 % over seeds", "better in", "so"], apart),
    ]


def of_rates(rates: Study) -> list[str]:
    """CoLA by rate and method; and the methods side by side, each at its best rate."""
    rows = {rate: by_axis(some, "method") for rate, some in by_axis(rates.rows(), "rate").items()}
    named = list(dict.fromkeys(method for each in rows.values() for method in each))
    lines = [
        [rate, *(f"{score(each[method])} ({len(each[method])})" if method in each else "" for method in named)]
        for rate, each in rows.items()
    ]
    best = at_best_rates(comparable(rates))
    said = ", ".join(f"`{method}` {rate_of(some[0])}" for method, some in by_axis(best, "method").items())
    return [
        on_cores(rates.rows()),
        table(["rate", *(f"`{method}`" for method in named)], lines),
        f"Each at its best rate in 5 passes, by seed 0 ({said}).",
        *of_differences(best, "kd"),
    ]


def comparable(rates: Study) -> list[dict[str, Any]]:
    """Of the runs at other rates those of the same start in as many steps."""
    usual = {"epochs": EPOCHS, "start": "{start}"}
    return [row for row in rates.rows() if usual.items() <= row["settings"].items()]


def map_rows() -> list[dict[str, Any]]:
    """Rows of the map, and those of few labels with more texts or with another teacher, under the map's axes."""
    rows = list(study("map", 5).rows())
    for row in study("few", 5).rows():
        task, _, given = row["axes"]["set"].partition(" ")
        axes = {**row["axes"], "set": task, "labels": f"300 labels {FEW[given]}", "size": SHAPE}
        rows.append({**row, "axes": axes})
    return rows


def of_map(every: Rows) -> list[str]:
    """Sets, numbers of labels and starts; the methods of each at their best rates, side by side. every: `map_rows`."""
    found = study("map", 5)
    rows, methods = at_best_rates(every, MAP), axis_values(found, "method")
    apart = {(one.label, one.value): one for one in map_differences(every)}
    apart_head = ["`lrc_bert` less `kd`", "95 % over seeds", "better in", "so"]
    head, lines = ["on dev, × 100", "teacher", *(f"`{one}`" for one in methods), *apart_head], list[list[str]]()
    for given in dict.fromkeys(tuple(row["axes"][axis] for axis in MAP[:-1]) for row in rows):
        made = by_axis([row for row in rows if given == tuple(row["axes"].values())[:-1]], "method")
        some = next(iter(made.values()))
        cells = [with_rate(made.get(one)) for one in methods]
        teacher = f"{100 * some[0]['teacher_metrics'][some[0]['metric']]:.1f}"
        lines.append([", ".join(given), teacher, *cells, *words(apart.get((given[0], ", ".join(given[1:]))))])
    allowed = len(found.chosen()) + len(study("few", 5).chosen())
    return [
        f"{CONTRAST}{on_cores(rows)} {len(every):,} runs are recorded, of {allowed:,} that the axes allow: the "
        "commands make the others (`--only` chooses).",
        table(head, lines),
        "![Differences of LRC-BERT to kd with their intervals, by set](figures/map.svg)",
    ]


def map_differences(every: Rows) -> list[Difference]:
    """Of LRC-BERT to kd, each at its best rate. label: the set; value: the number of labels, and the start."""
    apart = [(one, one.label.split(", ")) for one in to_kd(at_best_rates(every, MAP), "method", "lrc_bert")]
    return [replace(one, label=given[0], value=", ".join(given[1:])) for one, given in apart]


def of_variants(found: Study, axis: str, to: str, about: str) -> list[str]:
    """The values of a study's one axis: accuracies, and differences to one of them."""
    rows = found.rows()
    apart = {one.value: one for one in differences(rows, axis, to)}
    lines = [
        [name, str(len(some)), score(some), *(words(apart[name]) if name in apart else [""] * 4)]
        for name, some in by_axis(rows, axis).items()
    ]
    head = ["", "runs", "accuracy on dev, × 100", f"less {to}", "95 % over seeds", "better in", "so"]
    return [f"{about}{on_cores(rows)} {left(found)}", table(head, lines)]


def of_methods(found: Study, about: str) -> list[str]:
    """All methods for labels on one task, each at its best rate."""
    rows = at_best_rates(found.rows())
    made, teacher = by_axis(rows, "method"), found.table()[found.identity(("teacher", 0))]
    steps = step_costs()
    lines = [["teacher", "", "1", f"{100 * teacher['dev']:.1f}", "", ""]]
    for value, some in made.items():
        kept = 100 * statistics.mean(row["kept"] for row in some)
        cells = [f"{kept:.1f}", f"{steps[value]:.2f}"]
        lines.append([f"`{value}`", rate_of(some[0]), str(len(some)), score(some), *cells])
    return [
        f"{about}{on_cores(rows)} {left(found)}",
        table(["", "rate", "runs", "accuracy on dev, × 100", "kept, %", "step"], lines),
        *of_differences(rows, "kd"),
    ]


def of_stages(found: Study) -> list[str]:
    """Sets; kd and the shares of LRC-BERT's first stage of each at their best rates, side by side."""
    rows, sets = at_best_rates(found.rows(), ("set", "stages")), axis_values(found, "set")
    ways = axis_values(found, "stages")
    lines, apart = list[list[str]](), list[list[str]]()
    for name in sets:
        if not (some := [row for row in rows if row["axes"]["set"] == name]):
            continue
        made, metric = by_axis(some, "stages"), some[0]["metric"]
        cells = [with_rate(made.get(one)) for one in ways]
        lines.append([f"{name}, {metric}", f"{100 * some[0]['teacher_metrics'][metric]:.1f}", *cells])
        for to in [one for one in ("kd", "halves") if one in made]:
            apart += [[name, f"{one.value} less {to}", *words(one)] for one in differences(some, "stages", to)
                      if one.value != "kd"]  # fmt: skip
    return [
        f"{STAGES}{on_cores(rows)} {left(found)}",
        table(["on dev, × 100", "teacher", *ways], lines),
        table(["set", "", "difference", "95 % over seeds", "better in", "so"], apart),
    ]


def of_general(found: Study) -> list[str]:
    """Starts, and the scores of the tasks from each."""
    rows, there = found.rows(), found.table()
    starts, tasks = by_axis(rows, "start"), by_axis(rows, "task")
    lines = []
    for start, some in starts.items():
        made = by_axis(some, "task")
        place = some[0]["settings"]["model"].strip("{}")
        made_by = there.get(found.identity((place, 0))) if place in found.made else None
        minutes = f"{made_by['seconds']['training'] / 60:.1f}" if made_by is not None else ""
        cells = [f"{score(made[task])} ({len(made[task])})" if task in made else "" for task in tasks]
        lines.append([start, minutes, *cells])
    metrics = [f"{task}, {some[0]['metric']}" for task, some in tasks.items()]
    head = ["on dev, × 100 (seeds)", "minutes", *metrics]
    return [f"{GENERAL}{on_cores(rows)} {left(found)}", table(head, lines)]


def robustness(axis: str) -> str:
    """Scores of the students of a study with this axis on changed dev texts; "" without results."""
    rows = [row for row in Cells(RESULTS / "robustness.jsonl").read()["rows"] if axis in row["axes"]]
    if not rows:
        return ""
    made = [[row for row in rows if row["name"] == name] for name in dict.fromkeys(row["name"] for row in rows)]
    noises = list(rows[0]["noise"])
    lines = [
        [f"`{some[0]['axes'][axis]}`", str(len(some))]
        + [mean_and_spread([100 * row["noise"][noise] for row in some], 1) for noise in noises]
        + [mean_and_spread([row["unsteadiness"] for row in some], 3)]
        for some in made
    ]
    return table(["", "runs", *noises, "unsteadiness"], lines)


def of_additions(found: Study) -> list[str]:
    rows = found.rows()
    made = by_axis(rows, "method")
    start = found.table().get(found.identity(("start", 0)))
    lines = [["start (its checkpoint)", "1", f"{100 * start['dev']:.1f}", "", ""]] if start is not None else []
    for value, some in made.items():
        seconds = statistics.mean(row["seconds"]["training"] for row in some)
        kl = statistics.mean(row["metrics"]["kl"] for row in some) if "kl" in some[0].get("metrics", {}) else None
        lines.append([f"`{value}`", str(len(some)), score(some), "" if kl is None else f"{kl:.3f}", f"{seconds:.0f}"])
    return [
        f"{ADDITIONS} {on_cores(rows)} {left(found)}",
        table(["", "runs", "exact match on dev, × 100", "nats from the teacher", "seconds"], lines),
        *of_differences(rows, "gkd, given"),
    ]


def of_captions(found: Study) -> list[str]:
    rows = found.rows()
    theirs = rows[0]["teacher_metrics"]
    head = ["", "runs", *(name for name, _ in SCORES.values()), "seconds"]
    lines = [["teacher", "1", *(f"{theirs[key]:.{n}f}" if key in theirs else "" for key, (_, n) in SCORES.items()), ""]]
    for value, some in by_axis(rows, "method").items():
        cells = [mean_and_spread([row["metrics"][key] for row in some], n) for key, (_, n) in SCORES.items()]
        seconds = statistics.median(row["seconds"]["training"] for row in some)
        lines.append([f"`{value}`", str(len(some)), *cells, f"{seconds:.0f}"])
    return [
        f"{CAPTIONS}{on_cores(rows)} {left(found)}",
        table(head, lines),
        "KL, less is better:",
        *of_differences(rows, "gkd, given"),
    ]


def of_intents(found: dict[str, Any]) -> list[str]:
    lines = []
    for name, row in found["rows"].items():
        value, low, high = (100 * one for one in (row["accuracy"], *row["interval"]))
        size, seconds = f"{row['parameters'] / 1e6:.1f} M", row["seconds"]["training"]
        scored = f"{value:.1f} ({low:.1f} to {high:.1f})"
        lines.append([name, scored, f"{row['ms']:.1f}", size, f"{row['size_mb']:.0f}", f"{seconds:.0f}"])
    return [
        f"{INTENTS}{found['machine']['cpu']}, one thread.",
        table(["", "accuracy on dev, % (95 %)", "ms a question", "parameters", "MB", "training, s"], lines),
    ]


def draw() -> None:
    """Draws the figures of the page."""
    for name, seeds, axis, to in (
        ("glue", max(SEEDS.values()), "method", "kd"),
        ("ablation", 3, "ablation", "LRC-BERT"),
    ):
        if rows := study(name, seeds).rows():
            forest(beside(at_best_rates(rows, ("task", axis)), axis, to), FIGURES / f"{name}.svg")
    if mapped := map_rows():
        forest(map_differences(mapped), FIGURES / "map.svg")


def axis_values(found: Study, axis: str) -> list[str]:
    return list(dict.fromkeys(found.settings_of[name]["axes"][axis] for name in found.variants))


if __name__ == "__main__":
    write_or_check(__doc__, {PAGE: page})
    draw()
