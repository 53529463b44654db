"""Entities in texts: tags of tokens, spans, and what is repaired or refused."""

import gzip
import json
import random
from pathlib import Path

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from contrastill.data.files import CONLL
from contrastill.data.labels import align_labels
from contrastill.data.load import known_label, load_task
from contrastill.data.schema import METRICS
from contrastill.data.tags import joined
from contrastill.errors import UserError

SENTENCES = [
    [("Ada", "B-PER"), ("Lovelace", "I-PER"), ("met", "O"), ("Mr", "O"), ("Babbage", "B-PER"), (".", "O")],
    [("They", "O"), ("left", "O"), ("London", "B-LOC"), (".", "O")],
    [("Nobody", "O"), ("came", "O"), (".", "O")],
]
TEXTS = ["Ada Lovelace met Mr Babbage.", "They left London.", "Nobody came."]
SPANS = [[(0, 12, "PER"), (20, 27, "PER")], [(10, 16, "LOC")], []]
DICTS = [[{"start": s, "end": e, "label": kind} for s, e, kind in spans] for spans in SPANS]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def conll(sentences=SENTENCES, gap="\t", end="\n") -> str:
    return (end * 2).join(end.join(gap.join(row) for row in each) for each in sentences) + end


def tags(*rows: str) -> str:
    """Sentences of tags alone, the tokens made up: w0, w1, …"""
    return conll([[(f"w{n}", tag) for n, tag in enumerate(row.split())] for row in rows])


def jsonl(path: Path, rows) -> Path:
    return write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def spans_of(data, split="train"):
    found = []
    for text, label in zip(data.splits[split]["text"], data.splits[split]["label"], strict=True):
        triplets = zip(label[::3], label[1::3], label[2::3], strict=True)
        found.append((text, [(start, end, data.schema.labels[kind]) for start, end, kind in triplets]))
    return found


def load(source, **options):
    return load_task(source, **({"dev_share": 0} | options))


def one(tmp_path, text, spans, **options):
    """The first of two rows, of which the second is sound."""
    rows = [{"text": text, "spans": spans}, {"text": "in Rome", "spans": [[3, 7, "LOC"]]}]
    return spans_of(load(jsonl(tmp_path / "a.jsonl", rows), **options))[0][1]


EXPECTED = list(zip(TEXTS, SPANS, strict=True))


# ---- forms


@pytest.mark.parametrize("pack", ["", ".gz"])
@pytest.mark.parametrize("suffix", [*CONLL, ".txt", ".tsv"])
def test_a_token_and_its_tag_a_line(tmp_path, suffix, pack):
    content = conll().encode()
    file = write(tmp_path / f"a{suffix}{pack}", gzip.compress(content) if pack else content)
    data = load(file, kind=None if suffix in CONLL else "tagging")
    assert spans_of(data) == EXPECTED
    assert (data.schema.kind, data.schema.labels, data.schema.text_pair) == ("tagging", ("LOC", "PER"), None)
    assert data.schema.metrics == METRICS["tagging"] == ("f1", "precision", "recall", "f1_macro")
    assert data.train["label"][:] == [[0, 12, 1, 20, 27, 1], [10, 16, 0], []]
    assert data.train.features["label"] == List(Value("int32"))
    assert data.decisions["columns"] == "text '1', label '2' (the first and the last)"
    assert data.decisions["scheme of tags"] == "BIO"
    assert data.decisions["entities"] == "train: 3 in 3 texts (1 without any)"
    assert "tags repaired" not in data.decisions


@pytest.mark.parametrize(
    "content",
    {
        "spaces": conll(gap=" "),
        "runs": conll(gap="  "),
        "crlf": conll(end="\r\n"),
        "mac": conll(end="\r"),
        "bom": "\ufeff" + conll(),
        "mixture": conll(SENTENCES[:1]) + "\n" + conll(SENTENCES[1:], gap=" "),
        "no last line end": conll().rstrip("\n"),
        "blank lines": "\n\n" + conll().replace("\n\n", "\n \t \n\n\n") + "\n\n",
        "documents": "-DOCSTART- O\n\n" + conll().replace("\n\n", "\n-DOCSTART- -X- -X- O\n", 1),
        "comments": "# global = x\n\n# id 7\tdomain=en\n" + conll().replace("\n\n", "\n\n# text = They left\n#\n", 1),
    }.items(),
    ids=lambda each: each[0],
)
def test_layouts_of_lines_give_the_same_texts(tmp_path, content):
    assert spans_of(load(write(tmp_path / "a.bio", content[1]))) == EXPECTED


def test_lines_left_out_are_said_and_a_hash_with_a_tag_is_a_token(tmp_path):
    data = load(write(tmp_path / "a.bio", "-DOCSTART- O\n\n# id = 4\n# O\nRome B-LOC\n\n# B-LOC\n"))
    assert spans_of(data) == [("# Rome", [(2, 6, "LOC")]), ("#", [(0, 1, "LOC")])]
    assert "1 lines that begin with -DOCSTART- were left out" in data.decisions["reading"]
    assert '1 comments (lines with "# ") were left out' in data.decisions["reading"]


def test_columns_are_asked_for_by_number(tmp_path):
    rows = [[(str(n), token, "X", tag, "_") for n, (token, tag) in enumerate(each)] for each in SENTENCES]
    data = load(write(tmp_path / "a.conll", conll(rows)), text="2", label="4")
    assert spans_of(data) == EXPECTED
    assert data.decisions["columns left aside"] == "'1', '3', '5'"
    with pytest.raises(UserError, match=r"'9' \(--label\).*'1', '2', '3', '4', '5'"):
        load(tmp_path / "a.conll", label="9")


def test_a_folder_of_splits_with_words_in_their_names(tmp_path):
    for name in ("tweets.train", "tweets.dev", "tweets.test", "tweets.unlabeled", "tweets.unlabelled.test"):
        write(tmp_path / f"{name}.bio", conll())
    data = load_task(tmp_path)
    assert all(spans_of(data, split) == EXPECTED for split in ("train", "dev", "test"))
    assert data.decisions["files left aside"] == "tweets.unlabeled.bio, tweets.unlabelled.test.bio"


def test_a_folder_of_txt_files_is_read_if_entities_are_asked_for(tmp_path):
    for name in ("train", "dev", "labels"):
        write(tmp_path / f"{name}.txt", conll())
    data = load_task(tmp_path, kind="tagging")
    assert spans_of(data, "dev") == EXPECTED
    assert data.decisions["files left aside"] == "labels.txt"


def test_a_tsv_file_with_a_header_is_a_table(tmp_path):
    cells = [[TEXTS[n], json.dumps(DICTS[n])] for n in range(3)]
    file = tmp_path / "a.tsv"
    pd.DataFrame(cells, columns=["text", "spans"]).to_csv(file, sep="\t", index=False)
    assert spans_of(load(file, kind="tagging")) == EXPECTED


FORMS = {
    "dicts": DICTS,
    "type": [[{"start": s, "end": e, "type": kind, "score": 0.5} for s, e, kind in spans] for spans in SPANS],
    "entity_group": [[{"start": s, "end": e, "entity_group": kind} for s, e, kind in spans] for spans in SPANS],
    "triplets": [[list(span) for span in spans] for spans in SPANS],
    "unsorted": [[list(span) for span in reversed(spans)] for spans in SPANS],
    "columns": [{"start": [s[0] for s in x], "end": [s[1] for s in x], "label": [s[2] for s in x]} for x in SPANS],
    "cluener": [{"PER": {"Ada Lovelace": [[0, 11]], "Babbage": [[20, 26]]}}, {"LOC": {"London": [[10, 15]]}}, {}],
    "cluener, exclusive": [
        {"PER": {"Ada Lovelace": [[0, 12]], "Babbage": [[20, 27]]}},
        {"LOC": {"London": [[10, 16]]}},
        {},
    ],
}


@pytest.mark.parametrize("column", ["spans", "entities", "label", "labels", "annotations", "ner"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_spans_and_every_name_of_their_column_is_known_by_itself(tmp_path, form, column):
    rows = [{"text": text, column: spans} for text, spans in zip(TEXTS, FORMS[form], strict=True)]
    data = load(jsonl(tmp_path / "a.jsonl", rows))
    assert spans_of(data) == EXPECTED
    assert data.decisions["kind"] == f"tagging: the cells of {column!r} are spans"
    if "cluener" in form:
        assert ("ends exclusive" if "exclusive" in form else "ends inclusive") in data.decisions["format"]


def test_json_lines_in_a_json_file_parquet_and_rows_in_memory_are_the_same(tmp_path):
    rows = [{"text": text, "spans": spans} for text, spans in zip(TEXTS, DICTS, strict=True)]
    table = Dataset.from_list(rows)
    table.to_parquet(tmp_path / "a.parquet")
    jsonl(tmp_path / "a.json", rows)
    sources = [tmp_path / "a.json", tmp_path / "a.parquet", rows, pd.DataFrame(rows), table]
    sources += [pd.read_parquet(tmp_path / "a.parquet"), DatasetDict(train=table)]
    sources.append([{**row, "spans": [tuple(span.values()) for span in row["spans"]]} for row in rows])
    for source in sources:
        data = load(source)
        assert spans_of(data) == EXPECTED
        assert data.fingerprint() == load(sources[0]).fingerprint()


def test_what_predict_writes_trains_another_model(tmp_path):
    spans = [
        [{**span, "score": 0.9, "text": TEXTS[n][span["start"] : span["end"]]} for span in DICTS[n]] for n in range(3)
    ]
    rows = [{"id": n, "text": TEXTS[n], "spans": spans[n]} for n in range(3)]
    data = load(jsonl(tmp_path / "a.jsonl", rows))
    assert spans_of(data) == EXPECTED
    assert data.decisions["columns left aside"] == "'id'"


TOKENS = [[token for token, _ in each] for each in SENTENCES]
TAGS = [[tag for _, tag in each] for each in SENTENCES]
NAMES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]
IDS = [[NAMES.index(tag) for tag in row] for row in TAGS]


@pytest.mark.parametrize("column", ["ner_tags", "tags", "labels"])
def test_lists_of_tokens_and_of_tags(tmp_path, column):
    data = load(jsonl(tmp_path / "a.jsonl", [{"tokens": t, column: x} for t, x in zip(TOKENS, TAGS, strict=True)]))
    assert spans_of(data) == EXPECTED
    assert data.schema.labels == ("LOC", "PER")


@pytest.mark.parametrize("form", ["dataset", "parquet", "labels"])
def test_ids_of_tags_take_the_names_of_their_column_or_those_given(tmp_path, form):
    rows, options = {"id": ["a", "b", "c"], "tokens": TOKENS, "ner_tags": IDS}, {}
    features = Features(
        {"id": Value("string"), "tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=NAMES))}
    )
    source = Dataset.from_dict(rows, features=features)
    if form == "parquet":
        source.to_parquet(tmp_path / "a.parquet")
        source = tmp_path / "a.parquet"
    elif form == "labels":
        source, options = Dataset.from_dict(rows), {"labels": NAMES}
    data = load(source, **options)
    assert spans_of(data) == EXPECTED
    assert data.schema.labels == (("PER", "LOC", "ORG") if form == "labels" else ("LOC", "ORG", "PER"))
    assert data.decisions["types without training entities"] == "1 (ORG)"


def test_ids_without_names_need_labels():
    rows = Dataset.from_dict({"tokens": TOKENS, "ner_tags": IDS})
    with pytest.raises(
        UserError, match=r"row 1: expected names of tags, got the id 1 .* pass --labels once for each tag"
    ):
        load(rows)
    with pytest.raises(UserError, match=r"row 2, tag 3: expected ids of tags from 0 to 2, got 3"):
        load(rows, labels=NAMES[:3])


def test_lists_of_strings_alone_stay_labels_of_a_text_and_other_labels_go_first(tmp_path):
    rows = [{"text": f"text {n}", "labels": ["x", "y"][: n % 3]} for n in range(9)]
    assert load(jsonl(tmp_path / "a.jsonl", rows)).schema.kind == "multilabel"
    rows = [{"text": TEXTS[n], "intent": "ab"[n % 2], "entities": DICTS[n]} for n in range(3)]
    file = jsonl(tmp_path / "b.jsonl", rows)
    assert load(file).schema.kind == "classification"
    assert spans_of(load(file, label="entities")) == spans_of(load(file, kind="tagging")) == EXPECTED


# ---- schemes of tags


@pytest.mark.parametrize(
    ("rows", "scheme"),
    [
        (["B-A I-A O B-A B-B"], "BIO"),
        (["I-A I-A O I-A I-B", "I-A B-A"], "IOB1 (B- only where an entity follows another of its type)"),
        (["I-A I-A O I-A I-B"], "IO (I- before each type)"),
        (["A A O A B"], "IO"),
        (["B-A E-A O S-A S-B"], "BIOES"),
        (["B-A I-A O S-A S-B"], "BIOES"),
        (["B-A L-A O U-A U-B"], "BILOU"),
        (["B-A M-A E-A S-A S-B"], "BMES"),
    ],
)
def test_schemes(tmp_path, rows, scheme):
    data = load(write(tmp_path / "a.bio", tags(*rows)))
    assert data.decisions["scheme of tags"] == scheme
    ends = [(s, e, kind) for s, e, kind in spans_of(data)[0][1]]
    if "M-" in rows[0]:
        assert ends == [(0, 8, "A"), (9, 11, "A"), (12, 14, "B")]
    else:
        assert ends == [(0, 5, "A"), (9, 11, "A"), (12, 14, "B")]


def test_broken_tags_are_repaired_as_conlleval_does_and_counted(tmp_path):
    data = load(write(tmp_path / "a.bio", tags("O I-A I-A B-A I-B O", "B-A I-A")))
    assert spans_of(data)[0][1] == [(3, 8, "A"), (9, 11, "A"), (12, 14, "B")]
    assert data.decisions["tags repaired"] == "train: 2 of 4 entities began with I- (the first in line 2)"
    data = load(write(tmp_path / "b.bioes", tags("O E-A E-A M-B O B-A".replace("M-", "I-"), "S-A B-B I-B")))
    assert spans_of(data)[0][1] == [(3, 5, "A"), (6, 8, "A"), (9, 11, "B"), (15, 17, "A")]
    assert data.decisions["tags repaired"] == (
        "train: 3 of 6 entities began with I- (or M-, E-, L-) (the first in line 2) and 3 of 6 entities had no end "
        "(the first in line 4)"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (tags("B-A X-A O"), r"line 2: expected O, or a type with one of the prefixes .* got 'X-A'"),
        (tags("X-A X-B O"), r"line 1: expected one of the prefixes .* got 'X-A'"),
        (tags("O b-a i-a"), r"line 2: expected one of the prefixes"),
        (tags("O B-A", "B- O"), r"line 4: expected a tag with a type \(B-PER\).* got 'B-'"),
        (tags("B I O"), r"line 1: expected a tag with a type"),
        (tags("B_A I_A O"), r"line 1: expected a hyphen between prefix and type"),
        (tags("A-B A-I O"), r"expected the prefix before the type"),
        (tags("B-A A O A A"), r"line 1: expected types without a prefix, as most tags are"),
        (tags("B-A M-A L-A"), r"expected tags of one scheme .* got B-, L-, M- together"),
        (tags("NN VB NN"), r"expected O for the tokens outside entities.*--label"),
        (tags("O O", "O"), r"expected texts with entities in column 'tags', got none"),
        ("a\tO\nb\tB-A\nc\n", r"a\.bio, line 3: expected 2 columns divided by tabs, as most lines have, got 1: 'c'"),
        ("a O\nb B-A\nc d O\ne O", r"a\.bio, line 3: expected 2 columns divided by spaces, as most lines have, got 3"),
        ("a\tO\nnew york\tB-A\nc O\n", r"line 3: expected 2 columns divided by tabs"),
        ("a\nb\n\nc\n", r"expected a token and its tag a line, got one column; .* by --unlabelled"),
        ("-DOCSTART- O\n\n", "got no such line"),
        ("a\tB-A\n\n\u00a0\tO\n", r"expected text in column 'text', got 1 row \(line 3\)"),
        ("a\tB-A\n\n\u00a0\tB-A\nb\tO\n", r"line 3: expected characters in the span \[0, 1, 'A'\], got white space"),
        (tags("B-per O", "B-Per O"), r"expected one spelling for a type, got 'Per' and 'per'"),
    ],
)
def test_a_file_of_tokens_that_cannot_be_read_is_refused_with_its_line(tmp_path, content, said):
    with pytest.raises(UserError, match=said):
        load(write(tmp_path / "a.bio", content))


def test_only_tabs_and_spaces_divide_a_line_and_offsets_count_code_points(tmp_path):
    tokens = ["a\u00a0b", "👩‍👩‍👧", "e\u0301t\u00e9", "שלום", "\u2028x", "end"]
    rows = [[(token, tag) for token, tag in zip(tokens, ["B-A", "B-B", "I-B", "B-A", "O", "B-B"], strict=True)]]
    text = " ".join(tokens)
    for gap in ("\t", " "):
        (found,) = spans_of(load(write(tmp_path / "a.bio", conll(rows, gap=gap))))
        assert found[0] == text
        surfaces = [text[start:end] for start, end, _ in found[1]]
        assert surfaces == ["a\u00a0b", "👩‍👩‍👧 e\u0301t\u00e9", "שלום", "end"]


def test_a_token_may_hold_spaces_where_tabs_divide(tmp_path):
    data = load(write(tmp_path / "a.bio", "in\tO\nNew York\tB-LOC\n \tO\n"))
    assert spans_of(data) == [("in New York  ", [(3, 11, "LOC")])]


def test_a_file_of_tokens_with_another_kind_asked_for_is_refused(tmp_path):
    with pytest.raises(UserError, match="pass --task tagging"):
        load(write(tmp_path / "a.bio", conll()), kind="classification")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "line 1: expected a tag for each of 2 tokens, got 1"),
        ({"tokens": ["a", 3], "tags": ["O", "O"]}, "line 1: expected strings in column 'tokens', got 3"),
        ({"tokens": ["a"], "tags": [None]}, "line 1: expected a tag's name or id, got None"),
        ({"tokens": ["a"], "tags": [True]}, "line 1: expected a tag's name or id, got True"),
        ({"tokens": ["a"], "tags": None}, "line 1: expected a list of tags in column 'tags', got None"),
        ({"tokens": [], "tags": []}, r"expected text in column 'text', got 1 row \(line 1\)"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, row, said):
    with pytest.raises(UserError, match=said):
        load(jsonl(tmp_path / "a.jsonl", [row, {"tokens": ["a"], "tags": ["B-A"]}]), kind="tagging")


# ---- spans


@pytest.mark.parametrize(
    ("text", "spans", "said"),
    [
        ("ab cd", [[0, 6, "A"]], r"line 1: expected a span within its text of 5 characters.* got \[0, 6, 'A'\]"),
        ("ab cd", [[-1, 2, "A"]], r"got \[-1, 2, 'A'\]"),
        ("ab cd", [[2, 2, "A"]], "its start before its end"),
        ("ab cd", [[3, 1, "A"]], "its start before its end"),
        ("ab cd", [[0.5, 2, "A"]], "expected whole numbers for start and end, got 0.5"),
        ("ab cd", [["0", 2, "A"]], "expected whole numbers for start and end, got '0'"),
        ("ab cd", [[True, 2, "A"]], "expected whole numbers for start and end, got True"),
        ("ab cd", [{"start": 0, "label": "A"}], "expected whole numbers for start and end, got None"),
        ("ab cd", [[0, 2]], r"expected a span with start, end and label"),
        ("ab cd", ["A"], r"expected a span with start, end and label"),
        ("ab cd", "A", r"expected a list of spans in column 'spans', got 'A'; write \[\]"),
        ("ab cd", None, r"expected a list of spans in column 'spans', got None; write \[\]"),
        ("ab cd", [{"start": 0, "end": 2}], "expected one of label, type, entity, entity_group, tag in a span"),
        ("ab cd", [{"start": 0, "end": 2, "label": "A", "type": "B"}], "expected one of label, type"),
        ("ab cd", [[0, 2, " "]], "expected the name of a type"),
        ("ab cd", [[0, 2, 1]], "expected the name of a type, got the id 1; pass --labels"),
        ("ab  cd", [[2, 4, "A"]], r"expected characters in the span \[2, 4, 'A'\], got white space alone"),
        ("ab cd", [[0, 4, "A"], [3, 5, "B"]], r"overlap, got \[0, 4, 'A'\] \('ab c'\) and \[3, 5, 'B'\] \('cd'\)"),
        ("ab cd", [[0, 5, "A"], [3, 5, "A"]], "line 1: expected spans that do not overlap"),
        ("ab cd", [[0, 2, "A"], [0, 2, "B"]], "line 1: expected spans that do not overlap"),
        ("ab cd", [{"start": 0, "end": 2, "label": "A", "text": "abc"}], "expected the text 'abc' .* got 'ab'"),
        ("ab cd", [{"start": 0, "end": 1, "label": "A", "text": "ab"}], "if the end is inclusive: add 1"),
        ("😀 cd", [{"start": 3, "end": 5, "label": "A", "text": "cd"}], "offsets count UTF-16 code units"),
        ("😀 cd x", [{"start": 3, "end": 5, "label": "A", "text": "cd"}], "offsets count UTF-16 code units"),
        ("é cd x", [{"start": 3, "end": 5, "label": "A", "text": "cd"}], "offsets count bytes of UTF-8"),
        ("😀 cd", [[3, 5, "A"]], r"do the offsets count UTF-16 code units\?"),
        ("éé cd", [[5, 7, "A"]], r"do the offsets count bytes of UTF-8\?"),
        ("", [], r"expected text in column 'text', got 1 row \(line 1\)"),
        (5, [[0, 1, "A"]], r"expected text in column 'text', got 1 row \(line 1\)"),
    ],
)
def test_spans_that_are_none_are_refused_with_the_line(tmp_path, text, spans, said):
    with pytest.raises(UserError, match=said):
        one(tmp_path, text, spans, kind="tagging", label="spans")


def test_white_space_is_trimmed_and_identical_spans_are_merged_and_both_are_said(tmp_path):
    rows = [{"text": " ab cd ", "spans": [[0, 4, "A"], [4, 6, "B"], [4, 6, "B"]]}]
    data = load(jsonl(tmp_path / "a.jsonl", rows))
    assert spans_of(data) == [(" ab cd ", [(1, 3, "A"), (4, 6, "B")])]
    assert data.decisions["white space around entities left out"] == "train: 1 of 3 entities (the first in line 1)"
    assert data.decisions["entities given twice"] == "train: 1 of 3 entities (the first in line 1)"


def test_tags_of_single_tokens_are_no_types(tmp_path):
    with pytest.raises(UserError, match=r"expected types of whole entities .*B-PER, I-PER"):
        load(jsonl(tmp_path / "a.jsonl", [{"text": "Ada Lovelace", "spans": [[0, 3, "B-PER"], [4, 12, "I-PER"]]}]))


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (
            {"A": {"ab": [[0, 1]], "cd": [[3, 9]]}},
            r"line 1: expected 'cd' \(A\) at 3 to 9, the end inclusive as for 2 of 3 entities",
        ),
        ({"A": {"ab": [[0, 1]], "cd": [[3, 5]]}}, r"at 3 to 5, the end inclusive as for 2 of 3 entities"),
        ({"A": {"ab": [[-5, 1]]}}, "at -5 to 1"),
        ({"A": {"ab": [[0]]}}, r"expected \{type: \{surface: \[\[start, end\]\]\}\}"),
        ({"A": {"ab c": [[0, 3]], "b cd": [[1, 4]]}}, "expected spans that do not overlap"),
    ],
)
def test_surfaces_that_are_elsewhere_are_refused_with_the_line(tmp_path, label, said):
    rows = [{"text": "ab cd", "label": label}, {"text": "in Rome", "label": {"LOC": {"Rome": [[3, 6]]}}}]
    with pytest.raises(UserError, match=said):
        load(jsonl(tmp_path / "a.json", rows), kind="tagging")


def test_a_surface_inside_another_is_left_aside_and_said(tmp_path):
    data = load(
        jsonl(tmp_path / "a.json", [{"text": "《ab》", "label": {"B": {"《ab》": [[0, 3]]}, "C": {"ab": [[1, 2]]}}}])
    )
    assert spans_of(data) == [("《ab》", [(0, 4, "B")])]
    assert data.decisions["entities inside others left aside"] == "train: 1 of 2 entities (the first in line 1)"


# ---- types


def test_types_are_those_given_or_of_the_model_and_others_are_refused(tmp_path):
    file = write(tmp_path / "a.bio", conll())
    assert load(file, labels=["PER", "LOC"]).schema.labels == ("PER", "LOC")
    data = load(file, of_model=["Org", "Per", "loc"])
    assert data.schema.labels == ("Org", "Per", "loc")
    assert spans_of(data)[1][1] == [(10, 16, "loc")]
    assert data.decisions["types without training entities"] == "1 (Org)"
    with pytest.raises(UserError, match=r"expected the types of --labels \(PER\), got 'LOC' in 1 row \(line 8\)"):
        load(file, labels=["PER"])
    with pytest.raises(UserError, match=r"expected the types of the model \(ORG, PER\), got 'LOC'"):
        load(file, of_model=["ORG", "PER"])
    with pytest.raises(UserError, match="different types"):
        load(file, labels=["PER", "PER"])


def test_a_type_that_train_does_not_have_is_said(tmp_path):
    write(tmp_path / "train.bio", conll(SENTENCES[:1]))
    write(tmp_path / "dev.bio", conll())
    data = load_task(tmp_path)
    assert data.schema.labels == ("LOC", "PER")
    assert data.decisions["types in dev but not in train"] == "1 (LOC)"
    assert data.decisions["types without training entities"] == "1 (LOC)"
    with pytest.raises(UserError, match=r"dev\.bio: expected the types of --labels"):
        load_task(tmp_path, labels=["PER"])


def test_labels_take_the_types_of_a_model_that_may_have_more(tmp_path):
    data = load(write(tmp_path / "a.bio", conll()), unlabelled=[{"text": "one more"}])
    turned = align_labels(data, ["ORG", "per", "LOC"])
    assert turned.schema.labels == ("ORG", "per", "LOC")
    assert turned.train["label"][:] == [[0, 12, 1, 20, 27, 1], [10, 16, 2], [], [-100]]
    assert turned.decisions["order of the model's types"].endswith("ORG of the model are not in the data")
    assert align_labels(data, ["LOC", "PER"]).train["label"][:] == data.train["label"][:]
    with pytest.raises(UserError, match="of types that the model does not know: LOC"):
        align_labels(data, ["PER", "ORG"])


# ---- splits


def many(tmp_path, count=200):
    kinds = ["A", "B", "A", "", "C"]
    rows = [
        {"text": f"text {n}", "spans": [[0, 4, kinds[n % 5]]] * bool(kinds[n % 5]) + [[5, 6, "A"]] * (n % 5 == 4)}
        for n in range(count)
    ]
    return jsonl(tmp_path / "a.jsonl", rows)


def test_dev_is_held_out_by_the_rarest_type_of_each_text(tmp_path):
    file = many(tmp_path)
    data = load_task(file, dev_share=0.2)
    assert data.decisions["dev"] == "40 of 200 rows of train, held out by the rarest type of each"
    kinds = [tuple(sorted(kind for _, _, kind in spans)) for _, spans in spans_of(data, "dev")]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {("A",): 16, ("B",): 8, (): 8, ("A", "C"): 8}
    assert data.fingerprint() == load_task(file, dev_share=0.2).fingerprint()
    assert data.fingerprint() != load_task(file, dev_share=0.2, seed=1).fingerprint()
    fewer = load_task(file, dev_share=0.2, limit=20)
    assert {kind for _, spans in spans_of(fewer) for _, _, kind in spans} == {"A", "B", "C"}
    with pytest.raises(UserError, match=r"at least one row a class \(4\)"):
        load_task(file, limit=3)


def test_entities_of_each_type_are_described(tmp_path):
    data = load(many(tmp_path), unlabelled=[{"text": "one more"}])
    about = data.describe()
    assert about["entities"] == {"A": 120, "B": 40, "C": 40}
    assert (about["classes"], about["class_count_min"], about["class_count_max"]) == (3, 40, 120)
    assert about["splits"]["train"] == {"rows": 201, "labelled": 200, "unlabelled": 1, "duplicates": 0}


def test_no_entities_are_a_label_and_none_is_not():
    assert known_label([])
    assert known_label([0, 3, 1])
    assert not known_label([-100])


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("u.txt", "one more\nand O another\n", ["one more", "and O another"]),
        ("u.bio", "one\nmore\n\n# no\nand\nanother\n", ["one more", "and another"]),
        ("u.bio", conll(SENTENCES[1:]), TEXTS[1:]),
        ("u.txt", conll(SENTENCES[1:]), TEXTS[1:]),
        ("u.jsonl", '{"text": "one more"}\n', ["one more"]),
        ("u.jsonl", '{"tokens": ["one", "more"]}\n{"tokens": ["and"]}\n', ["one more", "and"]),
    ],
)
def test_texts_without_labels_come_from_every_form(tmp_path, name, content, texts):
    data = load(write(tmp_path / "a.bio", conll()), unlabelled=write(tmp_path / name, content))
    assert data.train["text"][3:] == texts
    assert data.train["label"][3:] == [[-100]] * len(texts)


def test_a_hub_data_set_without_test_labels_leaves_them_out(monkeypatch):
    table = Dataset.from_dict({"tokens": TOKENS, "ner_tags": TAGS})
    splits = DatasetDict(train=table, validation=table, test=table.remove_columns("ner_tags"))
    monkeypatch.setattr("datasets.load_dataset", lambda name, config=None: splits)
    data = load_task("org/name")
    assert [*data.splits] == ["train", "dev"]
    assert "has no labels" in data.decisions["rows left out"]
    assert spans_of(data, "dev") == EXPECTED


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"text_pair": "other"}, "expected one text a row for entities"),
        ({"label": ["spans", "other"]}, "expected one label column"),
        ({"label": "none"}, r"'none' \(--label\)"),
        ({"text": "spans", "label": "spans"}, "expected different columns"),
        ({"separator": "|"}, "--separator with --task multilabel alone"),
        ({"metric": "accuracy"}, "expected a metric for tagging"),
    ],
)
def test_options_that_do_not_fit_entities_are_refused(tmp_path, options, said):
    rows = [{"text": text, "spans": spans} for text, spans in zip(TEXTS, DICTS, strict=True)]
    with pytest.raises(UserError, match=said):
        load(jsonl(tmp_path / "a.jsonl", rows), kind="tagging", **options)


def test_two_columns_of_entities_are_to_be_chosen_from(tmp_path):
    rows = [{"text": TEXTS[n], "spans": DICTS[n], "entities": DICTS[n]} for n in range(3)]
    file = jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(UserError, match="expected the name of the column of entities"):
        load(file, kind="tagging")
    assert spans_of(load(file, kind="tagging", label="spans")) == EXPECTED


# ---- tokens as a text


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("Sperrung der A7 ( Höhe AS Soltau ) , 4 km Stau .", "Sperrung der A7 (Höhe AS Soltau), 4 km Stau."),
        ("RT @dpa : is n't it Paul 's ? !", "RT @dpa: isn't it Paul's?!"),
        ('He said " go home " , twice ; " ok "', 'He said "go home", twice; "ok"'),
        ("„ Ja “ , “ no ” , « oui » …", "„Ja“, “no”, «oui»…"),
        ("浙 商 银 行 ， hello 信 贷 。", "浙商银行， hello 信贷。"),
        (". leads 5 % - 6 %", ". leads 5% - 6%"),
        ("A7 / A8 & B - C", "A7 / A8 & B - C"),
        ("👍 👩‍👩‍👧 שלום עולם .", "👍 👩‍👩‍👧 שלום עולם."),
    ],
)
def test_tokens_become_the_text_that_people_write(tokens, text):
    found, places = joined(tokens.split(" "))
    assert found == text
    assert [found[start:end] for start, end in places] == tokens.split(" ")


def test_every_token_keeps_its_characters_whatever_comes_next():
    draw = random.Random(0)
    signs = [
        ".",
        ",",
        "(",
        ")",
        '"',
        "„",
        "“",
        "'s",
        "n't",
        "``",
        "''",
        "中",
        "國",
        "a",
        "A7",
        "👍",
        "e\u0301",
        "%",
        "-",
    ]
    for _ in range(2000):
        tokens = draw.choices(signs, k=draw.randint(0, 12))
        text, places = joined(tokens)
        assert [text[start:end] for start, end in places] == tokens
        assert "".join(text.split()) == "".join(tokens)
        assert text == text.strip()
