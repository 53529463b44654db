"""Rows that are passed as objects are read by the rules of files, and known again by their content."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest

from contrastill import EmbeddingDistillation, Finetuning, UserError, load_task
from contrastill.data.records import Records
from contrastill.data.stream import has_columns, stream_texts
from contrastill.memory import Held, held

ROWS = [{"text": f"word number {n}", "label": ("yes", "no")[n % 2]} for n in range(20)]
COLUMNS = {name: [row[name] for row in ROWS] for name in ("text", "label")}
IDS = [("no", "yes").index(row["label"]) for row in ROWS]
HUB = datasets.Dataset.from_dict(
    {"text": COLUMNS["text"], "label": IDS},
    features=datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}),
)
OBJECTS: dict[str, Callable[[], Any]] = {
    "DataFrame": lambda: pd.DataFrame(ROWS),
    "DataFrame, odd index": lambda: pd.DataFrame(ROWS, index=range(100, 120)),
    "strings of pandas": lambda: pd.DataFrame(ROWS).astype("string"),
    "categories": lambda: pd.DataFrame(ROWS).astype({"label": "category"}),
    "dicts": lambda: ROWS,
    "columns": lambda: {"text": np.array(COLUMNS["text"]), "label": COLUMNS["label"]},
    "texts and labels": lambda: (COLUMNS["text"], pd.Series(COLUMNS["label"])),
    "Dataset": lambda: HUB,
}


def content(data: Any) -> dict[str, Any]:
    return {name: split.to_dict() for name, split in data.splits.items()}


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_gives_the_rows_of_the_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    ours, theirs = load_task(OBJECTS[name]()), load_task(tmp_path / "d.jsonl")
    assert content(ours) == content(theirs)
    assert ours.schema.labels == theirs.schema.labels == ("no", "yes")
    assert ours.fingerprint() == theirs.fingerprint()
    assert "20 rows passed in Python, sha256 " in ours.decisions["files"]


@pytest.mark.parametrize("made", [datasets.DatasetDict, dict])
def test_splits_are_found_by_their_names(made: Any) -> None:
    data = load_task(made({"train": HUB, "validation": HUB.select(range(4)), "extra": HUB}))
    assert {name: len(rows) for name, rows in data.splits.items()} == {"train": 20, "dev": 4}
    assert "extra" in data.decisions["files left aside"]
    mine = load_task({"train": pd.DataFrame(ROWS), "test": ROWS[:6]}, dev_share=0)
    assert {name: len(rows) for name, rows in mine.splits.items()} == {"train": 20, "test": 6}


def test_dev_test_and_texts_without_labels_may_be_objects_too() -> None:
    data = load_task(
        pd.DataFrame(ROWS).rename(columns={"text": "query"}),
        dev=[{"query": "a b", "label": "yes"}],
        test=pd.DataFrame({"query": ["c d"], "label": ["no"]}),
        unlabelled=["e f", "g h"],
    )
    assert {name: len(rows) for name, rows in data.splits.items()} == {"train": 22, "dev": 1, "test": 1}
    assert data.train is not None
    assert data.train["text"][-2:] == ["e f", "g h"]
    assert data.train["label"][-1] == -100


def test_scores_lists_and_pairs_are_read() -> None:
    assert load_task([{"text": f"t{n}", "score": n / 7} for n in range(20)]).schema.kind == "regression"
    several = pd.DataFrame({"text": COLUMNS["text"], "labels": [["a", "b"], ["a"]] * 10})
    assert load_task(several).schema.labels == ("a", "b")
    pairs = pd.DataFrame({"sentence1": COLUMNS["text"], "sentence2": COLUMNS["text"], "label": COLUMNS["label"]})
    assert load_task(pairs).schema.text_pair == "sentence2"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (pd.DataFrame({"text": ["a", None, "c"], "label": ["x", "y", "x"]}), r"column 'text', got 1 row \(row 2\)"),
        (pd.DataFrame({"text": ["a", "b"], "label": ["x", pd.NA]}), r"label in column 'label', got 1 row \(row 2\)"),
        (pd.DataFrame({"body": ["a"], "kind": ["x"]}), r"DataFrame of 1 row passed in Python.*'body'.*--text COLUMN"),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "different column names"),
        (pd.DataFrame({"text": [], "label": []}), "expected rows, got DataFrame without any"),
        ((["a", "b"], ["x"]), "expected columns of equal length, got 2 'text', 1 'label'"),
        ({"text": ["a"], "label": "x"}, "got 'x' for a column"),
        ({"text": ["a", "b"], "label": ["x"]}, "expected columns of equal length"),
        ({"weird": HUB, "other": HUB}, "expected train, dev or test, got weird, other"),
        ({"test": ROWS}, "expected training rows"),
        (7, "source: expected a file's name, a DataFrame, .*; got 7"),
        ([], "source: expected a file's name"),
        ([1, 2], "source: expected a file's name"),
        (["only", "texts"], "expected the name of the label column"),
    ],
)
def test_what_is_no_table_or_a_faulty_one_is_an_error_with_its_place(value: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_task(value)


# ---- as a setting


def test_a_list_of_names_of_files_is_no_list_of_texts(tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("text\na\n")
    name = str(tmp_path / "more.csv")
    with pytest.raises(UserError, match=r"--unlabelled: .*names of files .*more\.csv.*one name by itself"):
        held([name], "--unlabelled")
    assert held(name, "--unlabelled") == name
    texts = [name, "a text", "x" * 5000, "a\0b", "~nobody/x"]
    assert held(texts, "--unlabelled").only.cells["text"] == texts


def test_a_setting_keeps_a_fingerprint_and_equal_rows_are_equal() -> None:
    ours = Finetuning(model="m", out="o", data=pd.DataFrame(ROWS), dev=ROWS[:4])
    again = Finetuning(model="m", out="o", data=pd.DataFrame(ROWS), dev=ROWS[:4])
    other = Finetuning(model="m", out="o", data=pd.DataFrame(ROWS[1:]), dev=ROWS[:4])
    assert ours == again != other
    recorded = json.loads(json.dumps(ours.record()))
    assert recorded["data"] == str(ours.data)
    assert "word number" not in json.dumps(recorded)
    assert isinstance(copy.deepcopy(ours.data), Held)
    assert Finetuning(model="m", out="o", data=Path("d.csv")).data == "d.csv"


def test_the_fingerprint_sees_cells_columns_order_and_classes() -> None:
    frame = pd.DataFrame(ROWS)
    changed = [frame.iloc[::-1], frame.rename(columns={"text": "t"}), frame.replace("yes", "Yes")]
    changed.append(frame[["label", "text"]])
    assert len({held(each, "data") for each in [frame, frame.copy(), HUB, *changed]}) == 6


def test_a_mere_record_of_rows_is_refused_with_the_way_out() -> None:
    said = str(held(ROWS, "data"))
    for read in (load_task, lambda source: next(stream_texts(source)), Records.of):
        with pytest.raises(UserError, match="not stored; pass the same ones in Python with resume=True"):
            read(said)


def test_lists_of_sources_take_rows_among_names() -> None:
    given: dict[str, Any] = {"teacher": ["t"], "out": "o"}
    names = EmbeddingDistillation(texts=["a.txt", "b.txt"], **given)
    assert names.texts == ["a.txt", "b.txt"]
    mixed = EmbeddingDistillation(texts=["a.txt", ["one text", "another"]], **given)
    alone = EmbeddingDistillation(texts=pd.DataFrame({"text": ["one text", "another"]}), **given)
    dicts = EmbeddingDistillation(texts=[{"text": "one text"}], **given)
    assert [isinstance(each, Held) for each in (*mixed.texts, *alone.texts, *dicts.texts)] == [False, True, True, True]
    assert list(stream_texts(mixed.texts[1])) == list(stream_texts(alone.texts[0])) == ["one text", "another"]
    assert not has_columns(mixed.texts[1])
    assert has_columns(alone.texts[0])


def test_rows_are_given_one_by_one_with_their_kept_columns() -> None:
    frame = pd.DataFrame({"id": [7, 8], "query": ["a", "b"]})
    rows = list(Records.of(held(frame, "data"), text="query"))
    assert [(row.number, row.texts, row.kept) for row in rows] == [(1, "a", {"id": 7}), (2, "b", {"id": 8})]
    with pytest.raises(UserError, match="row 2: expected a text in column 'query', got"):
        list(Records.of(held(frame.assign(query=["a", ""]), "data"), text="query"))
