"""One meaning for a class, however and wherever its name is written."""

import csv
import json
import random
from pathlib import Path

import datasets
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from contrastill.data.cells import class_name, listed, numeric, several
from contrastill.data.classes import kind_of, matching
from contrastill.data.labels import align_labels
from contrastill.data.load import load_task
from contrastill.data.read import Table
from contrastill.data.schema import GLUE
from contrastill.errors import UserError


def table(path: Path, labels: list, column: str = "label") -> Path:
    """A file of any format with these label cells, as Python writes them."""
    texts = [f"text number {n}" for n in range(len(labels))]
    if path.suffix == ".parquet":
        pd.DataFrame({"text": texts, column: labels}).to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps({"text": t, column: x}) for t, x in zip(texts, labels, strict=True)))
    else:
        with path.open("w", newline="") as file:
            rows = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            rows.writerows([("text", column), *zip(texts, labels, strict=True)])
    return path


def names_of(data, split: str = "train") -> list[str]:
    return [data.schema.labels[n] for n in data.splits[split]["label"]]


# --- whole numbers, however written ---

SPELLINGS = {
    "integers": int,
    "floats": float,
    "strings": str,
    "pandas": lambda n: f"{float(n)}",
    "spaces": lambda n: f" {n} ",
    "signs": lambda n: f"{n:+d}",
    "powers": lambda n: f"{n}e0",
}


@pytest.mark.parametrize("seed", range(5))
def test_whole_numbers_are_one_class_in_every_spelling_format_and_split(tmp_path, seed):
    draw = random.Random(seed)
    values = [n % 12 - draw.choice([0, 1]) * 3 for n in range(60)]
    wanted = None
    for turn in range(3):
        files = {}
        for split in ("train", "dev"):
            suffix = draw.choice([".csv", ".tsv", ".jsonl", ".parquet"])
            spelt = SPELLINGS[draw.choice(list(SPELLINGS))]
            files[split] = table(tmp_path / f"{split}{turn}{suffix}", list(map(spelt, values)))
        data = load_task(files["train"], dev=files["dev"])
        assert data.schema.labels == tuple(map(str, sorted(set(values))))
        assert names_of(data) == names_of(data, "dev") == list(map(str, values))
        wanted = wanted or data.fingerprint()
        assert data.fingerprint() == wanted


def test_several_spellings_of_a_number_in_one_file_are_one_class(tmp_path):
    data = load_task(table(tmp_path / "a.csv", ["1", "1.0", " 1", "+1", "1e0", "2", "2.", "20e-1"]), dev_share=0)
    assert data.train["label"][:] == [0, 0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("cell", ["01", "1.5", "1_0", "0x1", "1,0", "one", "1e400", "1 0", "²"])
def test_what_is_no_plain_whole_number_keeps_its_name(cell):
    assert class_name(cell) == cell


def test_labels_with_leading_zeros_are_names_in_the_order_of_their_numbers(tmp_path):
    data = load_task(table(tmp_path / "a.csv", ["10", "02", "01"]), dev_share=0)
    assert data.schema.labels == ("01", "02", "10")


def test_fractions_taken_for_classes_are_in_the_order_of_their_numbers(tmp_path):
    data = load_task(table(tmp_path / "a.csv", ["10.5", "2.5", "-1"]), kind="classification", dev_share=0)
    assert data.schema.labels == ("-1", "2.5", "10.5")


# --- ids in place of names ---


def two_files(tmp_path, train: list, dev: list, **options):
    return load_task(table(tmp_path / "a.csv", train), dev=table(tmp_path / "d.csv", dev), **options)


def test_a_split_of_ids_alone_is_read_as_ids_and_said(tmp_path):
    data = two_files(tmp_path, ["no", "yes", "no"], ["1", "0.0", " 1"])
    assert names_of(data, "dev") == ["yes", "no", "yes"]
    assert data.decisions["label cells"] == "train: names, dev: ids of classes (0 is 'no')"


@pytest.mark.parametrize(
    ("train", "dev", "said"),
    [
        (["no", "yes"], ["yes", "1"], "ids only if all are"),  # names and ids
        (["2G", "3G", "4G"], ["2", "2"], "class names have digits"),  # 2 is no position here
        (["a", "b"], ["0", "2"], "'2'"),  # no such id
        (["1", "2"], ["0", "1"], "'0'"),  # names that are numbers are never positions
        (["Yes", "No"], ["yes", "No"], "'yes' looks like 'Yes'"),
    ],
)
def test_labels_of_a_split_that_fit_no_single_reading_are_refused(tmp_path, train, dev, said):
    with pytest.raises(UserError, match=said) as error:
        two_files(tmp_path, train, dev)
    assert "d.csv" in str(error.value)
    assert "line" in str(error.value)


# --- the kind ---


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["0.5", "1.25", "n/a", "3"], ["finite numbers", "3 of 4 cells", "'n/a' in 1 row (line 4)"]),
        (["1", "2", "n/a", "3"], ["numbers, but 'n/a' in 1 row (line 4)"]),
        (["2G", "3G", "4G", "2"], ["names, but '2' in 1 row (line 5)", "--task classification"]),
        (["3,5", "4,0", "2"], ["decimal point", "'3,5'"]),
        (["0.5", "12%", "1"], ["decimal point", "'12%' in 1 row (line 3)"]),
        (["1,234.5", "17.5"], ["decimal point", "'1,234.5'"]),
        (["3,5", "4,25", "n/a"], ["finite numbers", "'n/a' in 1 row (line 4)"]),
        (["1.5", "2", "-"], ["'-' in 1 row (line 4)"]),
        (["Yes", "yes", "no"], ["one spelling", "'Yes' and 'yes'", "(line 3)", "--labels"]),
        (["caf\u00e9", "cafe\u0301", "no"], ["one spelling"]),
        (["01", "1", "2"], ["one spelling", "'01' and '1'"]),
        ([f"id-{n}" for n in range(30)], ["30 different cells in 30 rows", "--label"]),
        ([str(n) for n in range(30)], ["--task regression"]),
        (["a|b", "a", "b", "b|a"], ["'a|b' in line 2", "'|'", "2 of 4 rows", "--task multilabel"]),
        (["a;b", "b;c", "c;a", "a"], ["--task multilabel"]),
        (["a,b", "b", "a"] * 2, ["--task multilabel", "--labels"]),
        (["['a', 'b']", "['a']"], ["brackets", "--task multilabel"]),
        (['["a"]', '["b"]'], ["--task multilabel"]),
        (["1,5", "1", "5", "5,1"], ["--task multilabel", "decimal comma"]),
    ],
)
def test_labels_that_speak_for_two_readings_are_refused_with_the_line(tmp_path, cells, said):
    with pytest.raises(UserError) as error:
        load_task(table(tmp_path / "a.csv", cells), dev_share=0)
    for part in ["a.csv", *said]:
        assert part in str(error.value)


@pytest.mark.parametrize("odd", ["n/a", "-", "?", "nan", "3,5", "12%", "zero", "1.2.3", "$"])
@pytest.mark.parametrize("place", [0, 7, 239])
def test_one_odd_cell_never_turns_scores_into_classes(odd, place):
    cells = pd.Series([f"{n % 23 / 4:.2f}" for n in range(240)], index=range(2, 242), dtype=object)
    cells.iloc[place] = odd
    with pytest.raises(UserError, match=rf"\(line {place + 2}\)"):
        kind_of(Table("a.csv", cells.to_frame("score")), GLUE["stsb"], cells)


def test_a_kind_that_is_asked_for_needs_no_evidence(tmp_path):
    file = table(tmp_path / "a.csv", ["404", "500", "timeout"] * 3)
    assert load_task(file, kind="classification").schema.labels == ("404", "500", "timeout")
    file = table(tmp_path / "b.csv", ["1", "2", "5"] * 9)
    data = load_task(file, kind="regression", dev_share=0)
    assert (data.schema.kind, data.decisions["kind"]) == ("regression", "regression: as --task says")


@pytest.mark.parametrize("cells", [["a|b", "a", "b"], ["Yes", "yes"], [f"id-{n}" for n in range(30)]])
def test_a_full_list_of_labels_answers_every_doubt(tmp_path, cells):
    data = load_task(table(tmp_path / "a.csv", cells), labels=cells, dev_share=0)
    assert names_of(data) == cells


@pytest.mark.parametrize(
    "names",
    [
        ["Paris, France", "Lyon, France", "Rome, Italy"],  # commas whose parts do not come back
        ["Sci/Tech", "World", "Sports"],
        ["NA", "null", "none"],
        ["True", "False", "maybe"],
        ["(a)", "[urgent]", "b"],
        ["C", "C++", "C#"],
        ["x" * 3000, "y"],
    ],
)
def test_names_with_signs_in_them_are_names(tmp_path, names):
    data = load_task(table(tmp_path / "a.csv", names * 3), dev_share=0)
    assert data.schema.labels == tuple(sorted(names))


@pytest.mark.parametrize("cell", ["1", "-2.5", "1e-3", "3,5", "1,234", "1.234,5", "1 234", "12%", "$4", "\u22123"])
def test_numbers_of_every_usual_notation_are_seen(cell):
    assert numeric(cell)


@pytest.mark.parametrize("cell", ["nan", "inf", "n/a", "1.2.3", "2G", "1_000", "2020-01-01", "", True, None])
def test_what_is_no_number_is_not_taken_for_one(cell):
    assert not numeric(cell)


@pytest.mark.parametrize("cell", ["['a']", "[a, b]", "('a', 'b')", "{'a', 'b'}", "[1]", ' ["a", "b"] '])
def test_a_list_is_seen_however_it_is_written(cell):
    assert listed(cell)


@pytest.mark.parametrize("cell", ["[{[]: 1}]", "[{[]}]", "({[1]: 2}, 3)"])
def test_what_looks_like_a_list_and_cannot_be_one_is_a_name(cell):
    assert listed(cell) == ()


def test_a_rare_separator_is_part_of_a_name():
    assert several(["a", "b"] * 50 + ["a|b"]) is None


# --- said ---


def test_what_was_decided_is_said_in_one_block(tmp_path, caplog):
    rows = "id,text,label,source\n" + "".join(f"{n},text {n},{n % 5 + 1},web\n" for n in range(50))
    (tmp_path / "train.csv").write_text(rows)
    (tmp_path / "notes.csv").write_text("x\n")
    (tmp_path / "test-final.csv").write_text(rows)
    with caplog.at_level("INFO"):
        data = load_task(tmp_path)
    assert list(data.decisions)[:4] == ["files", "files left aside", "columns", "columns left aside"]
    assert data.decisions == {
        "columns": "text 'text', label 'label' (text and label by name)",
        "columns left aside": "'id', 'source'",
        "files": "train: train.csv, test: test-final.csv",
        "files left aside": "notes.csv",
        "kind": "classification: all 50 cells of 'label' are whole numbers (5 different, 1 to 5); "
        "--task regression reads them as scores",
        "classes": "5, by value: 1, 2, 3, 4, 5",
        "label cells": "train: names, test: names",
        "dev": "12 of 50 rows of train, held out by class",
    }
    assert len(caplog.messages) == 1
    for name, how in data.decisions.items():
        assert f"  {name}: {how}" in caplog.text
    assert data.describe()["decisions"] == data.decisions


def test_classes_with_hardly_any_rows_are_said(tmp_path):
    cells = ["a"] * 10 + ["b"] * 10 + ["once"]
    dev = table(tmp_path / "d.csv", ["a", "none"])
    data = load_task(table(tmp_path / "a.csv", cells), dev=dev, labels=["a", "b", "once", "none"])
    assert data.decisions["classes of one training row"] == "1 (once)"
    assert data.decisions["classes without training rows"] == "1 (none)"
    assert data.decisions["classes in dev alone"] == "1 (none)"
    assert data.decisions["classes without dev rows"] == "2 (b, once)"


def test_no_class_goes_to_dev_whole(tmp_path):
    cells = [f"rare {n}" for n in range(40)] + ["a", "b"] * 25
    data = load_task(table(tmp_path / "a.csv", cells), dev_share=0.5)
    assert set(names_of(data, "dev")) <= {"a", "b"}
    assert len(set(names_of(data))) == 42
    with pytest.raises(UserError, match="no class twice"):
        load_task(table(tmp_path / "b.csv", ["a", "b", "c"]))


def test_names_beside_ids_are_pointed_at(tmp_path):
    (tmp_path / "a.csv").write_text("text,label,label_text\na b c,0,ham\nd e f,1,spam\ng h i,1,spam\n")
    assert "--label label_text" in load_task(tmp_path / "a.csv", dev_share=0).decisions["columns left aside"]


# --- data and model ---


def data_of(tmp_path, cells: list, **options):
    return load_task(table(tmp_path / "a.csv", cells), dev_share=0, **options)


@pytest.mark.parametrize(
    ("cells", "model"),
    [
        (["-1", "0", "1"], ["0", "1", "-1"]),
        (["1.0", "2", "3"], ["3", "1.0", "2.0"]),
        (["card-arrival", "Lost card", "pin"], ["PIN", "card arrival", "lost_card"]),
        (["a", "b"], ["b", "a"]),
        (["10", "9"], ["9", "10"]),
    ],
)
@pytest.mark.parametrize("told", [True, False])
def test_classes_are_put_in_the_order_of_the_model_by_their_meaning(tmp_path, cells, model, told):
    data = align_labels(data_of(tmp_path, cells, of_model=model if told else None), model)
    plain = {name.lower().replace("-", " ").replace("_", " ") if not numeric(name) else float(name) for name in cells}
    got = [data.schema.labels[n] for n in data.train["label"]]
    assert len(plain) == len(set(got)) == len(cells)
    for cell, name in zip(cells, got, strict=True):
        assert matching([class_name(cell)], [name]) == {class_name(cell): 0}


@pytest.mark.parametrize(
    ("cells", "model", "missing"),
    [
        (["-1", "0", "1"], ["0", "1", "2"], ["-1 of the data", "2 of the model"]),
        (["no-1", "no1"], ["no 1", "no_1"], ["no-1, no1 of the data"]),
        (["a", "b"], ["a", "c"], ["b of the data, c of the model"]),
    ],
)
def test_a_disagreement_names_what_is_missing_on_both_sides(tmp_path, cells, model, missing):
    labels = None if numeric(cells[0]) else cells
    with pytest.raises(UserError) as error:
        align_labels(data_of(tmp_path, cells, labels=labels), model)
    for part in missing:
        assert part in str(error.value)


def test_data_without_class_names_are_read_with_those_of_the_model(tmp_path):
    model = ["Delivery", "billing", "login"]
    data = align_labels(data_of(tmp_path, ["login", "delivery"], of_model=model), model)
    assert data.train["label"][:] == [2, 0]
    assert data.decisions["label cells"] == "train: names (delivery spelt otherwise)"
    assert data_of(tmp_path, ["LOGIN", "LOGIN"], of_model=model).train["label"][:] == [2, 2]
    with pytest.raises(UserError, match="classes of the model"):
        data_of(tmp_path, ["login", "refund"], of_model=model)


def test_whole_numbers_are_scores_to_a_model_of_scores(tmp_path):
    assert (
        align_labels(data_of(tmp_path, ["1", "2", "5"], of_model=["LABEL_0"]), ["LABEL_0"]).schema.kind == "regression"
    )


def test_classes_for_a_model_of_scores_are_refused_with_the_option_that_reads_scores(tmp_path):
    with pytest.raises(UserError, match="--task regression"):
        align_labels(data_of(tmp_path, ["1", "2", "5"]), ["LABEL_0"])


def test_numbers_are_the_ids_of_a_model_without_class_names(tmp_path, caplog):
    data = align_labels(data_of(tmp_path, ["0", "2"]), ["LABEL_0", "LABEL_1", "LABEL_2"])
    assert data.train["label"][:] == [0, 2]
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("cells", [["a", "b", "c"], ["1", "2", "3"]])
def test_an_order_that_cannot_be_known_is_warned_of(tmp_path, caplog, cells):
    data = align_labels(data_of(tmp_path, cells), ["LABEL_0", "LABEL_1", "LABEL_2"])
    assert data.train["label"][:] == [0, 1, 2]
    assert "assumed" in data.decisions["order of the model's classes"]
    assert [record.levelname for record in caplog.records if "assumed" in record.message] == ["WARNING"]


def test_the_classes_of_the_source_go_before_those_of_the_model(tmp_path, monkeypatch):
    shape = Features(text=Value("string"), label=ClassLabel(names=["z", "a"]))
    rows = datasets.DatasetDict(train=Dataset.from_dict({"text": ["t", "u"], "label": [0, 1]}, shape))
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config=None: rows)
    data = load_task("org/news", dev_share=0, of_model=["a", "z"])
    assert data.schema.labels == ("z", "a")
    assert align_labels(data, ["a", "z"]).train["label"][:] == [1, 0]
