"""Distillation of sentence embeddings from a file of vectors: whole runs, what they say, and what they refuse."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_embedding_run import LINES, files, lines, settings_of
from test_resume import stopping_at
from workshop import Workshop

from contrastill import Interrupted, UserError, distill
from contrastill.data.corpus import several_texts
from contrastill.teachers.store import Store
from contrastill.teachers.vectors import VectorTeacher

st = pytest.importorskip("sentence_transformers")

__all__ = ["files"]

Write = Callable[..., str]
OWN = {"student": "as-is", "start": "small"}


@pytest.fixture(scope="module")
def vectors(files: dict[str, Path]) -> dict[str, list[float]]:
    texts = [text for chunk in several_texts([str(files["texts"])]) for text in chunk]
    model = st.SentenceTransformer(str(files["teacher"]), device="cpu")
    return dict(zip(texts, model.encode(texts).tolist(), strict=True))


@pytest.fixture
def write(vectors: dict[str, list[float]], tmp_path: Path) -> Write:
    def write(some: slice = slice(None), name: str = "vectors.jsonl", more: list[dict[str, Any]] | None = None) -> str:
        rows = [{"text": text, "vector": vector} for text, vector in list(vectors.items())[some]]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in [*rows, *(more or [])]))
        return str(tmp_path / name)

    return write


def of_file(files: dict[str, Path], out: Path, source: Any, **changes: Any) -> dict[str, Any]:
    given = settings_of(files, out, **OWN, **changes)
    given |= {"teacher_outputs": source, "cache": str(out.parent / "cache")}
    return {name: value for name, value in given.items() if name != "teacher"}


@pytest.mark.parametrize("method", ["disco", "leaf"])
def test_the_student_is_that_of_the_model_whose_vectors_they_are(
    files: dict[str, Path], write: Write, tmp_path: Path, method: str
) -> None:
    given = {"method": method, "max_length": 40, "dev": "dev"}
    live = distill(**settings_of(files, tmp_path / "live", **OWN, **given))
    told = distill(**of_file(files, tmp_path / "told", write(), **given))
    assert told.metrics["teacher_forwards"] == 0
    assert "spearman" not in told.metrics["teacher"], "its vectors of dev are not in the file"
    assert told.metrics["student"]["spearman"] == pytest.approx(live.metrics["student"]["spearman"], abs=1e-3)
    ours, theirs = (load_file(run.model / "model.safetensors") for run in (told, live))
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=0, atol=2e-3)


def test_the_texts_are_those_of_the_file(files: dict[str, Path], write: Write, tmp_path: Path) -> None:
    given = of_file(files, tmp_path / "run", write(slice(60)))
    del given["texts"]
    run = distill(**given)
    record = json.loads((run.folder / "run.json").read_text())
    assert record["settings"]["texts"] == [given["teacher_outputs"]]
    assert record["data"]["decisions"]["teacher"] == (
        f"60 vectors of 32 numbers in {given['teacher_outputs']}; 60 of 60 texts have one"
    )
    assert set(run.metrics["teacher"]) == {"width"}
    assert f"`{files['small']}` as it is, a student of `{given['teacher_outputs']}`" in (
        (run.model / "README.md").read_text()
    )
    page = (run.folder / "report.html").read_text()
    results = page[page.index('id="results"') : page.index('id="training"')]
    assert "student</th>" in results
    assert "teacher</th>" not in results
    again = distill(**given | {"overwrite": True})
    assert again.metrics["student"] == run.metrics["student"]


def test_texts_without_a_vector_are_left_out_and_counted(files: dict[str, Path], write: Write, tmp_path: Path) -> None:
    more = [{"text": "another", "vector": [1.0] * 32}]
    run = distill(**of_file(files, tmp_path / "run", write(slice(50), more=more)))
    found = json.loads((run.folder / "run.json").read_text())["data"]
    assert f"51 vectors of 32 numbers in {tmp_path}/vectors.jsonl; 50 of " in found["decisions"]["teacher"]
    assert "have one, the others are left out" in found["decisions"]["teacher"]
    assert found["train"] + found["held_out"] == 50
    assert found["texts"] == LINES


def test_rows_in_memory_and_a_vocabulary_of_the_texts(
    files: dict[str, Path], vectors: dict[str, list[float]], workshop: Workshop, tmp_path: Path
) -> None:
    rows = {"text": list(vectors), "vector": np.array(list(vectors.values()))}
    given = of_file(files, tmp_path / "run", rows, vocabulary="texts", projection="keep")
    run = distill(**given | {"start": str(workshop.pieces())})
    assert run.metrics["student"]["width"] == 32
    assert st.SentenceTransformer(str(run.model), device="cpu").encode(["a b"]).shape == (1, 32)


def test_an_interrupted_run_is_taken_up_and_one_with_another_file_is_not(
    files: dict[str, Path], write: Write, tmp_path: Path
) -> None:
    given = of_file(files, tmp_path / "run", write())
    whole = distill(**given | {"out": str(tmp_path / "whole")})
    with stopping_at(5), pytest.raises(Interrupted):
        distill(**given)
    taken = distill(**given, resume=True)
    assert taken.metrics["student"] == whole.metrics["student"]
    with stopping_at(5), pytest.raises(Interrupted):
        distill(**given | {"overwrite": True})
    write(slice(100))
    with pytest.raises(UserError, match="teacher"):
        distill(**given, resume=True)


def test_vectors_that_are_stored_take_no_further_room(
    files: dict[str, Path], write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, asked, append = write(slice(60)), list[int](), Store.append

    def stopping(store: Store, *rows: Any) -> None:
        if len(asked) == 1 and len(store) == 32:
            raise KeyboardInterrupt
        append(store, *rows)

    monkeypatch.setattr("contrastill.teachers.vectors.ROWS", 16)
    monkeypatch.setattr(VectorTeacher, "check_room", lambda _, texts: asked.append(texts))
    monkeypatch.setattr(Store, "append", stopping)
    with pytest.raises((Interrupted, KeyboardInterrupt)):
        distill(**of_file(files, tmp_path / "stopped", source))
    distill(**of_file(files, tmp_path / "run", source))
    assert asked == [60, 28]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([{"text": "x", "vector": [1.0]}], "expected 32 numbers a vector, as the first row has, got 1 of them"),
        ([{"text": lines(1)[0], "vector": [1.0] * 32}], "expected one vector a text"),
    ],
)
def test_a_file_with_a_wrong_row_makes_nothing(
    files: dict[str, Path], write: Write, tmp_path: Path, more: list[dict[str, Any]], said: str
) -> None:
    for _ in range(2):  # nor does a second call take what the first has read
        with pytest.raises(UserError, match=said):
            distill(**of_file(files, tmp_path / "run", write(more=more)))
    assert not (tmp_path / "run").exists()


def test_a_file_about_other_texts_is_refused(files: dict[str, Path], write: Write, tmp_path: Path) -> None:
    other = [{"text": "nothing of these", "vector": [1.0] * 32}]
    with pytest.raises(UserError, match="expected vectors of the texts, got none of any of"):
        distill(**of_file(files, tmp_path / "run", write(slice(0), more=other)))
    assert not (tmp_path / "run").exists()
