"""metrics.json, typed: both of its layouts come back as they were, and damage in it is left out."""

import json
from typing import Any

import pytest

from contrastill.results import RunResult, Score

DEV = {"metrics": {"accuracy": 0.9, "f1": 0.8}, "rows": 50, "interval": [0.8, 0.95]}
SIZE = {"parameters": 1000, "size_mb": 0.004}
TASK = {
    "steps": 8, "task": "intents", "metric": "f1", "train_rows": 400,
    "teacher": {"dev": {**DEV, "metrics": {"f1": 0.9}}, **SIZE}, "student": {"dev": DEV, "test": DEV, **SIZE},
    "kept": {"dev": 0.888}, "teacher_forwards": 12, "warnings": ["few rows"], "seconds": {"training": 1.5},
}  # fmt: skip
FINETUNED = {"task": "intents", "metric": "accuracy", "train_rows": 4, "model": {"dev": DEV, **SIZE}, "steps": 1}
EMBEDDING = {
    "steps": 3, "task": "sentence embeddings", "metric": "agreement", "train_rows": 90,
    "student": {"agreement": 0.4, **SIZE, "width": 8}, "teacher": {**SIZE, "width": 16},
    "yardsticks": {"untrained": 0.1, "chance": 0.05}, "teacher_forwards": 90,
    "sts": {"student": {"STS12": 50.0, "mean": 51.0}, "teacher": {"STS12": 70.0, "mean": 71.0}},
}  # fmt: skip
CONTRAST = {
    "base": "runs/disco", "train_rows": 90, "steps": 3, "batch_rows": 8, "scale": 20.0, "checkpoint": 2,
    "dev": {"before": 60.0, "after": 65.0}, "retrieval": {"before": 10.0, "after": 20.0},
    "sts": {"before": {"STS12": 50.0, "mean": 51.0}, "after": {"STS12": 52.0, "mean": 53.0}}, **SIZE,
    "seconds": {"training": 2.0}, "warnings": ["it fell"],
}  # fmt: skip
GENERAL = {"task": "general distillation", "metric": None, "train_rows": 9, "student": SIZE, "teacher": SIZE}

WRITTEN = (
    "steps", "task", "metric", "base", "train_rows", "batch_rows", "scale", "student", "teacher", "kept", "yardsticks",
    "teacher_forwards", "dev", "retrieval", "sts", "checkpoint", "parameters", "size_mb", "warnings", "seconds",
)  # fmt: skip
UNSCORED = {
    "steps": 1, "task": "intents", "metric": "f1", "train_rows": 4, "student": SIZE, "teacher": SIZE, "kept": {},
}  # fmt: skip


@pytest.mark.parametrize("found", [TASK, FINETUNED, EMBEDDING, CONTRAST, GENERAL, UNSCORED])
def test_what_a_run_wrote_comes_back_as_it_was(found: dict[str, Any]) -> None:
    result = RunResult.from_json(found)
    assert result.to_json() == found
    assert RunResult.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_entries_are_written_in_one_order_whatever_is_known_first() -> None:
    for found in (UNSCORED, CONTRAST, EMBEDDING):
        written = list(RunResult.from_json(dict(reversed([*found.items(), ("new", "x")]))).to_json())
        assert written == [name for name in WRITTEN if name in found] + ["new"]


def test_the_columns_are_teacher_and_student_and_the_metric_that_selects_comes_first() -> None:
    columns = RunResult.from_json(TASK).columns
    assert list(columns) == ["teacher", "student"]
    assert columns["teacher"] == [Score(0.9, "f1", "dev", 50, 0.8, 0.95)]
    assert [(score.metric, score.where) for score in columns["student"]] == [
        ("f1", "test"), ("f1", "dev"), ("accuracy", "test"), ("accuracy", "dev"),
    ]  # fmt: skip
    assert columns["student"][2].low is None


def test_the_columns_of_a_model_trained_further_are_before_and_after() -> None:
    result = RunResult.from_json(CONTRAST)
    assert result.before_and_after
    assert not RunResult.from_json(TASK).before_and_after
    spearman = "Spearman x 100"
    assert result.columns["after"] == [
        Score(53.0, spearman, "mean", hundred=True),
        Score(52.0, spearman, "STS12", hundred=True),
        Score(65.0, spearman, "dev", hundred=True),
    ]
    assert [score.value for score in result.columns["before"]] == [51.0, 50.0, 60.0]
    assert result.size_of("after", "parameters") == 1000


def test_embeddings_have_their_sets_first_and_then_what_was_held_out() -> None:
    columns = RunResult.from_json(EMBEDDING).columns
    assert [(score.where, score.value) for score in columns["student"]] == [
        ("mean", 51.0), ("STS12", 50.0), ("dev", 0.4),
    ]  # fmt: skip
    assert RunResult.from_json(EMBEDDING).size_of("teacher", "width") == 16


ODD = [
    None,
    "x",
    [],
    {},
    float("nan"),
    float("inf"),
    True,
    10**400,
    {"dev": 3},
    {"dev": {"metrics": {"f1": "x"}}},
    [[]],
]


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize("found", [TASK, EMBEDDING, CONTRAST])
def test_a_damaged_entry_costs_itself_alone(found: dict[str, Any], odd: object) -> None:
    for name in found:
        result = RunResult.from_json({**found, name: odd})
        scores = [score for column in result.columns.values() for score in column]
        assert all(isinstance(score.value, float | int) for score in scores)
        assert result.to_json().keys() >= {other for other in found if other != name} - {"dev", "retrieval"}
