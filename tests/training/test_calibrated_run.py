"""Temperatures through a run: chosen at the end, said, kept with the model, and not handed on to students."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoConfig
from workshop import QUICK, QUICK_TEACHER, Workshop, single_rows, write_csv

from contrastill import distill, evaluate, finetune


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows whose labels are learnt well; of dev and test a quarter have another label, so that a model is too sure."""
    folder = tmp_path_factory.mktemp("doubtful")
    for seed, (split, count) in enumerate({"train": 64, "dev": 90, "test": 60}.items()):
        rows = single_rows(count, seed)
        if split != "train":
            labels = [row["label"] for row in rows]
            for n in range(0, count, 4):
                rows[n] = rows[n] | {"label": labels[(n + 1) % count]}
        write_csv(folder / f"{split}.csv", rows)
    return folder


@pytest.fixture(scope="module")
def teacher(workshop: Workshop, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("teacher") / "run"
    return finetune(model=str(workshop.encoder()), data=str(data), out=str(out), **QUICK_TEACHER | {"epochs": 10})


def test_a_model_that_is_too_sure_gets_a_temperature_above_1(teacher: Any) -> None:
    (temperature,) = AutoConfig.from_pretrained(teacher.model).temperatures
    assert temperature > 1.2
    record = json.loads((teacher.folder / "run.json").read_text())
    assert record["data"]["decisions"]["temperature"].startswith(
        f"{temperature:.2f}: the log loss on 90 rows of dev is"
    )
    for split, rows in (("dev", 90), ("test", 60)):
        found = teacher.metrics["model"][split]["calibration"]
        assert found["temperatures"] == [temperature]
        assert found["log_loss"] < found["before"]["log_loss"]
        assert found["error"] < found["before"]["error"]
        assert sum(group[2] for group in found["groups"]) == rows
    assert "divide the logits by `temperatures`" in (teacher.model / "README.md").read_text()


def test_evaluate_gives_the_runs_figures(teacher: Any, data: Path) -> None:
    found = evaluate(model=str(teacher.folder), data=str(data), split="test")
    ours = teacher.metrics["model"]["test"]["calibration"]
    assert found["calibration"]["log_loss"] == pytest.approx(ours["log_loss"])
    assert found["calibration"]["error"] == pytest.approx(ours["error"])
    assert found["metrics"] == pytest.approx(teacher.metrics["model"]["test"]["metrics"])


def test_a_student_learns_from_logits_and_has_a_temperature_of_its_own(
    teacher: Any, data: Path, tmp_path: Path
) -> None:
    settings = QUICK | {"epochs": 4, "method": "kd", "start": "inherit"}
    student = distill(teacher=str(teacher.model), data=str(data), out=str(tmp_path / "run"), **settings)
    (ours,) = AutoConfig.from_pretrained(student.model).temperatures
    (theirs,) = AutoConfig.from_pretrained(teacher.model).temperatures
    assert student.metrics["student"]["dev"]["calibration"]["temperatures"] == [ours]
    assert student.metrics["teacher"]["dev"]["calibration"]["temperatures"] == [theirs]
    assert student.metrics["teacher"]["dev"]["calibration"]["log_loss"] == pytest.approx(
        teacher.metrics["model"]["dev"]["calibration"]["log_loss"], rel=1e-3
    )
    blind = distill(
        teacher=str(teacher.model), data=str(data / "train.csv"), dev_share=0.0, out=str(tmp_path / "blind"), **settings
    )
    assert not hasattr(AutoConfig.from_pretrained(blind.model), "temperatures")


def test_few_rows_of_dev_leave_1_and_say_so(workshop: Workshop, tmp_path: Path) -> None:
    run = workshop.distill(tmp_path / "run", epochs=1, checks=1)
    assert AutoConfig.from_pretrained(run.model).temperatures == [1.0]
    record = json.loads((run.folder / "run.json").read_text())
    assert record["data"]["decisions"]["temperature"].startswith("1: 30 rows of dev do not tell a better one")
    found = run.metrics["student"]["dev"]["calibration"]
    assert found["temperatures"] == [1.0]
    assert "before" not in found
    assert np.isfinite(found["error"])
    assert "divide the logits" not in (run.model / "README.md").read_text()
