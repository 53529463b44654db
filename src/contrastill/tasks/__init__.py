"""Tasks, one a file. `TASKS` is the registry: name -> class."""

from typing import Any

from contrastill.data.load import TaskData, load_task
from contrastill.data.schema import Schema
from contrastill.errors import UserError
from contrastill.registry import class_of, name_of
from contrastill.tasks.base import Task
from contrastill.tasks.classification import Classification
from contrastill.tasks.embedding import Embedding
from contrastill.tasks.encoder import BareEncoder
from contrastill.tasks.labelled import LabelledTask
from contrastill.tasks.multilabel import MultiLabel
from contrastill.tasks.pairs import Pairs
from contrastill.tasks.regression import Regression

__all__ = [
    "TASKS",
    "BareEncoder",
    "Classification",
    "Embedding",
    "LabelledTask",
    "MultiLabel",
    "Pairs",
    "Regression",
    "Task",
    "check_task",
    "labelled_class",
    "load_rows",
    "output_names",
    "task_given",
    "task_name",
    "task_of",
    "task_of_model",
]

LABELLED: dict[str, type[LabelledTask]] = {cls.name: cls for cls in (Classification, Regression, MultiLabel)}
TASKS: dict[str, type[Task]] = {**LABELLED, **{cls.name: cls for cls in (Embedding, BareEncoder, Pairs)}}


def task_name(task: Any) -> Any:
    """The name of a task's class; of a name, itself."""
    return name_of(task, TASKS)


def labelled_class(task: str | type[LabelledTask]) -> type[LabelledTask]:
    """The task of that name whose texts have labels: of the registry, or a user's own, "package.module:Class".

    Raises:
        UserError: there is none.
    """
    found: type[LabelledTask] = class_of(task, LABELLED, LabelledTask, "task")
    return found


def load_rows(source: str, *, task: str | type[LabelledTask] | None = None, **options: Any) -> TaskData:
    """`data.load_task` of the labels that a task reads. task: None where the labels tell it."""
    return load_task(source, kind=None if task is None else labelled_class(task).reads, **options)


def task_of(schema: Schema, task: str | type[LabelledTask] | None = None) -> LabelledTask:
    """The task of a data set whose labels have been read: the one asked for, else the one that reads such labels."""
    found = LABELLED[schema.kind] if task is None else labelled_class(task)
    return found(schema.labels, schema.metrics)


def task_given(task: Any, config: Any) -> Any:
    """The task asked for; unasked that of a model with any number of labels, as cells of one label do not tell it."""
    return task or next((cls.name for cls in LABELLED.values() if cls.several and cls.fits(config)), None)


def check_task(task: LabelledTask, name: str, config: Any) -> None:
    """Checks that a model answers a task.

    Raises:
        UserError: by its config it answers another one.
    """
    if not task.fits(config):
        other = task_of_model(name, config).name
        raise UserError(
            f"{name}: expected a model that answers the task of the data ({task.name}), got one for {other}; pass "
            f"--task {other} if the labels are of that kind, or choose another model"
        )


def output_names(config: Any) -> list[str]:
    """The names of the outputs of a model with a head, by its config, in order."""
    return [str(config.id2label[n]) for n in range(config.num_labels)]


def task_of_model(name: str, config: Any) -> LabelledTask:
    """The task that a model with a head answers, by its config. name: of the model, for the message.

    Raises:
        UserError: none of them.
    """
    for cls in LABELLED.values():
        if cls.fits(config):
            return cls(output_names(config) if config.num_labels > 1 else ()).with_config(config)
    raise UserError(
        f"{name}: expected a model that answers one of {', '.join(LABELLED)}, got one of "
        f"{config.num_labels} outputs with problem_type {config.problem_type!r}"
    )
