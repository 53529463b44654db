"""Tasks, one a file. `TASKS` is the registry: name -> class."""

from typing import Any

from contrastill.data.load import TaskData, load_task
from contrastill.data.schema import Schema
from contrastill.errors import UserError
from contrastill.registry import class_of, name_of
from contrastill.spans import Scheme
from contrastill.tasks.base import Task
from contrastill.tasks.classification import Classification
from contrastill.tasks.embedding import Embedding
from contrastill.tasks.encoder import BareEncoder
from contrastill.tasks.labelled import LabelledTask, tags_tokens
from contrastill.tasks.language import Language
from contrastill.tasks.multilabel import MultiLabel
from contrastill.tasks.pairs import Pairs
from contrastill.tasks.regression import Regression
from contrastill.tasks.tagging import Tagging

__all__ = [
    "TASKS",
    "BareEncoder",
    "Classification",
    "Embedding",
    "LabelledTask",
    "Language",
    "MultiLabel",
    "Pairs",
    "Regression",
    "Tagging",
    "Task",
    "check_task",
    "class_names",
    "labelled_class",
    "load_rows",
    "output_names",
    "task_given",
    "task_name",
    "task_of",
    "task_of_model",
    "trained_class",
]

LABELLED: dict[str, type[LabelledTask]] = {cls.name: cls for cls in (Classification, Regression, MultiLabel, Tagging)}
TASKS: dict[str, type[Task]] = {**LABELLED, **{cls.name: cls for cls in (Embedding, BareEncoder, Pairs, Language)}}


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


def trained_class(task: str | type[Task]) -> type[Task]:
    """The task of that name which `finetune` trains: one of texts with labels, a user's own, or "language".

    Raises:
        UserError: there is none.
    """
    found: type[Task] = class_of(task, {**LABELLED, Language.name: Language}, Task, "task")
    return found


def load_rows(source: str, *, task: str | type[LabelledTask] | None = None, **options: Any) -> TaskData:
    """`data.load_task` of the labels that a task reads. task: None where the labels tell it."""
    return load_task(source, kind=None if task is None else labelled_class(task).reads, **options)


def task_of(schema: Schema, task: str | type[LabelledTask] | None = None) -> LabelledTask:
    """The task of a data set whose labels have been read: the one asked for, else the one that reads such labels."""
    found = LABELLED[schema.kind] if task is None else labelled_class(task)
    return found(schema.labels, schema.metrics)


def task_given(task: Any, config: Any) -> Any:
    """The task asked for; unasked that of a model with any number of labels, or of a tagger: cells may not tell."""
    told = (cls for cls in LABELLED.values() if cls.several or cls.per == "token")
    return task or next((cls.name for cls in told if cls.answered_by(config)), None)


def check_task(task: LabelledTask, name: str, config: Any) -> None:
    """Checks that a model answers a task.

    Raises:
        UserError: by its config it answers another one.
    """
    if not task.answered_by(config):
        other = task_of_model(name, config).name
        raise UserError(
            f"{name}: expected a model that answers the task of the data ({task.name}), got one for {other}; pass "
            f"--task {other} if the labels are of that kind, or choose another model"
        )


def output_names(config: Any) -> list[str]:
    """The names of the outputs of a model with a head, by its config, in order."""
    return [str(config.id2label[n]) for n in range(config.num_labels)]


def class_names(config: Any) -> list[str]:
    """The names of a model's classes, by its config, in order: its outputs', or of a tagger the types of entities."""
    names = output_names(config)
    return list(Scheme(names).types) if tags_tokens(config) else names


def task_of_model(name: str, config: Any) -> LabelledTask:
    """The task that a model with a head answers, by its config. name: of the model, for the message.

    Raises:
        UserError: none of them.
    """
    for cls in LABELLED.values():
        if cls.answered_by(config):
            return cls(class_names(config) if config.num_labels > 1 else ()).with_config(config)
    raise UserError(
        f"{name}: expected a model that answers one of {', '.join(LABELLED)}, got one of "
        f"{config.num_labels} outputs with problem_type {config.problem_type!r}"
    )
