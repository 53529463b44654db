"""A teacher's answers in a file: each form, and each thing that is none."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from contrastill import UserError
from contrastill.data.load import text_key
from contrastill.data.outputs import Outputs, named_in, open_outputs, read_outputs
from contrastill.memory import held

NAMES = ("food", "music", "sport")
NAN = math.nan


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Outputs]:
    """Reads rows (without texts: they are "text 0", …) from a .jsonl file."""

    def made(rows: list[dict[str, Any]], kind: str = "classification", ordered: bool = False) -> Outputs:
        path = tmp_path / "answers.jsonl"
        path.write_text("".join(json.dumps({"text": f"text {n}", **row}) + "\n" for n, row in enumerate(rows)))
        return read_outputs(open_outputs(str(path)), kind, NAMES, ordered=ordered)

    return made


def chances(outputs: Outputs, text: str = "text 0") -> list[float]:
    row = outputs.rows_of(np.array([text_key(text)]))[0]
    assert row >= 0
    return [round(float(value), 5) for value in np.exp(outputs.values[row])]


def same(got: list[float], expected: list[float]) -> None:
    assert got == pytest.approx(expected, abs=1e-4, nan_ok=True)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"probabilities": {"food": 0.5, "music": 0.25, "sport": 0.25}}, [0.5, 0.25, 0.25, 0]),
        ({"probabilities": {"food": 0.5, "music": 0.25}}, [0.5, 0.25, NAN, 0.25]),
        ({"probabilities": {"sport": 1.0}}, [NAN, NAN, 1, 0]),
        ({"probabilities": {"sport": 0.0}}, [NAN, NAN, 0, 1]),
        ({"probabilities": {"food": 0.5004, "music": 0.5}}, [0.5002, 0.4998, NAN, 0]),
        ({"probabilities": {"food": 0.333, "music": 0.333, "sport": 0.3335}}, [0.33317, 0.33317, 0.33367, 0]),
        ({"top": [{"label": "music", "score": 0.6}, {"label": "food", "score": 0.3}]}, [0.3, 0.6, NAN, 0.1]),
        ({"logits": {"food": 0.0, "music": math.log(2), "sport": 0.0}}, [0.25, 0.5, 0.25, 0]),
        ({"label": "music"}, [NAN, 1, NAN, 0]),
        ({"label": " music "}, [NAN, 1, NAN, 0]),
        ({"label": "music", "confidence": 0.9}, [NAN, 0.9, NAN, 0.1]),
        ({"label": "music", "score": 0.9}, [NAN, 0.9, NAN, 0.1]),
        ({"labels": ["food", "food", "sport", "food"]}, [0.75, NAN, 0.25, 0]),
        ({"label": "food", "score": 0.6, "probabilities": {"food": 0.6, "music": 0.4}}, [0.6, 0.4, NAN, 0]),
        (  # as `contrastill label` writes it
            {"probabilities": {"food": 0.5, "music": 0.25}, "label": "food", "no_label": ["?"], "tokens_in": 9},
            [0.5, 0.25, NAN, 0.25],
        ),
    ],
)
def test_each_form_of_a_class(read: Callable[..., Outputs], row: dict[str, Any], expected: list[float]) -> None:
    same(chances(read([row])), expected)


@pytest.mark.parametrize(
    ("row", "expected"),
    [({"logits": [0, 0, math.log(2)]}, [0.25, 0.25, 0.5, 0]), ({"probabilities": [1, 0, 0]}, [1, 0, 0, 0])],
)
def test_lists_have_a_meaning_where_the_order_is_given(
    read: Callable[..., Outputs], row: dict[str, Any], expected: list[float]
) -> None:
    same(chances(read([row], ordered=True)), expected)
    with pytest.raises(
        UserError, match=r"expected an object .*, got a list, whose order nothing tells in 1 row.*--labels"
    ):
        read([row])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"probabilities": {"food": 0.5, "music": 0.9, "sport": 0.8}}, [0.5, 0.9, 0.8]),
        ({"probabilities": {"food": 0.0, "music": 1.0}}, [0, 1, NAN]),
        ({"top": [{"label": "food", "score": 0.5}]}, [0.5, NAN, NAN]),
        ({"labels": ["food", "sport"], "scores": [0.9, 0.8]}, [1, 0, 1]),
        ({"labels": []}, [0, 0, 0]),
        ({"logits": {"food": 0.0, "music": 0.0, "sport": 9.0}}, [0.5, 0.5, 0.99988]),
    ],
)
def test_each_form_of_several_labels(read: Callable[..., Outputs], row: dict[str, Any], expected: list[float]) -> None:
    values = read([row], "multilabel").values[0]
    assert np.isfinite(values[~np.isnan(values)]).all()
    same((1 / (1 + np.exp(-values))).tolist(), expected)


@pytest.mark.parametrize("row", [{"score": 2.5}, {"score": "2.5"}, {"label": 2.5}, {"logits": [2.5]}])
def test_each_form_of_a_score(read: Callable[..., Outputs], row: dict[str, Any]) -> None:
    assert read([row], "regression").values.tolist() == [[2.5]]


def test_entities_are_read_as_those_of_data_are(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    rows = [
        {"text": "soup and song", "spans": [{"start": 0, "end": 4, "label": "food", "score": 0.9, "text": "soup"}]},
        {"text": "nothing", "spans": []},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    got = read_outputs(open_outputs(str(path)), "tagging", NAMES, ordered=False)
    found = {key: list(value) for key, value in zip(got.keys.tolist(), got.values, strict=True)}
    assert found == {text_key("soup and song"): [0, 4, 0], text_key("nothing"): []}
    rows[0]["spans"][0]["label"] = "town"  # type: ignore[index]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="town"):
        read_outputs(open_outputs(str(path)), "tagging", NAMES, ordered=False)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"probabilities": {"food": 0.9, "music": 0.2}}, "sum to 1, or to less.*got a sum of 1.1.*--task multilabel"),
        ({"probabilities": {"food": -0.1}}, "probabilities from 0 to 1 .*got -0.1.*'logits'"),
        ({"probabilities": {"food": 80, "music": 20}}, "probabilities from 0 to 1 .*got 80"),
        ({"probabilities": {"food": NAN}}, "finite numbers .*got nan"),
        ({"probabilities": {"food": "much"}}, "finite numbers .*got 'much'"),
        ({"probabilities": {"food": 0.3, "music": 0.3, "sport": 0.3}}, "all classes that sum to 1 .*got a sum of 0.9"),
        ({"probabilities": {"foot": 0.5}}, "labels food, music, sport .*got 'foot'.*did you mean 'food'"),
        ({"probabilities": {}}, "got an empty one"),
        ({"probabilities": "much"}, "object .*got 'much'.*write JSON"),
        ({"logits": {"food": 1.0, "music": 2.0}}, "logits of all 3 classes .*none of sport.*their probabilities"),
        ({"logits": {"food": math.inf, "music": 2.0, "sport": 1}}, "finite numbers .*got inf"),
        ({"label": "foot"}, "labels food, music, sport .*got 'foot'"),
        ({"label": None}, "labels food, music, sport .*got None"),
        ({"label": "foot", "confidence": 0.5}, "labels food, music, sport .*got 'foot'"),
        ({"label": "food", "confidence": 0}, "confidences above 0"),
        ({"label": "food", "confidence": 90}, "confidences above 0, up to 1 .*got 90.*0.9 for 90 %"),
        ({"label": "food", "confidence": 0.2}, "at least 1/3.*got 0.2"),
        ({"label": "food", "confidence": None}, "confidences above 0"),
        ({"labels": []}, "lists of labels, one an annotator .*got"),
        ({"labels": "food"}, "lists of labels, one an annotator .*got 'food'"),
        ({"top": [["food", 0.5]]}, "lists of"),
    ],
)
def test_what_is_no_answer_is_said_with_its_line(read: Callable[..., Outputs], row: dict[str, Any], said: str) -> None:
    form = next(iter(row)) if "confidence" not in row else "label"
    good = {"probabilities": {"food": 1.0}, "logits": dict.fromkeys(NAMES, 1.0), "label": "food", "labels": ["food"]}
    good |= {"top": [{"label": "food", "score": 1.0}]}
    before = {form: good[form]} | ({"confidence": 1.0} if "confidence" in row else {})
    with pytest.raises(UserError, match=said) as error:
        read([before, row, before])
    assert "1 row (line 2)" in str(error.value)
    wrong = "confidence" if "confidence" in row and row["label"] == "food" else form
    assert f"in column {wrong!r}" in str(error.value)


@pytest.mark.parametrize("row", [{"score": "high"}, {"score": None}, {"score": NAN}, {"logits": [1, 2]}])
def test_what_is_no_score_is_refused(read: Callable[..., Outputs], row: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="finite numbers"):
        read([row], "regression")


def test_a_list_of_another_length_is_refused(read: Callable[..., Outputs]) -> None:
    with pytest.raises(UserError, match="lists of 3 numbers, one a class in column 'logits', got 2"):
        read([{"logits": [1, 2]}], ordered=True)


def test_copies_count_once_and_those_that_differ_are_refused(read: Callable[..., Outputs]) -> None:
    rows = [{"text": "a", "label": "food", "confidence": sure} for sure in (0.9, 0.9004, 0.9)]
    got = read([*rows, {"text": "b", "label": "sport", "confidence": 1.0}])
    assert (len(got.keys), got.merged) == (2, 2)
    same(chances(got, "a"), [0.9, NAN, NAN, 0.1])
    rows += [{"text": "a", "label": "food", "confidence": 0.8}, {"text": "a", "label": "music", "confidence": 0.9}]
    with pytest.raises(UserError, match=r"one answer a text, got 2 rows \(lines 4, 5\) with another.*the first 'a'"):
        read(rows)
    with pytest.raises(UserError, match="write their answers as one list in a column 'labels'"):
        read([{"text": "a", "label": "food"}, {"text": "a", "label": "music"}])


def test_a_text_without_an_answer_has_no_row(read: Callable[..., Outputs]) -> None:
    got = read([{"label": "food"}, {"label": "sport"}])
    keys = np.array([text_key(text) for text in ("text 1", "nowhere", "text 0")])
    assert (got.rows_of(keys) >= 0).tolist() == [True, False, True]
    assert (got.keys == np.sort(got.keys)).all()


# ---- files


FILES = {
    ".csv": lambda frame, path: frame.to_csv(path, index=False),
    ".tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
    ".csv.gz": lambda frame, path: frame.to_csv(path, index=False),
    ".parquet": lambda frame, path: frame.to_parquet(path),
    ".jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
}


@pytest.mark.parametrize("suffix", FILES)
def test_files_of_each_kind_say_the_same(tmp_path: Path, suffix: str) -> None:
    answers = [{"food": 0.5, "music": 0.5}, {"sport": 0.75}]
    cells = answers if suffix in (".parquet", ".jsonl") else list(map(json.dumps, answers))
    frame = pd.DataFrame({"query": ["one, two", "three"], "probabilities": cells})
    path = tmp_path / f"answers{suffix}"
    FILES[suffix](frame, path)
    got = read_outputs(open_outputs(str(path), text="query"), "classification", NAMES, ordered=False)
    same(chances(got, "one, two"), [0.5, 0.5, NAN, 0])
    same(chances(got, "three"), [NAN, NAN, 0.75, 0.25])


def test_answers_of_predict_in_fields_are_read(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("text,label,score,probability_food,probability_music,probability_sport\na,food,0.5,0.5,0.3,0.2\n")
    got = read_outputs(open_outputs(str(path)), "classification", NAMES, ordered=False)
    assert got.form == "probabilities"
    same(chances(got, "a"), [0.5, 0.3, 0.2, 0])


def test_the_likeliest_labels_in_fields_are_read(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("text,label,score,label_2,score_2\na,food,0.5,sport,0.3\n")
    got = read_outputs(open_outputs(str(path)), "classification", NAMES, ordered=False)
    assert got.form == "top"
    same(chances(got, "a"), [0.5, NAN, 0.3, 0.2])


def test_rows_in_memory_and_pairs_are_read() -> None:
    rows = [
        {"sentence1": "a", "sentence2": "b", "label": "food"},
        {"sentence1": "a", "sentence2": "c", "label": "sport"},
    ]
    file = open_outputs(held(rows, "rows"), of_data=("sentence1", "sentence2"))
    got = read_outputs(file, "classification", NAMES, ordered=False)
    assert sorted(got.keys.tolist()) == sorted([text_key("a", "b"), text_key("a", "c")])


@pytest.mark.parametrize(
    ("rows", "kind", "names"),
    [
        ([{"probabilities": {"b": 0.5}}, {"probabilities": {"a": 0.5, "c": None}}], "classification", ("a", "b")),
        ([{"label": 10}, {"label": 9}], "classification", ("9", "10")),
        ([{"labels": ["b", "b"]}, {"labels": ["a"]}], "classification", ("a", "b")),
        ([{"top": [{"label": "b", "score": 1}]}], "multilabel", ("b",)),
        ([{"logits": [1, 2]}], "classification", ()),
    ],
)
def test_the_classes_that_a_file_names(rows: list[dict[str, Any]], kind: str, names: tuple[str, ...]) -> None:
    told = [{"text": str(n), **row} for n, row in enumerate(rows)]
    assert named_in(open_outputs(held(told, "rows")), kind) == names


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("text,answer\na,b\n", {}, "expected a column of answers .*probabilities.*has the columns 'text', 'answer'"),
        ("query,label\na,b\n", {}, "expected a column 'text' \\(--text\\)"),
        ("text,label\na,b\n", {"text": "query"}, "expected a column 'query' \\(--text\\)"),
        ("text,label\na,b\n", {"of_data": ("text", "other")}, "--text-pair"),
        ("text,label\n  ,b\n", {}, "expected text in column 'text', got 1 row \\(line 2\\)"),
    ],
)
def test_files_without_texts_or_answers_are_refused(
    tmp_path: Path, content: str, options: dict[str, Any], said: str
) -> None:
    path = tmp_path / "answers.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=said):
        open_outputs(str(path), **options)


def test_answers_of_another_kind_are_refused(read: Callable[..., Outputs]) -> None:
    with pytest.raises(
        UserError, match=r"expected answers for regression \(logits, score, label\), got the columns spans"
    ):
        read([{"spans": []}], "regression")
