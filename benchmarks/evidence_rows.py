"""The recorded rows of the studies of this folder, and the tables that several sections of docs/evidence.md have."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markdown_parts import table

from contrastill import Study
from contrastill.studies.paired import differences, words

HERE = Path(__file__).parent
RESULTS = HERE / "results"
OUTSIDE = (
    *("mpnet", "glue", "start", "additions", "minilm", "data", "captions", "teacher", "intents", "tweets"),
    *("texts", "general", "augmented", "multilingual", "mobie"),
)
"""Places that a user names."""
USUAL = 3e-4  # the rule's learning rate for a width of 312

Rows = Sequence[dict[str, Any]]


def study(name: str, seeds: int) -> Study:
    """A study of this folder, with the rows that are recorded."""
    file = HERE / f"{name}.variants.json"
    made = json.loads(file.read_text()).get("places", {})
    places = {place: "elsewhere" for place in OUTSIDE if place not in made}
    return Study.of(file, RESULTS / f"{name}.jsonl", places=places, seeds=seeds)


def by_axis(rows: Rows, axis: str) -> dict[str, list[dict[str, Any]]]:
    """Value of the axis -> rows."""
    made: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        made.setdefault(row["axes"][axis], []).append(row)
    return made


def at_best_rates(rows: Rows, axes: Sequence[str] = ("method",)) -> list[dict[str, Any]]:
    """Of each combination of these axes the rows of the rate that was best at seed 0; they keep these axes alone."""
    found = []
    for values in dict.fromkeys(tuple(row["axes"][axis] for axis in axes) for row in rows):
        kept = dict(zip(axes, values, strict=True))
        rates: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if kept.items() <= row["axes"].items():
                rates.setdefault(rate_of(row), []).append(row)
        best = max(rates.values(), key=at_seed_0)
        found += [{**row, "name": ", ".join(values), "axes": kept} for row in best]
    return found


def at_seed_0(rows: Rows) -> tuple[float, int]:
    """The score at seed 0, and the number of seeds: of two rates that are level there, that with more is taken."""
    return max((row["dev"] for row in rows if row["seed"] == 0), default=-1), len(rows)


def rate_of(row: dict[str, Any]) -> str:
    """The learning rate of a row; without one in its settings the rule's, of this width."""
    return f"{row['settings'].get('learning_rate', USUAL):.0e}".replace("e-0", "e-")


def step_costs() -> dict[str, float]:
    """Method -> the time of its step beside one on labels alone."""
    found = json.loads((RESULTS / "method_steps.json").read_text())["methods"]
    return {method: cost["to_labels"] for method, cost in found.items()}


def on_cores(rows: Rows) -> str:
    """The processors, in the order of their first rows."""
    names = list(dict.fromkeys(row["machine"]["cpu"] for row in rows))
    return f"{' or '.join(names)}, one core."


def left(found: Study) -> str:
    lacking = len(found.missing(found.chosen()))
    return f"Cells that are missing: {lacking}. The command continues the table." if lacking else "No cell is missing."


def score(rows: Rows) -> str:
    return mean_and_spread([100 * row["dev"] for row in rows], 1)


def with_rate(rows: Rows | None) -> str:
    """The score, the number of seeds and the learning rate, of rows of one rate."""
    return f"{score(rows)} ({len(rows)}, {rate_of(rows[0])})" if rows else ""


def mean_and_spread(values: Sequence[float], digits: int) -> str:
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def of_differences(rows: Rows, to: str) -> list[str]:
    """Of a study whose one axis is the method."""
    return [
        f"Differences to `{to}`, paired by seed:",
        table(
            ["", "difference", "95 % over seeds", "better in", "so"],
            [[f"`{one.value}`", *words(one)] for one in differences(rows, "method", to)],
        ),
    ]
