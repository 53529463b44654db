"""Losses that are no numbers, labels that are all alike, and rows that a run's models had seen before."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from finished_runs import CLASSES

from contrastill.errors import CheckFailed
from contrastill.tasks import Classification, LabelledTask, Regression
from contrastill.training.labelled import LabelledPlan
from contrastill.training.labelled_checks import scores_differ, unseen
from contrastill.training.seen import SEEN, seen_by, seen_share, write_seen
from contrastill.training.trainer import check_finite


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
        labels=np.array([*train, math.nan if task.name == "regression" else -100]),
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
