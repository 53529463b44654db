"""metrics.json: the scores of a run, typed.

A run compares two columns: teacher and student, or a model before and after. The file has two layouts for that, from
which `RunResult.columns` makes one. A value of another kind than expected is left out, so that a damaged file still
shows the rest.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["HELD_OUT_PAIRS", "LESS_IS_BETTER", "YARDSTICKS", "RunResult", "Score", "Scores", "Split", "number"]

COLUMNS = ("teacher", "vectors", "probe", "baseline", "student", "model")
YARDSTICKS = {
    "vectors": "a linear fit on the frozen encoder's vectors of the two texts, each read by itself",
    "probe": "a linear fit on the frozen encoder, before any training",
    "baseline": "the same student, trained on the labels or given answers alone: same start, rows, order and steps",
}
"""Columns beside a trained model that show what its training adds, and what they are."""
SPLITS = ("test", "dev")
ORDER = (
    *("steps", "planned_steps", "task", "metric", "base", "train_rows", "held_out", "batch_rows", "scale"),
    *("student", "model", "teacher", "probe", "vectors", "baseline", "against_baseline", "kept"),
    *("yardsticks", "teacher_forwards", "dev", "retrieval", "sts", "checkpoint", "averaged", "parameters", "size_mb"),
)
"""Of the entries of metrics.json; others follow."""
HELD_OUT = ("spearman", "agreement", "cosine", "loss")
"""Metrics of a model without labels, beside its size."""
LESS_IS_BETTER = frozenset({"loss", "kl", "perplexity", "own_nats"})
"""Metrics of which less is better; of all others more is."""
HELD_OUT_PAIRS = "held-out pairs"
"""Rows on which a model that is trained on pairs is scored, where there are no scored ones."""


@dataclass(frozen=True)
class Score:
    """One metric of a model on some rows, with its 95 % interval where rows are scored one by one."""

    value: float
    metric: str
    where: str  # "test", "dev", an STS set, "mean" of the STS sets
    rows: int | None = None
    low: float | None = None
    high: float | None = None
    hundred: bool = False  # x 100 already


@dataclass(frozen=True)
class Split:
    """A model's metrics on a labelled split. interval: of the first; intervals: of each metric that has one."""

    metrics: Mapping[str, float]
    rows: int | None = None
    interval: tuple[float, float] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        rows, several = number(found.get("rows")), found.get("intervals")
        known = {str(name): ends(one) for name, one in several.items()} if isinstance(several, Mapping) else {}
        return cls(
            numbers(found.get("metrics")),
            None if rows is None else int(rows),
            ends(found.get("interval")),
            {key: value for key, value in found.items() if key not in ("metrics", "rows", "interval", "intervals")},
            {name: one for name, one in known.items() if one is not None},
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "metrics": dict(self.metrics),
            **({} if self.rows is None else {"rows": self.rows}),
            **({} if self.interval is None else {"interval": list(self.interval)}),
            **({} if not self.intervals else {"intervals": {name: list(one) for name, one in self.intervals.items()}}),
            **self.more,
        }

    def ends(self, metric: str, first: str | None) -> tuple[float, float] | None:
        """The interval of a metric, if it has one. first: the metric that `interval` belongs to."""
        return self.intervals.get(metric, self.interval if metric == first else None)


@dataclass(frozen=True)
class Scores:
    """Measurements of one model: scores of each split, and figures such as parameters, size_mb, agreement."""

    splits: Mapping[str, Split] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        splits = {name: Split.from_json(one) for name, one in found.items() if isinstance(one, Mapping)}
        return cls(splits, numbers(found))

    def to_json(self) -> dict[str, Any]:
        return {**{name: split.to_json() for name, split in self.splits.items()}, **self.figures}

    def listed(self, first: str | None) -> list[Score]:
        """Every score, test before dev; those of the metric `first` before the others."""
        found = []
        for where in SPLITS:
            split = self.splits.get(where, Split({}))
            for metric, value in split.metrics.items():
                low, high = split.ends(metric, first) or (None, None)
                found.append(Score(value, metric, where, split.rows, low, high))
        found += [Score(self.figures[metric], metric, "dev") for metric in HELD_OUT if metric in self.figures]
        return sorted(found, key=lambda score: score.metric != first)


@dataclass(frozen=True)
class RunResult:
    """What a run measured.

    models: "teacher", "student", "model" -> scores; "probe": of a linear fit on the frozen encoder; "vectors": of one
    on its vectors of the two texts of a pair, each read by itself; "baseline": of the student without its
    teacher.

    base: the start of a model that was trained further; changes: its scores before and after. sts: column -> STS
    set -> Spearman x 100. kept: split -> share of the teacher's score; None where splits aren't scored.
    figures: numbers of the whole run (steps, train_rows, parameters, …). more: the other entries.
    """

    task: str | None = None
    metric: str | None = None
    base: str | None = None
    models: Mapping[str, Scores] = field(default_factory=dict)
    changes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    sts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    kept: Mapping[str, float] | None = None
    yardsticks: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """The result in a metrics.json of any version."""
        base = text(found.get("base"))
        changes = {name: numbers(found.get(name)) for name in ("dev", "retrieval")} if base is not None else {}
        sts, said, kept = found.get("sts"), found.get("warnings"), found.get("kept")
        tables = {name: numbers(found.get(name)) for name in ("yardsticks", "seconds")}
        result = cls(
            task=text(found.get("task")),
            metric=text(found.get("metric")),
            base=base,
            models={n: Scores.from_json(found[n]) for n in COLUMNS if isinstance(found.get(n), Mapping)},
            changes={name: change for name, change in changes.items() if change},
            sts={str(n): numbers(one) for n, one in sts.items()} if isinstance(sts, Mapping) else {},
            kept=numbers(kept) if isinstance(kept, Mapping) else None,
            warnings=tuple(map(str, said)) if isinstance(said, list) else (),
            figures=numbers(found),
            **tables,
        )
        known = result.to_json()
        return cls(**{**vars(result), "more": {key: value for key, value in found.items() if key not in known}})

    def to_json(self) -> dict[str, Any]:
        """The object that metrics.json holds."""
        tables = {
            **{name: scores.to_json() for name, scores in self.models.items()},
            **{name: dict(change) for name, change in self.changes.items()},
            "sts": {name: dict(table) for name, table in self.sts.items()},
            "yardsticks": dict(self.yardsticks),
            "warnings": list(self.warnings),
            "seconds": dict(self.seconds),
        }
        entries = {
            **({} if self.task is None else {"task": self.task, "metric": self.metric}),
            **({} if self.base is None else {"base": self.base}),
            **({} if self.kept is None else {"kept": dict(self.kept)}),
            **self.figures,
            **{name: table for name, table in tables.items() if table},
            **self.more,
        }
        return {name: entries[name] for name in (*ORDER, *entries) if name in entries}

    @property
    def against_baseline(self) -> dict[str, tuple[str, float, float, float]]:
        """Split -> metric, and the student's score minus the baseline's with the ends of its 95 % interval."""
        found, made = self.more.get("against_baseline"), dict[str, tuple[str, float, float, float]]()
        for split, one in found.items() if isinstance(found, Mapping) else ():
            metric, ends = text(one.get("metric")) if isinstance(one, Mapping) else None, numbers(one)
            if metric is not None and ends.keys() >= {"difference", "low", "high"}:
                made[str(split)] = metric, ends["difference"], ends["low"], ends["high"]
        return made

    @property
    def before_and_after(self) -> bool:
        """Whether one model was trained further, and is compared with itself."""
        return self.base is not None

    @property
    def columns(self) -> dict[str, list[Score]]:
        """Column of the table of results -> its scores, the most telling first; what is compared with comes first."""
        if not self.before_and_after:
            return {name: [*self.sts_of(name), *scores.listed(self.metric)] for name, scores in self.models.items()}
        return {when: [*self.sts_of(when), *self.changed(when)] for when in ("before", "after")}

    def changed(self, when: str) -> list[Score]:
        """The scores "before" or "after" of a model that was trained further; retrieval among its own rows is none."""
        found = {name: change[when] for name, change in self.changes.items() if when in change}
        rows = number(self.figures.get("held_out"))
        scores = [Score(found["dev"], "Spearman x 100", "dev", hundred=True)] if "dev" in found else []
        if rows and "retrieval" in found:
            scores.append(Score(found["retrieval"] / 100, "retrieval", HELD_OUT_PAIRS, int(rows)))
        return scores

    def sts_of(self, column: str) -> list[Score]:
        """The STS sets of a column, their mean first."""
        table = self.sts.get(column, {})
        names = sorted(table, key=lambda name: name != "mean")
        return [Score(table[name], "Spearman x 100", name, hundred=True) for name in names]

    def size_of(self, column: str, name: str) -> float | None:
        """A figure of a column ("parameters", "size_mb"); a model trained further has one for both."""
        scores = self.models.get(column)
        return scores.figures.get(name) if scores is not None else self.figures.get(name)


def number(value: Any) -> float | None:
    """A finite number, as it is; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # an integer that no float holds
        return None


def ends(value: Any) -> tuple[float, float] | None:
    """The two ends of an interval."""
    low, high = map(number, value) if isinstance(value, list | tuple) and len(value) == 2 else (None, None)
    return None if low is None or high is None else (low, high)


def numbers(value: Any) -> dict[str, float]:
    """The finite numbers of an object."""
    entries = value.items() if isinstance(value, Mapping) else ()
    return {str(key): known for key, one in entries if (known := number(one)) is not None}


def text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
