"""The values of one axis of a study side by side: means over seeds, and differences paired by seed."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import scipy

from contrastill.errors import UserError, quoted, quoted_each
from contrastill.ranges import suggestion
from contrastill.studies.run import markdown_table, shown

__all__ = ["difference", "side_by_side"]

Scores = dict[str, dict[str, dict[int, float]]]
"""Combination of the other axes -> value -> seed -> score on dev."""


def side_by_side(rows: Iterable[Mapping[str, Any]], axis: str, to: str | None = None) -> str:
    """Two tables in markdown: of each value of an axis the mean on dev; and its difference to the value `to` (by
    default the first), paired by seed, with a 95 % interval over the seeds.

    axis: of the rows' `axes`, or "variant" for their names.

    Raises:
        UserError: no such axis or value; no scores on dev, or of several metrics.
    """
    rows = [row for row in rows if row.get("dev") is not None]
    metrics = {str(row.get("metric")) for row in rows}
    if len(metrics) != 1:
        raise UserError(f"expected scores on dev of one metric, got {quoted_each(sorted(metrics)) or 'none'}")
    found = scores_by(rows, axis)
    values = list(dict.fromkeys(value for each in found.values() for value in each))
    to = values[0] if to is None else to
    if to not in values:
        raise UserError(f"expected a value of {quoted(axis)} ({quoted_each(values)}), got {quoted(to)}")
    (metric,) = metrics
    lower = "loss" in metric
    means = markdown_table(
        [f"{metric} on dev", *values],
        [[label, *(shown(list(each.get(value, {}).values())) for value in values)] for label, each in found.items()],
    )
    lines = [
        [label, value, *difference(each.get(value, {}), each.get(to, {}), lower)]
        for label, each in found.items()
        for value in values
        if value != to
    ]
    head = ["", f"less {to}", "difference", "95 % over seeds", "better in", "so"]
    return "\n".join([*means, "", *markdown_table(head, lines)]) + "\n"


def scores_by(rows: Sequence[Mapping[str, Any]], axis: str) -> Scores:
    found: Scores = {}
    for row in rows:
        axes = {**row.get("axes", {}), "variant": row["name"]} if axis == "variant" else row.get("axes", {})
        if axis not in axes:
            raise UserError(f"expected an axis of the study ({quoted_each(axes) or 'it has none'}, variant), got "
                            f"{quoted(axis)}{suggestion(axis, [*axes, 'variant'])}")  # fmt: skip
        others = [] if axis == "variant" else [value for name, value in axes.items() if name != axis]
        if own := variant_of(row):
            others.append(own)
        label = "" if axis == "variant" else ", ".join(others)
        found.setdefault(label, {}).setdefault(axes[axis], {})[row["seed"]] = row["dev"]
    return found


def variant_of(row: Mapping[str, Any]) -> str:
    """The name of a row's variant among those that its axes cross; "" if there is none."""
    return str(row["name"]).removeprefix(", ".join(row.get("axes", {}).values())).removeprefix(", ")


def difference(ours: Mapping[int, float], theirs: Mapping[int, float], lower: bool = False) -> list[str]:
    """Of scores by seed: the mean difference over the seeds of both, its interval (Student's t), the seeds in which
    ours is better, and in words what that tells. lower: whether lower is better."""
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return ["", "", "", "no seed in common"]
    apart = [ours[seed] - theirs[seed] for seed in seeds]
    middle, better = statistics.mean(apart), sum((one < 0) if lower else (one > 0) for one in apart)
    wins = f"{better} of {len(seeds)}"
    if len(seeds) < 2:
        return [f"{middle:+.4f}", "", wins, "one seed: nothing is told"]
    half = float(scipy.stats.t.ppf(0.975, len(seeds) - 1)) * statistics.stdev(apart) / len(seeds) ** 0.5
    low, high = middle - half, middle + half
    sign = -1 if lower else 1
    so = "better" if sign * low > 0 and sign * high > 0 else "worse" if sign * low < 0 and sign * high < 0 else "level"
    return [f"{middle:+.4f}", f"{low:+.4f} to {high:+.4f}", wins, so]
