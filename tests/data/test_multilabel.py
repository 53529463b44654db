"""Rows with any number of labels: lists, separators, columns; and what is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from contrastill.data.labels import align_labels
from contrastill.data.load import load_task
from contrastill.errors import UserError

ROWS = [("a word", ["x", "y"]), ("another word", []), ("third words", ["z"]), ("four words here", ["y"])] * 5
TEXTS = [f"{text} {n}" for n, (text, _) in enumerate(ROWS)]
HOT = [[float(name in labels) for name in "xyz"] for _, labels in ROWS]


def jsonl(path: Path, labels=None, name="labels") -> Path:
    labels = [row for _, row in ROWS] if labels is None else labels
    rows = [{"text": text, name: each} for text, each in zip(TEXTS, labels, strict=False)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def csv(path: Path, cells) -> Path:
    pd.DataFrame({"text": TEXTS[: len(cells)], "label": cells}).to_csv(path, index=False)
    return path


def labels_of(data, split="train"):
    return dict(zip(data.splits[split]["text"], data.splits[split]["label"], strict=True))


EXPECTED = dict(zip(TEXTS, HOT, strict=True))


def test_lists_in_jsonl_say_by_themselves_that_a_row_has_any_number_of_labels(tmp_path):
    data = load_task(jsonl(tmp_path / "a.jsonl"), dev_share=0)
    assert (data.schema.kind, data.schema.labels) == ("multilabel", ("x", "y", "z"))
    assert labels_of(data) == EXPECTED
    assert data.decisions["kind"] == "multilabel: the cells of 'labels' are lists"
    assert data.decisions["labels a row"] == "1.00 in the mean, none in 5 rows"
    assert data.schema.metrics[0] == "map"


@pytest.mark.parametrize("form", ["parquet", "separator", "columns", "column list", "brackets", "ids", "hot"])
def test_every_form_of_the_same_labels_gives_the_same_rows(tmp_path, form):
    sets, options = [row for _, row in ROWS], {"kind": "multilabel"}
    if form == "parquet":
        file = tmp_path / "a.parquet"
        Dataset.from_dict({"text": TEXTS, "label": sets}).to_parquet(file)
        options = {}
    elif form == "separator":
        file, options = csv(tmp_path / "a.csv", [" | ".join(row) for row in sets]), {"separator": "|"}
    elif form in ("columns", "column list"):
        file = tmp_path / "a.csv"
        words = {"x": ("yes", "no"), "y": ("1", ""), "z": ("True", "false")}
        columns = {name: [words[name][name not in row] for row in sets] for name in "xyz"}
        pd.DataFrame({"text": TEXTS, **columns}).to_csv(file, index=False)
        options |= {"label": "x,y,z" if form == "columns" else ["x", "y", "z"], "text": "text"}
    elif form == "brackets":
        file = csv(tmp_path / "a.csv", [str(row) for row in sets])
    elif form == "ids":
        file = jsonl(tmp_path / "a.jsonl", [["xyz".index(name) for name in row] for row in sets])
        options |= {"labels": list("xyz")}
    else:
        file, options = jsonl(tmp_path / "a.jsonl", [[int(v) for v in row] for row in HOT]), {"labels": list("xyz")}
    data = load_task(file, dev_share=0, **options)
    assert data.schema.labels == ("x", "y", "z")
    assert labels_of(data) == EXPECTED


def test_numbers_are_names_by_value_where_no_labels_are_known(tmp_path):
    data = load_task(jsonl(tmp_path / "a.jsonl", [[27], [2, 10], [], [10]] * 5), dev_share=0)
    assert data.schema.labels == ("2", "10", "27")


def test_rows_held_out_have_every_label_in_its_share_and_are_drawn_by_the_seed(tmp_path):
    random = np.random.default_rng(0)
    sets = [[f"l{n}" for n in range(6) if random.random() < (n + 1) / 10] for _ in range(400)]
    texts = [f"text {n}" for n in range(400)]
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": t, "label": s}) + "\n" for t, s in zip(texts, sets, strict=True))
    )
    data, again = (load_task(tmp_path / "a.jsonl", dev_share=0.2) for _ in range(2))
    assert data.fingerprint() == again.fingerprint()
    assert data.fingerprint() != load_task(tmp_path / "a.jsonl", dev_share=0.2, seed=1).fingerprint()
    train, dev = (np.array(data.splits[split]["label"]) for split in ("train", "dev"))
    assert len(dev) == 80
    np.testing.assert_allclose(dev.mean(0)[:3], train.mean(0)[:3], atol=0.03)  # rows are divided by their rarest label
    np.testing.assert_allclose(dev.mean(0), train.mean(0), atol=0.17)  # three standard errors of 80 rows
    fewer = load_task(tmp_path / "a.jsonl", dev_share=0.2, limit=60)
    assert (np.array(fewer.train["label"]).sum(0) > 0).all()


def test_unlabelled_rows_have_no_number_for_any_label(tmp_path):
    (tmp_path / "more.txt").write_text("one more\nand another\n")
    data = load_task(jsonl(tmp_path / "a.jsonl"), dev_share=0.2, unlabelled=tmp_path / "more.txt")
    assert np.isnan(np.array(data.train["label"][-2:])).all()
    about = data.describe()
    assert about["splits"]["train"]["unlabelled"] == 2
    assert about["classes"] == 3


def test_labels_take_the_order_and_spelling_of_a_model(tmp_path):
    data = load_task(jsonl(tmp_path / "a.jsonl"), dev_share=0, of_model=["Z", "x", "y"])
    turned = align_labels(data, ["Z", "x", "y"])
    assert turned.schema.labels == ("Z", "x", "y")
    own = align_labels(load_task(jsonl(tmp_path / "a.jsonl"), dev_share=0), ["Z", "X", "Y"])
    for found in (turned, own):
        assert labels_of(found) == {text: [row[2], row[0], row[1]] for text, row in EXPECTED.items()}


def test_labels_that_only_dev_has_and_labels_without_rows_are_said(tmp_path):
    jsonl(tmp_path / "train.jsonl")
    jsonl(tmp_path / "dev.jsonl", [["w"], ["x"]])
    with pytest.raises(UserError, match=r"expected the labels of the training rows \(x, y, z\), got 'w' in 1 row"):
        load_task(tmp_path)
    data = load_task(tmp_path, labels=["w", "x", "y", "z", "never"])
    assert data.decisions["labels without a training row"] == "2 (w, never)"
    assert data.decisions["labels in dev alone"] == "1 (w)"
    assert data.decisions["labels without dev rows"].startswith("3 (y, z, never")


def test_lists_of_zeros_and_ones_need_names(tmp_path):
    hot = [[int(v) for v in row] for row in HOT]
    with pytest.raises(UserError, match="got 3 zeros and ones in every row; pass --labels, once for each of the 3"):
        load_task(jsonl(tmp_path / "a.jsonl", hot), dev_share=0)


def test_five_hundred_labels_are_read(tmp_path):
    file = jsonl(tmp_path / "a.jsonl", [[f"l{n}" for n in range(25 * k, 25 * k + 25)] for k in range(20)])
    assert len(load_task(file, dev_share=0).schema.labels) == 500


@pytest.mark.parametrize(
    ("cells", "options", "said"),
    [
        (["a|b", "a", "b", "b|a"], {"kind": "multilabel"}, r"expected --separator for the labels .*--separator '\|'"),
        (["a|b", "", "b", "b|a", "a"], {}, "without; .* or pass --task multilabel --separator, if"),
        (["a|a", "a", "b", "b|a"], {"separator": "|"}, r"each label once a row .*line 2"),
        (["a", "a"], {"kind": "multilabel"}, "2 to 5,000 different labels"),
        (["", "", ""], {"separator": "|", "labels": ["a", "b"]}, "expected rows with labels"),
        (["a|c", "b"], {"separator": "|", "labels": ["a", "b"]}, r"got 'c' in 1 row \(line 2\)"),
        (["1", "0"], {"kind": "multilabel", "label": "label,other"}, "got none named 'other'"),
        (["1", "2"], {"kind": "multilabel", "label": ["label", "text"], "text": "text"}, "expected 0 or 1"),
        (["a", "b"], {"separator": "|", "kind": "classification"}, "--separator with --task multilabel alone"),
        (["a", "b"], {"kind": "multilabel", "metric": "accuracy"}, "expected a metric for multilabel"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_line_and_the_way_out(tmp_path, cells, options, said):
    with pytest.raises(UserError, match=said):
        load_task(csv(tmp_path / "a.csv", cells), dev_share=0, **options)
