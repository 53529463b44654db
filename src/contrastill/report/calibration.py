"""Whether a model's probabilities can be believed: the figure of a run's page."""

from __future__ import annotations

from typing import Any

from contrastill.report import charts
from contrastill.report.charts import Chart
from contrastill.report.figures import percent
from contrastill.report.run import RunFiles, dig, mapping, number
from contrastill.results import Scores, Split

__all__ = ["reliability"]

SPLITS = ("test", "dev")
Group = tuple[float, float, float]
"""Mean probability, share of right answers, rows."""


def reliability(run: RunFiles) -> Chart | None:
    """The share of right answers by probability, of the trained model on test, else dev; None: it has none."""
    trained = next((run.result.models[name] for name in ("student", "model") if name in run.result.models), Scores())
    for name in SPLITS:
        found = mapping(trained.splits.get(name, Split({})).more.get("calibration"))
        after, before = groups(found), groups(mapping(found.get("before")))
        if after:
            return chart(name, found, after, before)
    return None


def chart(split: str, found: dict[str, Any], after: list[Group], before: list[Group]) -> Chart:
    """before: the groups without the model's temperature, where it has one."""
    said = f"calibration error {share(found, 'error')}, of which chance alone makes {share(found, 'by_chance')}"
    if before:
        said += f"; without the temperature {share(mapping(found.get('before')), 'error')}"
    picture = charts.reliability(
        [after, before] if before else [after], f"share right against probability on {split}; {said}"
    )
    note = (
        f"Each point: rows of {split} of similar probability, about equally many. On the line, answers are right as "
        f"often as their probability says. {said[:1].upper()}{said[1:]}."
    )
    key = charts.key([("as it answers", 0), ("without the temperature", 1)]) if before else []
    return Chart("How far its probabilities can be believed", picture, note, key=key)


def groups(found: dict[str, Any]) -> list[Group]:
    """The groups that are whole."""
    kept = found.get("groups")
    rows = [each for each in kept if isinstance(each, list) and len(each) == 3] if isinstance(kept, list) else []
    whole = ([n for n in map(number, each) if n is not None] for each in rows)
    return [(each[0], each[1], each[2]) for each in whole if len(each) == 3 and 0 <= min(each) <= max(each[:2]) <= 1]


def share(found: dict[str, Any], key: str) -> str:
    value = number(dig(found, key))
    return "–" if value is None else percent(value)
