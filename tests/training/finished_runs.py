"""Runs that have been scored, written by hand: a log, logits and labels, and no model."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from torch import nn

from contrastill import Distillation
from contrastill.results import Split
from contrastill.settings import Finetuning
from contrastill.tasks import Classification, LabelledTask, MultiLabel, Regression
from contrastill.training.examples import scored as split_of
from contrastill.training.labelled import LabelledPlan

USUAL = {"learning_rate": 5e-5, "epochs": 4.0}
CLASSES = ("food", "music", "sport")
SHAPE = {"num_hidden_layers": 4, "num_attention_heads": 12, "intermediate_size": 1200}


def names(count: int) -> tuple[str, ...]:
    return CLASSES if count == 3 else tuple(f"class {n}" for n in range(count))


def task_for(answers: np.ndarray, labels: np.ndarray) -> LabelledTask:
    if labels.ndim == 2:
        return MultiLabel(names(answers.shape[1]))
    return Regression(metrics=["pearson"]) if answers.shape[1] == 1 else Classification(names(answers.shape[1]))


def scored_split(task: LabelledTask, answers: np.ndarray, labels: np.ndarray) -> Split:
    ends = task.interval(task.answers(answers), labels, task.metrics[0], samples=60)
    return Split(split_of(task, task.answers(answers), labels, interval=False).metrics, len(labels), ends)


class Finished(LabelledPlan):
    usual_rate = 5e-5  # type: ignore[assignment]


def finished(
    answers: np.ndarray,
    labels: np.ndarray,
    *,
    theirs: np.ndarray | None = None,
    train: np.ndarray | None = None,
    **settings: Any,
) -> LabelledPlan:
    """A run with these answers (N, C) to dev; a distillation, if there are answers of a teacher.

    train: the labels of the training rows, by default those of dev.
    """
    task, run = task_for(answers, labels), object.__new__(Finished)
    dev = SimpleNamespace(
        kept={"ours": answers} | ({} if theirs is None else {"theirs": theirs}),
        tasks={},
        labels=labels,
        reported=scored_split(task, answers, labels),
    )
    if theirs is None:
        chosen: Any = Finetuning(**{"model": "m", "data": "d", "out": "o", **USUAL, **settings})
    else:
        chosen = Distillation(**{"teacher": "t", "data": "d", "out": "o", **USUAL, **settings})
        run.teacher_scores = {"dev": scored_split(task, theirs, labels)}
    student = nn.Linear(1, 1)
    vars(student)["config"] = SimpleNamespace(hidden_size=312, **SHAPE)
    vars(run).update(
        settings=chosen,
        name="model" if theirs is None else "student",
        task=task,
        splits={"dev": dev},
        teacher=None if theirs is None else SimpleNamespace(config=SimpleNamespace(hidden_size=384, **SHAPE)),
        labels=np.asarray(labels if train is None else train),
        unlabelled=0,
        data=SimpleNamespace(decisions={}),
        model=nn.Linear(1, 1),
        method=SimpleNamespace(student=SimpleNamespace(model=student), balanced_by=""),
    )
    return run


def log(
    losses: Any, scores: Any = (), metric: str = "accuracy", steps: int = 1000, term: str = "hard"
) -> list[dict[str, Any]]:
    """Losses and dev scores at even distances over so many steps."""
    rows = [
        {"step": math.ceil(steps * (n + 1) / len(losses)), "loss": float(x), term: float(x), "stage": 1}
        for n, x in enumerate(losses)
    ]
    rows += [
        {"step": math.ceil(steps * (n + 1) / len(scores)), f"eval_{metric}": float(x)} for n, x in enumerate(scores)
    ]
    return sorted(rows, key=lambda row: row["step"])


def logits(said: np.ndarray, classes: int) -> np.ndarray:
    """That answer these class ids (N,)."""
    return 4.0 * np.eye(classes)[said]


def right_on(labels: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Class ids (N,), so many of them right, the wrong ones spread over the classes."""
    random, classes = np.random.default_rng(seed), int(labels.max()) + 1
    wrong = (labels + random.integers(1, classes, len(labels))) % classes
    return np.where(random.random(len(labels)) < share, labels, wrong)
