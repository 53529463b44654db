"""Plan of a distillation whose teacher is a file of answers."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from transformers import set_seed

from contrastill.data.cells import class_name
from contrastill.data.files import split_name
from contrastill.data.load import UNLABELLED, TaskData, keys_of
from contrastill.data.outputs import Outputs, OutputsFile, named_in, open_outputs, read_outputs
from contrastill.errors import UserError
from contrastill.memory import held
from contrastill.methods import METHODS, Method, method_class, read_settings
from contrastill.methods.base import TASK_TERMS
from contrastill.methods.perturbed import Perturbed
from contrastill.settings import Distillation
from contrastill.tasks import LabelledTask, labelled_class, load_rows, task_of
from contrastill.teachers import TableTeacher
from contrastill.training.as_is import OwnStart, own_start
from contrastill.training.card import Origin
from contrastill.training.labelled import LabelledPlan
from contrastill.training.method_choice import with_method

__all__ = ["plan_outputs"]

logger = logging.getLogger(__name__)


def plan_outputs(settings: Distillation) -> LabelledPlan:
    """The plan of a run with `--teacher-outputs`.

    Raises:
        UserError: a method that compares more than answers; no start; an answer that is none; no text with an answer.
    """
    settings, chosen = with_method(settings)
    made, given = method_class(str(settings.method)), read_settings(str(settings.method), settings.set)
    check_answers_serve(made)
    reading = {"encoding": settings.encoding or "utf-8", "delimiter": settings.delimiter}
    data, file, decided = data_of(settings, reading)
    task = task_of(data.schema, settings.task)
    names = task.labels
    outputs = read_outputs(file, data.schema.kind, names, ordered=settings.labels is not None, **reading)
    data, said = with_answers(data, outputs, task)
    decided |= {"teacher": f"answers from {file.table.name}, read as {outputs.form}; {said}"}
    logger.info("teacher: %s", decided["teacher"])
    set_seed(settings.seed)
    start = own_start(settings, task, data.train, None)
    teacher = TableTeacher(outputs, max(1, len(task.names)), tags_by(outputs, task, data, start))
    method = made(start.student, teacher, task, **given)
    if settings.stages:
        method.with_shares(settings.stages)
    plan = LabelledPlan.of(
        settings,
        data,
        start.tokenizer,
        method,
        start.length,
        Origin(
            "distill", "student", settings.start, settings.seed, str(settings.teacher_outputs), str(settings.method)
        ),
        model=Perturbed(method, settings.perturb, settings.epsilon) if settings.perturb else None,
        table=None if settings.data is None else teacher,
    )
    if teacher.tags is not None:
        plan.examples = answered_by(plan.examples, teacher.tags)
    plan.decided = chosen | decided | start.decided | plan.decided
    return plan


def check_answers_serve(made: type[Method]) -> None:
    """Raises a UserError if a method compares more with its teacher than answers."""
    if compares_answers(made):
        return
    serve = [name for name, cls in METHODS.items() if compares_answers(cls)]
    all_of_it = "answers to mixtures of texts" if made.asks_live else "all probabilities of every text"
    more = " and ".join(sorted(set(made.needs) - {"logits"})) or all_of_it
    what = f"compares {more}, which a file of answers does not give" if made.uses_teacher else "learns from no teacher"
    raise UserError(f"{made.name!r} {what}; with --teacher-outputs choose --method {' or '.join(serve)}")


def compares_answers(made: type[Method]) -> bool:
    """Whether a method compares nothing but answers, and has its task compare them, which knows those of a file."""
    terms = {term for stage in made.stages for term in stage.weights}
    return made.uses_teacher and set(made.needs) == {"logits"} and terms <= TASK_TERMS


def data_of(settings: Distillation, reading: dict[str, Any]) -> tuple[TaskData, OutputsFile, dict[str, str]]:
    """The data, the file of answers, and what was decided: without --data the texts are those of the file, and their
    labels its answers."""
    source: Any = settings.teacher_outputs
    if settings.data is not None:
        data = load_rows(settings.data, **settings.reading(), unlabelled=settings.unlabelled)
        return data, open_outputs(source, of_data=(data.schema.text, data.schema.text_pair), **reading), {}
    file = open_outputs(source, text=settings.text, text_pair=settings.text_pair, **reading)
    kind = labelled_class(settings.task).reads if settings.task is not None else kind_of(file)
    asked = settings.reading() | {"text": file.text, "text_pair": file.text_pair, "task": settings.task or kind}
    asked["unlabelled"] = settings.unlabelled
    said = {"labels": "the teacher's answers, as there is no --data: scores on rows held out are agreement with it"}
    if kind == "tagging":
        return load_rows(source, **asked | {"label": "spans"}), file, said
    names = [class_name(name) for name in settings.labels or ()]
    if kind != "regression" and not names:
        names = list(named_in(file, kind))
    if kind != "regression" and len(names) < 2:
        raise UserError(
            f"{file.table.name}: expected answers that name at least two labels, got {len(names)}; pass --labels with "
            "every class"
        )
    outputs, label = read_outputs(file, kind, names, ordered=settings.labels is not None, **reading), settings.label
    label = label or "label"
    rows = [
        {**texts, label: answer_of(outputs.values[row], kind, names)}
        for texts, row in zip(texts_of(file), outputs.rows_of(file.keys), strict=True)
    ]
    data = load_rows(held(rows, "--teacher-outputs"), **asked | {"label": label, "labels": names or None})
    named = replace(data.schema, name=split_name(Path(file.table.name))[0])
    return replace(data, schema=named, decisions={**data.decisions, "files": f"train: {file.table.name}"}), file, said


def kind_of(file: OutputsFile) -> str:
    """The kind of task that the forms of a file speak for.

    Raises:
        UserError: they speak for several.
    """
    if "spans" in file.forms:
        return "tagging"
    if file.forms == ("score",):
        return "regression"
    if {"probabilities", "top", "confidence", "label"} & set(file.forms):
        return "classification"
    raise UserError(
        f"{file.table.name}: expected answers that show their kind, got {', '.join(file.forms)}; pass --task "
        "classification, multilabel or regression, or give the data with --data"
    )


def texts_of(file: OutputsFile) -> list[dict[str, str]]:
    names = [name for name in (file.text, file.text_pair) if name is not None]
    return [dict(zip(names, row, strict=True)) for row in zip(*(file.table.frame[n] for n in names), strict=True)]


def answer_of(values: np.ndarray, kind: str, names: Any) -> Any:
    """A row of `Outputs.values` as a label."""
    if kind == "regression":
        return float(values[0])
    if kind == "multilabel":
        return [name for name, value in zip(names, values, strict=True) if value > 0]
    return names[int(np.nanargmax(values[:-1]))]


def with_answers(data: TaskData, outputs: Outputs, task: LabelledTask) -> tuple[TaskData, str]:
    """The data without training texts that have neither an answer nor a label, and the shares in words.

    Raises:
        UserError: no training text has an answer.
    """
    if data.train is None:
        raise UserError(f"{data.schema.name} has no training examples; --data needs a train file")
    there = outputs.rows_of(keys_of(data.train)) >= 0
    if not there.any():
        raise UserError(
            f"expected answers to the training texts, got none to any of {len(there):,}: texts are found by their "
            "characters, all of them; give the answers beside the texts as they are in the data (contrastill predict "
            "--keep text)"
        )
    labelled = task.known(task.labels_of(data.train))
    kept = np.flatnonzero(there | labelled)
    said = f"{there.mean():.1%} of {len(there):,} training texts have one"
    if alone := int((labelled & ~there).sum()):
        said += f"; {alone:,} with a label alone are used by the label loss"
    if left := len(there) - len(kept):
        said += f"; {left:,} with neither are left out"
    if outputs.merged:
        said += f"; {outputs.merged:,} copies in the file are left out"
    unseen = [
        f"{split} ({(outputs.rows_of(keys_of(rows)) >= 0).mean():.1%} of its texts have an answer)"
        for split, rows in (("dev", data.dev), ("test", data.test))
        if rows is not None and not (outputs.rows_of(keys_of(rows)) >= 0).all()
    ]
    if unseen:
        said += f"; the teacher has no score on {' and '.join(unseen)}"
    return replace(data, train=data.train.select(kept)), said


def tags_by(outputs: Outputs, task: LabelledTask, data: TaskData, start: OwnStart) -> list[list[int]] | None:
    """The number of each token's tag by the file, of all training rows, -100 for none; None: a task of texts."""
    if task.per != "token":
        return None
    assert data.train is not None
    rows = outputs.rows_of(keys_of(data.train))
    labels = [list(outputs.values[row]) if row >= 0 else [UNLABELLED] for row in rows]
    told = data.train.remove_columns("label").add_column("label", labels)
    found: list[list[int]] = task.read(told, start.tokenizer, start.length.tokens).rows["labels"][:]
    return found


def answered_by(examples: Dataset, tags: Sequence[Sequence[int]]) -> Dataset:
    """Training rows of which those tokens alone count as answered that have a tag."""
    answered = [[int(tag >= 0) for tag in own] for own in tags]
    table = examples.data.table.drop_columns(["answered"])
    return Dataset(table.append_column("answered", pa.array(answered, pa.list_(pa.int8()))).combine_chunks())
