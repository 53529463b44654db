"""The second demo: what it ships, its search and scores against slow twins, and the whole of it on tiny models."""

import csv
import gzip
import hashlib
import json
import lzma
import random
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from contrastill.bundle import open_bundle
from contrastill.errors import UserError

st = pytest.importorskip("sentence_transformers")

from contrastill.studies import demo, neighbours, search  # noqa: E402
from contrastill.studies.demo import RUNTIMES, exported  # noqa: E402

DEMO = Path(__file__).parent.parent / "demo"
INTENTS = {"card": ["card", "chip", "pin"], "cash": ["cash", "atm", "notes"], "rate": ["rate", "euro", "dollar"]}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
FILLERS = [f"word{n}" for n in range(40)]
QUICK: dict[str, Any] = {"student": "1/16/4/32", "epochs": 2, "batch_size": 16, "checks": 2, "max_length": 16}


def unit(rows: int, width: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=-1)


# ---- what is shipped


def test_the_sample_of_sentences_is_whole():
    raw = lzma.decompress((DEMO / "sentences" / "sentences.txt.xz").read_bytes())
    assert hashlib.sha256(raw).hexdigest() == "f4c1ce7447576598d51a31fef9a5184d284436654710e4ae185b194e90ff70cd"
    assert raw.endswith(b"\n")
    lines = raw.decode("utf-8").removesuffix("\n").split("\n")
    assert len(lines) == len(set(lines)) == 30_000
    assert all(line == line.strip() and 7 <= len(line.split()) <= 50 for line in lines)


def test_its_page_says_how_many_it_holds_where_from_and_under_which_licence():
    packed, page = DEMO / "sentences" / "sentences.txt.xz", (DEMO / "sentences" / "README.md").read_text("utf-8")
    raw = lzma.decompress(packed.read_bytes())
    assert f"| 30000 | {len(raw)} | `{hashlib.sha256(raw).hexdigest()}` |" in page
    assert "creativecommons.org/licenses/by-sa/4.0" in page
    assert "wikipedia.org" in page
    assert packed.stat().st_size < 2_000_000


def test_the_page_shows_what_the_run_found():
    summary = json.loads((DEMO / "search.json").read_text("utf-8"))
    assert (DEMO / "search.md").read_text("utf-8") == search.markdown(summary)


# ---- search and scores


@pytest.mark.parametrize("queries", [1, 7, 1030])
def test_nearest_are_the_texts_of_highest_cosine(queries):
    asked, there = unit(queries, 8, 0), unit(50, 8, 1)
    hits = neighbours.nearest(asked, there, 10)
    assert hits.shape == (queries, 10)
    for row in range(queries):
        cosines = [float(sum(a * b for a, b in zip(asked[row].tolist(), t.tolist(), strict=True))) for t in there]
        best = sorted(range(50), key=lambda n: -cosines[n])[:10]
        assert np.allclose([cosines[n] for n in hits[row]], [cosines[n] for n in best], atol=1e-6)


def test_an_index_smaller_than_k_gives_all_its_texts():
    assert sorted(neighbours.nearest(unit(1, 4, 0), unit(3, 4, 1), 10)[0]) == [0, 1, 2]


def test_the_vote_is_the_commonest_label_and_of_equals_the_nearest():
    labels = np.random.default_rng(0).integers(0, 4, (300, 10))
    for row, voted in zip(labels.tolist(), neighbours.voted(labels), strict=True):
        counts = Counter(row)
        assert voted == next(label for label in row if counts[label] == max(counts.values()))
    assert neighbours.voted(np.array([[2, 1, 1, 2, 3]])).tolist() == [2]


def test_overlap_counts_hits_in_common_whatever_their_order():
    random_rows = np.random.default_rng(0)
    ours, theirs = (np.stack([random_rows.permutation(30)[:10] for _ in range(40)]) for _ in range(2))
    slow = [len(set(a) & set(b)) / 10 for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)]
    assert neighbours.overlap(ours, theirs) == pytest.approx(np.mean(slow))
    assert neighbours.overlap(ours, ours[:, ::-1]) == 1


def test_rows_hold_the_scores_of_both_models_whole_and_cut():
    index = neighbours.Texts([f"text {n}" for n in range(60)], np.arange(60) % 5)
    queries = neighbours.Texts([f"query {n}" for n in range(40)], np.arange(40) % 5)
    vectors = {"teacher": (unit(60, 12, 0), unit(40, 12, 1)), "student": (unit(60, 6, 2), unit(40, 6, 3))}
    rows, found = neighbours.score_all(vectors, index, queries, 4)
    assert [row["name"] for row in rows] == ["teacher", "student", "teacher, first 4", "student, first 4"]
    assert list(rows[0]) == list(rows[3])
    for row in rows:
        hits = found[row["name"]]
        right = [index.labels[hit] == label for hit, label in zip(hits[:, 0], queries.labels, strict=True)]
        assert row["nearest"] == pytest.approx(np.mean(right))
        assert row["interval"][0] <= row["nearest"] <= row["interval"][1]
        assert row["kept"] == pytest.approx(row["nearest"] / rows[0]["nearest"])
        assert row["top10"] == pytest.approx(np.mean(neighbours.voted(index.labels[hits]) == queries.labels))
    assert rows[0]["overlap"] == 1
    assert rows[1]["overlap"] < 1
    assert rows[3]["index_mb"] == 60 * 4 * 4 / 1e6
    change, low, high = neighbours.difference(found, index, queries)
    assert change == pytest.approx(rows[1]["nearest"] - rows[0]["nearest"])
    assert low <= change <= high


def test_a_width_that_a_model_does_not_have_is_left_out():
    index, queries = neighbours.Texts(list("abcd"), np.arange(4) % 2), neighbours.Texts(list("ef"), np.arange(2))
    vectors = {"teacher": (unit(4, 8, 0), unit(2, 8, 1)), "student": (unit(4, 6, 2), unit(2, 6, 3))}
    assert [row["name"] for row in neighbours.score_all(vectors, index, queries, 6)[0]] == [
        "teacher",
        "student",
        "teacher, first 6",
    ]


# ---- the whole of it


def sentence(rng: random.Random, words: list[str]) -> str:
    chosen = rng.sample(FILLERS, rng.randint(3, 7)) + words
    rng.shuffle(chosen)
    return " ".join(chosen)


def write_rows(path: Path, count: int, seed: int, more: list[tuple[str, str]] = ()) -> None:
    rng = random.Random(seed)
    with gzip.open(path, "wt", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "category"])
        for n in range(count):
            intent = list(INTENTS)[n % 3]
            writer.writerow([sentence(rng, rng.choices(INTENTS[intent], k=2)), intent])
        writer.writerows(more)


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> dict[str, Any]:
    """Arguments of `search.run`: a tiny teacher, and a few texts; one query is also among the texts searched."""
    root = tmp_path_factory.mktemp("search")
    words = [*SPECIAL, *FILLERS, *(word for some in INTENTS.values() for word in some)]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=40, **names).save_pretrained(root / "bert")
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(words), max_position_embeddings=40, initializer_range=0.15, **shape)
    BertModel(config).save_pretrained(root / "bert")
    st.SentenceTransformer(str(root / "bert"), device="cpu").save(str(root / "teacher"))

    rng = random.Random(0)
    with lzma.open(root / "sentences.txt.xz", "wt", encoding="utf-8") as file:
        file.writelines(sentence(rng, []) + "\n" for _ in range(60))
    write_rows(root / "train.csv.gz", 60, 1, [("word1  Card\nword2", "card")])
    write_rows(root / "test.csv.gz", 30, 2, [("word1 card word2", "card")])
    return {
        "data": root,
        "sentences": root / "sentences.txt.xz",
        "teacher": str(root / "teacher"),
        "width": 8,
        "seconds": 0.01,
        **QUICK,
    }


@pytest.fixture(scope="module")
def done(material, tmp_path_factory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("done")
    return search.run(out=out, **material), out


@pytest.mark.whole
def test_the_demo_distils_searches_and_writes_what_it_found(done):
    summary, out = done
    assert json.loads((out / "search.json").read_text("utf-8")) == json.loads(json.dumps(summary))
    assert [row["name"] for row in summary["rows"]] == [
        "teacher", "student", "int8 ONNX Runtime", "int8 OpenVINO", "teacher, first 8", "student, first 8",
    ]  # fmt: skip
    assert [row["width"] for row in summary["rows"]] == [32, 16, 16, 16, 8, 8]
    assert all(abs(row["nearest"] - summary["rows"][1]["nearest"]) < 0.2 for row in summary["rows"][2:4])
    assert (out / "student" / "report.html").is_file()
    assert summary["rows"][1]["parameters"] < summary["rows"][0]["parameters"]
    assert all(row["latency_ms_p50"] > 0 and row["throughput_per_s"] > 0 for row in summary["rows"])
    assert (summary["index"], summary["queries"], len(summary["examples"])) == (61, 31, 3)
    page = (out / "search.md").read_text("utf-8")
    assert page.count("| teacher | student |") == 3
    assert "| student, first 8 | 8 |" in page
    assert "no result" not in page


def test_no_query_is_learnt_from(done, material):
    summary, out = done
    (written,) = out.glob("texts-*.txt")
    learnt = {line.lower() for line in written.read_text("utf-8").splitlines()}
    with gzip.open(material["data"] / "test.csv.gz", "rt", newline="", encoding="utf-8") as file:
        asked = [" ".join(row["text"].lower().split()) for row in csv.DictReader(file)]
    assert len(asked) == 31
    assert not learnt & set(asked)
    assert summary["corpus"] == {"sentences": 60, "texts": 60, "left_out": 1}


def test_the_cut_vectors_are_those_of_a_truncated_model(done):
    _, out = done
    texts = ["word1 card", "word2 word3 cash", "euro"]
    whole, cut = (
        st.SentenceTransformer(str(out / "student" / "student"), device="cpu", truncate_dim=width)
        for width in (None, 8)
    )
    wanted = cut.encode(texts, convert_to_tensor=True, normalize_embeddings=True)
    assert torch.allclose(neighbours.cut(search.encode(whole, texts), 8), wanted, atol=1e-6)


def test_a_finished_student_is_taken_up_and_other_settings_are_not(done, material, tmp_path, monkeypatch):
    first, out = done
    there = {name: out / "student" / "exports" / f"{to}-int8" for to, name in RUNTIMES.items()}
    opened = {name: open_bundle(folder, threads=1) for name, folder in there.items()}
    monkeypatch.setattr(demo, "exported", lambda run: opened)  # the same student: the same files
    again = search.run(out=out, **material)
    assert again["resumed"]
    assert not first["resumed"]
    assert "without what an earlier call had done" in (out / "search.md").read_text("utf-8")
    scores = ("nearest", "top10", "overlap")
    assert [[row[key] for key in scores] for row in again["rows"]] == [
        [row[key] for key in scores] for row in first["rows"]
    ]
    with pytest.raises(UserError, match="--overwrite"):
        search.run(out=out, **material | {"limit": 40})


@pytest.mark.whole
def test_the_command_makes_a_trial_of_a_few_texts(material, tmp_path, monkeypatch, capsys):
    options = {"data": "data", "sentences": "sentences", "teacher": "teacher", "student": "student", "width": "width"}
    given = [part for name, key in options.items() for part in (f"--{name}", str(material[key]))]
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["search", *given, "--limit", "30", "--epochs", "1", "--seconds", "0"])
    monkeypatch.setitem(search.SETTINGS, "max_length", 16)
    monkeypatch.setattr(demo, "exported", partial(exported, max_drop=100.0))  # the first recipe will do
    search.main()
    trial = tmp_path / "demo" / "runs" / "search-30"
    assert "a trial, no result" in (trial / "search.md").read_text("utf-8")
    assert json.loads((trial / "search.json").read_text("utf-8"))["index"] == 30
    assert not (trial / "cache").exists()
    assert not (trial / "student" / "checkpoints").exists()
    assert "student, first 8" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"width": 0}])
def test_a_number_that_makes_no_sense_is_refused(material, tmp_path, wrong):
    with pytest.raises(UserError, match=f"expected a {next(iter(wrong))} of at least 1, got 0"):
        search.run(out=tmp_path, **material | wrong)
