"""Texts that belong together: what is read, what is left out with a note, what is refused."""

import gzip
import json
import lzma

import pandas as pd
import pytest
from datasets import Dataset

from contrastill.data import sources
from contrastill.data.pairs import NAMES, load_pairs
from contrastill.errors import UserError

PAIRS = [(f"anchor {n}", f"positive {n}") for n in range(40)]
TRIPLES = [(a, p, f"negative {n}") for n, (a, p) in enumerate(PAIRS)]


def write(path, rows, header=("anchor", "positive", "negative")):
    frame = pd.DataFrame(rows, columns=list(header)[: len(rows[0])], dtype=object)
    name = path.name.removesuffix(".gz").removesuffix(".xz")
    if name.endswith(".parquet"):
        frame.to_parquet(path)
        return path
    text = {
        "csv": lambda: frame.to_csv(index=False),
        "tsv": lambda: frame.to_csv(index=False, sep="\t"),
        "jsonl": lambda: "".join(json.dumps(row) + "\n" for row in frame.to_dict("records")),
        "json": lambda: json.dumps(frame.to_dict("records")),
    }[name.rsplit(".")[-1]]()
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with opener(path, "wt", encoding="utf-8") as file:
        file.write(text)
    return path


def read(path, **options):
    rows, notes = load_pairs(str(path), **options)
    return list(zip(*(rows[column][:] for column in rows.column_names), strict=True)), notes


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet", ".csv.gz", ".jsonl.xz"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path, suffix):
    assert read(write(tmp_path / f"rows{suffix}", TRIPLES)) == (TRIPLES, [])


@pytest.mark.parametrize("names", NAMES, ids=lambda names: "/".join(filter(None, names)))
def test_usual_names_need_not_be_given_and_their_order_in_the_file_does_not_count(tmp_path, names):
    names = [name for name in names if name]
    rows = [row[: len(names)][::-1] for row in TRIPLES]
    found, _ = load_pairs(str(write(tmp_path / "rows.csv", rows, names[::-1])))
    assert found.column_names == ["anchor", "positive", "negative"][: len(names)]
    assert found[3] == dict(zip(found.column_names, TRIPLES[3], strict=False))


def test_columns_are_taken_in_the_order_in_which_they_are_named(tmp_path):
    path = write(tmp_path / "rows.csv", TRIPLES, ("left", "middle", "right"))
    assert read(path, columns=["right", "left"])[0] == [(c, a) for a, _, c in TRIPLES]
    with pytest.raises(UserError, match=r"'left', 'middle', 'right'.*--columns"):
        read(path)
    with pytest.raises(UserError, match=r"'centre'.*--columns.*'left', 'middle', 'right'"):
        read(path, columns=["left", "centre"])
    for wrong in (["left"], ["left", "left"], ["left", "middle", "right", "left"]):
        with pytest.raises(UserError, match="two or three different columns"):
            read(path, columns=wrong)


def test_pairs_that_carry_a_judgement_are_not_all_taken_for_positives(tmp_path):
    rows = [(a, p, "entailment") for a, p in PAIRS]
    path = write(tmp_path / "nli.csv", rows, ("premise", "hypothesis", "label"))
    with pytest.raises(UserError, match=r"'label'.*--columns premise --columns hypothesis"):
        read(path)
    assert read(path, columns=["premise", "hypothesis"])[0] == PAIRS


def test_a_hub_data_set_is_read_by_its_train_split(monkeypatch):
    asked = []

    def load_dataset(*where):
        asked.append(where)
        return {"train": Dataset.from_dict({"query": ["a", "b"], "answer": ["c", "d"]}), "test": Dataset.from_dict({})}

    monkeypatch.setattr(sources.datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(sources, "SPLITS", {"train": ("train",), "dev": ("dev",)})
    assert read("some/pairs:small")[0] == [("a", "c"), ("b", "d")]
    assert asked == [("some/pairs", "small")]


def test_limit_keeps_the_first_sound_rows(tmp_path):
    path = write(tmp_path / "rows.csv", [("", "x"), *PAIRS])
    assert read(path, limit=3)[0] == PAIRS[:3]
    with pytest.raises(UserError, match="at least 2 rows"):
        read(path, limit=1)


# ---- left out, or refused if there are many ------------------------------------------------------------------------

EMPTY = [("", "p", "n"), ("a", "  ", "n"), ("a", "p", "")]


@pytest.mark.parametrize("bad", EMPTY, ids=["anchor", "positive", "negative"])
def test_a_missing_side_is_left_out_and_counted_if_rare_and_refused_if_not(tmp_path, bad):
    found, notes = read(write(tmp_path / "few.csv", [*TRIPLES[:5], bad, *TRIPLES[5:]]))
    assert found == TRIPLES
    assert len(notes) == 1
    assert "1 rows with an empty cell were left out, the first on line 7" in notes[0]
    with pytest.raises(UserError, match=r"empty cell, got 3 of 43, the first on line 2"):
        read(write(tmp_path / "many.csv", [bad] * 3 + TRIPLES))


def test_missing_cells_of_json_count_as_empty(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"anchor": a, "positive": p} for a, p in PAIRS]
    lines = [*rows, {"anchor": "a"}, {"anchor": "a", "positive": None}]
    path.write_text("".join(json.dumps(row) + "\n" for row in lines))
    found, notes = read(path)
    assert found == PAIRS
    assert "2 rows" in notes[0]


def test_a_positive_that_is_its_negative_is_left_out_if_rare_and_refused_if_not(tmp_path):
    bad = ("a", "same", " same ")
    found, notes = read(write(tmp_path / "few.csv", [*TRIPLES, bad]))
    assert found == TRIPLES
    assert "1 rows with a positive that is its negative too" in notes[0]
    with pytest.raises(
        UserError, match=r"the first on line 2; correct them, or pass --columns anchor --columns positive"
    ):
        read(write(tmp_path / "many.csv", [bad] * 3 + TRIPLES))


def test_positives_equal_to_their_anchor_and_exact_duplicates_are_left_out_however_many(tmp_path):
    rows = PAIRS + [(a, f" {a} ") for a, _ in PAIRS[:7]] + [(f" {a}", p) for a, p in PAIRS[:9]]
    found, notes = read(write(tmp_path / "rows.csv", rows))
    assert found == PAIRS
    assert ["7 rows with a positive that is the anchor" in notes[0], "9 rows with nothing new" in notes[1]] == [
        True
    ] * 2


def test_one_anchor_with_several_positives_is_no_duplicate(tmp_path):
    rows = [("a", "p"), ("a", "q"), ("b", "p")]
    assert read(write(tmp_path / "rows.csv", rows)) == (rows, [])


# ---- refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [PAIRS[:1], PAIRS[:1] * 5, [("a", "a"), ("b", "c")]])
def test_one_row_has_nothing_to_contrast_with(tmp_path, rows):
    with pytest.raises(UserError, match="at least two rows that differ, got 1"):
        read(write(tmp_path / "rows.csv", rows))


def test_numbers_are_no_texts(tmp_path):
    with pytest.raises(UserError, match=r"texts in column 'positive', got the number 3.5 on line 1"):
        read(write(tmp_path / "rows.jsonl", [("a", 3.5), ("b", "c")]))
    with pytest.raises(UserError, match=r"texts in column 'positive', got numbers \(0, 1, 2"):
        read(write(tmp_path / "rows.csv", [(a, n) for n, (a, _) in enumerate(PAIRS)]))
    with pytest.raises(UserError, match=r"texts in column 'negative', got a list, \['x'\] on line 1"):
        read(write(tmp_path / "list.jsonl", [("a", "b", ["x"]), ("c", "d", ["y"])]))
    assert len(read(write(tmp_path / "year.csv", [("When?", "1815"), ("Who?", "Wellington")]))[0]) == 2


def test_half_a_surrogate_pair_is_an_empty_cell(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"anchor": a, "positive": p}) for a, p in PAIRS]
    path.write_text("\n".join([*lines, '{"anchor": "a", "positive": "\\ud83d"}']))
    assert read(path)[0] == PAIRS


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.csv", b"", "empty file"),
        ("header.csv", b"anchor,positive\n", "header only"),
        ("latin.csv", "anchor,positive\nGröße,Maß\nb,c\n".encode("latin-1"), "--encoding latin-1"),
        ("cut.csv.gz", gzip.compress(b"anchor,positive\na,b\n" * 999, mtime=0)[:-9], "copy or pack it again"),
        ("texts.txt", b"a\nb\n", r"\.csv, \.tsv"),
        ("ragged.csv", b"anchor,positive\na,b\nc\n", "line 3"),
    ],
)
def test_a_file_that_cannot_be_read_is_said_by_its_name(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        load_pairs(str(tmp_path / name))
    assert name in str(error.value)


def test_another_encoding_is_read_when_named(tmp_path):
    (tmp_path / "latin.csv").write_bytes("anchor,positive\nGröße,Maß\nb,c\n".encode("latin-1"))
    assert read(tmp_path / "latin.csv", encoding="latin-1")[0][0] == ("Größe", "Maß")


def test_no_source_and_a_folder_without_train(tmp_path):
    with pytest.raises(UserError, match="check the path"):
        load_pairs(str(tmp_path / "none.csv"))
    write(tmp_path / "dev.csv", PAIRS)
    with pytest.raises(UserError, match="train"):
        load_pairs(str(tmp_path))
    write(tmp_path / "train.csv", PAIRS)
    assert read(tmp_path)[0] == PAIRS


# ---- without labels ------------------------------------------------------------------------------------------------


def test_an_unlabelled_text_is_its_own_positive_and_stands_once(tmp_path):
    (tmp_path / "corpus.txt").write_text("one\ntwo\n\none\nthree\n")
    found, notes = read(tmp_path / "corpus.txt", unsupervised=True)
    assert found == [("one", "one"), ("two", "two"), ("three", "three")]
    assert ["1 line without text, the first on line 3" in notes[0], "1 duplicates" in notes[1]] == [True, True]
    assert len(read(tmp_path / "corpus.txt", unsupervised=True, limit=2)[0]) == 2


def test_unlabelled_texts_of_a_column(tmp_path):
    path = write(tmp_path / "rows.csv", PAIRS)
    assert read(path, unsupervised=True, columns=["positive"])[0] == [(p, p) for _, p in PAIRS]
    with pytest.raises(UserError, match="one column of texts"):
        read(path, unsupervised=True, columns=["anchor", "positive"])


def test_one_unlabelled_text_is_too_few(tmp_path):
    (tmp_path / "corpus.txt").write_text("one\none\n")
    with pytest.raises(UserError, match="two different texts, got 1 of 2"):
        read(tmp_path / "corpus.txt", unsupervised=True)
