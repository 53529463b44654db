"""src/contrastill/methods/measured.json, which `contrastill methods` shows, from benchmarks/results.

python benchmarks/measured.py          (--check: exit code 1 if the file is not what the results say)
"""

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evidence import FROM, comparable, glue_at_best_rates
from evidence_rows import RESULTS, at_best_rates, by_axis, step_costs, study
from markdown_parts import write_or_check

from contrastill import Study
from contrastill.methods import METHODS

FILE = Path(__file__).parents[1] / "src" / "contrastill" / "methods" / "measured.json"

Row = dict[str, Any]


def lines() -> str:
    found = sorted([*of_methods(), *of_glue(), *of_embeddings(), *of_additions()], key=lambda one: order(one["method"]))
    return "[\n" + ",\n".join(f" {json.dumps(one)}" for one in found) + "\n]\n"


def order(method: str) -> int:
    return list(METHODS).index(method)


def line(method: str, on: str, kept: float, rows: list[Row], page: str, step: float | None = None) -> Row:
    seeds = len({row["seed"] for row in rows})
    rounded = None if step is None else round(step, 2)
    return {"method": method, "on": on, "kept": round(kept, 4), "seeds": seeds, "step": rounded, "page": page}


def kept(rows: list[Row]) -> float:
    return statistics.mean(row["kept"] for row in rows)


def of_methods() -> Iterator[Row]:
    """All methods for labels on one task, from two starts, each at the better rate."""
    steps = step_costs()
    starts = {
        "baselines": ("BANKING77, 1,000 labels, from random weights", "all-methods-from-random-weights"),
        "methods": ("BANKING77, by inherit", "banking77"),
    }
    for name, (on, page) in starts.items():
        for method, rows in by_axis(at_best_rates(study(name, 3).rows()), "method").items():
            yield line(method, on, kept(rows), rows, f"docs/evidence.md#{page}", steps[method])


def of_glue() -> Iterator[Row]:
    """Each task, and CoLA from a weak start too, at each method's best rate, with its own settings."""
    starts = {"": "a general student", "MiniLM": "all-MiniLM-L6-v2", "its teacher (6L-768)": "its teacher, 6L-768"}
    for task, some in by_axis(glue_at_best_rates()[1], "task").items():
        for value, found in by_axis(some, "method").items():
            method, _, start = value.partition(FROM)
            if method in METHODS:
                yield line(method, f"{task}, from {starts[start]}", kept(found), found, "docs/evidence.md#glue")
    for method, found in by_axis(at_best_rates(comparable(study("rates", 5))), "method").items():
        yield line(method, "CoLA, from a weak start", kept(found), found, "docs/evidence.md#rates-and-lengths")


def of_embeddings() -> Iterator[Row]:
    """The seven STS sets, by what the methods keep of their teacher's mean: from the teacher's reduced weights, and
    from a general student."""
    rows = json.loads((RESULTS / "embeddings.json").read_text())["rows"]
    teachers = json.loads((RESULTS / "sts.json").read_text())["models"]
    starts = {
        "7 STS sets, by inherit": ("Methods", "all-mpnet-base-v2", "methods"),
        "7 STS sets, from a general student": ("Starts", "all-MiniLM-L6-v2", "starts"),
    }
    for on, (group, teacher, page) in starts.items():
        whole = teachers[teacher]["scores"]["mean"]
        for method in METHODS:
            name = {"Methods": method, "Starts": "start-general" + f"-{method}" * (method != "disco")}[group]
            if not (some := [row for row in rows if row["about"]["group"] == group and row["name"] == name]):
                continue
            mean = statistics.mean(row["sts"]["mean"] for row in some)
            yield line(method, on, mean / whole, some, f"docs/benchmarks.md#{page}")


def of_additions() -> Iterator[Row]:
    """The variants that are a method by its defaults; and the best one."""
    found: Study = study("additions", 5)
    names = {"gkd, given": "gkd", "gkd, reverse, own text": "gkd"} | {
        name: name for name in ("sft", "distillm", "atkd", "okd", "skd")
    }
    made = by_axis(found.rows(), "method")
    teacher = found.table()[found.identity(("teacher", 0))]["dev"]
    for value, method in names.items():
        mean = statistics.mean(row["dev"] for row in made[value]) / teacher
        page = "docs/evidence.md#language-models-additions"
        own = ", by source=student and beta=1" if "own" in value else ""
        yield line(method, f"additions, exact match{own}", mean, made[value], page)


if __name__ == "__main__":
    write_or_check(__doc__, {FILE: lines})
