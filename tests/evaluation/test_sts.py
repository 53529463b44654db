import csv
import gzip
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from scipy import stats

from contrastill.errors import UserError
from contrastill.evaluation import spearman, sts
from contrastill.evaluation.sts import (
    ORIGINS,
    Pairs,
    load_scored_pairs,
    load_sts,
    sts_correlations,
    sts_intervals,
    sts_scores,
    sts_similarities,
)
from contrastill.evaluation.suite import mteb_scores

NAMES = ["STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R"]
REAL = Path(__file__).parents[2].parent / "shared" / "data"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the official sets are not beside the repository")


class Words:
    """Encodes a text as the sum of its words' vectors; keeps what it was asked."""

    def __init__(self, width: int = 8) -> None:
        self.width, self.asked = width, []

    def encode(self, sentences, batch_size, convert_to_numpy, show_progress_bar):
        assert convert_to_numpy
        assert not show_progress_bar
        self.asked.append((list(sentences), batch_size))
        return np.stack([sum(self.word(word) for word in text.split()) for text in sentences])

    def word(self, word: str) -> np.ndarray:
        return np.random.default_rng(list(word.encode())).normal(size=self.width).astype(np.float32)


class Constant(Words):
    def word(self, word: str) -> np.ndarray:
        return np.full(self.width, 0.1, dtype=np.float32)


def spearman_of(model, one: Pairs) -> float:
    """Spearman x 100, not rounded."""
    return 100 * spearman(sts_similarities(model, {"one": one})["one"], one.scores)


def pairs(rows: int = 30, seed: int = 0, low: float = 0.0) -> Pairs:
    """Pairs that share more words the higher their score; `low` shifts the scores."""
    random = np.random.default_rng(seed)
    shared = random.integers(0, 4, rows)
    sides = [[], []]
    for row, count in enumerate(shared):
        common = [f"s{seed}-{row}-{i}" for i in range(count)]
        for side, texts in enumerate(sides):
            texts.append(" ".join([*common, *(f"w{seed}-{row}-{side}-{i}" for i in range(4 - count))]))
    return Pairs(*sides, low + shared + random.normal(size=rows).round(1))


def seven(rows: int = 30) -> dict[str, Pairs]:
    return {name: pairs(rows, seed) for seed, name in enumerate(NAMES)}


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a.astype(float) @ b.astype(float) / np.linalg.norm(a.astype(float)) / np.linalg.norm(b.astype(float)))


def write_tsv(path: Path, header: list[str], rows: list[list[str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join("\t".join(row) for row in [header, *rows]) + "\n", encoding="utf-8")
    return path


def write_sets(folder: Path, *, sts: str = "sts", glue: str = "glue", rows: int = 3) -> Path:
    texts = [(f"a {i}", f'the " {i}', str(i / 2)) for i in range(rows)]
    for name in NAMES[:5]:
        header = ["subset", "score", "sentence1", "sentence2"]
        write_tsv(folder / sts / name / "test.tsv", header, [["news", c, a, b] for a, b, c in texts])
    header = ["index", "genre", "sentence1", "sentence2", "score"]
    write_tsv(folder / glue / "STS-B" / "test.tsv", header, [["0", "news", *row] for row in texts])
    header = ["pair_ID", "sentence_A", "sentence_B", "relatedness_score", "entailment_judgment"]
    sick = folder / sts / "SICK" / "SICK_test_annotated.txt"
    write_tsv(sick, header, [["6", *row, "NEUTRAL"] for row in texts])
    sick.write_bytes(sick.read_bytes().replace(b"\n", b"\r\n"))  # as the official file is
    return folder


# ---- scores


def test_each_score_is_the_spearman_of_cosines_taken_one_by_one_over_all_pairs_at_once():
    model, sets = Words(), seven()
    found = sts_scores(model, sets, batch_size=7)
    expected = {}
    for name, one in sets.items():
        cosines = [cosine(*model.encode([a, b], 2, True, False)) for a, b in zip(one.first, one.second, strict=True)]
        expected[name] = 100 * stats.spearmanr(cosines, one.scores).statistic
    assert list(found) == [*NAMES, "mean"]
    assert found == {
        **{name: round(value, 2) for name, value in expected.items()},
        "mean": round(sum(expected.values()) / 7, 2),
    }
    assert all(type(value) is float for value in found.values())
    assert spearman_of(model, sets["STS13"]) == pytest.approx(expected["STS13"])


def test_the_mean_is_of_the_scores_before_they_are_rounded():
    sets = {name: Pairs(["a"] * 4, ["b"] * 4, np.arange(4.0)) for name in "xyz"}
    similarities = {"x": np.array([0, 0, 0, 1]), "y": np.array([0, 0, 1, 2]), "z": np.array([0, 1, 0, 2])}
    found = sts_correlations(similarities, sets)
    assert found == {"x": 77.46, "y": 94.87, "z": 63.25, "mean": 78.52}  # of the rounded three: 78.53


def test_one_spearman_over_all_subsets_is_not_the_mean_of_theirs():
    model, near, far = Words(), pairs(40, 1), pairs(40, 2, low=10)  # raters of the second subset are kinder throughout
    both = Pairs(near.first + far.first, near.second + far.second, np.concatenate([near.scores, far.scores]))
    of_all, of_each = spearman_of(model, both), [spearman_of(model, near), spearman_of(model, far)]
    assert of_all < min(of_each)
    assert sts_scores(model, {"STS12": both})["STS12"] == round(of_all, 2)


def test_a_text_is_encoded_once_however_many_pairs_and_sets_hold_it():
    first = Pairs(["one two", "one two", "three"], ["three", "four", "three"], np.array([1.0, 2.0, 3.0]))
    second = Pairs(["four"], ["one two"], np.array([1.0]))
    model = Words()
    found = sts_similarities(model, {"a": first, "b": second}, batch_size=5)
    assert model.asked == [(["one two", "three", "four"], 5)]
    assert found["a"][2] == pytest.approx(1)
    assert found["b"][0] == found["a"][1]


def test_a_model_that_gives_one_vector_for_all_scores_zero():
    sets = {name: Pairs(["a b"] * 5, ["c d"] * 5, np.arange(5.0)) for name in NAMES}
    assert set(sts_scores(Constant(), sets).values()) == {0.0}
    similarities = sts_similarities(Constant(), sets)
    assert set(sts_intervals(similarities, sets, samples=20).values()) == {(0.0, 0.0)}
    assert spearman_of(Constant(width=1), seven()["STS12"]) == 0.0


def test_a_vector_of_zeros_has_cosine_zero():
    model = Words()
    model.word = lambda word: np.zeros(4)
    assert sts_similarities(model, {"a": pairs(3)})["a"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite_name_their_text(value):
    model = Words()
    model.word = lambda word: np.full(4, value if word == "broken" else 1.0)
    sets = {"a": Pairs(["whole", "broken text"], ["whole", "broken too"], np.array([1.0, 2.0]))}
    with pytest.raises(UserError, match="for 2 of 3 texts, the first 'broken text'; the training diverged"):
        sts_scores(model, sets)


def test_a_sentence_transformer_is_read_as_it_encodes_and_keeps_its_mode():
    library = pytest.importorskip("sentence_transformers")
    model = library.SentenceTransformer(modules=[Bag()], device="cpu")
    model.train()
    one = pairs(12)
    found = spearman_of(model, one)
    assert model.training
    assert all(module.training for module in model.modules())
    vectors = [model.encode(side) for side in (one.first, one.second)]
    expected = stats.spearmanr([cosine(a, b) for a, b in zip(*vectors, strict=True)], one.scores).statistic
    assert found == pytest.approx(100 * expected)


class Bag(torch.nn.Module):
    """The one module of a tiny `SentenceTransformer`: words by hash, and dropout that would show."""

    modalities = ["text"]

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.EmbeddingBag(50, 6)
        self.dropout = torch.nn.Dropout(0.5)

    def preprocess(self, texts, **options):
        ids = [[sum(word.encode()) % 50 for word in text.split()] for text in texts]
        return {"input_ids": torch.tensor(ids)}

    tokenize = preprocess

    def forward(self, features, **options):
        return {**features, "sentence_embedding": self.dropout(self.words(features["input_ids"]))}


# ---- intervals


def test_a_resample_scores_what_scipy_says_of_the_drawn_pairs():
    random = np.random.default_rng(3)
    scores, similarities = random.integers(0, 6, 40) / 2, random.normal(size=40).round(1)
    found = sts._resampled(similarities, scores, 130, np.random.default_rng(5))
    again = np.random.default_rng(5)
    drawn = np.concatenate([again.integers(40, size=(100, 40)), again.integers(40, size=(30, 40))])
    expected = [100 * stats.spearmanr(similarities[rows], scores[rows]).statistic for rows in drawn]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_intervals_hold_the_scores_narrow_with_more_pairs_and_repeat():
    width = {}
    for rows in (40, 400):
        sets = seven(rows)
        similarities = {name: one.scores + np.random.default_rng(9).normal(size=rows) for name, one in sets.items()}
        scores, intervals = sts_correlations(similarities, sets), sts_intervals(similarities, sets, samples=300)
        assert list(intervals) == [*NAMES, "mean"]
        assert all(low < scores[name] < high for name, (low, high) in intervals.items())
        assert intervals == sts_intervals(similarities, sets, samples=300)
        assert intervals != sts_intervals(similarities, sets, samples=300, seed=1)
        width[rows] = {name: high - low for name, (low, high) in intervals.items()}
        assert width[rows]["mean"] < min(width[rows][name] for name in NAMES)  # seven independent sets
    assert all(width[400][name] < width[40][name] / 2 for name in NAMES)


# ---- the seven sets from a folder


@pytest.mark.parametrize(("sts", "glue"), [("sts", "glue"), (".", "."), ("sts", "sts"), (".", "glue")])
def test_both_layouts_of_a_folder_give_the_seven_sets_in_order(tmp_path, sts, glue, caplog):
    with caplog.at_level(logging.WARNING):
        sets = load_sts(str(write_sets(tmp_path, sts=sts, glue=glue)))
    assert list(sets) == NAMES
    for one in sets.values():
        assert (one.first, one.second) == (["a 0", "a 1", "a 2"], ['the " 0', 'the " 1', 'the " 2'])
        assert one.scores.tolist() == [0, 0.5, 1]
        assert len(one) == 3
    assert len(caplog.messages) == 7
    assert "STS12/test.tsv: 3 pairs, the official STS12 has 3108" in caplog.text.replace("\\", "/")


def test_missing_sets_are_named_together(tmp_path):
    with pytest.raises(UserError, match="which is not a folder; check the path"):
        load_sts(tmp_path / "nowhere")
    folder = write_sets(tmp_path)
    (folder / "sts/STS14/test.tsv").unlink()
    (folder / "glue/STS-B/test.tsv").unlink()
    with pytest.raises(
        UserError, match=r"expected STS14/test.tsv, STS-B/test.tsv in it or in its folders sts and glue"
    ):
        load_sts(folder)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("news\t3\tone text", "line 3: expected 4 fields as in the header .*, got 3; look for a missing or stray tab"),
        ("news\t3\ta\tb\tc", "line 3: expected 4 fields as in the header .*, got 5"),
        ("news\thigh\ta\tb", "line 3: expected a number in column 'score', got 'high'"),
        ("news\t\ta\tb", "line 3: expected a number in column 'score', got ''"),
        ("news\tnan\ta\tb", "line 3: expected a number in column 'score', got 'nan'"),
        ("news\tinf\ta\tb", "line 3: expected a number in column 'score', got 'inf'"),
        ("news\t3\ta\t ", "line 3: expected a text in column 'sentence2', got ' '"),
        ("", "expected a pair in every line, got 1 blank ones"),
    ],
)
def test_a_broken_row_is_refused_with_file_and_line(tmp_path, broken, message):
    file = write_sets(tmp_path) / "sts/STS15/test.tsv"
    lines = file.read_text().split("\n")
    file.write_text("\n".join([*lines[:2], broken, *lines[2:]]))
    with pytest.raises(UserError, match=r"test\.tsv(, |: )" + message):
        load_sts(tmp_path)


def test_a_missing_column_and_a_file_without_rows_are_refused(tmp_path):
    folder = write_sets(tmp_path)
    file = folder / "glue/STS-B/test.tsv"
    whole = file.read_text()
    file.write_text(whole.replace("score", "grade"))
    with pytest.raises(UserError, match=r"expected a column 'score', got 'index', .*'grade'; .* hides its scores"):
        load_sts(folder)
    file.write_text(whole.split("\n")[0] + "\n")
    with pytest.raises(UserError, match="expected pairs, got a header only"):
        load_sts(folder)


@needs_real
def test_the_official_files_hold_the_official_numbers_of_pairs(caplog):
    with caplog.at_level(logging.WARNING):
        sets = load_sts(REAL)
    assert {name: len(one) for name, one in sets.items()} == dict(
        zip(NAMES, [3108, 1500, 3750, 3000, 1186, 1379, 4927], strict=True)
    )
    assert caplog.messages == []
    assert all(one.scores.min() >= 0 and one.scores.max() <= 5 for one in sets.values())
    assert sets["STS12"].first[2].startswith('" it \'s a huge black eye , " said publisher')  # quotes are text


# ---- the seven sets from the Hub


@pytest.fixture
def hub(monkeypatch):
    """A stub of `load_dataset` of 10 to 16 rows, taken for the official numbers; what was asked for, in order."""
    asked = []

    def load_dataset(name, *, split, revision):
        asked.append((name, split))
        assert len(revision) == 40
        (rows,) = (origin.hub_pairs for origin in ORIGINS.values() if origin.hub == name)
        columns = {"sentence1": [f"a {i}" for i in range(rows)], "sentence2": ["b"] * rows}
        return datasets.Dataset.from_dict({**columns, "score": np.linspace(0, 5, rows)})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for rows, (name, origin) in enumerate(list(ORIGINS.items()), 10):
        monkeypatch.setitem(ORIGINS, name, replace(origin, hub_pairs=rows))
    return asked


def test_without_a_folder_the_test_splits_come_from_the_hub(hub):
    sets = load_sts()
    assert list(sets) == NAMES
    assert hub == [
        (f"mteb/{name}", "test")
        for name in (*(f"sts{year}-sts" for year in range(12, 17)), "stsbenchmark-sts", "sickr-sts")
    ]
    assert [len(one) for one in sets.values()] == list(range(10, 17))
    assert sets["SICK-R"].first[:2] == ["a 0", "a 1"]
    assert sets["SICK-R"].scores[-1] == 5


def test_the_hubs_sick_holds_all_pairs_and_the_folders_the_test_pairs():
    assert (ORIGINS["SICK-R"].pairs, ORIGINS["SICK-R"].hub_pairs) == (4927, 9927)
    assert all(origin.pairs == origin.hub_pairs for name, origin in ORIGINS.items() if name != "SICK-R")


def test_what_is_wrong_with_the_hubs_copy_is_said_with_its_name_and_row(hub, monkeypatch):
    whole = datasets.load_dataset

    def changed(**columns):
        def load_dataset(name, **options):
            rows = whole(name, **options).to_dict()
            return datasets.Dataset.from_dict({**rows, **{c: f(rows[c]) for c, f in columns.items()}})

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)

    changed(sentence1=lambda texts: [*texts[:4], None, *texts[5:]])
    with pytest.raises(UserError, match="mteb/sts12-sts test, row 5: expected a text in column 'sentence1', got None"):
        load_sts()
    changed(score=lambda scores: [None, *scores[1:]])
    with pytest.raises(UserError, match="mteb/sts12-sts test, row 1: expected a number in column 'score'"):
        load_sts()
    changed(**dict.fromkeys(["sentence1", "sentence2", "score"], lambda cells: cells[1:]))
    with pytest.raises(UserError, match="mteb/sts12-sts: expected 10 test pairs, got 9"):
        load_sts()


def test_an_unreachable_hub_is_told_with_the_way_round(monkeypatch):
    def load_dataset(*names, **options):
        raise ConnectionError("Couldn't reach the Hub\nmore")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UserError, match=r"mteb/sts12-sts from .* ConnectionError: Couldn't reach the Hub; .*--data"):
        load_sts()


# ---- scored pairs that select


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz"])
def test_every_row_of_a_file_is_taken_whatever_its_format(tmp_path, kind):
    rows = [{"sentence1": f"a {i}", "sentence2": f"b, {i}", "score": float(i % 4)} for i in range(9)]
    path = tmp_path / f"pairs{kind}"
    if kind == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    elif kind == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        with (gzip.open if kind.endswith(".gz") else open)(path, "wt", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]), delimiter="\t" if kind == ".tsv" else ",")
            table.writeheader()
            table.writerows(rows)
    found = load_scored_pairs(str(path))
    assert found.first == [row["sentence1"] for row in rows]
    assert found.second == [row["sentence2"] for row in rows]
    assert found.scores.tolist() == [row["score"] for row in rows]
    assert found.scores.dtype == np.float64


def test_a_folder_gives_its_dev_split_else_train_and_never_test(tmp_path):
    header = ["index", "sentence1", "sentence2", "score"]
    glue = tmp_path / "STS-B"
    for split, score in (("train", "1.5"), ("dev", "2.5"), ("test", "3.5")):
        write_tsv(glue / f"{split}.tsv", header, [["0", "one text", 'a " quote', score]])
    found = load_scored_pairs(glue)
    assert (found.second, found.scores.tolist()) == (['a " quote'], [2.5])
    assert load_scored_pairs(f"glue/stsb:{glue}").scores.tolist() == [2.5]
    own = glue.rename(tmp_path / "mine")
    assert load_scored_pairs(own).scores.tolist() == [2.5]
    (own / "dev.tsv").unlink()
    assert load_scored_pairs(own).scores.tolist() == [1.5]
    (own / "train.tsv").unlink()
    with pytest.raises(UserError, match="a test split alone, which must not select"):
        load_scored_pairs(own)


def test_glue_stsb_comes_from_the_hub(monkeypatch):
    def load_dataset(name, config):
        assert (name, config) == ("nyu-mll/glue", "stsb")
        split = {"sentence1": ["a"], "sentence2": ["b"], "idx": [0]}
        scores = {"train": 1.0, "validation": 2.0, "test": -1.0}
        return {k: datasets.Dataset.from_dict({**split, "label": [score]}) for k, score in scores.items()}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load_scored_pairs("glue/stsb").scores.tolist() == [2.0]


def test_what_has_no_score_per_pair_is_refused(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("sentence1,sentence2,label\na,b,yes\nc,d,no\n")
    with pytest.raises(
        UserError, match=r"expected a score per pair from .*finite numbers in column 'label'.* Give two"
    ):
        load_scored_pairs(path)
    path.write_text("text,score\na,1.5\nb,2.5\n")
    with pytest.raises(UserError, match=r"expected a score per pair from .*, got one text a row"):
        load_scored_pairs(path)
    path.write_text("left,right,score\na,b,1.5\n")
    with pytest.raises(UserError, match="in columns sentence1, sentence2 and score") as found:
        load_scored_pairs(path)
    assert "--text" not in str(found.value)
    mrpc = tmp_path / "MRPC"
    header = ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
    write_tsv(mrpc / "train.tsv", header, [["1", "1", "2", "a", "b"], ["0", "1", "2", "c", "d"]])
    with pytest.raises(UserError, match="got the classes not_equivalent, equivalent; choose pairs with numbers"):
        load_scored_pairs(mrpc)
    with pytest.raises(UserError, match=r"expected a score per pair from nowhere\.csv: expected .* a folder or a file"):
        load_scored_pairs("nowhere.csv")


# ---- mteb


@pytest.fixture
def mteb(monkeypatch):
    """A stub of the mteb package with three tasks; what was evaluated, in order."""
    package, listing, asked = ModuleType("mteb"), ModuleType("mteb.get_tasks"), []
    scores = {"NFCorpus": 0.31594, "NFCorpus-PL": 0.2, "STS12": 0.72369}

    def get_task(name):
        if name not in scores:
            raise KeyError(f"KeyError: '{name}' not found")
        return SimpleNamespace(metadata=SimpleNamespace(name=name))

    def evaluate(model, tasks, *, cache, encode_kwargs, show_progress_bar):
        assert (cache, show_progress_bar) == (None, False)
        asked.append((model, [task.metadata.name for task in tasks], encode_kwargs))
        results = [SimpleNamespace(task_name=n, get_score=lambda n=n: np.float64(scores[n])) for n in asked[-1][1]]
        return SimpleNamespace(task_results=results)

    package.get_task, package.evaluate, listing.TASK_LIST = get_task, evaluate, [get_task(name) for name in scores]
    monkeypatch.setitem(sys.modules, "mteb", package)
    monkeypatch.setitem(sys.modules, "mteb.get_tasks", listing)
    return asked


def test_mteb_tasks_score_what_the_package_says_times_a_hundred(mteb):
    found = mteb_scores("model", ["STS12", "NFCorpus", "STS12"], batch_size=8)
    assert found == {"STS12": 72.37, "NFCorpus": 31.59, "mean": 51.98}
    assert list(found) == ["STS12", "NFCorpus", "mean"]
    assert json.dumps(found)
    assert mteb == [("model", ["STS12", "NFCorpus"], {"batch_size": 8, "show_progress_bar": False})]


def test_an_unknown_mteb_task_is_refused_with_near_names_before_any_work(mteb):
    with pytest.raises(UserError, match=r"got 'nfcorpu'; near it: NFCorpus, NFCorpus-PL$"):
        mteb_scores("model", ["STS12", "nfcorpu"])
    with pytest.raises(UserError, match=r"got 'xyz'; mteb.get_tasks\(\) lists them"):
        mteb_scores("model", ["xyz"])
    with pytest.raises(UserError, match="expected the names of mteb tasks, got none"):
        mteb_scores("model", [])
    assert mteb == []


def test_mteb_data_that_cannot_be_fetched_is_told(mteb, monkeypatch):
    def evaluate(*given, **options):
        raise ConnectionError("Couldn't reach 'mteb/nfcorpus'")

    monkeypatch.setattr(sys.modules["mteb"], "evaluate", evaluate)
    with pytest.raises(UserError, match="data of NFCorpus, got ConnectionError: Couldn't reach"):
        mteb_scores("model", ["NFCorpus"])


def test_without_the_mteb_package_the_install_line_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(UserError, match=r"pip install 'contrastill\[mteb\]'"):
        mteb_scores("model", ["NFCorpus"])
