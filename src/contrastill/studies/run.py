"""One run of a study: its command, its resumption, and the figures of its row."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from contrastill.errors import UserError, quoted
from contrastill.registry import imported
from contrastill.results.scores import number

__all__ = ["MODELS", "command_of", "figures", "markdown_table", "measured", "shown", "taken_up"]

MODELS = {"distill": "student", "pretrain": "student", "contrast": "model", "finetune": "model"}
"""Command -> the folder of the model in a run's folder."""


def command_of(command: Any, settings: Mapping[str, Any]) -> Callable[..., Any]:
    """The function of a command: a name of `MODELS`, whose settings are checked, or "package.module:function".

    Raises:
        UserError: no such command, or settings that it does not take.
    """
    from contrastill import settings as kinds
    from contrastill import training
    from contrastill.training.commands import distillation, named

    if callable(command):
        return command
    if command in MODELS:
        given = named(dict(settings))
        own: dict[str, Any] = {
            "contrast": kinds.Contrast,
            "finetune": kinds.finetuning(given.get("task")),
            "pretrain": kinds.Pretraining,
        }
        (own.get(command) or distillation(given.get("method"))).given(given)
        return getattr(training, command)
    module, colon, path = str(command).partition(":")
    if not colon:
        known = ", ".join(MODELS)
        raise UserError(f"expected a command of {known}, or your own as package.module:function; got {quoted(command)}")
    return imported(module, path, "command")


def taken_up(train: Callable[..., Any], settings: Mapping[str, Any], otherwise: str) -> tuple[Any, bool]:
    """Trains, or resumes the run that was begun in `settings["out"]`; returns the run and whether it was resumed.

    Raises:
        UserError: the run there has other settings, with `otherwise`, what to do to make it anew; as `train`.
    """
    begun = Path(settings["out"]) / "run.json"
    if not begun.is_file() or begun.stat().st_size == 0:
        return train(**{**settings, "overwrite": True}), False
    try:
        return train(resume=True, **{**settings, "overwrite": True}), True
    except UserError as error:
        raise UserError(f"{error}; {otherwise}") from None


# ---- rows


def measured(run: Any) -> dict[str, Any]:
    """The row of a run: its score on dev, never on test, its steps and seconds; an object is its own row."""
    if isinstance(run, Mapping):
        return dict(run)
    result = run.result
    ours = list(result.columns)[-1]
    dev = next((score for score in result.columns[ours] if score.where == "dev"), None)
    if dev is not None and dev.metric == "spearman" and dev.rows is None:  # of embeddings: as `contrast` gives it
        dev = replace(dev, metric="Spearman x 100", value=100 * dev.value)
    splits = result.models[ours].splits if ours in result.models else {}
    theirs = result.models["teacher"].splits.get("dev") if "teacher" in result.models else None
    row = {
        "metric": dev and dev.metric,
        "dev": dev and dev.value,
        "interval": [dev.low, dev.high] if dev and dev.low is not None else None,
        "metrics": dict(split.metrics) if (split := splits.get("dev")) is not None else None,
        "teacher_metrics": dict(theirs.metrics) if theirs is not None else None,
        "kept": (result.kept or {}).get("dev"),
        "sts": result.sts.get(ours),
        "rows": result.figures.get("train_rows"),
        "steps": result.figures.get("steps"),
        "teacher_forwards": result.figures.get("teacher_forwards"),
        "seconds": dict(result.seconds),
    }
    return {name: value for name, value in row.items() if value is not None}


def figures(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row by their columns."""
    own = ("name", "seed", "metric", "dev", "kept", "rows")
    found = {
        f"{row['metric']} on dev" if row.get("metric") else "dev": row.get("dev"),
        "kept %": 100 * row["kept"] if row.get("kept") else None,
        "STS": nested(row, "sts", "mean"),
        **{name: value for name, value in row.items() if name not in own},
        "training s": nested(row, "seconds", "training"),
        "s": sum(row["seconds"].values()) if isinstance(row.get("seconds"), Mapping) else None,
    }
    return {name.replace("_", " "): value for name, value in found.items() if number(value) is not None}


def nested(row: Mapping[str, Any], name: str, inner: str) -> Any:
    return row[name].get(inner) if isinstance(row.get(name), Mapping) else None


def shown(values: Sequence[float]) -> str:
    """The mean and, of several, the standard deviation: "0.8412 ± 0.0031"; of none, nothing."""
    if not values:
        return ""
    counts = all(isinstance(value, int) for value in values) and len(set(values)) == 1
    digits = 0 if counts else 4 if max(map(abs, values)) <= 1 else 2
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 and digits else ""
    return f"{statistics.mean(values):,.{digits}f}{spread}"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table in markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return [lines[0], "|---" * len(head) + "|", *lines[1:]]
