"""Runs whose students have narrow tables, shared layers, or no layers."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModel, AutoModelForSequenceClassification
from workshop import CLASSES, pair_rows, single_rows, write_encoder, write_task

from contrastill import UserError, distill, evaluate, pretrain
from contrastill.students import shape_of
from contrastill.training.budget import STATIC_RATE

NAMES = dict(enumerate(CLASSES))
QUICK: dict[str, Any] = {
    "batch_size": 16, "epochs": 1, "checks": 1, "precision": "fp32", "max_length": 32, "force": True
}  # fmt: skip
RUNS = {
    "2/16/4/32+e8": ("lrc_bert", {}),
    "2/16/4/32+shared": ("tinybert", {}),
    "2/16/4/32+e8+shared": ("pkd", {"layer_map": "skip"}),
    "static-16": ("kd", {}),
    "static-12": ("lrc_bert", {"granularity": "mean"}),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Teachers that were not trained, which is enough to distil, and rows of classes and of pairs."""
    root = tmp_path_factory.mktemp("structures")
    for name, labels in (("teacher", NAMES), ("of-pairs", {0: "glad", 1: "sad"})):
        named = {"id2label": labels, "label2id": {label: n for n, label in labels.items()}}
        write_encoder(root / name, num_labels=len(labels), **named)
    write_task(root / "data", single_rows)
    write_task(root / "pairs", pair_rows)
    return root


def settings(files: Path, out: Path, **changes: Any) -> dict[str, Any]:
    given = {"teacher": str(files / "teacher"), "data": str(files / "data"), "cache": str(files / "cache")}
    return {**given, "out": str(out), **QUICK, **changes}


@pytest.mark.parametrize("student", RUNS)
def test_a_run_leaves_a_student_of_that_structure_from_which_another_starts(
    files: Path, tmp_path: Path, student: str
) -> None:
    method, given = RUNS[student]
    asked = {"student": student, "method": method, "set": given}
    run = distill(**settings(files, tmp_path / "run", **asked))
    model = AutoModelForSequenceClassification.from_pretrained(run.model)
    assert str(shape_of(model.config)) == student
    assert sum(p.numel() for p in model.parameters()) == run.metrics["student"]["parameters"]
    record = json.loads((run.folder / "run.json").read_text())
    assert record["settings"]["student"] == student
    if student.startswith("static"):
        assert record["settings"]["learning_rate"] == STATIC_RATE
        assert "without layers" in record["data"]["decisions"]["learning rate"]
    found = evaluate(model=str(run.folder), data=str(files / "data"), split="dev")
    assert found["metrics"]["accuracy"] == run.metrics["student"]["dev"]["metrics"]["accuracy"]
    again = distill(**settings(files, tmp_path / "again", **asked, start=str(run.model)))
    assert str(shape_of(AutoModel.from_pretrained(again.model).config)) == student


@pytest.mark.parametrize("method", ["lrc_bert", "pkd", "tinybert"])
def test_what_compares_layers_refuses_a_student_that_has_none(files: Path, tmp_path: Path, method: str) -> None:
    with pytest.raises(UserError, match=rf"'{method}' compares layers, and a static student has none; use method 'kd'"):
        distill(**settings(files, tmp_path / "run", student="static-16", method=method))
    assert not (tmp_path / "run/student").exists()


def test_a_static_student_of_pairs_is_refused_before_it_is_made(files: Path, tmp_path: Path) -> None:
    pairs = {"teacher": str(files / "of-pairs"), "data": str(files / "pairs")}
    with pytest.raises(UserError, match="expected a student with layers for pairs of texts, got static-16"):
        distill(**settings(files, tmp_path / "run", student="static-16", method="kd", **pairs))


def test_tables_of_no_use_are_refused_in_the_words_of_the_option(files: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tables of at most \d+ numbers a word"):
        distill(**settings(files, tmp_path / "run", student="2/16/4/32+e999"))


def test_a_general_student_may_have_no_layers(files: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("".join(f"{row['text']}\n" for row in single_rows(40, 3)))
    run = pretrain(
        teacher=str(files / "teacher"), texts=[str(tmp_path / "texts.txt")], student="static-16",
        set={"granularity": "mean"}, out=str(tmp_path / "run"), cache=str(files / "cache"), **QUICK,
    )  # fmt: skip
    assert AutoModel.from_pretrained(run.model).config.num_hidden_layers == 0
