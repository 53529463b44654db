"""Whole runs on a GPU: they train there, learn, and go on from a checkpoint as if they had not been stopped."""

import importlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_resume import interrupted
from workshop import Workshop, write_csv

from contrastill import contrast, distill, evaluate, evaluation, pretrain
from contrastill.methods import Method
from contrastill.training.trainer import DistillationTrainer

pytestmark = pytest.mark.gpu
GPU = "cuda"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Of each training step: where its batch was, and whether the loader pins memory."""
    steps: list[dict[str, Any]] = []
    step = DistillationTrainer.training_step

    def watched(self: Any, model: Any, inputs: Any, *more: Any, **options: Any) -> Any:
        devices = {value.device.type for value in inputs.values()} | {p.device.type for p in model.parameters()}
        steps.append({"devices": devices, "pinned": self.args.dataloader_pin_memory})
        return step(self, model, inputs, *more, **options)

    monkeypatch.setattr(DistillationTrainer, "training_step", watched)
    yield steps
    assert steps
    assert all(each == {"devices": {GPU}, "pinned": True} for each in steps)


def losses(folder: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    found = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    assert len(dict(found)) == len(found)
    return dict(found)


def assert_loss_fell(folder: Path) -> None:
    found = list(losses(folder).values())
    assert np.mean(found[-5:]) < np.mean(found[:5])


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "lrc_bert"},
        {"method": "lrc_bert", "cache": "none", "precision": "bf16"},
        {"method": "lrc_bert", "perturb": "l2-per-token", "precision": "auto", "set": {"queue": 16, "negatives": 4}},
        {"method": "kd", "precision": "bf16"},
        {"method": "pkd", "cache_dtype": "int8"},
        {"method": "tinybert", "cache": "none"},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_a_student_of_a_task_learns(workshop: Workshop, tmp_path: Path, seen: Any, changes: dict[str, Any]) -> None:
    run = workshop.distill(tmp_path / "run", **{"epochs": 6, **changes})
    found = list(losses(run.folder).values())
    assert all(map(math.isfinite, found))
    joint = found[len(found) // 2 :]  # of a method in stages, the second one
    if changes["method"] != "kd":  # whose start answers as the teacher does already
        assert min(joint[-3:]) < joint[0]
    reported = run.metrics["student"]["test"]["metrics"]
    scored = evaluate(model=str(run.model), data=str(workshop.data()), split="test", max_length=32)
    assert scored["metrics"] == pytest.approx(reported, abs=1e-6)
    assert reported["accuracy"] > 0.5  # of 3 classes


def test_scores_and_the_start_of_projections_are_computed_there(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: list[tuple[str, str]] = []
    predict, fit = evaluation.predict, Method.fit_bridges

    def predicting(model: Any, *more: Any, **options: Any) -> Any:
        devices.append(("predict", model.device.type))
        return predict(model, *more, **options)

    def fitting(self: Any, batches: Any) -> None:
        fit(self, (devices.append(("fit", batch["input_ids"].device.type)) or batch for batch in batches))

    monkeypatch.setattr(evaluation, "predict", predicting)
    monkeypatch.setattr(Method, "fit_bridges", fitting)
    run = workshop.distill(tmp_path / "run", method="lrc_bert", cache="none")
    evaluate(model=str(run.model), data=str(workshop.data()), max_length=32)
    assert set(devices) == {("predict", GPU), ("fit", GPU)}


@pytest.mark.parametrize("changes", [{}, {"perturb": "l2-per-token", "set": {"queue": 20}}], ids=["plain", "perturbed"])
def test_a_run_that_was_stopped_goes_on(workshop: Workshop, tmp_path: Path, seen: Any, changes: dict[str, Any]) -> None:
    whole = workshop.distill(tmp_path / "whole", plain=True, **changes)
    interrupted(workshop.settings(tmp_path / "stopped", plain=True, **changes), step=9)
    distill(**workshop.settings(tmp_path / "stopped", plain=True, **changes), resume=True)
    ours, theirs = losses(tmp_path / "stopped"), losses(whole.folder)
    assert ours.keys() == theirs.keys()
    # Sums on a GPU are not always added in one order, and Adam enlarges what differs.
    np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=2e-2)


@pytest.mark.parametrize("method", ["disco", "leaf"])
def test_a_student_of_sentence_embeddings_learns(
    workshop: Workshop, tmp_path: Path, seen: Any, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    st = pytest.importorskip("sentence_transformers")
    st.SentenceTransformer(str(workshop.encoder()), device="cpu").save(str(tmp_path / "teacher"))
    texts = importlib.import_module("test_embedding_run").lines(400)
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    run = distill(
        method=method,
        teacher=[str(tmp_path / "teacher")],
        texts=[str(tmp_path / "texts.txt")],
        out=str(tmp_path / "run"),
        student="2/16/4/32",
        batch_size=16,
        epochs=6,
        checks=2,
        learning_rate=3e-3,
        precision="bf16",
        max_length=24,
        **({"set": {"queue": 64}} if method == "disco" else {}),
    )
    assert_loss_fell(run.folder)


def test_a_general_student_learns(workshop: Workshop, tmp_path: Path, seen: Any) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(importlib.import_module("test_embedding_run").lines(200)) + "\n")
    run = pretrain(
        teacher=str(workshop.teacher()),
        texts=[str(tmp_path / "texts.txt")],
        out=str(tmp_path / "run"),
        student="2/16/4/32",
        batch_size=8,
        epochs=3,
        learning_rate=3e-3,
        precision="bf16",
        max_length=24,
    )
    assert_loss_fell(run.folder)


def test_contrast_learns(workshop: Workshop, tmp_path: Path) -> None:
    st = pytest.importorskip("sentence_transformers")
    triples = importlib.import_module("test_contrast_run").triples
    st.SentenceTransformer(str(workshop.encoder()), device="cpu").save(str(tmp_path / "model"))
    run = contrast(
        model=str(tmp_path / "model"),
        pairs=str(write_csv(tmp_path / "triples.csv", triples(120, 0))),
        anchor=str(tmp_path / "model"),
        out=str(tmp_path / "run"),
        batch_size=12,
        epochs=4,
        learning_rate=1e-3,
        precision="bf16",
        max_length=32,
    )
    assert_loss_fell(run.folder)
