"""The tables of README.md and two pages of docs/ that quote docs/evidence.md, made of the same rows.

python benchmarks/quoted.py          (--check: exit code 1 if a page is not what the results say)

Each stands between `<!-- made by benchmarks/quoted.py: NAME -->` and `<!-- end -->`.
"""

import json
import re
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evidence import FROM, METRICS, SO, STARTS, Compared, all_compared, glue_at_best_rates, teacher_of
from evidence_rows import HERE, RESULTS, Rows, at_best_rates, by_axis, study
from markdown_parts import table, write_or_check

from contrastill.studies.paired import Difference, differences

BLOCK = re.compile(r"(<!-- made by benchmarks/quoted\.py: ([a-z ]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)
README = HERE.parent / "README.md"
CHOOSING = HERE.parent / "docs" / "choosing.md"
LRC_BERT = HERE.parent / "docs" / "methods" / "lrc_bert.md"
AHEAD = (
    *(("random", "BANKING77, 1,000 labels"), ("general", "SST-2, 300 labels")),
    *(("general", task) for task in ("CoLA", "MRPC", "STS-B")),
    ("inherit", "MobIE"),
)
"""Start and task of README's rows, where LRC-BERT is better than `kd`."""
ABOUT = {
    "SST-2": "reviews", "CoLA": "grammar", "MRPC": "same meaning", "STS-B": "similar meaning",
    "MobIE": "entities in traffic reports",
}  # fmt: skip
IN_UNITS = {"f1": " (F1)", "matthews": " (Matthews × 100)", "spearman": " (Spearman × 100)"}
CHANGED = {
    "LRC-BERT_C": "without COS-NCE",
    "BERT_M": "squared distances in its place",
    "cosine": "the cosine alone, without negatives",
    "LRC-BERT_2": "without the first stage",
    "LRC-BERT1": "random weights in place of a general student",
}
WORTH = {
    "LRC-BERT_C": ("COS-NCE", "CoLA 13"),
    "BERT_M": ("its angle: beside squared distances", ""),
    "cosine": ("its negatives: beside the cosine alone", ""),
    "LRC-BERT_2": ("the first stage", ""),
    "granularity mean": ("tokens, beside a text's mean", ""),
    "LRC-BERT_S": ("the soft labels", ""),
    "LRC-BERT1": ("the general student, beside random weights (LRC-BERT1)", "14.9, 4.0, 12.1"),
}
"""Ablation -> what it leaves out, and how much that is worth in the paper."""
WAYS = {"halves": "LRC-BERT", "joint alone": "without its first stage", "kd": "`kd`"}
EMBEDDERS = (
    ("all-mpnet-base-v2, `inherit`", "{}", "disco"),
    ("all-mpnet-base-v2, `inherit`", "long-{}", "long-disco"),
    ("all-MiniLM-L6-v2, `inherit`", "inherit-{}", "structure-4L-312"),
    ("all-MiniLM-L6-v2, `inherit`", "large-{}", "large-disco"),
    ("all-MiniLM-L6-v2, `models/bert-4L-312`", "start-general-{}", "start-general"),
)
"""Teacher and start; the names of the methods' runs, and of disco's."""
SETS = ("CoLA", "MRPC", "RTE")
SEEDS = 3


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def mean(rows: Rows) -> str:
    return percent(statistics.mean(row["dev"] for row in rows))


def spoken(apart: Difference, sign: int = 1) -> str:
    """A difference and its interval, in points; sign -1: the other way round."""
    assert apart.low is not None
    assert apart.high is not None
    low, high = sorted((sign * apart.low, sign * apart.high))
    return f"{percent(sign * apart.mean)} ({percent(low)} to {percent(high)})"


def told_apart() -> list[Compared]:
    """LRC-BERT beside `kd`, each at its best rate; of `SEEDS` seeds or more."""
    return [one for one in all_compared() if one.apart.seeds >= SEEDS]


def ahead() -> str:
    """LRC-BERT beside `kd`: the sentence that says when it pays, and those rows of `AHEAD` where it is better."""
    told = told_apart()
    inherited = [one.apart.so for one in told if one.start == "inherit"]
    others = [one.apart.so for one in told if one.start != "inherit"]
    known = {(one.start, one.what): one for one in told if one.apart.so == "better"}
    lines = [row(known[of]) for of in AHEAD if of in known]
    head = ["start", "task", "LRC-BERT", "`kd`", "difference (95 % interval)", "seeds"]
    better, worse, level = others.count("better"), others.count("worse"), inherited.count("level")
    return (
        "**Where the start is not the teacher's own, LRC-BERT pays**: it is better than `kd` in "
        f"{better} of {len(others)}\n"
        f"comparisons and worse in {worse}; from the teacher's own weights the two are level in {level} of "
        f"{len(inherited)}\n"
        f"([all of them](docs/evidence.md#in-short)). Each method at its best learning rate, dev:\n\n"
        f"{table(head, lines)}"
    )


def row(one: Compared) -> list[str]:
    task, *rest = one.what.split(", ", 1)
    what = ", ".join([task, *([ABOUT[task]] if task in ABOUT else []), *rest])
    unit = " %" if one.apart.metric == "accuracy" else ""
    scores = [f"{mean(rows)}{unit}" for rows in (one.ours, one.theirs)]
    measured = f"{what}{IN_UNITS.get(one.apart.metric, '')}"
    return [STARTS[one.start], measured, *scores, spoken(one.apart), str(one.apart.seeds)]


def by_start() -> str:
    """How often LRC-BERT is better than `kd`, by start."""
    lines, told = list[list[str]](), told_apart()
    for start, about in STARTS.items():
        if apart := [one.apart for one in told if one.start == start]:
            counts = [sum(one.so == so for one in apart) for so in SO]
            ends = dict.fromkeys(f"{100 * end(one.mean for one in apart):+.1f}" for end in (min, max))
            lines.append([about, *(str(count or "") for count in counts), " to ".join(ends)])
    return table(["the student starts from", *(f"LRC-BERT {so}" for so in SO), "differences, in points"], lines)


def larger() -> str:
    """LRC-BERT and `kd` from a larger encoder, beside the general student that was made of it."""
    found, best = glue_at_best_rates()
    rows = {task: by_axis(some, "method") for task, some in by_axis(best, "task").items()}
    whose = {
        "LRC-BERT, all-MiniLM-L6-v2 as it is": f"lrc_bert{FROM}MiniLM",
        "`kd`, all-MiniLM-L6-v2 as it is": f"kd{FROM}MiniLM",
        "LRC-BERT, `models/bert-4L-312`": "lrc_bert",
    }
    tasks = [task for task in rows if all(method in rows[task] for method in whose.values())]
    teachers = [teacher_of(found, task) for task in tasks]
    lines = [["the teacher, all-mpnet-base-v2", *("" if row is None else mean([row]) for row in teachers)]]
    for about, method in whose.items():
        lines.append([about, *(f"{mean(rows[task][method])} ({len(rows[task][method])})" for task in tasks)])
    return table(["on dev, × 100 (seeds)", *tasks], lines)


def beside_whole(rows: Rows) -> tuple[Mapping[str, Rows], dict[str, Difference]]:
    """The rows of each ablation, and its difference to LRC-BERT; of `SEEDS` seeds or more."""
    apart = [one for one in differences(rows, "ablation", "LRC-BERT") if one.seeds >= SEEDS]
    return by_axis(rows, "ablation"), {one.value: one for one in apart}


def ablations() -> dict[str, tuple[Mapping[str, Rows], dict[str, Difference]]]:
    """Set -> its ablations beside LRC-BERT."""
    made = by_axis(study("ablation", SEEDS).rows(), "task")
    return {task: beside_whole(rows) for task, rows in made.items()}


def parts() -> str:
    """LRC-BERT with one part left out or changed: scores, bold where they are worse."""
    banking = "BANKING77, 1,000 labels, from random weights"
    found = {banking: beside_whole(study("terms", SEEDS).rows()), **ablations()}
    sets = [banking, *SETS]

    def cell(what: str, value: str) -> str:
        rows, to_whole = found[what]
        if value == "LRC-BERT":
            return mean(rows[value])
        if value not in to_whole:
            return ""
        return f"**{mean(rows[value])}**" if to_whole[value].so == "worse" else mean(rows[value])

    named = {"LRC-BERT": "LRC-BERT", **CHANGED}
    return table(["", *sets], [[about, *(cell(what, value) for what in sets)] for value, about in named.items()])


def worth() -> str:
    """What each part of LRC-BERT is worth."""
    found = ablations()

    def cell(task: str, value: str) -> str:
        if (apart := found[task][1].get(value)) is None:
            return ""
        points, interval = spoken(apart, -1).split(" ", 1)
        return f"{points}, level {interval}" if apart.so == "level" else f"{points} {interval}"

    lines = [[about, *(cell(task, value) for task in SETS), paper] for value, (about, paper) in WORTH.items()]
    cola, mrpc, rte = (mean(found[task][0]["LRC-BERT"]) for task in SETS)
    return (
        f"LRC-BERT has {cola} Matthews points on CoLA, F1 {mrpc} on MRPC and {rte} % on RTE:\n\n"
        f"{table(['', *SETS, 'the paper'], lines)}"
    )


def first_stage() -> str:
    """LRC-BERT from its teacher's weights with its first stage and without, beside `kd`."""
    best = at_best_rates(study("stages", SEEDS).rows(), ("set", "stages"))
    lines = list[list[str]]()
    for what, rows in by_axis(best, "set").items():
        made = {way: some for way, some in by_axis(rows, "stages").items() if len(some) >= SEEDS}
        if all(way in made for way in WAYS):
            teacher = rows[0]["teacher_metrics"][rows[0]["metric"]]
            lines.append([what, METRICS[rows[0]["metric"]], percent(teacher), *(mean(made[way]) for way in WAYS)])
    return table(["set", "score × 100", "teacher", *WAYS.values()], lines)


def embedders() -> str:
    """The methods for embeddings, side by side: the mean of the seven STS sets."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in json.loads((RESULTS / "embeddings.json").read_text())["rows"]:
        rows.setdefault(row["name"], []).append(row)
    methods, lines = ("disco", "leaf", "mse_kd", "congen", "rrd"), list[list[str]]()
    for about, name, own in EMBEDDERS:
        made = [rows.get(own if method == "disco" else name.format(method), []) for method in methods]
        cells = [
            f"{statistics.mean(r['sts']['mean'] for r in some):.1f} ({len(some)})" if some else "" for some in made
        ]
        lines.append([about, f"{made[0][0]['rows']:,}", *cells])
    return table(["teacher, start", "sentences", *(f"`{method}`" for method in methods)], lines)


BLOCKS: Mapping[str, Callable[[], str]] = {
    "ahead": ahead,
    "parts": parts,
    "worth": worth,
    "first stage": first_stage,
    "by start": by_start,
    "larger": larger,
    "embedders": embedders,
}


def filled(page: Path) -> str:
    return BLOCK.sub(lambda found: f"{found[1]}\n{BLOCKS[found[2]]()}\n{found[3]}", page.read_text())


if __name__ == "__main__":
    write_or_check(__doc__, {page: lambda page=page: filled(page) for page in (README, LRC_BERT, CHOOSING)})
