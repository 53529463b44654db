"""The row of a run, whatever was trained."""

from types import SimpleNamespace
from typing import Any

import pytest

from contrastill.results import RunResult
from contrastill.studies.run import figures, measured, shown

STEPS = {"steps": 10, "train_rows": 64, "seconds": {"training": 2.5, "checks": 1.0}}
TEACHER = {"parameters": 100, "size_mb": 1.0}
STS = {"student": {"STS12": 60.0, "mean": 70.0}, "teacher": {"STS12": 80.0, "mean": 81.0}}
EMBEDDINGS = {"task": "sentence embeddings", "metric": "spearman", "teacher": TEACHER}
LABELLED = {"metrics": {"accuracy": 0.8, "f1": 0.7}, "rows": 30, "interval": [0.7, 0.9]}

ROWS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "labels": (
        {"task": "classification", "metric": "accuracy",
         "student": {"dev": LABELLED, "test": {"metrics": {"accuracy": 0.1}}},
         "teacher": {**TEACHER, "dev": LABELLED}, "kept": {"test": 0.5, "dev": 1.0}},
        {"metric": "accuracy", "dev": 0.8, "metrics": LABELLED["metrics"], "interval": [0.7, 0.9], "kept": 1.0,
         "teacher_metrics": LABELLED["metrics"]},
    ),
    "fine-tuned": (
        {"task": "classification", "metric": "accuracy", "model": {"dev": LABELLED, **TEACHER}},
        {"metric": "accuracy", "dev": 0.8, "metrics": LABELLED["metrics"], "interval": [0.7, 0.9]},
    ),
    "spearman of scores": (
        {"task": "regression", "metric": "spearman", "model": {"dev": {"metrics": {"spearman": 0.5}, "rows": 9}}},
        {"metric": "spearman", "dev": 0.5, "metrics": {"spearman": 0.5}},
    ),
    "embeddings": (
        {**EMBEDDINGS, "student": {"spearman": 0.82, **TEACHER}, "sts": STS},
        {"metric": "Spearman x 100", "dev": pytest.approx(82.0), "sts": STS["student"]},
    ),
    "embeddings without dev": (
        {**EMBEDDINGS, "metric": "agreement", "student": {"agreement": 0.4, **TEACHER}},
        {"metric": "agreement", "dev": 0.4},
    ),
    "contrast": (
        {"base": "model", "dev": {"before": 80.0, "after": 83.0},
         "sts": {"before": STS["teacher"], "after": STS["student"]}},
        {"metric": "Spearman x 100", "dev": 83.0, "sts": STS["student"]},
    ),
    "contrast without dev": ({"base": "model", "retrieval": {"before": 1.0, "after": 2.0}, **TEACHER}, {}),
    "general": (
        {"task": "general distillation", "metric": "loss", "student": {"loss": 1.5, **TEACHER}, "teacher": TEACHER},
        {"metric": "loss", "dev": 1.5},
    ),
    "nothing held out": ({"task": "classification", "metric": "accuracy", "model": TEACHER}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_row_holds_the_score_on_dev_of_the_model_that_was_trained(name: str) -> None:
    metrics, row = ROWS[name]
    run = SimpleNamespace(result=RunResult.from_json({**metrics, **STEPS}))
    assert measured(run) == {**row, "rows": 64, "steps": 10, "seconds": STEPS["seconds"]}


def test_figures_are_the_numbers_alone() -> None:
    row = {"name": "kd", "seed": 3, "metric": "f1", "dev": 0.5, "kept": 0.9, "sts": {"mean": 70.0}, "resumed": True}
    assert figures({**row, "settings": {}, "steps": 8, "seconds": {"training": 2.0}, "energy": 4.5}) == {
        "f1 on dev": 0.5, "kept %": 90.0, "STS": 70.0, "steps": 8, "energy": 4.5, "training s": 2.0, "s": 2.0,
    }  # fmt: skip
    assert figures({"dev": 1, "seconds": 3.0, "sts": 2}) == {"dev": 1, "seconds": 3.0, "sts": 2}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], ""),
        ([0.84123], "0.8412"),
        ([0.5, 0.7], "0.6000 ± 0.1414"),
        ([80.0, 82.0], "81.00 ± 1.41"),
        ([5, 6], "5.50 ± 0.71"),
    ],
)
def test_values_are_shown_by_mean_and_standard_deviation(values: list[float], said: str) -> None:
    assert shown(values) == said


def test_counts_have_separators() -> None:
    assert shown([12_345, 12_345]) == "12,345"
