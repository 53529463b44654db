"""What the end of a run says against it; and the rows that its models had seen before."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from contrastill import Distillation, UserError
from contrastill.errors import CheckFailed
from contrastill.results import Split
from contrastill.tasks import Classification, LabelledTask, MultiLabel, Regression
from contrastill.training.labelled import LabelledPlan
from contrastill.training.labelled_checks import scores_differ, unseen
from contrastill.training.outcome import warnings
from contrastill.training.seen import SEEN, rows_of_teacher, seen_by, seen_share, write_seen
from contrastill.training.trainer import check_finite

CLASSES = ("food", "music", "sport")


def scored(answers: np.ndarray, labels: np.ndarray, rate: float = 1e-4, **more: Any) -> LabelledPlan:
    """A run that has been scored: logits (N, C), or (N, 1) for a regression, and labels (N,)."""
    task: Any = Regression(metrics=["pearson"]) if answers.shape[1] == 1 else Classification(CLASSES, ["accuracy"])
    if labels.ndim == 2:
        task = MultiLabel(CLASSES)
    interval = task.interval(task.answers(answers), labels, task.metrics[0], samples=200)
    reported = Split(task.score(task.answers(answers), labels), len(labels), interval)
    run = object.__new__(LabelledPlan)
    vars(run).update(
        settings=SimpleNamespace(learning_rate=rate),
        name="student",
        task=task,
        splits={"dev": SimpleNamespace(kept={"ours": answers}, labels=labels, reported=reported)},
        teacher=None,
        examples={"labels": labels},
        model=nn.Linear(1, 1),
        method=SimpleNamespace(student=SimpleNamespace(model=nn.Linear(1, 1))),
        **more,
    )
    return run


def history(*losses: float) -> list[dict[str, Any]]:
    return [{"step": n, "loss": loss, "stage": 1} for n, loss in enumerate(losses)]


LABELS = np.arange(300) % 3
RIGHT = np.eye(3)[LABELS]
FALLING = history(*np.linspace(1.1, 0.1, 20))


def test_nothing_is_said_against_a_run_that_went_well() -> None:
    assert warnings(scored(RIGHT, LABELS), FALLING) == []
    truth = np.linspace(0, 5, 300)
    assert warnings(scored(truth[:, None], truth), FALLING) == []


@pytest.mark.parametrize(("rate", "advice"), [(50.0, "lower --learning-rate (it was 50)"), (1e-5, "train longer")])
def test_one_answer_for_every_text_is_said(rate: float, advice: str) -> None:
    [said] = warnings(scored(np.tile([0.0, 1.0, 0.0], (300, 1)), LABELS, rate), FALLING)
    assert said.startswith("the student answers 'music' to every dev text")
    assert advice in said
    [said] = warnings(scored(np.full((300, 1), 2.5), np.linspace(0, 5, 300), rate), FALLING)
    assert said.startswith("the student answers 2.5 to every dev text")


def test_a_score_at_chance_is_said() -> None:
    guessed = np.eye(3)[np.random.default_rng(0).integers(0, 3, 300)]
    [said] = warnings(scored(guessed, LABELS), FALLING)
    assert "does not differ from that of always giving the commonest answer (0.333); train longer" in said
    noise = np.random.default_rng(0).normal(size=(300, 1))
    [said] = warnings(scored(noise, np.linspace(0, 5, 300)), FALLING)
    assert "does not differ" in said


def test_a_score_above_chance_on_too_few_rows_asks_for_more_rows() -> None:
    answers = np.eye(3)[np.array([0, 1, 2, 0, 0, 0, 0, 1])]
    [said] = warnings(scored(answers, np.array([0, 1, 2, 0, 1, 2, 0, 0])), FALLING)
    assert "score it on more rows (--dev FILE)" in said


def test_a_loss_that_rose_is_said_unless_a_queue_filled() -> None:
    rising = history(1.0, 0.9, 1.2, 3.0, 5.0, 7.0, 8.0)
    [said] = warnings(scored(RIGHT, LABELS), rising)
    assert said.startswith("the loss rose from 1 to 6.67; lower --learning-rate")
    queue = nn.Module()
    queue.register_buffer("pushed", torch.zeros(()))
    run = scored(RIGHT, LABELS)
    run.model = queue
    assert warnings(run, rising) == []
    falls_in_each_stage = [*history(3.0, 2.0, 1.0), *({**row, "stage": 2} for row in history(*np.linspace(9, 5, 8)))]
    assert warnings(scored(RIGHT, LABELS), falls_in_each_stage) == []


def test_a_start_with_random_layers_is_said() -> None:
    run = scored(RIGHT, LABELS)
    run.method.student.model.doubt = "the layers are random"
    assert warnings(run, FALLING) == ["the layers are random"]


def test_without_dev_a_loss_that_stayed_at_ignorance_is_said() -> None:
    run = scored(RIGHT, LABELS)
    run.splits = {}
    [said] = warnings(run, history(*[math.log(3)] * 8))
    assert "a model that knows nothing of 3 classes has 1.1" in said
    assert warnings(run, FALLING) == []


def test_doubts_about_labels() -> None:
    truth = np.eye(3)[np.arange(60) % 3]
    truth[::7] = 0
    right = 4 * truth - 2
    assert warnings(scored(right, truth), FALLING) == []
    [said] = warnings(scored(right - 3, truth), FALLING)
    assert said.startswith("the student answers 'no label' to every dev text; ")
    [said] = warnings(scored(np.random.default_rng(0).normal(size=truth.shape), truth), FALLING)
    assert "does not differ from that of always giving the commonest answer" in said
    run = scored(right, truth)
    run.splits = {}
    shares = truth.mean(0)
    ignorance = -(shares * np.log(shares) + (1 - shares) * np.log(1 - shares)).mean()
    [said] = warnings(run, history(*[ignorance] * 8))
    assert f"a model that knows nothing of 3 classes has {ignorance:.3g}" in said


@pytest.mark.parametrize("logs", [{"loss": math.nan}, {"loss": math.inf}, {"loss": 1.0, "grad_norm": math.nan}])
def test_a_loss_that_is_not_finite_is_a_failed_run_not_bad_input(logs: dict[str, float]) -> None:
    with pytest.raises(CheckFailed, match="no longer finite at step 7"):
        check_finite(logs, 7)


def test_thirty_rows_leave_fourteen_points_to_either_side() -> None:
    task = Classification(CLASSES)
    assert task.half_width(30) == pytest.approx(14.3, abs=0.1)
    assert task.half_width(246) < 5 < task.half_width(245)


@pytest.mark.parametrize(
    ("train", "dev", "ok", "fatal"),
    [
        ([1.0, 2.0], [1.0, 3.0], True, False),
        ([2.0, 2.0], [1.0, 3.0], False, True),
        ([1.0, 2.0], [0.0, 0.0], False, False),
    ],
)
@pytest.mark.parametrize("task", [Regression(), Classification([*CLASSES, "news"])], ids=lambda task: task.name)
def test_labels_that_are_all_equal_teach_and_tell_nothing(
    task: LabelledTask, train: list[float], dev: list[float], ok: bool, fatal: bool
) -> None:
    run = object.__new__(LabelledPlan)
    vars(run).update(
        task=task,
        examples={"labels": [*train, math.nan if task.name == "regression" else -100]},
        splits={"dev": SimpleNamespace(labels=np.array(dev))},
    )
    check = scores_differ(run)
    assert (check.ok, check.fatal) == (ok, fatal)


# ---- rows that were seen


def run_with_keys(folder: Path, keys: list[int], record: str = '{"command": "finetune", "settings": {}}') -> str:
    (folder / "model").mkdir(parents=True)
    (folder / "model/config.json").write_text("{}")
    (folder / "run.json").write_text(record)
    write_seen(folder, keys)
    return str(folder / "model")


def test_the_keys_of_a_run_are_found_by_its_model_and_by_its_folder(tmp_path: Path) -> None:
    model = run_with_keys(tmp_path / "run", [5, 3, 5, 2**62])
    for name in (model, str(tmp_path / "run")):
        assert np.array_equal(seen_by(name), [3, 5, 2**62])  # type: ignore[arg-type]
    assert seen_by("org/name") is seen_by(str(tmp_path / "none")) is None
    (tmp_path / "run" / SEEN).write_bytes(b"\0" * 40)
    assert seen_by(model) is None


def test_a_share_counts_rows_and_may_leave_out_those_in_ones_own_training() -> None:
    keys, seen = np.array([1, 1, 2, 3]), np.array([1, 2])
    assert seen_share(keys, seen) == 0.75
    assert seen_share(keys, seen, apart_from=np.array([1])) == 0.25
    assert seen_share(np.array([], np.int64), seen) == 0.0


@pytest.mark.parametrize(("held", "ok", "fatal"), [([8, 9], True, False), ([1, 9], False, True), ([7, 9], True, False)])
def test_dev_rows_that_the_teacher_was_trained_on_are_found(
    tmp_path: Path, held: list[int], ok: bool, fatal: bool
) -> None:
    model = run_with_keys(tmp_path / "run", [1, 2, 7])
    run = object.__new__(LabelledPlan)
    vars(run).update(
        settings=SimpleNamespace(teacher=model, start="inherit"),
        examples={"text_key": [6, 7]},  # what is in one's own training rows as well is another check's
        splits={"dev": SimpleNamespace(keys=np.array(held))},
    )
    [check] = unseen(run)
    assert check.name == "teacher has not seen them"
    assert (check.ok, check.fatal) == (ok, fatal)
    assert ok or "50.0% of dev texts were in its training" in check.seen


def test_the_held_out_rows_are_those_of_the_teachers_run_where_its_data_are_the_same(tmp_path: Path) -> None:
    for name in ("d.csv", "other.csv", "dev.csv"):
        (tmp_path / name).touch()
    settings = {"data": f"{tmp_path}/d.csv", "dev": f"{tmp_path}/dev.csv", "text": "q"}
    model = run_with_keys(tmp_path / "run", [1], json.dumps({"command": "finetune", "settings": settings}))
    asked = Distillation(teacher=model, data=str(tmp_path / "d.csv"), out="o")
    found = rows_of_teacher(asked)
    assert (found.dev, found.text, found.test, found.label) == (f"{tmp_path}/dev.csv", "q", None, None)
    assert rows_of_teacher(found) == found
    given = Distillation(teacher=model, data=str(tmp_path / "d.csv"), dev="x.csv", text="t", out="o")
    other = Distillation(teacher=model, data=str(tmp_path / "other.csv"), out="o")
    named = Distillation(teacher="org/name", data=str(tmp_path / "d.csv"), out="o")
    for unlike in (given, other, named):
        assert rows_of_teacher(unlike) == unlike
    (tmp_path / "run/run.json").write_text("{")
    with pytest.raises(UserError, match=r"run\.json"):
        rows_of_teacher(asked)
