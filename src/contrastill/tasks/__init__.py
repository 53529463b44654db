"""Tasks, one a file. `TASKS` is the one registry: name -> class."""

from typing import Any

from contrastill.data import Schema
from contrastill.errors import UserError
from contrastill.tasks.base import Task
from contrastill.tasks.classification import Classification
from contrastill.tasks.embedding import Embedding
from contrastill.tasks.encoder import BareEncoder
from contrastill.tasks.labelled import LabelledTask
from contrastill.tasks.pairs import Pairs
from contrastill.tasks.regression import Regression

__all__ = [
    "TASKS",
    "BareEncoder",
    "Classification",
    "Embedding",
    "LabelledTask",
    "Pairs",
    "Regression",
    "Task",
    "task_of",
    "task_of_model",
]

TASKS: dict[str, type[Task]] = {cls.name: cls for cls in (Classification, Regression, Embedding, BareEncoder, Pairs)}
LABELLED: tuple[type[LabelledTask], ...] = (Classification, Regression)


def task_of(schema: Schema) -> LabelledTask:
    """The task of a data set whose labels have been read."""
    (found,) = (cls for cls in LABELLED if cls.name == schema.kind)
    return found(schema.labels, schema.metrics)


def task_of_model(name: str, config: Any) -> LabelledTask:
    """The task that a model with a head answers, by its config. name: of the model, for the message.

    Raises:
        UserError: none of them.
    """
    for cls in LABELLED:
        if cls.fits(config):
            return cls([str(config.id2label[n]) for n in range(config.num_labels)] if config.num_labels > 1 else ())
    raise UserError(
        f"{name}: expected a model that answers one of {', '.join(cls.name for cls in LABELLED)}, got one of "
        f"{config.num_labels} outputs with problem_type {config.problem_type!r}"
    )
