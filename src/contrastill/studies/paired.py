"""The values of one axis of a study side by side: means over seeds, and differences paired by seed."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import scipy

from contrastill.errors import UserError, quoted, quoted_each
from contrastill.ranges import suggestion
from contrastill.results import LESS_IS_BETTER
from contrastill.studies.run import markdown_table, shown

__all__ = ["Difference", "difference", "differences", "side_by_side"]


SPREAD = 1e-12  # of differences, up to which they are the same


@dataclass(frozen=True)
class Difference:
    """How a value of an axis scores beside another, over the seeds of both.

    label: of the combination of the other axes. value, to: of the axis. metric: of the scores. mean: of the
    differences; low, high: its 95 % interval (Student's t), None for one seed, and where the difference is the same in
    each (few rows on dev, few seeds): an interval without width would tell more than is known. better: seeds in which
    the value is.
    """

    label: str
    value: str
    to: str
    metric: str
    mean: float
    low: float | None
    high: float | None
    better: int
    seeds: int

    @property
    def so(self) -> str:
        """What the interval tells: "better", "worse" or "level"."""
        if self.low is None or self.high is None:
            if self.seeds > 1 and abs(self.mean) <= SPREAD:
                return "level"
            return f"{'one seed' if self.seeds == 1 else 'the same in each seed'}: nothing is told"
        sign = -1 if self.metric in LESS_IS_BETTER else 1
        low, high = sorted((sign * self.low, sign * self.high))
        return "better" if low > 0 else "worse" if high < 0 else "level"


@dataclass
class Group:
    """The scores of one combination of the other axes: value -> seed -> score on dev."""

    label: str
    metric: str
    scores: dict[str, dict[int, float]]


def side_by_side(rows: Iterable[Mapping[str, Any]], axis: str, to: str | None = None) -> str:
    """Two tables in markdown: of each value of an axis the mean on dev; and its difference to the value `to` (by
    default the first), paired by seed, with a 95 % interval over the seeds. For the arguments and errors see
    `differences`."""
    rows = list(rows)
    groups = grouped(rows, axis)
    values = values_of(groups, axis, to)
    metrics = {group.metric for group in groups}
    head = f"{metrics.pop()} on dev" if len(metrics) == 1 else "on dev"
    labels = {group.label: group.label if head != "on dev" else f"{group.label} ({group.metric})" for group in groups}
    means = markdown_table(
        [head, *values],
        [[labels[g.label], *(shown(list(g.scores.get(value, {}).values())) for value in values)] for g in groups],
    )
    found = {(one.label, one.value): one for one in differences(rows, axis, to)}
    to = values[0] if to is None else to
    lines = [
        [labels[group.label], value, *words(found.get((group.label, value)))]
        for group in groups
        for value in values
        if value != to
    ]
    columns = ["", f"less {to}", "difference", "95 % over seeds", "better in", "so"]
    return "\n".join([*means, "", *markdown_table(columns, lines)]) + "\n"


def differences(rows: Iterable[Mapping[str, Any]], axis: str, to: str | None = None) -> list[Difference]:
    """The difference of each value of an axis to the value `to` (by default the first), paired by seed.

    axis: of the rows' `axes`, or "variant" for their names.

    Raises:
        UserError: no such axis or value; no scores on dev; of one combination scores of several metrics.
    """
    groups = grouped(rows, axis)
    values = values_of(groups, axis, to)
    to = values[0] if to is None else to
    pairs = [(group, value) for group in groups for value in values if value != to]
    found = [difference(g.scores.get(value, {}), g.scores.get(to, {}), g.metric) for g, value in pairs]
    return [
        replace(one, label=group.label, value=value, to=to)
        for one, (group, value) in zip(found, pairs, strict=True)
        if one is not None
    ]


def difference(ours: Mapping[int, float], theirs: Mapping[int, float], metric: str = "") -> Difference | None:
    """Of scores by seed; None: they have no seed in common."""
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    apart = [ours[seed] - theirs[seed] for seed in seeds]
    better = sum((one < 0) if metric in LESS_IS_BETTER else (one > 0) for one in apart)
    middle, low, high = statistics.mean(apart), None, None
    if len(seeds) > 1 and statistics.stdev(apart) > SPREAD:
        half = float(scipy.stats.t.ppf(0.975, len(seeds) - 1)) * statistics.stdev(apart) / len(seeds) ** 0.5
        low, high = middle - half, middle + half
    return Difference("", "", "", metric, middle, low, high, better, len(seeds))


def words(found: Difference | None) -> list[str]:
    """The cells of a difference in a table."""
    if found is None:
        return ["", "", "", "no seed in common"]
    interval = "" if found.low is None else f"{found.low:+.4f} to {found.high:+.4f}"
    return [f"{found.mean:+.4f}", interval, f"{found.better} of {found.seeds}", found.so]


def grouped(rows: Iterable[Mapping[str, Any]], axis: str) -> list[Group]:
    found: dict[str, Group] = {}
    for row in rows:
        if row.get("dev") is None:
            continue
        axes = {**row.get("axes", {}), "variant": row["name"]} if axis == "variant" else row.get("axes", {})
        if axis not in axes:
            raise UserError(f"expected an axis of the study ({quoted_each(axes) or 'it has none'}, variant), got "
                            f"{quoted(axis)}{suggestion(axis, [*axes, 'variant'])}")  # fmt: skip
        others = [] if axis == "variant" else [value for name, value in axes.items() if name != axis]
        if axis != "variant" and (own := variant_of(row)):
            others.append(own)
        group = found.setdefault(", ".join(others), Group(", ".join(others), str(row.get("metric")), {}))
        if group.metric != str(row.get("metric")):
            metrics = quoted_each(sorted({group.metric, str(row.get("metric"))}))
            raise UserError(f"expected scores on dev of one metric, got {metrics} of {quoted(group.label)}")
        group.scores.setdefault(axes[axis], {})[row["seed"]] = row["dev"]
    if not found:
        raise UserError("expected scores on dev of one metric, got none")
    return list(found.values())


def values_of(groups: Sequence[Group], axis: str, to: str | None) -> list[str]:
    values = list(dict.fromkeys(value for group in groups for value in group.scores))
    if to is not None and to not in values:
        raise UserError(f"expected a value of {quoted(axis)} ({quoted_each(values)}), got {quoted(to)}")
    return values


def variant_of(row: Mapping[str, Any]) -> str:
    """The name of a row's variant among those that its axes cross; "" if there is none."""
    return str(row["name"]).removeprefix(", ".join(row.get("axes", {}).values())).removeprefix(", ")
