"""docs/evidence.md and its figures from benchmarks/results/*.jsonl: nothing in them is typed by hand.

python benchmarks/evidence.py          (--check: exit code 1 if the page is not what the results say)
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markdown_parts import table, write_or_check

from contrastill import Study
from contrastill.studies.paired import differences, words

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "evidence.md"
RESULTS = HERE / "results"
FIGURES = HERE.parent / "docs" / "figures"
METRICS = {"matthews": "Matthews correlation", "accuracy": "accuracy", "spearman": "Spearman correlation"}
TEACHERS = {"CoLA": "cola", "RTE": "rte", "MRPC": "mrpc", "STS-B": "stsb"}
USUAL, EPOCHS = 3e-4, 5  # the rule's learning rate for this width; passes over CoLA
SEEDS = {"CoLA": 5, "RTE": 5, "MRPC": 5, "STS-B": 3}  # asked of each
ABOUT = (
    "Which method keeps how much of a teacher at equal cost. Made by `python benchmarks/evidence.py` from "
    "`benchmarks/results/*.jsonl`, which hold a line for each run, with its settings. Scores are on dev, where the "
    "best of the 8 checks of a run counts, for all methods alike. *better* and *worse*: the 95 % interval of the "
    "differences over seeds (Student's t) lies on one side of 0; *level*: 0 is within it."
)
GLUE = (
    "Teacher: `sentence-transformers/all-mpnet-base-v2` (109 M parameters), fine-tuned on each task (one seed). "
    "Students: `4L-312` (14.4 M), from `models/4L-312`. Start, rows, batches (32), steps and schedule are the same for "
    "every method; its own settings are the defaults (so `lrc_bert` has no perturbation).\n\n"
    "```console\ncontrastill study benchmarks/glue.variants.json --seeds 5 --out benchmarks/results/glue.jsonl "
    "--by method --to kd \\\n  --place mpnet=sentence-transformers/all-mpnet-base-v2 --place glue=FOLDER "
    "--place start=models/4L-312\n```\n\n"
)
PAPERS = (
    "Published, of other students (GLUE test, × 100, MRPC by F1; teacher BERT-base). There the general students were "
    "trained on all of Wikipedia, and the task's rows were augmented. Some cells of LRC-BERT's row are not certain."
)
ADDITIONS = (
    "Additions of two numbers of two digits as text ([commands](language.md#additions)). The teacher (187 thousand "
    "parameters) has learnt 8,500 problems and answers all 500 of dev rightly; the students (21 thousand) start from "
    "one checkpoint, which was trained on the answers of 300 problems, and learn from the same 300 in 1,000 steps of "
    "64. Best of 8 checks for all alike. Nats: KL to the teacher a token, on the given answers of dev."
)
METHODS = (
    "All methods for labels, on the data of the demo (77 classes, 9,003 texts). Teacher: `all-MiniLM-L6-v2` (22.7 M), "
    "fine-tuned in 3 passes. Students: `4L-312` (14.4 M), from `models/4L-312`, 2 passes in batches of 32, at the "
    "better of two rates (1e-4, 3e-4; by seed 0). *Step*: seconds of a step (the median run's) divided by those on "
    "labels alone, on a core of its own.\n\n"
    "```console\ncontrastill study benchmarks/methods.variants.json --seeds 3 --out benchmarks/results/methods.jsonl "
    "--by method --to kd \\\n  --place minilm=sentence-transformers/all-MiniLM-L6-v2 --place data=demo/banking77 "
    "--place start=models/4L-312\n```\n\n"
)
RATES = (
    "CoLA with other learning rates (3e-4 is the rule's for this width), or three times the steps: Matthews "
    "correlation on dev, × 100, mean and standard deviation, with the number of seeds. At a third of the rule's rate "
    "`kd` and labels learn, at the rule's they answer one class; LRC-BERT learns from 1e-4 to 1e-3.\n\n"
    "```console\ncontrastill study benchmarks/rates.variants.json --seeds 1 --out benchmarks/results/rates.jsonl "
    "--by method --to kd \\\n  --place mpnet=sentence-transformers/all-mpnet-base-v2 --place glue=FOLDER "
    "--place start=models/4L-312\ncontrastill study benchmarks/rates.variants.json --seeds 5 --only '1e-4, kd' …\n```"
)
ABLATIONS = (
    "One thing is changed at a time ([names](methods/lrc_bert.md#ablations)); all have perturbation but `LRC-BERT_g`; "
    "else as above: `contrastill study benchmarks/ablation.variants.json --seeds 3 …`. The paper (dev, in its own "
    "setting): CoLA falls from 50 to 37 without COS-NCE."
)
PUBLISHED = {  # GLUE test, teacher BERT-base; LRC-BERT: Fu et al. 2021, the others as that paper quotes them
    "DistilBERT4": {"CoLA": 32.8, "RTE": 54.1, "MRPC": 82.4, "STS-B": 76.1},
    "BERT4-PKD": {"CoLA": 24.8, "RTE": 62.3, "MRPC": 82.6, "STS-B": 79.8},
    "TinyBERT4": {"CoLA": 44.1, "RTE": 66.6, "MRPC": 86.4, "STS-B": 80.4},
    "LRC-BERT": {"CoLA": 46.5, "RTE": 63.1, "MRPC": 87.0, "STS-B": 81.2},
}


def study(name: str, seeds: int) -> Study:
    """A study of this folder, with the rows that are recorded."""
    file = json.loads((HERE / f"{name}.variants.json").read_text())
    places = dict.fromkeys(("mpnet", "glue", "start", "additions", "minilm", "data"), "elsewhere") | file["places"]
    return Study(None, RESULTS / f"{name}.jsonl", axes=file["axes"], shared=file["shared"], places=places, seeds=seeds)


def teacher_of(found: Study, task: str) -> dict[str, Any] | None:
    return found.table().get(found.identity((TEACHERS[task], 0)))


def by_task(found: Study, axis: str) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Task -> value of the axis -> rows."""
    return {task: by_axis(rows, axis) for task, rows in by_axis(found.rows(), "task").items()}


def score(rows: Sequence[dict[str, Any]]) -> str:
    values = [100 * row["dev"] for row in rows]
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def missing(found: Study, axis_values: Sequence[str]) -> str:
    """Which cells the tables lack, by task."""
    lacking: dict[str, int] = {}
    for name, seed in found.missing(found.chosen()):
        task = name.split(", ")[0]
        if task in SEEDS and seed < SEEDS[task]:
            lacking[task] = lacking.get(task, 0) + 1
    if not lacking:
        return "No cell is missing."
    whole = {task: SEEDS[task] * len(axis_values) for task in SEEDS}
    said = ", ".join(f"{task} {lacking[task]} of {whole[task]}" for task in SEEDS if task in lacking)
    return f"Cells that are missing: {said}. The command continues the table."


def results(found: Study, axis: str, to: str, figure: str) -> list[str]:
    """The tables of one study: scores, shares of the teacher, differences, cost."""
    made = by_task(found, axis)
    tasks = [task for task in SEEDS if task in made]
    values = list(dict.fromkeys(value for each in made.values() for value in each))
    teachers = [teacher_of(found, task) for task in tasks]
    lines = [["teacher", *("" if row is None else f"{100 * row['dev']:.1f}" for row in teachers)]]
    shares, costs = list[list[str]](), list[list[str]]()
    for value in values:
        lines.append(
            [f"`{value}`", *(score(made[task].get(value, [])) if made[task].get(value) else "" for task in tasks)]
        )
        cells = [
            statistics.mean(row["kept"] for row in rows) if (rows := made[task].get(value)) else None for task in tasks
        ]
        known = [cell for cell in cells if cell is not None]
        mean = [f"{100 * statistics.mean(known):.1f}" if len(known) == len(tasks) else ""] if len(tasks) > 1 else []
        shares.append([f"`{value}`", *("" if cell is None else f"{100 * cell:.1f}" for cell in cells), *mean])
        rows = [row for task in tasks for row in made[task].get(value, [])]
        hours = sum(sum(row["seconds"].values()) for row in rows) / 3600
        forwards = sum(row.get("teacher_forwards", 0) for row in rows)
        costs.append([f"`{value}`", str(len(rows)), f"{a_step(rows):.2f}", f"{hours:.1f}", f"{forwards:,}"])
    metrics = [METRICS[next(iter(made[task].values()))[0]["metric"]] for task in tasks]
    fewest = {task: min(len(rows) for rows in made[task].values()) for task in tasks}
    counts = ", ".join(f"{task} {count} or more" for task, count in fewest.items())
    columns = [f"{task}<br>{metric}" for task, metric in zip(tasks, metrics, strict=True)]
    apart = differences(found.rows(), axis, to)
    return [
        table(["on dev, × 100", *columns], lines),
        f"Mean and standard deviation over seeds ({counts}).",
        "Share of the teacher's score, in %:",
        table(["", *tasks, *(["mean"] if len(tasks) > 1 else [])], shares),
        f"Differences to `{to}`, paired by seed (scores as they are, not × 100; the figure shows the same):",
        table(
            ["task", "", "difference", "95 % over seeds", "better in", "so"],
            [[one.label, f"`{one.value}`", *words(one)] for one in apart],
        ),
        f"![Differences to {to} with their intervals](figures/{figure})",
        "Cost by the clock, on one core beside other work (a step: the median run's; of a run that was stopped and "
        "resumed only the last part counts):",
        table(["", "runs", "s a step", "hours", "texts read by the teacher"], costs),
    ]


def page() -> str:
    parts = ["# Evidence", ABOUT]
    if (glue := study("glue", max(SEEDS.values()))).rows():
        machine = f"{glue.rows()[0]['machine']['cpu']}, one core."
        parts += ["## GLUE", f"{GLUE}{machine} {missing(glue, axis_values(glue, 'method'))}"]
        parts += results(glue, "method", "kd", "glue.svg")
        published = [[name, *(f"{row[task]:.1f}" for task in SEEDS)] for name, row in PUBLISHED.items()]
        parts += [PAPERS, table(["× 100", *SEEDS], published)]
    if (rates := study("rates", 1)).rows():
        parts += ["### Rates and lengths", RATES, *of_rates(glue, rates)]
    if (methods := study("methods", 3)).rows():
        parts += ["## BANKING77", *of_methods(methods)]
    if (additions := study("additions", 5)).rows():
        parts += ["## Language models: additions", *of_additions(additions)]
    if (ablation := study("ablation", 3)).rows():
        parts += ["## Ablations of LRC-BERT", ABLATIONS, *results(ablation, "ablation", "LRC-BERT1", "ablation.svg")]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def by_axis(rows: Sequence[dict[str, Any]], axis: str) -> dict[str, list[dict[str, Any]]]:
    """Value of the axis -> rows."""
    made: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        made.setdefault(row["axes"][axis], []).append(row)
    return made


def a_step(rows: Sequence[dict[str, Any]]) -> float:
    """Seconds of a step: the median run's, as a pause of the machine makes one run long."""
    return statistics.median(row["seconds"]["training"] / row["steps"] for row in rows)


def left(found: Study) -> str:
    lacking = len(found.missing(found.chosen()))
    return f"Cells that are missing: {lacking}. The command continues the table." if lacking else "No cell is missing."


def of_rates(glue: Study, rates: Study) -> list[str]:
    """CoLA by rate and method; and the methods side by side, each at its best rate."""
    usual = [row for row in glue.rows() if row["axes"]["task"] == "CoLA"]
    rows = {"3e-4": by_axis(usual, "method")} | {
        rate: by_axis(some, "method") for rate, some in by_axis(rates.rows(), "rate").items()
    }
    named = list(dict.fromkeys(method for each in rows.values() for method in each))
    lines = [
        [rate, *(f"{score(each[method])} ({len(each[method])})" if method in each else "" for method in named)]
        for rate, each in rows.items()
    ]
    best = at_best_rates([*usual, *(row for row in rates.rows() if row["settings"]["epochs"] == EPOCHS)])
    said = ", ".join(f"`{method}` {rate_of(some[0])}" for method, some in by_axis(best, "method").items())
    return [
        table(["rate", *(f"`{method}`" for method in named)], lines),
        f"Each at its best rate in 5 passes, by seed 0 ({said}).",
        *of_differences(best, "kd"),
    ]


def rate_of(row: dict[str, Any]) -> str:
    """The learning rate of a row; without one in its settings the rule's, of this width."""
    return f"{row['settings'].get('learning_rate', USUAL):.0e}".replace("e-0", "e-")


def at_best_rates(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each method the rows of the rate that was best at seed 0; their one axis is the method."""
    found = []
    for some in by_axis(rows, "method").values():
        rates: dict[str, list[dict[str, Any]]] = {}
        for row in some:
            rates.setdefault(rate_of(row), []).append(row)
        best = max(rates.values(), key=lambda each: max((row["dev"] for row in each if row["seed"] == 0), default=-1))
        found += [{**row, "name": (name := row["axes"]["method"]), "axes": {"method": name}} for row in best]
    return found


def of_methods(found: Study) -> list[str]:
    rows = at_best_rates(found.rows())
    made, teacher = by_axis(rows, "method"), found.table()[found.identity(("teacher", 0))]
    labels = made.get("finetune")
    lines = [["teacher", "", "1", f"{100 * teacher['dev']:.1f}", "", ""]]
    for value, some in made.items():
        kept = 100 * statistics.mean(row["kept"] for row in some)
        step = f"{a_step(some) / a_step(labels):.2f}" if labels else ""
        lines.append([f"`{value}`", rate_of(some[0]), str(len(some)), score(some), f"{kept:.1f}", step])
    return [
        f"{METHODS}{rows[0]['machine']['cpu']}, one core. {left(found)}",
        table(["", "rate", "runs", "accuracy on dev, × 100", "kept, %", "step"], lines),
        *of_differences(rows, "kd"),
    ]


def of_differences(rows: Sequence[dict[str, Any]], to: str) -> list[str]:
    """Of a study whose one axis is the method."""
    return [
        f"Differences to `{to}`, paired by seed:",
        table(
            ["", "difference", "95 % over seeds", "better in", "so"],
            [[f"`{one.value}`", *words(one)] for one in differences(rows, "method", to)],
        ),
    ]


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
        f"{ADDITIONS} {rows[0]['machine']['cpu']}, one core. {left(found)}",
        table(["", "runs", "exact match on dev, × 100", "nats from the teacher", "seconds"], lines),
        *of_differences(rows, "gkd, given"),
    ]


def draw() -> None:
    """Draws the figures of the page."""
    for name, seeds, axis, to in (
        ("glue", max(SEEDS.values()), "method", "kd"),
        ("ablation", 3, "ablation", "LRC-BERT1"),
    ):
        if (found := study(name, seeds)).rows():
            found.plot(FIGURES / f"{name}.svg", axis, to)


def axis_values(found: Study, axis: str) -> list[str]:
    return list(dict.fromkeys(found.settings_of[name]["axes"][axis] for name in found.variants))


if __name__ == "__main__":
    write_or_check(__doc__, PAGE, page)
    draw()
