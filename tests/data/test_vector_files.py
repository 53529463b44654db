"""Files of texts and their vectors: every form gives the same numbers, and what is none is refused by its rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from contrastill import UserError
from contrastill.data.vectors import VectorFile
from contrastill.memory import held

ROWS = [
    {"text": " a b ", "vector": [1, 0, 0.5]},
    {"text": "c", "vector": [0.25, -1, 0]},
    {"text": "d e", "vector": [1e-3, 2, 3]},
    {"text": "a b", "vector": [1.0005, 0, 0.5]},  # a copy, in other digits
]
EXPECTED = np.array([[1, 0, 0.5], [0.25, -1, 0], [1e-3, 2, 3]], np.float32)


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def written(folder: Path, kind: str) -> Any:
    frame = pd.DataFrame(ROWS)
    if kind == "jsonl":
        return jsonl(folder / "v.jsonl", ROWS)
    if kind == "json":
        (folder / "v.json").write_text(json.dumps([{"id": n, **row} for n, row in enumerate(ROWS)]))
        return folder / "v.json"
    if kind == "parquet":
        frame.rename(columns={"vector": "embedding"}).to_parquet(folder / "v.parquet")
        return folder / "v.parquet"
    if kind == "csv":
        frame.assign(vector=frame.vector.map(json.dumps)).to_csv(folder / "v.csv.gz", index=False)
        return folder / "v.csv.gz"
    texts = [row["text"] for row in ROWS]
    if kind == "arrays":
        return {"text": texts, "vector": np.array([row["vector"] for row in ROWS])}
    return [{"text": row["text"], "vector": np.array(row["vector"], np.float32)} for row in ROWS]


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "csv", "arrays", "rows"])
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_every_form_gives_the_same_texts_and_vectors(tmp_path: Path, kind: str, size: int) -> None:
    source = written(tmp_path, kind)
    file = VectorFile(str(source) if isinstance(source, Path) else held(source, "--teacher-outputs"), None, "utf-8")
    assert (file.width, file.check()) == (3, 3)
    found = list(file.batches(size))
    assert [len(texts) for texts, _ in found] == [min(size, 3 - n) for n in range(0, 3, size)]
    assert [text for texts, _ in found for text in texts] == ["a b", "c", "d e"]
    vectors = np.concatenate([each for _, each in found])
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, EXPECTED)


def test_the_column_of_the_texts_may_have_another_name(tmp_path: Path) -> None:
    rows = [{"query": row["text"], "id": n, "Embedding": row["vector"]} for n, row in enumerate(ROWS)]
    file = VectorFile(str(jsonl(tmp_path / "v.jsonl", rows)), "query", "utf-8")
    assert next(file.batches(9))[0] == ["a b", "c", "d e"]


def test_a_file_that_changes_by_one_number_is_another(tmp_path: Path) -> None:
    prints = set()
    for change in (0.0, 1e-6):
        rows = [*ROWS[:2], {"text": "d", "vector": [change, 1, 2]}]
        prints.add(VectorFile(str(jsonl(tmp_path / "v.jsonl", rows)), None, "utf-8").fingerprint)
        prints.add(VectorFile(held(rows, "rows"), None, "utf-8").fingerprint)
    assert len(prints) == 4


WHOLE = {"text": "whole", "vector": [1, 2, 3]}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([WHOLE, {"text": "x"}], "a list of numbers as a vector, got None in 1 row .line 2."),
        ([WHOLE, {"text": "x", "vector": "far"}], "a list of numbers as a vector, got 'far'"),
        ([WHOLE, {"text": "x", "vector": [[1, 2, 3]]}], "a list of numbers"),
        ([WHOLE, {"text": "x", "vector": [1, [2], 3]}], "a list of numbers"),
        ([WHOLE, {"text": "x", "vector": [True, False, True]}], "a list of numbers"),
        ([WHOLE, {"text": "x", "vector": []}], "a list of numbers"),
        ([WHOLE, {"text": "x", "vector": ["1", "2", "3"]}], "a list of numbers"),
        ([WHOLE, {"text": "x", "vector": [1, 1e300, 3]}], "finite numbers"),
        ([WHOLE, {"text": "x", "vector": [1, float("nan"), 3]}], "finite numbers"),
        ([WHOLE, {"text": "x", "vector": [0, 0, 0]}], "a vector with a direction"),
        ([WHOLE, {"text": "x", "vector": [1, 2]}], "3 numbers a vector, as the first row has, got 2 of them"),
        ([WHOLE, {"text": " ", "vector": [1, 2, 3]}], "a text in every row, got ' ' in 1 row .line 2."),
        ([WHOLE, WHOLE | {"vector": [1, 2, -3]}], "one vector a text .*cosine -0.2.* of 'whole', row 1, .*line 2"),
        ([{"text": "x", "vector": None}] * 2, "got None in 2 rows .lines 1, 2."),
    ],
)
def test_rows_without_a_vector_are_refused_by_their_lines(
    tmp_path: Path, rows: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(UserError, match=f"v.jsonl: expected {said}|v.jsonl: expected .*{said}"):
        VectorFile(str(jsonl(tmp_path / "v.jsonl", rows)), None, "utf-8").check()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"text": "x", "vectr": [1]}], "one column of vectors, called vector or embedding, got .*vectr.*did you mean"),
        ([{"text": "x", "vector": [1], "embedding": [1]}], "one column of vectors"),
        ([{"sentence": "x", "vector": [1]}], "the column of the texts"),
    ],
)
def test_columns_that_are_missing_or_twofold_are_refused(tmp_path: Path, rows: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(UserError, match=said):
        VectorFile(str(jsonl(tmp_path / "v.jsonl", rows)), None, "utf-8")


@pytest.mark.parametrize("name", ["none.jsonl", "texts.txt", "vectors.npy"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    if name != "none.jsonl":
        (tmp_path / name).write_text("x\n")
    with pytest.raises(UserError, match=name):
        VectorFile(str(tmp_path / name), None, "utf-8")
