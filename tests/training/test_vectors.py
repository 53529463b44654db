"""A linear fit on the vectors of the two texts of a pair stands beside a model that reads both at once."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from workshop import CLASSES, Row, Workshop, write_csv, write_encoder

from contrastill import distill, finetune
from contrastill.loading import load_classifier, load_tokenizer
from contrastill.results import RunResult, result_table
from contrastill.tasks import Classification, Regression
from contrastill.training import labelled
from contrastill.training.vectors import fit_vectors

WORDS = [word for words in CLASSES.values() for word in words]


def alike_rows(count: int, seed: int) -> list[Row]:
    """Pairs of texts of five words; the label says whether the second one is the first in another order."""
    rng, rows = random.Random(seed), []
    for n in range(count):
        first = rng.sample(WORDS, 5)
        second = rng.sample(first if n % 2 else sorted(set(WORDS) - set(first)), 5)
        label = ("other", "same")[n % 2]
        rows.append({"sentence1": " ".join(first), "sentence2": " ".join(second), "label": label})
    return rows


def data_of(folder: Path, rows: int = 64) -> Path:
    for seed, split in enumerate(("train", "dev", "test")):
        write_csv(folder / f"{split}.csv", alike_rows(rows, seed))
    return folder


def encoder_of(folder: Path) -> Path:
    """Saved with three classes, so that its head is new for two."""
    return write_encoder(folder / "encoder", num_labels=3)


def small(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    given = {"model": str(encoder_of(out.parent)), "data": str(data), "out": str(out), "max_length": 32}
    return given | {"batch_size": 8, "epochs": 1, "checks": 2, "precision": "fp32"} | changes


def test_vectors_tell_which_texts_are_alike(tmp_path: Path) -> None:
    folder = str(encoder_of(tmp_path))
    model, tokenizer = (load(folder) for load in (load_classifier, load_tokenizer))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parts = []
    for seed in range(2):
        rows = alike_rows(80, seed)
        parts.append(
            Dataset.from_dict(
                {
                    "text": [row["sentence1"] for row in rows],
                    "text_pair": [row["sentence2"] for row in rows],
                    "label": [int(row["label"] == "same") for row in rows],
                }
            )
        )
    train, dev = parts
    labels = np.array(dev["label"])
    found = fit_vectors(model, tokenizer, Classification(["other", "same"]), train, {"dev": dev}, 32)
    assert found is not None
    assert (found["dev"].argmax(1) == labels).mean() > 0.95
    as_scores = [part.cast_column("label", Dataset.from_dict({"label": [0.5]}).features["label"]) for part in parts]
    found = fit_vectors(model, tokenizer, Regression(), as_scores[0], {"dev": as_scores[1]}, 32)
    assert found is not None
    assert np.corrcoef(found["dev"][:, 0], labels)[0, 1] > 0.85
    assert all((value == before[name]).all() for name, value in model.state_dict().items())


def test_a_run_on_pairs_shows_them_and_says_where_they_are_ahead(tmp_path: Path) -> None:
    run = finetune(**small(data_of(tmp_path / "data"), tmp_path / "run", learning_rate=1e-6))
    scores = {name: run.metrics[name]["dev"]["metrics"]["accuracy"] for name in ("vectors", "model")}
    assert scores["vectors"] > 0.95
    assert scores["model"] < 0.8
    doubts = [one for one in run.metrics["warnings"] if "vectors of each text by itself" in one]
    assert len(doubts) == 1
    assert "add labelled pairs (there are 64)" in doubts[0]
    found = RunResult.from_json(json.loads((run.folder / "metrics.json").read_text()))
    assert list(found.models) == ["vectors", "probe", "model"]
    table = result_table(found)
    assert table.columns == ["", "vectors", "probe", "model"]
    assert [row[0] for row in table.rows][:2] == ["dev", "test"]


def test_other_runs_have_none(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    single = finetune(**small(workshop.data(), tmp_path / "single"))
    data = data_of(tmp_path / "data")
    monkeypatch.setattr(labelled, "PAIRS", 64)  # as many as there are
    many = finetune(**small(data, tmp_path / "many"))
    monkeypatch.undo()
    again = finetune(**small(data, tmp_path / "again", model=str(many.model)))
    asked = small(data, tmp_path / "student", teacher=str(many.model), student="2/16/4/32", force=True)
    student = distill(**{name: value for name, value in asked.items() if name != "model"})
    for run in (single, many, again, student):
        assert "vectors" not in run.metrics
        assert not any("vectors of each text" in one for one in run.metrics.get("warnings", []))
