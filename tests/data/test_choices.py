"""Which files and columns are read, which are left aside, and that either is said."""

import pandas as pd
import pytest

from contrastill.data.load import load_task
from contrastill.errors import UserError

ROWS = "text,label\n" + "".join(f"text {n},{'ab'[n % 2]}\n" for n in range(20))


def folder(tmp_path, *names: str):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(ROWS)
    return tmp_path


# --- files ---


@pytest.mark.parametrize("name", ["dev", "development", "validation", "valid", "val", "eval", "evaluation", "Eval"])
@pytest.mark.parametrize("form", ["{}.csv", "{}-00000-of-00001.csv", "intents_{}.csv", "my-{}.v2.csv"])
def test_a_dev_file_is_known_by_every_usual_name(tmp_path, name, form):
    name = form.format(name)
    data = load_task(folder(tmp_path, "train.csv", name))
    assert (len(data.train), len(data.dev)) == (20, 20)
    assert data.decisions["files"] == f"train: train.csv, dev: {name}"
    assert "files left aside" not in data.decisions


@pytest.mark.parametrize("name", ["test", "testing", "intents-test"])
def test_a_test_file_is_known_by_every_usual_name(tmp_path, name):
    assert len(load_task(folder(tmp_path, "training.csv", f"{name}.csv")).test) == 20


def test_what_no_split_takes_is_said(tmp_path):
    names = ["train.csv", "a_dev.csv", "b_dev.csv", "latest.csv", "old/train.csv", "train.xlsx", "README.md"]
    data = load_task(folder(tmp_path, *names))
    assert data.decisions["files left aside"] == "a_dev.csv, b_dev.csv, latest.csv, train.xlsx, old/"
    assert data.decisions["dev"] == "5 of 20 rows of train, held out by class"


def test_a_file_of_the_very_name_goes_before_one_with_the_word(tmp_path):
    data = load_task(folder(tmp_path, "train.csv", "train_old.csv"))
    assert data.decisions["files"] == "train: train.csv"
    assert data.decisions["files left aside"] == "train_old.csv"


def test_a_file_in_place_of_the_folders_own_is_said(tmp_path):
    data = load_task(folder(tmp_path, "train.csv", "dev.csv", "other.csv"), dev=tmp_path / "other.csv")
    assert data.decisions["files left aside"] == "other.csv; dev.csv (--dev is in its place)"


def test_the_other_splits_beside_a_file_are_said(tmp_path):
    folder(tmp_path, "train.csv", "eval.csv", "intents.csv", "intents_test.csv")
    said = "{} beside it (--dev and --test take them)"
    assert load_task(tmp_path / "train.csv").decisions["files left aside"] == said.format("eval.csv")
    assert load_task(tmp_path / "intents.csv").decisions["files left aside"] == said.format("intents_test.csv")
    for name in ("eval.csv", "intents_test.csv"):  # asked for itself: nothing beside it is missing
        assert "files left aside" not in load_task(tmp_path / name).decisions


def test_a_folder_whose_files_lie_deeper_points_there(tmp_path):
    with pytest.raises(UserError, match=r"or the folder .*data"):
        load_task(folder(tmp_path, "README.md", "data/train-00000-of-00001.csv"))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_shards_of_a_split_are_one_table(tmp_path, suffix):
    for n in range(3):
        rows = pd.DataFrame({"text": [f"text {n} {i}" for i in range(4)], "label": [f"{n % 2}"] * 4})
        file = tmp_path / f"train-{n:05}-of-00003{suffix}"
        rows.to_csv(file, index=False) if suffix == ".csv" else rows.to_parquet(file)
    data = load_task(tmp_path, dev_share=0)
    assert data.train["text"][:] == [f"text {n} {i}" for n in range(3) for i in range(4)]
    assert data.decisions["files"] == f"train: train-00000-of-00003{suffix} and 2 more"
    assert len(load_task(tmp_path).dev) == 3


def test_a_missing_shard_is_refused(tmp_path):
    with pytest.raises(UserError, match="expected 3 parts of train, got 2; missing are number 1"):
        load_task(folder(tmp_path, "train-00000-of-00003.csv", "train-00002-of-00003.csv"))


def test_shards_of_other_columns_are_refused(tmp_path):
    folder(tmp_path, "train-00000-of-00002.csv")
    (tmp_path / "train-00001-of-00002.csv").write_text("body,label\nx,a\n")
    with pytest.raises(UserError, match=r"00001-of-00002.*columns and classes of .*00000"):
        load_task(tmp_path)


# --- columns ---


def columns(tmp_path, **cells: list):
    rows = max(map(len, cells.values()))
    frame = pd.DataFrame({name: [each[n % len(each)] for n in range(rows)] for name, each in cells.items()})
    frame.to_csv(tmp_path / "a.csv", index=False)
    return tmp_path / "a.csv"


LONG = [f"this is the text of row number {n}" for n in range(12)]
OTHER = [f"and here is what was said {n} times" for n in range(12)]
CHINESE = [f"这是第{n}行的文字" for n in range(12)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("question", "answer"),
        ("query", "document"),
        ("query", "passage"),
        ("premise", "hypothesis"),
        ("sentence_A", "sentence_B"),
        ("anchor", "positive"),
    ],
)
def test_two_texts_a_row_are_read_as_a_pair_and_said(tmp_path, first, second):
    data = load_task(columns(tmp_path, **{first: LONG, second: OTHER}, score=["0.5", "1.5"]), dev_share=0)
    assert (data.schema.text, data.schema.text_pair, data.schema.kind) == (first, second, "regression")
    assert data.decisions["columns"] == (
        f"text {first!r}, text pair {second!r}, label 'score' (text and label by name)"
    )


@pytest.mark.parametrize("other", ["body", "reply", "title", "explanation", "context"])
@pytest.mark.parametrize("cells", [OTHER, CHINESE])
def test_a_second_text_is_never_dropped_without_a_word(tmp_path, other, cells):
    file = columns(tmp_path, text=LONG, **{other: cells}, label=["a", "b"])
    with pytest.raises(UserError, match=f"'text' and in '{other}'; pass --text text to ignore it, or"):
        load_task(file)
    data = load_task(file, text="text", dev_share=0)
    assert (data.schema.text_pair, data.decisions["columns left aside"]) == (None, repr(other))
    assert load_task(file, text="text", text_pair=other, dev_share=0).schema.text_pair == other


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("id", [f"row-{n}" for n in range(12)]),
        ("url", [f"https://example.org/some/page?n={n}" for n in range(12)]),
        ("timestamp", [f"2024-01-{n:02} 10:00:00 UTC" for n in range(1, 13)]),
        ("uuid", [f"550e8400-e29b-41d4-a716-44665544{n:04}" for n in range(12)]),
        ("split", ["train"]),
        ("source", ["from the help desk", "from the mail box"]),
        ("note", ["", "", "", "now and then there is a note"]),
        ("length", list(range(12))),
    ],
)
def test_columns_that_hold_no_texts_are_left_aside_and_said(tmp_path, name, cells):
    data = load_task(columns(tmp_path, text=LONG, label=["a", "b"], **{name: cells}))
    assert data.decisions["columns left aside"] == repr(name)


def test_a_second_column_that_reads_like_a_label_is_asked_about(tmp_path):
    file = columns(tmp_path, question=LONG, answer=["yes", "no"], label=["a", "b"])
    with pytest.raises(UserError, match="'answer' may be a second text or a label"):
        load_task(file)
    assert load_task(file, text="question", label="answer", dev_share=0).schema.labels == ("no", "yes")


def test_columns_that_differ_in_case_alone_are_refused(tmp_path):
    with pytest.raises(UserError, match="'text' and 'Text'"):
        load_task(columns(tmp_path, text=LONG, Text=OTHER, label=["a", "b"]))


def test_every_pair_of_a_third_text_is_asked_about(tmp_path):
    with pytest.raises(UserError, match="expected the name of the text column"):
        load_task(columns(tmp_path, query=LONG, document=OTHER, passage=OTHER, score=["1.5"]))


def test_a_constant_score_teaches_nothing(tmp_path):
    for options in ({}, {"kind": "regression"}):
        with pytest.raises(UserError, match=r"every score is 3\.5"):
            load_task(columns(tmp_path, text=LONG, score=["3.5"]), **options)
