"""What loads, and as what."""

import gzip
import json
import lzma
import math
from collections import Counter
from pathlib import Path

import datasets
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from contrastill.data.load import TaskData, load_task, text_key
from contrastill.data.schema import GLUE, METRICS, glue_task
from contrastill.errors import UserError

ROWS = "text,label\n" + "".join(f"text {i},{'abc'[i % 3]}\n" for i in range(60))


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def labels(data: TaskData, split: str = "train") -> list[str]:
    return [data.schema.labels[i] for i in data.splits[split]["label"]]


# --- tasks ---


def test_the_glue_tasks_are_the_eight_that_papers_report():
    assert list(GLUE) == ["cola", "sst2", "mrpc", "stsb", "rte", "qnli", "qqp", "mnli"]


@pytest.mark.parametrize("name", GLUE)
def test_a_glue_task_is_judged_by_metrics_of_its_kind(name):
    assert GLUE[name].name == name
    assert GLUE[name].metrics
    assert set(GLUE[name].metrics) <= set(METRICS[GLUE[name].kind])


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("cola", ("unacceptable", "acceptable")),
        ("sst2", ("negative", "positive")),
        ("mrpc", ("not_equivalent", "equivalent")),
        ("stsb", ()),
        ("rte", ("entailment", "not_entailment")),
        ("qnli", ("entailment", "not_entailment")),
        ("qqp", ("not_duplicate", "duplicate")),
        ("mnli", ("entailment", "neutral", "contradiction")),
    ],
)
def test_class_ids_of_a_glue_task_are_those_of_the_hub(name, classes):
    assert GLUE[name].labels == classes


def test_a_glue_task_is_known_however_it_is_spelt():
    assert glue_task("SST-2") is GLUE["sst2"]
    assert glue_task("sts_b") is GLUE["stsb"]
    assert glue_task("reviews") is None


# --- own files ---


@pytest.mark.parametrize("pack", ["", ".gz", ".xz"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_every_format_gives_the_same_rows_and_fingerprint(tmp_path, suffix, pack):
    def save(name: str, frame: pd.DataFrame) -> None:
        plain = tmp_path / (name + suffix)
        if suffix in (".csv", ".tsv"):
            frame.to_csv(plain, index=False, sep="," if suffix == ".csv" else "\t")
        elif suffix == ".parquet":
            frame.to_parquet(plain)
        else:
            frame.to_json(plain, orient="records", lines=suffix == ".jsonl")
        if pack:
            content = plain.read_bytes()
            plain.unlink()
            write(tmp_path / (name + suffix + pack), (gzip if pack == ".gz" else lzma).compress(content))

    frame = pd.DataFrame({"text": ["Grüße, Welt", "two", "three", "NA"], "label": ["yes", "no", "no", "yes"]})
    for name in ("train", "validation", "test"):
        save(name, frame)
    data = load_task(tmp_path)
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 4, "dev": 4, "test": 4}
    assert data.train[0] == {"example_id": "train-0", "text": "Grüße, Welt", "label": 1}
    assert data.train["text"][3] == "NA"
    assert data.schema.labels == ("no", "yes")
    (tmp_path / "again").mkdir()
    for name in ("train", "dev", "test"):
        frame.to_csv(tmp_path / "again" / f"{name}.csv", index=False)
    assert data.fingerprint() == load_task(tmp_path / "again").fingerprint()


def test_one_file_gives_a_task_of_its_name_with_a_dev_split_by_class(tmp_path):
    data = load_task(write(tmp_path / "intents.csv", ROWS))
    assert data.schema.name == "intents"
    assert data.schema.metrics[0] == "accuracy"
    assert Counter(labels(data, "dev")) == {"a": 5, "b": 5, "c": 5}
    assert set(data.train["example_id"]).isdisjoint(data.dev["example_id"])
    assert len(data.train) + len(data.dev) == 60
    assert data.test is None
    assert data.decisions["dev"] == "15 of 60 rows of train, held out by class"


def test_the_dev_share_follows_the_seed_alone(tmp_path):
    file = write(tmp_path / "a.csv", ROWS)
    assert load_task(file, seed=1).fingerprint() == load_task(file, seed=1).fingerprint()
    assert load_task(file, seed=1).fingerprint() != load_task(file, seed=2).fingerprint()


def test_a_dev_share_of_zero_keeps_every_row_in_train(tmp_path):
    data = load_task(write(tmp_path / "a.csv", ROWS), dev_share=0)
    assert (len(data.train), data.dev) == (60, None)


def test_the_only_row_of_a_class_stays_in_train(tmp_path):
    data = load_task(write(tmp_path / "a.csv", ROWS + "lonely,d\n"), dev_share=0.5)
    assert "d" in labels(data)
    assert set(labels(data)) == {"a", "b", "c", "d"}


def test_further_files_replace_the_dev_share_and_add_a_test_split(tmp_path):
    files = {name: write(tmp_path / f"{name}.csv", ROWS) for name in ("rows", "held", "final")}
    data = load_task(files["rows"], dev=files["held"], test=files["final"])
    assert [len(rows) for rows in data.splits.values()] == [60, 60, 60]
    assert data.dev["example_id"][0] == "dev-0"


def test_a_limit_keeps_rows_by_class_and_touches_train_alone(tmp_path):
    rows = "text,label\n" + "".join(f"t{i},{'rare' if i % 10 == 0 else 'often'}\n" for i in range(200))
    file = write(tmp_path / "a.csv", rows)
    whole, part, less = load_task(file), load_task(file, limit=20), load_task(file, limit=2)
    assert Counter(labels(part)) == {"often": 18, "rare": 2}
    assert Counter(labels(less)) == {"often": 1, "rare": 1}
    assert part.dev["text"][:] == whole.dev["text"][:]
    assert set(less.train["text"]) < set(part.train["text"]) < set(whole.train["text"])


def test_a_limit_above_the_rows_keeps_them_all(tmp_path):
    file = write(tmp_path / "a.csv", ROWS)
    assert load_task(file, limit=1000).fingerprint() == load_task(file).fingerprint()


def test_a_pair_is_known_by_its_column_names(tmp_path):
    data = load_task(write(tmp_path / "a.csv", "Question1,Question2,id,Label\nq,r,1,x\ns,t,2,y\nu,v,3,x\n"))
    assert (data.schema.text, data.schema.text_pair, data.schema.label) == ("Question1", "Question2", "Label")
    assert data.train.column_names == ["example_id", "text", "text_pair", "label"]


def test_named_columns_win_over_guessed_ones(tmp_path):
    data = load_task(
        write(tmp_path / "a.csv", "text,body,label,topic\na,b,0,x\nc,d,0,y\n"), text="body", label="topic", dev_share=0
    )
    assert data.train["text"][:] == ["b", "d"]
    assert data.schema.labels == ("x", "y")


def test_whole_numbers_are_classes_in_numeric_order(tmp_path):
    data = load_task(write(tmp_path / "a.csv", "text,label\na,10\nb,9\nc,-1\n"), dev_share=0)
    assert data.schema.labels == ("-1", "9", "10")


def test_whole_floats_and_ints_are_the_same_class(tmp_path):
    rows = [{"text": "a", "label": 1.0}, {"text": "b", "label": 1}, {"text": "c", "label": 0}]
    data = load_task(write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows))), dev_share=0)
    assert data.schema.labels == ("0", "1")


def test_numbers_with_fractions_are_regression(tmp_path):
    data = load_task(write(tmp_path / "a.csv", "text,score\na,3\nb,2.75\nc,-1e-1\n"), dev_share=0)
    assert (data.schema.kind, data.schema.labels, data.schema.metrics) == ("regression", (), ("spearman", "pearson"))
    assert data.train["label"][:] == [3.0, 2.75, -0.1]


def test_kind_overrides_the_guess(tmp_path):
    file = write(tmp_path / "a.csv", "text,label\na,1\nb,2\nc,2\n")
    assert load_task(file, kind="regression", dev_share=0).train["label"][:] == [1.0, 2.0, 2.0]
    file = write(tmp_path / "b.csv", "text,label\na,1.5\nb,2.5\n")
    assert load_task(file, kind="classification", dev_share=0).schema.labels == ("1.5", "2.5")


def test_given_labels_set_the_order_of_the_ids(tmp_path):
    data = load_task(write(tmp_path / "a.csv", "text,label\na,no\nb, yes\n"), labels=["yes", "no"], dev_share=0)
    assert data.train["label"][:] == [1, 0]


def test_given_labels_may_name_ids(tmp_path):
    data = load_task(write(tmp_path / "a.csv", "text,label\na,1\nb,0\n"), labels=["bad", "good"], dev_share=0)
    assert labels(data) == ["good", "bad"]


def test_a_folder_without_train_loads_when_the_labels_are_given(tmp_path):
    write(tmp_path / "test.csv", "text,label\na,x\n")
    data = load_task(tmp_path, labels=["x", "y"])
    assert (data.train, len(data.test)) == (None, 1)


def test_the_chosen_metric_selects_checkpoints(tmp_path):
    assert load_task(write(tmp_path / "a.csv", ROWS), metric="matthews").schema.metrics == (
        "matthews",
        "accuracy",
        "f1",
    )
    assert load_task(write(tmp_path / "a.csv", ROWS), metric="f1").schema.metrics == ("f1", "accuracy")


def test_a_byte_order_mark_and_windows_line_ends_are_no_text(tmp_path):
    file = write(tmp_path / "a.csv", b"\xef\xbb\xbf" + ROWS.replace("\n", "\r\n").encode())
    assert load_task(file).fingerprint() == load_task(write(tmp_path / "b.csv", ROWS)).fingerprint()


def test_another_encoding_can_be_named(tmp_path):
    file = write(tmp_path / "a.csv", "text,label\ncafé,x\nthé,y\n".encode("latin-1"))
    assert load_task(file, encoding="latin-1", dev_share=0).train["text"][:] == ["café", "thé"]


def test_csv_quotes_may_hold_commas_and_line_ends(tmp_path):
    data = load_task(write(tmp_path / "a.csv", 'text,label\n"a, ""b""\nc",x\nd,y\n'), dev_share=0)
    assert data.train["text"][0] == 'a, "b"\nc'


def test_unicode_line_separators_do_not_end_a_row(tmp_path):
    data = load_task(write(tmp_path / "a.csv", "text,label\na\u2028b\x0bc,x\nd\x85e,y\n"), dev_share=0)
    assert data.train["text"][:] == ["a\u2028b\x0bc", "d\x85e"]


def test_consistent_quotes_in_a_tsv_are_csv_quotes(tmp_path):
    data = load_task(write(tmp_path / "a.tsv", 'text\tlabel\n"tab\there"\tx\n"say ""hi"""\ty\nplain\tx\n'), dev_share=0)
    assert data.train["text"][:] == ["tab\there", 'say "hi"', "plain"]


def test_stray_quotes_in_a_tsv_are_text(tmp_path):
    rows = 'text\tlabel\n"opens here\tx\nthe rest\ty\nends there"\tx\nan "inner" one\ty\n'
    data = load_task(write(tmp_path / "a.tsv", rows), dev_share=0)
    assert data.train["text"][:] == ['"opens here', "the rest", 'ends there"', 'an "inner" one']


def test_a_text_longer_than_the_csv_default_limit_loads(tmp_path):
    data = load_task(write(tmp_path / "a.csv", f"text,label\n{'long ' * 40_000},x\nb,y\n"), dev_share=0)
    assert len(data.train["text"][0]) == 200_000


# --- unlabelled rows ---


@pytest.mark.parametrize("pack", ["", ".gz", ".xz"])
def test_unlabelled_lines_stand_at_the_end_of_train(tmp_path, pack):
    content = b"one\n\ntwo\r\n  \nthree"
    packed = {"": content, ".gz": gzip.compress(content), ".xz": lzma.compress(content)}[pack]
    extra = write(tmp_path / f"more.txt{pack}", packed)
    data = load_task(write(tmp_path / "a.csv", ROWS), unlabelled=extra, limit=12)
    assert len(data.train) == 12 + 3
    assert data.train[-1] == {"example_id": "unlabelled-2", "text": "three", "label": -100}
    assert "2 blank lines" in data.decisions["rows left out"]
    train = data.describe()["splits"]["train"]
    assert (train["rows"], train["labelled"], train["unlabelled"]) == (15, 12, 3)


def test_unlabelled_pairs_come_from_a_file_with_both_columns(tmp_path):
    pairs = write(tmp_path / "a.csv", "sentence1,sentence2,score\na,b,1.5\nc,d,2\n")
    more = write(tmp_path / "more.jsonl", '{"sentence1": "e", "sentence2": "f"}\n')
    data = load_task(pairs, unlabelled=more, dev_share=0)
    assert (data.train[2]["text"], data.train[2]["text_pair"]) == ("e", "f")
    assert math.isnan(data.train[2]["label"])
    assert data.describe()["splits"]["train"]["unlabelled"] == 1


# --- GLUE's own files ---

MRPC = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"


def test_a_folder_with_the_name_of_a_glue_task_is_that_task(tmp_path):
    write(tmp_path / "MRPC/train.tsv", "\ufeff" + MRPC + '1\t1\t2\tHe said\t"The unclosed\n0\t3\t4\tone\ttwo\n')
    write(tmp_path / "MRPC/dev.tsv", MRPC + "1\t1\t2\tx\ty\n")
    write(tmp_path / "MRPC/test.tsv", "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t1\t2\tx\ty\n")
    data = load_task(tmp_path / "MRPC")
    assert data.schema == GLUE["mrpc"]
    assert data.train[0] == {"example_id": "train-0", "text": "He said", "text_pair": '"The unclosed', "label": 1}
    assert data.test is None
    assert "no labels" in data.decisions["rows left out"]


def test_a_labelled_test_file_is_preferred(tmp_path):
    for name in ("train", "dev", "test_labelled"):
        write(tmp_path / f"mrpc/{name}.tsv", MRPC + "1\t1\t2\tx\ty\n0\t1\t2\tz\ty\n")
    write(tmp_path / "mrpc/test.tsv", "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t1\t2\tx\ty\n")
    assert len(load_task(tmp_path / "mrpc").test) == 2


def test_a_glue_folder_of_any_name_is_given_after_the_task(tmp_path):
    write(tmp_path / "x/train.tsv", "gj04\t1\t\tA good one.\ngj04\t0\t*\tA bad one.\n")
    data = load_task(f"glue/CoLA:{tmp_path / 'x'}", dev_share=0)
    assert data.schema == GLUE["cola"]
    assert data.train["text"][:] == ["A good one.", "A bad one."]


def test_official_mnli_files_load_with_the_gold_label_and_the_matched_dev_set(tmp_path):
    header = "index\tsentence1\tsentence2\tlabel1\tgold_label\n"
    write(tmp_path / "MNLI/train.tsv", header + "0\ta\tb\tneutral\tentailment\n1\tc\td\tneutral\tneutral\n")
    write(tmp_path / "MNLI/dev_matched.tsv", header + "0\ta\tb\tneutral\tcontradiction\n")
    write(tmp_path / "MNLI/dev_mismatched.tsv", header + "0\ta\tb\tneutral\tneutral\n" * 2)
    data = load_task(tmp_path / "MNLI")
    assert (labels(data), labels(data, "dev")) == (["entailment", "neutral"], ["contradiction"])


def test_broken_rows_of_a_benchmark_are_left_out_and_said(tmp_path):
    rows = "question1\tquestion2\tis_duplicate\na\tb\t1\nbroken over\nlines\t0\nc\t \t0\nc\td\t0\n"
    write(tmp_path / "QQP/train.tsv", rows)
    data = load_task(tmp_path / "QQP", dev_share=0)
    assert data.train["text"][:] == ["a", "c"]
    assert "3 broken rows" in data.decisions["rows left out"]


def test_own_columns_in_a_folder_with_a_glue_name_are_own_data(tmp_path):
    write(tmp_path / "sst2/train.tsv", "review\tstars\nfine\t5\nbad\t1\n")
    data = load_task(tmp_path / "sst2", text="review", label="stars", dev_share=0)
    assert data.schema.labels == ("1", "5")
    with pytest.raises(UserError, match="--text"):
        load_task(tmp_path / "sst2")


# --- the Hub ---


def hub(monkeypatch, expected: tuple, **splits: Dataset) -> None:
    def load_dataset(name, config=None):
        assert (name, config) == expected
        return DatasetDict(splits)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)


def test_glue_comes_from_the_hub_with_hidden_test_labels_left_out(monkeypatch):
    names = ["entailment", "not_entailment"]
    shape = Features(sentence1=Value("string"), sentence2=Value("string"), label=ClassLabel(names=names))
    rows = {"sentence1": ["a", "b"], "sentence2": ["c", "d"]}
    labelled = Dataset.from_dict(rows | {"label": [1, 0]}, shape)
    hub(
        monkeypatch,
        ("nyu-mll/glue", "rte"),
        train=labelled,
        validation=labelled,
        test=Dataset.from_dict(rows | {"label": [-1, -1]}, shape),
    )
    data = load_task("glue/rte")
    assert (labels(data), data.test) == (["not_entailment", "entailment"], None)
    assert load_task("nyu-mll/glue:rte").fingerprint() == data.fingerprint()


def test_any_hub_dataset_loads_with_its_own_class_order(monkeypatch):
    shape = Features(content=Value("string"), topic=ClassLabel(names=["z", "a"]))
    rows = Dataset.from_dict({"content": ["t", "u", "v"], "topic": [0, 1, 1]}, shape)
    hub(monkeypatch, ("org/news", "small"), train=rows, test=rows)
    data = load_task("org/news:small", label="topic", dev_share=0)
    assert data.schema.labels == ("z", "a")
    assert (labels(data), len(data.test)) == (["z", "a", "a"], 3)


# --- fingerprint, description, keys ---


def test_the_fingerprint_changes_with_any_row_label_or_class_name(tmp_path):
    def of(rows: str, **options) -> str:
        return load_task(write(tmp_path / "a.csv", f"text,label\n{rows}"), dev_share=0, **options).fingerprint()

    base = of("a,x\nb,y\n")
    assert base == of("a,x\nb,y\n")
    others = {
        of("a,x\nb,z\n"),
        of("a,x\nB,y\n"),
        of("a,y\nb,x\n"),
        of("b,y\na,x\n"),
        of("a,x\nb,y\n", labels=["y", "x"]),
    }
    assert len(others - {base}) == 5


def test_the_description_counts_classes_duplicates_and_leaks(tmp_path):
    train = write(tmp_path / "train.csv", "text,label\na,x\na,x\nb,x\nc,y\n")
    about = load_task(train, dev=write(tmp_path / "dev.csv", "text,label\na,x\nd,y\n")).describe()
    assert about["splits"]["train"] == {"rows": 4, "labelled": 4, "unlabelled": 0, "duplicates": 1}
    assert about["splits"]["dev"]["also_in_train"] == 1
    assert (about["classes"], about["class_count_min"], about["class_count_max"]) == (2, 1, 3)


def test_the_description_is_plain_json(tmp_path):
    data = load_task(write(tmp_path / "a.csv", ROWS))
    assert json.loads(json.dumps(data.describe())) == data.describe()


def test_a_text_key_is_stable_and_63_bits():
    assert text_key("a text") == text_key("a text") == 1286134561200920789
    assert all(0 <= text_key(str(i)) < 2**63 for i in range(1000))


def test_text_keys_tell_apart_texts_pairs_and_their_border():
    keys = [text_key("ab"), text_key("ab", ""), text_key("a", "b"), text_key("b", "a"), text_key("", "ab")]
    assert len(set(keys)) == 5
