"""`contrastill verify`: checks a bundle's files, its answers on this machine, and its quality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from contrastill.bundle import METADATA, Bundle, open_bundle
from contrastill.data.files import look_up
from contrastill.errors import UserError
from contrastill.exporting.probes import compared
from contrastill.settings import DataSource, Evaluation, Verification

if TYPE_CHECKING:
    from contrastill.exporting.gate import Examples

__all__ = ["Verified", "verify"]


class Verified(TypedDict):
    """Result of a check of a bundle. problems: a sentence each; as_exported: the gate's score, by the same metric."""

    bundle: str
    files: int
    problems: list[str]
    probes: dict[str, Any]
    data: NotRequired[str]
    rows: NotRequired[int]
    metric: NotRequired[str]
    value: NotRequired[float]
    interval: NotRequired[list[float]]
    as_exported: NotRequired[dict[str, Any]]
    drop_points: NotRequired[float]


def verify(**settings: Any) -> Verified:
    """Checks a bundle's files, its answers to the stored probes and, given data, its metric. See `Verification`.

    Returns what was found; "problems" is empty where all is well.

    Raises:
        UserError: no bundle, a damaged one, or data that does not fit it.
    """
    asked = Verification.given(settings)
    bundle = open_bundle(asked.bundle, threads=asked.threads)
    probes, problems = compared(bundle)
    files = len(bundle.metadata["files"])
    found: Verified = {"bundle": str(bundle.folder), "files": files, "problems": problems, "probes": probes}
    if asked.data is not None:
        from contrastill.exporting.gate import measure  # torch, which a bundle's own check does without

        examples = examples_for(bundle, asked)
        answers = measure(bundle, examples)
        value = examples.judge(answers)
        found |= {"data": examples.data, "rows": len(examples.texts), "metric": examples.metric, "value": value}
        if examples.task is not None and examples.labels is not None:
            found["interval"] = list(examples.task.interval(answers, examples.labels, examples.metric))
        compare_with_gate(bundle, asked, found)
    elif asked.max_drop is not None:
        raise UserError("--max-drop: expected --data with it, got none; give the data to measure on")
    return found


def examples_for(bundle: Bundle, asked: Verification) -> Examples:
    from contrastill.exporting.gate import examples_of_pairs, examples_of_task
    from contrastill.tasks import load_rows

    if bundle.answer.vector:
        return examples_of_pairs(asked.data or "", asked.encoding or "utf-8", asked.delimiter)
    given = DataSource.among(vars(asked))
    alone = look_up(asked.data or "")[1] == "file" and asked.split is None
    if alone:  # a file by itself is what is to be scored, all of it
        given["dev_share"] = 0.0
    if bundle.answer.several or bundle.answer.per_word:
        given["task"] = bundle.task
    source = Evaluation(model=str(asked.bundle), **given)
    data = load_rows(source.data, **source.reading(), of_model=bundle.answer.classes or ["score"])
    return examples_of_task(data, bundle, "train" if alone else asked.split)


def compare_with_gate(bundle: Bundle, asked: Verification, found: Verified) -> None:
    gate = bundle.metadata.get("gate")
    if gate is None:
        return
    numbers = ("torch", "bundle", "drop_points", "max_drop", "rows")
    if not isinstance(gate, dict) or not all(isinstance(gate.get(key), (int, float)) for key in numbers):
        raise UserError(f"{bundle.folder / METADATA}: the recorded measurements (gate) are damaged; export it again")
    if gate.get("metric") != found["metric"]:
        return
    found["as_exported"] = {key: gate.get(key) for key in ("data", "torch", "bundle", "drop_points", "max_drop")}
    found["drop_points"] = 100 * (gate["torch"] - found["value"])
    allowed = gate["max_drop"] if asked.max_drop is None else asked.max_drop
    if (gate.get("data"), gate["rows"]) != (found["data"], found["rows"]) and asked.max_drop is None:
        return  # other examples: another value is no sign of a fault
    if not found["drop_points"] <= allowed:
        found["problems"].append(
            f"{found['metric']} {100 * found['value']:.2f} on {found['data']}: {found['drop_points']:.2f} points below "
            f"the model's {100 * gate['torch']:.2f}, allowed are {allowed:g}"
        )
