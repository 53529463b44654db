"""What does not load, and what the user is told."""

import re

import datasets
import pytest

from contrastill.data.load import load_task
from contrastill.errors import UserError

GOOD = "text,label\na,x\nb,y\nc,x\nd,y\n"

# Files by name (the first is the source), options (a name of a file stands for its path), what the message must hold.
CASES = {
    "an_empty_file": ({"a.csv": ""}, {}, ["a.csv", "empty file"]),
    "a_file_of_blank_lines": ({"a.csv": "\n \n"}, {}, ["empty file"]),
    "a_header_without_rows": ({"a.csv": "text,label\n"}, {}, ["a.csv", "header only"]),
    "a_row_with_too_few_fields": ({"a.csv": GOOD + "e\n"}, {}, ["a.csv, line 6", "expected 2 fields", "got 1"]),
    "a_row_with_too_many_fields": ({"a.csv": GOOD + "e,f,x\n"}, {}, ["line 6", "got 3", "stray comma"]),
    "a_tsv_row_with_too_many_fields": ({"a.tsv": "text\tlabel\na\tb\tx\n"}, {}, ["line 2", "got 3", "stray tab"]),
    "an_unclosed_quote": ({"a.csv": GOOD + '"e,x\n'}, {}, ["line 6", "quotes"]),
    "columns_of_one_name": ({"a.csv": "text,text,label\na,b,x\n"}, {}, ["['text'] more than once"]),
    "bytes_of_another_encoding": (
        {"a.csv": GOOD.encode() + "é,x\n".encode("latin-1")},
        {},
        ["a.csv", "line 6", "byte 27", "--encoding latin-1"],
    ),
    "utf_16_without_a_byte_order_mark": ({"a.csv": GOOD.encode("utf-16-be")}, {}, ["--encoding utf-16-be"]),
    "an_unknown_encoding": ({"a.csv": GOOD}, {"encoding": "utf-99"}, ["utf-99", "--encoding"]),
    "a_cut_gz_file": ({"a.csv.gz": b"\x1f\x8b\x08\x00rest"}, {}, ["a.csv.gz", "whole .gz"]),
    "a_parquet_file_that_is_none": ({"a.parquet": "text"}, {}, ["a.parquet", "expected a parquet file"]),
    "broken_json": ({"a.jsonl": '{"text": "a", "label": 1}\n{"text": \n'}, {}, ["a.jsonl, line 2", "JSON"]),
    "json_that_is_no_object": ({"a.jsonl": '{"text": "a", "label": 1}\n["b", 2]\n'}, {}, ["line 2", "object"]),
    "a_format_not_known": ({"a.xlsx": "text"}, {}, [".csv, .tsv", "a.xlsx"]),
    "a_file_that_is_not_there": ({}, {"source": "none.csv"}, ["none.csv", "check the path"]),
    "a_dev_file_that_is_not_there": ({"a.csv": GOOD}, {"dev": "none.csv"}, ["none.csv", "does not exist"]),
    "an_empty_text": ({"a.csv": GOOD + ",x\n"}, {}, ["a.csv", "'text'", "1 row (line 6)"]),
    "a_text_of_white_space": ({"a.csv": GOOD + "  ,x\n\t,y\n"}, {}, ["2 rows (lines 6, 7)", "white space"]),
    "a_text_that_is_null": ({"a.jsonl": '{"text": null, "label": 1}\n{"text": "a", "label": 0}'}, {}, ["(line 1)"]),
    "a_text_that_is_a_number": ({"a.json": '[{"text": 5, "label": 1}]'}, {}, ["(row 1)", "not a string"]),
    "half_a_surrogate_pair": ({"a.jsonl": '{"text": "\\ud83d", "label": 1}'}, {}, ["Unicode"]),
    "an_empty_text_of_a_pair": (
        {"a.csv": "sentence1,sentence2,label\na,b,x\nc,,y\n"},
        {},
        ["'sentence2'", "line 3"],
    ),
    "a_train_row_without_label": ({"a.csv": GOOD + "e,\n"}, {}, ["a.csv", "line 6", "--unlabelled"]),
    "a_dev_row_without_label": ({"a.csv": GOOD, "d.csv": GOOD + "e,\n"}, {"dev": "d.csv"}, ["d.csv", "line 6"]),
    "a_test_row_without_label": ({"a.csv": GOOD, "t.csv": GOOD + "e,\n"}, {"test": "t.csv"}, ["t.csv", "line 6"]),
    "a_test_file_without_labels": (
        {"a.csv": GOOD, "t.csv": "text\na\n"},
        {"test": "t.csv"},
        ["t.csv", "'label'", "--unlabelled"],
    ),
    "a_dev_label_not_in_train": (
        {"a.csv": GOOD, "d.csv": GOOD + "e,z\n"},
        {"dev": "d.csv"},
        ["d.csv", "(x, y)", "'z'", "line 6", "--labels"],
    ),
    "a_label_not_among_the_given": ({"a.csv": GOOD + "e,z\n"}, {"labels": ["x", "y"]}, ["--labels", "'z'", "line 6"]),
    "given_labels_that_repeat": ({"a.csv": GOOD}, {"labels": ["x", "x"]}, ["two different classes", "--labels"]),
    "one_class_only": ({"a.csv": "text,label\na,x\nb,x\n"}, {}, ["two different classes", "got x"]),
    "one_class_only_among_the_given": (
        {"a.csv": "text,label\na,x\nb,x\n"},
        {"labels": ["x", "y"]},
        ["two classes", "'x' in every row"],
    ),
    "a_target_that_is_nan": ({"a.csv": "text,score\na,1.5\nb,nan\n"}, {}, ["finite", "line 3", "'nan'"]),
    "a_target_that_is_infinite": ({"a.csv": "text,score\na,1.5\nb,inf\n"}, {}, ["finite", "line 3"]),
    "a_target_too_large_for_a_float": ({"a.jsonl": '{"text": "a", "score": 1e999}'}, {}, ["finite", "line 1"]),
    "a_target_that_is_a_word": (
        {"a.csv": "text,score\na,1.5\nb,high\n"},
        {"kind": "regression"},
        ["'high'", "--task classification"],
    ),
    "class_names_for_regression": (
        {"a.csv": "text,score\na,1.5\n"},
        {"kind": "regression", "labels": ["a", "b"]},
        ["regression", "--labels"],
    ),
    "labels_in_lists": (
        {"a.jsonl": '{"text": "a", "label": ["x", "y"]}'},
        {"kind": "classification"},
        ["got lists", "--task multilabel"],
    ),
    "several_label_columns": (
        {"a.csv": "text,anger,joy\na,0,1\n"},
        {"label": "anger,joy"},
        ["--task multilabel"],
    ),
    "no_text_column_to_guess": ({"a.csv": "body,label\na,x\n"}, {}, ["'body', 'label'", "--text"]),
    "two_text_columns_to_choose_from": ({"a.csv": "text,review,label\na,b,x\n"}, {}, ["'review'", "--text"]),
    "no_label_column_to_guess": ({"a.csv": "text,topic\na,x\n"}, {}, ["'topic'", "--label"]),
    "two_label_columns_to_choose_from": ({"a.csv": "text,intent,score\na,x,1\n"}, {}, ["'intent'", "--label"]),
    "a_named_column_that_is_not_there": ({"a.csv": GOOD}, {"text": "body"}, ["'body' (--text)", "'text', 'label'"]),
    "a_named_pair_that_is_not_there": (
        {"a.csv": GOOD},
        {"text": "text", "text_pair": "other"},
        ["'other' (--text-pair)"],
    ),
    "one_column_named_twice": ({"a.csv": GOOD}, {"text": "text", "label": "text"}, ["different columns"]),
    "a_dev_file_with_other_columns": (
        {"a.csv": GOOD, "d.csv": "body,label\na,x\n"},
        {"dev": "d.csv"},
        ["d.csv", "'text'", "'body', 'label'"],
    ),
    "unlabelled_lines_for_a_pair": (
        {"a.csv": "sentence1,sentence2,label\na,b,x\nc,d,y\n", "u.txt": "e\n"},
        {"unlabelled": "u.txt", "dev_share": 0},
        ["u.txt", "two texts", "'sentence2'"],
    ),
    "unlabelled_rows_without_the_text": (
        {"a.csv": GOOD, "u.csv": "body\na\n"},
        {"unlabelled": "u.csv"},
        ["u.csv", "'text'", "'body'"],
    ),
    "training_rows_in_a_txt_file": ({"a.txt": "a\n"}, {}, [".csv, .tsv", "a.txt"]),
    "a_kind_not_known": ({"a.csv": GOOD}, {"kind": "ranking"}, ["classification, regression, multilabel", "'ranking'"]),
    "a_metric_of_another_kind": (
        {"a.csv": GOOD},
        {"metric": "pearson"},
        ["accuracy, f1, f1_macro, matthews", "'pearson'"],
    ),
    "a_dev_share_above_half": ({"a.csv": GOOD}, {"dev_share": 0.9}, ["0 to 0.5", "0.9"]),
    "a_limit_of_nothing": ({"a.csv": GOOD}, {"limit": 0}, ["at least one row", "0"]),
    "a_limit_below_the_classes": ({"a.csv": GOOD}, {"limit": 1}, ["one row a class (2)", "--limit"]),
    "too_few_rows_for_a_dev_share": ({"a.csv": "text,score\na,1.5\n"}, {}, ["--dev"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_named_and_its_repair_is_said(tmp_path, case):
    files, options, expected = CASES[case]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    options = dict(options)
    for option in ("source", "dev", "test", "unlabelled"):
        if option in options:
            options[option] = tmp_path / options[option]
    source = options.pop("source", tmp_path / next(iter(files), ""))
    with pytest.raises(UserError) as error:
        load_task(source, **options)
    for part in expected:
        assert part in str(error.value)


def folder(tmp_path, *names):
    for name in names:
        (tmp_path / name).write_text(GOOD)
    return tmp_path


def test_a_folder_without_known_files_is_an_error_that_lists_them(tmp_path):
    with pytest.raises(UserError, match=r"train\.csv.*got rows\.csv"):
        load_task(folder(tmp_path, "rows.csv"))


def test_a_folder_with_two_files_for_a_split_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"one dev file, got dev\.csv, validation\.csv"):
        load_task(folder(tmp_path, "train.csv", "dev.csv", "validation.csv"))


def test_a_folder_without_train_and_without_labels_is_an_error(tmp_path):
    with pytest.raises(UserError, match="expected training rows, got test only"):
        load_task(folder(tmp_path, "test.csv"))


def test_wnli_is_left_out_with_the_reason():
    with pytest.raises(UserError, match="adversarial"):
        load_task("glue/wnli")


def test_an_unknown_glue_task_lists_those_there_are():
    with pytest.raises(UserError, match="cola, sst2, mrpc"):
        load_task("glue/mrpcc")


def test_columns_cannot_be_given_for_glue():
    with pytest.raises(UserError, match="fixed columns"):
        load_task("glue/mrpc", text="sentence1")


@pytest.mark.parametrize("source", ["glue/mrpc", "org/name", "org/name:config"])
def test_a_hub_out_of_reach_says_what_to_do(monkeypatch, source):
    def load_dataset(name, config=None):
        raise ConnectionError("Couldn't reach it\nand a long trace")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UserError, match=re.escape("ConnectionError: Couldn't reach it. Check the name")):
        load_task(source)


def test_a_hub_dataset_without_train_is_an_error(monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config=None: {"test": None})
    with pytest.raises(UserError, match="expected a train split, got test"):
        load_task("org/name")


def test_a_word_that_is_no_source_is_an_error():
    with pytest.raises(UserError, match="expected glue/TASK"):
        load_task("reviews")
