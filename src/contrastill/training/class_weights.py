"""Weights of the classes in the label loss: balanced, or from a file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from contrastill.data.cells import some
from contrastill.data.load import TaskData
from contrastill.errors import UserError, quoted
from contrastill.methods import Method
from contrastill.ranges import suggestion
from contrastill.results import read_object
from contrastill.results.scores import number
from contrastill.tasks import LabelledTask

__all__ = ["BALANCED", "by_class", "check_label_loss", "described", "weigh_classes"]

BALANCED = "balanced"
MOST = 1_000_000
SHOWN = 12  # classes whose weights are named in a sentence


def weigh_classes(task: LabelledTask, data: TaskData, asked: str | None) -> None:
    """Gives the task the class weights that were asked for: "balanced" by the training rows, or of a JSON file.

    Raises:
        UserError: the task has no such weights; the file cannot be read, or does not give each class one positive
            number.
    """
    if asked is None or data.train is None:
        return
    weights = task.balanced(task.labels_of(data.train))
    if asked != BALANCED:
        weights = np.array(read_weights(Path(asked).expanduser(), task.labels))
    task.class_weights = torch.tensor(weights, dtype=torch.float32)


def read_weights(path: Path, classes: Sequence[str]) -> list[float]:
    """The weight of each class in a JSON object, class name -> number."""
    try:
        found = read_object(path)
    except UserError as error:
        raise UserError(f"--class-weights: expected 'balanced' or a JSON file of weights: {error}") from None
    if unknown := [name for name in found if name not in classes]:
        raise UserError(
            f"{path}: expected weights of the classes {some(classes, 10)}, got one of {quoted(unknown[0])}"
            + suggestion(unknown[0], classes)
        )
    if missing := [name for name in classes if name not in found]:
        raise UserError(f"{path}: expected a weight of every class, found none of {some(missing, 10)}; add 1 for each")
    return [checked(found[name], name, path) for name in classes]


def checked(value: Any, name: str, path: Path) -> float:
    weight = number(value)
    if weight is None or not 0 < weight <= MOST:
        shown = json.dumps(value)[:80]
        raise UserError(f"{path}: expected the weight of {quoted(name)} above 0, at most {MOST:,}, got {shown}")
    return float(weight)


def check_label_loss(task: LabelledTask, method: Method) -> None:
    """Checks that class weights have an effect.

    Raises:
        UserError: the method's label loss has the weight 0 in every stage.
    """
    hard = [stage.weights["hard"] for stage in method.stages if "hard" in stage.weights]
    if task.class_weights is not None and hard and not any(hard):
        raise UserError(
            f"--class-weights: expected {method.name!r} with a label loss, got one whose weight is 0; raise that, or "
            "leave them out"
        )


def by_class(task: LabelledTask) -> Mapping[str, float]:
    """The weight of each class by its name; empty where all count alike."""
    weights = [] if task.class_weights is None else task.class_weights.tolist()
    return dict(zip(task.labels, weights, strict=True)) if weights else {}


def described(task: LabelledTask, asked: str) -> str:
    """The weights in a sentence."""
    known = by_class(task)
    named = [f"{name:.60} {weight:.4g}" for name, weight in known.items()]
    rest = f", and {len(named) - SHOWN} more (run.json: class_weights)" if len(named) > SHOWN else ""
    return f"{asked}: {', '.join(named[:SHOWN])}{rest}"
