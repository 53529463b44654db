"""Data and model must mean the same by class 0."""

import dataclasses
import re
from collections.abc import Sequence

from datasets import Dataset

from contrastill.data.load import TaskData
from contrastill.errors import UserError

__all__ = ["align_labels", "unnamed"]


def align_labels(data: TaskData, names: Sequence[str]) -> TaskData:
    """The data with its class ids in the order of `names`, the classes of a model in id order.

    Names are compared without regard to case, space, hyphen and underscore. A model whose classes have no names
    (LABEL_0, LABEL_1, …) is taken to use the data's order: then only its score can tell whether that is so.

    Raises:
        UserError: other classes, or another number of them.
    """
    if data.task.kind == "regression":
        if len(names) != 1:
            raise UserError(
                f"{data.task.name} has scores to regress on (1 output), the model has {len(names)} classes: "
                f"{shown(names)}; use a regression model, or say kind='classification' if the labels are classes"
            )
        return data
    ours = data.task.labels
    if len(names) != len(ours):
        raise UserError(
            f"{data.task.name} has {len(ours)} classes ({shown(ours)}), the model has {len(names)} ({shown(names)}); "
            "use a model fine-tuned on this task"
        )
    if unnamed(names) or list(names) == list(ours):
        return data
    theirs = {plain(name): n for n, name in enumerate(names)}
    missing = [name for name in ours if plain(name) not in theirs]
    if missing or len(theirs) != len(names):
        raise UserError(
            f"{data.task.name} and the model disagree on class names: {shown(missing)} not among the model's "
            f"({shown(names)}); rename the classes in one of them"
        )
    new = [theirs[plain(name)] for name in ours]

    def moved(split: Dataset | None) -> Dataset | None:
        if split is None:
            return None
        return split.map(
            lambda rows: {"label": [x if x < 0 else new[x] for x in rows]},
            input_columns="label",
            batched=True,
            keep_in_memory=True,
        )

    task = dataclasses.replace(data.task, labels=tuple(names))
    return dataclasses.replace(data, task=task, train=moved(data.train), dev=moved(data.dev), test=moved(data.test))


def unnamed(names: Sequence[str]) -> bool:
    """Whether these are the names that transformers makes up."""
    return all(re.fullmatch(r"LABEL_\d+", name) for name in names)


def plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", str(name)).lower()


def shown(names: Sequence[str]) -> str:
    return ", ".join(map(str, names[:8])) + (", …" if len(names) > 8 else "")
