"""Multi-label through everything: teacher, students, scores, thresholds, page, bundle, predictions."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForSequenceClassification
from workshop import CLASSES, QUICK, QUICK_TEACHER, Workshop, sentence, write_splits

from contrastill import UserError, distill, evaluate, finetune
from contrastill.tasks import MultiLabel

NAMES = ("food", "music", "sport")
METRICS = {"map", "f1_micro", "f1_macro", "f1_samples"}


def write_rows(path: Path, count: int, seed: int) -> None:
    rng = random.Random(seed)
    rows = []
    for n in range(count):
        labels = [name for k, name in enumerate(NAMES) if n >> k & 1]  # none, each, two of them, all
        words = [word for name in labels for word in rng.choices(CLASSES[name], k=2)]
        rows.append({"text": sentence(rng, words), "labels": labels})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_splits(tmp_path_factory.mktemp("labels"), write_rows)


@pytest.fixture(scope="module")
def teacher(workshop: Workshop, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("teacher") / "run"
    settings = QUICK_TEACHER | {"epochs": 25, "out": str(out), "data": str(data), "task": "multilabel"}
    return finetune(model=str(workshop.encoder()), **settings)


@pytest.fixture(scope="module")
def student(teacher: Any, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    (data / "more.txt").write_text("soup with a song\nword1 word2\n")
    out = tmp_path_factory.mktemp("student") / "run"
    more = {"unlabelled": str(data / "more.txt"), "perturb": "l2-per-token"}
    return distill(teacher=str(teacher.model), data=str(data), out=str(out), **QUICK | {"epochs": 6, **more})


def test_a_teacher_learns_and_its_model_says_what_it_answers(teacher: Any) -> None:
    scores = teacher.metrics["model"]["test"]
    assert set(scores["metrics"]) == METRICS
    assert scores["metrics"]["map"] > 0.85
    assert scores["interval"][0] <= scores["metrics"]["map"] <= scores["interval"][1]
    model = AutoModelForSequenceClassification.from_pretrained(teacher.model)
    assert model.config.problem_type == MultiLabel.problem_type
    assert [model.config.id2label[n] for n in range(3)] == list(NAMES)
    assert len(model.config.thresholds) == 3
    assert all(0 < threshold < 1 for threshold in model.config.thresholds)
    assert "labels: food, music, sport" in (teacher.model / "README.md").read_text()


def test_a_check_scores_the_thresholds_that_would_be_saved(teacher: Any) -> None:
    lines = map(json.loads, (teacher.folder / "log.jsonl").read_text().splitlines())
    checks = [line for line in lines if "eval_map" in line]
    best = max(checks, key=lambda line: line["eval_map"])
    for name, value in teacher.metrics["model"]["dev"]["metrics"].items():
        assert best[f"eval_{name}"] == pytest.approx(value, abs=1e-6)
    assert checks[0]["eval_f1_micro"] > 0.3  # long before any probability is above a half


def test_a_student_learns_from_it_without_a_changed_line_of_the_method(student: Any, teacher: Any) -> None:
    record = json.loads((student.folder / "run.json").read_text())
    assert (record["settings"]["task"], record["settings"]["method"]) == ("multilabel", "lrc_bert")
    assert record["data"]["splits"]["train"]["unlabelled"] == 2
    assert student.metrics["student"]["test"]["metrics"]["map"] > 0.6
    assert student.metrics["kept"]["test"] > 0.6
    assert set(student.metrics["teacher"]["dev"]["metrics"]) == METRICS
    page = (student.folder / "report.html").read_text()
    assert all(name in page for name in NAMES)
    evidence = json.loads((student.folder / "evidence.json").read_text())
    assert (evidence["kind"], [one["name"] for one in evidence["classes"]]) == ("multilabel", list(NAMES))


@pytest.mark.parametrize("method", ["kd", "pkd", "tinybert", "finetune"])
def test_every_method_of_labels_runs(teacher: Any, data: Path, tmp_path: Path, method: str) -> None:
    settings = QUICK | {"epochs": 1, "checks": 1, "method": method, "out": str(tmp_path / "run")}
    run = distill(teacher=str(teacher.model), data=str(data), **settings)
    assert set(run.metrics["student"]["dev"]["metrics"]) == METRICS


def test_evaluate_uses_the_models_thresholds(student: Any, data: Path) -> None:
    found = evaluate(model=str(student.folder), data=str(data), split="test")
    assert found["metrics"] == pytest.approx(student.metrics["student"]["test"]["metrics"])


def test_a_bundle_answers_with_the_same_labels(student: Any, data: Path, tmp_path: Path) -> None:
    from contrastill import export, predict, verify
    from contrastill.bundle import open_bundle

    made = export(model=str(student.folder), precision="fp32", out=str(tmp_path / "bundle"))
    assert made.metadata["task"] == "multilabel"
    model = AutoModelForSequenceClassification.from_pretrained(student.model)
    assert made.metadata["thresholds"] == pytest.approx(model.config.thresholds)
    assert made.metadata["gate"]["metric"] == "f1_micro"
    assert made.metadata["gate"]["agreement"]["equal_labels"] == 1
    checked = verify(bundle=str(made.folder), data=str(data / "test.jsonl"), max_drop=100.0)
    assert checked["problems"] == []
    assert checked["value"] == pytest.approx(student.metrics["student"]["test"]["metrics"]["f1_micro"], abs=1e-4)
    scored = evaluate(model=str(made.folder), data=str(data / "test.jsonl"))
    assert scored["metrics"] == pytest.approx(student.metrics["student"]["test"]["metrics"], abs=1e-4)
    predict(model=str(made.folder), data=str(data / "test.jsonl"), text="text", out=str(tmp_path / "out.jsonl"))
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    bundle = open_bundle(made.folder)
    texts = [json.loads(line)["text"] for line in (data / "test.jsonl").read_text().splitlines()]
    said = bundle.run(texts) > np.array(made.metadata["thresholds"])
    assert [set(row["labels"]) for row in rows] == [{NAMES[n] for n in np.flatnonzero(row)} for row in said]


def test_a_teacher_of_one_class_is_told_from_labels(workshop: Workshop, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"answers the task of the data \(multilabel\), got one for classification"):
        distill(teacher=str(workshop.teacher()), data=str(data), out=str(tmp_path / "run"), **QUICK)
