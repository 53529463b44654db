"""The page of benchmarks says what the results say, and nothing else; and every benchmark runs, at tiny size."""

import contextlib
import csv
import difflib
import importlib
import io
import itertools
import json
import logging
import os
import random
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel
from typer.testing import CliRunner

from contrastill import Study, distill, finetune
from contrastill.cli import app
from contrastill.data.load import load_task
from contrastill.evaluation import sts
from contrastill.loading import load_causal_model
from contrastill.studies import Cells

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "benchmarks"
sys.path.insert(0, str(ROOT / "tests" / "training"))

from workshop import QUICK, Workshop  # noqa: E402

WORDS = ["soup", "song", "drum", "bread", "apple", "tune", "rice", "choir", *(f"word{n}" for n in range(60))]


@pytest.mark.parametrize("script", ["tables", "evidence", "measured", "quoted"])
def test_the_page_is_made_from_the_results(script, monkeypatch):
    monkeypatch.setattr(sys, "argv", [script, "--check"])
    monkeypatch.syspath_prepend(SCRIPTS)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
    assert not ended.value.code, f"run: python benchmarks/{script}.py"


def test_every_result_names_its_command_and_its_machine():
    results = sorted((SCRIPTS / "results").glob("*.json*"))
    assert len(results) >= 5
    for path in results:
        if path.stem == "banking77_exploration":
            continue  # runs, not timings: each row has its settings
        found = Cells(path).read() if path.suffix == ".jsonl" else json.loads(path.read_text())
        assert found["command"], path.name
        assert found["machine"]["cpu"], path.name


# ---- each script at tiny size: in this process, without a network, into a folder of the test's own


@pytest.fixture(scope="module")
def workshop(shared_folder: Path) -> Workshop:
    return Workshop(shared_folder / "workshop")


@pytest.fixture(autouse=True)
def log_of_others() -> Iterator[None]:
    """A script may quieten our log; the tests that come after it read it."""
    ours = logging.getLogger("contrastill")
    level = ours.level
    yield
    ours.setLevel(level)


def here(command: list[Any], **options: Any) -> SimpleNamespace:
    """`subprocess.run` of Python code, of a script or of our command line, in this process."""
    words = [str(word) for word in command]
    assert words[0] == sys.executable, words
    out = io.StringIO()
    if words[1] == "-m":
        done = CliRunner().invoke(app, words[3:])
        return SimpleNamespace(returncode=done.exit_code, stdout=done.stdout, stderr=done.output)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        if words[1] == "-c":
            patch.setattr(sys, "argv", ["-c", *words[3:]])
            exec(compile(words[2], "<benchmark>", "exec"), {"__name__": "__main__"})
        else:
            patch.setattr(sys, "argv", words[1:])
            runpy.run_path(words[1], run_name="__main__")
    return SimpleNamespace(returncode=0, stdout=out.getvalue(), stderr="")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """script("step", "--rounds", 1): the module once its `main` has run with these arguments, `first` before it."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    known = set(sys.modules)

    def run(name: str, *words: Any, first: Callable[[ModuleType], None] = lambda module: None) -> ModuleType:
        module = importlib.import_module(name)
        if hasattr(module, "subprocess"):
            own = SimpleNamespace(**{**vars(subprocess), "run": here})
            monkeypatch.setattr(module, "subprocess", own)
        first(module)
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        code = None
        try:
            module.main()
        except SystemExit as end:
            code = end.code
        assert not code
        return module

    threads, environment = torch.get_num_threads(), dict(os.environ)
    torch.set_num_threads(1)
    yield run
    torch.set_num_threads(threads)
    os.environ.clear()  # scripts set threads for their whole process
    os.environ.update(environment)
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(SCRIPTS)):
            del sys.modules[name]


def sentences(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(4, 12))) for _ in range(count)]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A classifier that was fine-tuned, its data, sentences, and a sentence-embedding model."""
    root = tmp_path_factory.mktemp("benchmarks")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        patch.setattr("subprocess.run", here)
        kills, scale = importlib.import_module("kills"), importlib.import_module("scale")
        teacher, data = kills.tiny_task(root)
        (root / "sentences.txt").write_text("".join(f"{text}\n" for text in sentences(60)))
        scale.make_teacher(str(teacher), root / "embedder")
        for name in ("kills", "scale"):
            del sys.modules[name]
    return SimpleNamespace(
        root=root, teacher=teacher, data=data, sentences=root / "sentences.txt", embedder=root / "embedder" / "teacher"
    )


def pairs() -> dict[str, Any]:
    """Scored pairs in the place of the seven sets."""
    first, second = sentences(8, 1), sentences(8, 2)
    return {name: sts.Pairs(first, second, np.arange(8.0)) for name in sts.ORIGINS}


def result(path: Path) -> Any:
    return json.loads(path.read_text())


def test_step(script, tiny, tmp_path):
    def small(module: ModuleType) -> None:
        module.matrix_rate = lambda: 1e9
        module.rows = lambda ids, length, count, rows=module.rows: rows(ids, length, 16)
        module.BATCH = 2
        shape = {"num_hidden_layers": 1, "hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 24}
        module.BertConfig = lambda make=module.BertConfig, **given: make(**{**given, **shape})

    data = tmp_path / "texts.csv"
    data.write_text("text\n" + "\n".join(sentences(30)))
    words = ["--tokenizer", tiny.teacher, "--data", data, "--seconds", 0, "--rounds", 1, "--lengths", 8]
    module = script("step", *words, "--out", tmp_path / "out.json", first=small)
    found = result(tmp_path / "out.json")["lengths"]["8"]
    assert set(found["samples_per_s"]) == set(module.SIDES)
    assert all(pace > 0 for pace in found["samples_per_s"].values())


def test_method_steps(script, tiny, tmp_path):
    def small(module: ModuleType) -> None:
        module.METHODS, module.CHECKED = ("finetune", "kd"), 8
        module.distill, module.finetune = (partial(made, max_length=24, force=True) for made in (distill, finetune))

    words = ["--model", tiny.embedder, "--data", tiny.data / "train.csv", "--rows", 32, "--student", "1/16/4/32"]
    script("method_steps", *words, "--rounds", 2, "--epochs", 1, "--out", tmp_path / "out.json", first=small)
    found = result(tmp_path / "out.json")
    assert [len(paces) for paces in found["turns"].values()] == [2, 2]
    assert [found["methods"]["finetune"][name] for name in ("to_labels", "least", "most")] == [1, 1, 1]
    kd = found["methods"]["kd"]
    assert 0 < kd["least"] <= kd["to_labels"] <= kd["most"]


def test_overhead(script, tmp_path):
    def small(module: ModuleType) -> None:
        module.model = lambda layers, width, ffn, model=module.model: model(1, 24, 24)
        module.peak_mb = lambda side: 1.0  # in a process of its own

    script("overhead", "--steps", 6, "--rounds", 1, "--out", tmp_path / "out.json", first=small)
    assert set(result(tmp_path / "out.json")["samples_per_s"]) == {"ours", "bare"}


@pytest.mark.parametrize("counts", [(20,), (20, 40)])
def test_scale(script, tiny, tmp_path, counts):
    words = ["--sentences", tiny.sentences, "--tokenizer", tiny.teacher, "--counts", *counts, "--processes", 1]
    script("scale", *words, "--out", tmp_path / "out.json")
    found = result(tmp_path / "out.json")
    assert [row["teacher_forwards"] for row in found["rows"]] == list(counts)
    assert [row["again"]["teacher_forwards"] for row in found["rows"]] == [0] * len(counts)
    assert found["processes"]["sentences"] == counts[0]


def test_cache_faults(script, tmp_path):
    script("cache_faults", "--faults", 8, "--out", tmp_path / "out.json")
    assert result(tmp_path / "out.json")["found"] == 8


def test_kills(script, tiny, tmp_path):
    def small(module: ModuleType) -> None:
        module.kill = lambda command, out, moment: (0.0, {"seconds": 0.0, "phase": "", "resumes_from": None})

    options = "--student 1/16/4/32 --method kd --batch-size 32 --epochs 1 --checks 1 --precision fp32 --max-length 24"
    words = ["--kills", 1, "--teacher", tiny.teacher, "--data", tiny.data, "--work", tmp_path / "work"]
    script("kills", *words, "--result", tmp_path / "out.json", "--", *options.split(), first=small)
    assert result(tmp_path / "out.json")["equal"] == 1


def test_distil(script, tiny, tmp_path):
    for split in ("train", "dev"):
        rows = list(csv.DictReader((tiny.data / f"{split}.csv").open()))
        lines = ["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"]
        lines += [f"{row['label'] == 'food':d}\t1\t2\t{row['text']}\t{row['text']}" for row in rows]
        (tmp_path / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    teacher = shutil.copytree(tiny.teacher, tmp_path / "teacher")
    config = json.loads((teacher / "config.json").read_text())
    names = {"0": "not_equivalent", "1": "equivalent"}
    config |= {"id2label": names, "label2id": {name: int(n) for n, name in names.items()}}
    (teacher / "config.json").write_text(json.dumps(config))

    def small(module: ModuleType) -> None:
        module.ours = partial(module.ours, student="2/32/4/64", max_length=24, force=True)

    words = ["--teacher", teacher, "--student", teacher, "--data", tmp_path, "--peer-python", sys.executable]
    script("distil", *words, "--rows", 32, "--sides", "ours", "--out", tmp_path / "out.json", first=small)
    assert set(result(tmp_path / "out.json")["sides"]) == {"ours"}


def test_teacher(script, tiny, tmp_path):
    def small(module: ModuleType) -> None:
        module.matrix_rate = lambda: 1e9

    words = ["--teacher", tiny.embedder, "--sentences", tiny.sentences, "--peer-python", sys.executable]
    script("teacher", *words, "--count", 16, "--rounds", 1, "--out", tmp_path / "out.json", first=small)
    assert result(tmp_path / "out.json")["cosine_with_float32"]["least"] > 0.99


@pytest.mark.parametrize("stored", [False, True])
def test_sts(script, tiny, tmp_path, stored, monkeypatch):
    monkeypatch.setenv("CONTRASTILL_CACHE", str(tmp_path / "cache"))

    def small(module: ModuleType) -> None:
        module.load_sts = lambda folder: pairs()

    words = ["--sts", tmp_path, "--out", tmp_path / "out.json", *(["--stored"] if stored else [])]
    script("sts", f"tiny={tiny.embedder}", *words, first=small)
    assert set(result(tmp_path / "out.json")["models"]["tiny"]["scores"]) >= set(sts.ORIGINS)


@pytest.mark.whole
def test_precision(script, tiny, tmp_path):
    pytest.importorskip("onnxscript")
    run = tmp_path / "run"
    shutil.copytree(tiny.teacher.parent, run)

    def small(module: ModuleType) -> None:
        module.WAYS = (("onnx", "fp32"),)

    script("precision", "--model", f"intents={run}", "--out", tmp_path / "out.json", first=small)
    assert [row["precision"] for row in result(tmp_path / "out.json")["rows"]] == ["fp32"]


def test_texts(script, tmp_path, capsys):
    def small(module: ModuleType) -> None:
        module.load_sts = lambda folder: pairs()

    captions = tmp_path / "unlabelled/multi30k/train.captions.tsv"
    captions.parent.mkdir(parents=True)
    captions.write_text("a song\ta tune\na song\ta drum\n")
    written = {"nli/nli_triples_small.csv": "sent0,sent1,hard_neg\nx,y,z\n"}
    written |= {"nli/nli_entailment_pairs.csv": "sent0,sent1\nx,v\n"}
    written |= {"glue/QQP/train_union.tsv": "question1\tquestion2\nq\tr\n"}
    written |= {"glue/MNLI/subset_train_8999.tsv": "sentence1\tsentence2\ns\tt\n"}
    written |= {"glue/QNLI/subset_train_8999.tsv": "question\tsentence\nu\tw\n"}
    for name, content in written.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    script("texts", tmp_path, tmp_path / "out.txt", "--count", 12, first=small)
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert len(lines) == len(set(lines)) == 12
    assert "12 of 13 texts" in capsys.readouterr().out


def test_pairs(script, tmp_path, capsys):
    """As many pairs of captions as of NLI, duplicates alone of QQP, and all of them together."""

    def small(module: ModuleType) -> None:
        importlib.import_module("texts").load_sts = lambda folder: pairs()

    written = {"unlabelled/multi30k/train.captions.tsv": "a song\ta tune\tx\na drum\ta horn\ty\nc\td\tz\n"}
    written |= {"nli/nli_entailment_pairs.csv": 'sent0,sent1\n"x, y",v\ns,t\n'}
    written |= {"glue/QQP/train_union.tsv": 'question1\tquestion2\tis_duplicate\n"q\tr\t1\nu\tw\t0\n'}
    for name, content in written.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    script("pairs", tmp_path, tmp_path / "out", first=small)
    made = {name: list(csv.reader((tmp_path / f"out/{name}.csv").open())) for name in ("captions", "qqp", "all")}
    assert all(rows[0] == ["sent0", "sent1"] for rows in made.values())
    assert len(made["captions"]) == 3
    assert {tuple(row) for row in made["captions"][1:]} < {("a song", "a tune"), ("a drum", "a horn"), ("c", "d")}
    assert made["qqp"][1:] == [['"q', "r"]]
    rest = [["x, y", "v"], ["s", "t"], *made["qqp"][1:], *made["captions"][1:]]
    assert sorted(made["all"][1:]) == sorted(rest)
    assert "all: 5 pairs; " in capsys.readouterr().out


def test_other_texts(script, tmp_path, capsys):
    """No text of dev is among those of a set whose dev rows are held out of train."""

    def fewer(module: ModuleType) -> None:
        module.MOST = 20

    (tmp_path / "glue/SST-2").mkdir(parents=True)
    for split, rows in (("train", 30), ("dev", 4)):
        lines = "".join(f"a {split}  film {n}\t{n % 2}\n" for n in range(rows))
        (tmp_path / f"glue/SST-2/{split}.tsv").write_text(f"sentence\tlabel\n{lines}")
    (tmp_path / "intents").mkdir()
    lines = "".join(f"question {n},{'ab'[n % 2]}\n" for n in range(40))
    (tmp_path / "intents/train.csv").write_text(f"text,category\n{lines}")
    script("other_texts", tmp_path / "glue", tmp_path / "intents", tmp_path, first=fewer)
    assert (tmp_path / "SST-2.txt").read_text().splitlines() == [f"a train film {n}" for n in range(20)]
    found = load_task(tmp_path / "intents").splits
    assert (tmp_path / "BANKING77.txt").read_text().splitlines() == list(found["train"]["text"])
    assert set(found["dev"]["text"]).isdisjoint(found["train"]["text"])
    assert "SST-2: 20 texts" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variants", "results", "known"),
    [
        ("banking77_dev", "banking77_dev", 4),
        ("embeddings.variants", "embeddings", 56),
        ("ablation.variants", "ablation", None),
        ("glue.variants", "glue", None),  # as many as are recorded
        ("additions.variants", "additions", None),
        ("methods.variants", "methods", None),
        ("baselines.variants", "baselines", None),
        ("rates.variants", "rates", None),
        ("captions.variants", "captions", None),
        ("map.variants", "map", None),
        ("few.variants", "few", None),
        ("terms.variants", "terms", None),
        ("stages.variants", "stages", None),
        ("general.variants", "general", None),
        ("more.variants", "more", None),
    ],
)
def test_a_file_of_variants_is_a_study_that_can_be_made_and_knows_what_was_recorded(script, variants, results, known):
    file = json.loads((SCRIPTS / f"{variants}.json").read_text())
    names = (*importlib.import_module("evidence_rows").OUTSIDE, "sts", "short", "pairs")
    places = dict.fromkeys(names, "somewhere") | file.get("places", {})
    out = next((SCRIPTS / "results").glob(f"{results}.json*"), SCRIPTS / "results" / f"{results}.jsonl")
    study = Study.of(SCRIPTS / f"{variants}.json", out, places=places, seeds=3)
    cells = study.chosen()
    assert all(callable(study.ready(cell)[0]) for cell in cells)  # its settings are taken
    recorded = sum(row["seed"] < 3 for row in study.cells.read()["rows"]) if known is None else known
    assert len(study.missing(cells)) == len(cells) - recorded


def test_evidence(script, tmp_path, monkeypatch):
    """The page of made-up rows: CoLA with two seeds of each method, and another rate that one of them tells; MRPC with
    one method at one seed."""
    made = importlib.import_module("evidence")
    for part, name in (made, "RESULTS"), (made, "FIGURES"), (importlib.import_module("evidence_rows"), "RESULTS"):
        monkeypatch.setattr(part, name, tmp_path)
    assert "## GLUE" not in made.page()
    assert "## In short" not in made.page()
    study = made.study("glue", 5)
    scores = {"kd": 0.40, "lrc_bert": 0.45, "finetune": 0.38}
    scores |= {"kd, from MiniLM": 0.46, "lrc_bert, from MiniLM": 0.49}
    rows = {("cola", 0): {"metric": "matthews", "dev": 0.5}}
    for n, (method, dev) in enumerate(scores.items()):
        for seed in range(2):
            found = {"metric": "matthews", "dev": dev + 0.002 * seed * n, "kept": (dev + 0.002 * seed * n) / 0.5}
            rows[f"CoLA, 3e-4, {method}", seed] = found
    rows["CoLA, 1e-4, kd", 0] = {"metric": "matthews", "dev": 0.39, "kept": 0.78}
    rows["MRPC, 1e-4, kd", 0] = {"metric": "accuracy", "dev": 0.8, "kept": 0.9}
    for cell, row in rows.items():
        ran = {"steps": 10, "seconds": {"training": 5.0, "checks": 1.0}, "teacher_forwards": 100 * (cell[1] == 0)}
        ran |= {"settings": {"learning_rate": 1e-4 if "1e-4" in cell[0] else 3e-4}}
        key = {"cell": study.identity(cell)}
        study.cells.once(key, lambda row=row, ran=ran: {**row, **ran, "machine": {"cpu": "a processor"}})
    page = made.page()
    assert "CoLA 70 of 80, RTE 80 of 80, MRPC 79 of 80, STS-B 48 of 48, SST-2 48 of 48, BANKING77 48 of 48" in page
    assert "| teacher | 50.0 |  |" in page
    assert "| `lrc_bert` | 45.1 ± 0.1 (2, 3e-4) |  |" in page
    assert "| `kd` | 40.0 ± 0.0 (2, 3e-4) | 80.0 (1, 1e-4) |" in page
    assert "| `kd` | 80.0 | 90.0 | 85.0 |" in page
    assert "| `lrc_bert` | 90.2 |  |  |" in page
    assert "| CoLA | `lrc_bert` | +0.0510 | +0.0383 to +0.0637 | 2 of 2 | better |" in page
    start = "| CoLA | `lrc_bert, from MiniLM` less `kd, from MiniLM` |"  # of one start
    assert f"{start} +0.0310 | +0.0183 to +0.0437 | 2 of 2 | better |" in page
    assert "| CoLA | `lrc_bert, from MiniLM` |" not in page
    assert "| `kd` | 3 | 0.0 | 200 |" in page
    assert "## In short" not in page  # two seeds are too few
    assert not (tmp_path / "glue.svg").exists()  # a check of the page writes nothing
    made.draw()
    assert (tmp_path / "glue.svg").exists()


def test_quoted(script, tmp_path):
    """Typed tables are replaced by those of the rows; what stands around them stays."""
    made = importlib.import_module("quoted")
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- made by benchmarks/quoted.py: parts -->\nold\n<!-- end -->\nb\n")
    start, *table, end, b = made.filled(page).splitlines()
    assert [start, end, b] == ["a", "<!-- end -->", "b"]
    assert re.fullmatch(r"\| without COS-NCE \| \*\*[\d.]+\*\* \|.*", table[5])
    assert "old" not in table


def test_evidence_of_contrast(script, tmp_path, monkeypatch):
    """Each method at the rate that was best at seed 0, whatever other seeds say."""
    made = importlib.import_module("evidence")
    for part, name in (made, "RESULTS"), (made, "FIGURES"), (importlib.import_module("evidence_rows"), "RESULTS"):
        monkeypatch.setattr(part, name, tmp_path)
    study = made.study("map", 3)
    scores = {
        "1e-4, 4L-312, random, kd": [0.60, 0.9],  # the better one by seed 1, the worse by seed 0
        "3e-4, 4L-312, random, kd": [0.62, 0.63, 0.64],
        "3e-4, 4L-312, random, lrc_bert": [0.65, 0.66, 0.68],
        "1e-4, 4L-312, inherit, kd": [0.80],
        "3e-4, 4L-312, general, kd": [0.70],  # level with the next at seed 0, of fewer seeds
        "1e-3, 4L-312, general, kd": [0.70, 0.72],
        "1e-3, 2/128, inherit, kd": [0.70, 0.71, 0.72],
        "1e-3, 2/128, inherit, lrc_bert": [0.68, 0.71, 0.73],
    }
    for cell, values in scores.items():
        for seed, dev in enumerate(values):
            row = {"metric": "accuracy", "dev": dev, "teacher_metrics": {"accuracy": 0.9}, "kept": dev / 0.9}
            row |= {"settings": {"learning_rate": float(cell[:4])}, "machine": {"cpu": "a processor"}}
            key = {"cell": study.identity((f"SST-2, 300 labels, {cell}", seed))}
            study.cells.once(key, lambda row=row: row)
    few = made.study("few", 3)
    for n, (method, seed) in enumerate(itertools.product(("kd", "lrc_bert"), range(3))):
        row |= {"dev": 0.6 + 0.01 * n, "kept": 0.7, "settings": {"learning_rate": 3e-4}}
        for given, axes in (("+ texts", "random"), ("of MPNet", "general")):
            key = {"cell": few.identity((f"SST-2 {given}, 3e-4, {axes}, {method}", seed))}
            few.cells.once(key, lambda row=row: row)
    page = made.page()
    apart = "61.0 ± 1.0 (3, 3e-4) | 64.0 ± 1.0 (3, 3e-4) |  | +0.0300 |"
    assert f"| SST-2, 300 labels and texts, 4L-312, random | 90.0 | {apart}" in page
    assert f"| SST-2, 300 labels (teacher MPNet), 4L-312, general | 90.0 | {apart}" in page
    assert (
        "| SST-2, 300 labels, 4L-312, random | 90.0 | 63.0 ± 1.0 (3, 3e-4) | 66.3 ± 1.5 (3, 3e-4) |  | +0.0333 | "
        "+0.0190 to +0.0477 | 3 of 3 | better |"
    ) in page
    assert "| SST-2, 300 labels, 4L-312, inherit | 90.0 | 80.0 (1, 1e-4) |  |  |  |  |  | no seed in common |" in page
    assert "| SST-2, 300 labels, 4L-312, general | 90.0 | 71.0 ± 1.4 (2, 1e-3) |" in page
    assert "| random weights | SST-2, 300 labels +3.3 (3) |  |  |" in page
    assert "| its teacher's weights (`inherit`) |  | SST-2, 300 labels, 2/128 -0.3 (3) |  |" in page
    made.draw()
    assert "300 labels, 4L-312, random (3 of 3)" in (tmp_path / "map.svg").read_text()


def test_additions(script, tmp_path):
    script("additions", tmp_path)
    rows = {
        (kind, split): [json.loads(line) for line in (tmp_path / kind / f"{split}.jsonl").read_text().splitlines()]
        for kind in ("many", "few")
        for split in ("train", "dev", "test")
    }
    assert [len(rows[kind, "train"]) for kind in ("many", "few")] == [8500, 300]
    assert rows["many", "test"] == rows["few", "test"]
    prompts = [{row["prompt"] for row in rows["many", split]} for split in ("train", "dev", "test")]
    assert len(set.union(*prompts)) == sum(map(len, prompts)) == 10_000
    for row in rows["few", "train"]:
        assert sum(map(int, row["prompt"][:-1].split("+"))) == int(row["answer"][::-1])
    sizes = [load_causal_model(str(tmp_path / name)).num_parameters() for name in ("large", "small")]
    assert sizes == [187_296, 21_472]


def test_captions(script, tmp_path):
    for name, rows in {"train": 4100, "val": 210}.items():
        lines = [f"A dog {name} {n} runs far away.\tanother caption" for n in range(rows)]
        (tmp_path / f"{name}.captions.tsv").write_text("\n".join(["Too short a one", *lines]) + "\n")
    script("captions", tmp_path, tmp_path / "made")
    rows = {
        (kind, split): [
            json.loads(line) for line in (tmp_path / "made" / kind / f"{split}.jsonl").read_text().splitlines()
        ]
        for kind in ("many", "few")
        for split in ("train", "dev")
    }
    assert {key: len(some) for key, some in rows.items()} == {
        ("many", "train"): 4000, ("many", "dev"): 200, ("few", "train"): 2000, ("few", "dev"): 200
    }  # fmt: skip
    assert rows["few", "train"][0] == {"prompt": "A dog train 0", "answer": " runs far away."}
    assert rows["few", "train"] == rows["many", "train"][:2000]


def test_intents_as_text(script, tmp_path):
    data = "text,label\n" + "".join(f"question {n},{'lost_card' if n % 2 else 'top_up'}\n" for n in range(60))
    (tmp_path / "data.csv").write_text(data)
    script("intents_as_text", tmp_path / "data.csv", tmp_path / "made")
    train, dev = (
        [json.loads(line) for line in (tmp_path / "made" / f"{split}.jsonl").read_text().splitlines()]
        for split in ("train", "dev")
    )
    assert len(train) + len(dev) == 60
    for row in train + dev:
        number = int(row["prompt"].removeprefix("question ").removesuffix("\nintent:"))
        assert row["answer"] == (" lost card" if number % 2 else " top up")


@pytest.mark.whole
def test_intents(script, tiny, tmp_path):
    asked = {"student": "1/16/4/32", "start": "random", "out": str(tmp_path / "encoder")}
    run = distill(teacher=str(tiny.teacher.parent), **QUICK | asked)
    script("additions", tmp_path / "additions")
    shutil.copytree(tmp_path / "additions" / "small", tmp_path / "lm" / "student")
    scores = {"metrics": {"exact_match": 0.5}, "interval": [0.4, 0.6]}
    metrics = {"metric": "exact_match", "seconds": {"training": 1.0}, "student": {"dev": scores, "parameters": 21_472}}
    metrics["student"]["size_mb"] = 0.1
    (tmp_path / "lm" / "metrics.json").write_text(json.dumps(metrics))
    rows = "".join(json.dumps({"prompt": f"{n}+1=\nintent:", "answer": " top up"}) + "\n" for n in range(9))
    (tmp_path / "dev.jsonl").write_text(rows)

    def small(module: ModuleType) -> None:
        module.COUNT, module.RESULT = 3, tmp_path / "intents.json"

    script("intents", tmp_path, f"language model={tmp_path / 'lm'}", f"encoder={run.folder}", first=small)
    found = json.loads((tmp_path / "intents.json").read_text())["rows"]
    assert found["language model"]["unnamed"] == 1
    assert found["language model"]["accuracy"] == 0.5
    assert found["encoder"]["ms"] > 0
    assert "unnamed" not in found["encoder"]


@pytest.mark.whole
def test_language_step(script, tmp_path):
    def without_trl(module: ModuleType) -> None:
        def theirs(args: Any, folder: Path, steps: int, own: int, **more: Any) -> dict[str, Any]:
            if "save" in more:
                shutil.copytree(folder / "student", more["save"])
            return {"seconds": [0.25] * (steps - 1)}

        module.theirs = theirs

    words = ["--peer-python", sys.executable, "--steps", 6, "--rounds", 1, "--out", tmp_path / "out.json"]
    module = script("language_step", *words, first=without_trl)
    found = result(tmp_path / "out.json")
    assert set(found["pace"]) == set(module.TEXTS)
    for sides in found["pace"].values():
        assert set(sides) == set(module.SIDES)
        assert sides["TRL, its defaults"]["median"] == 0.25
        assert 0 < sides["contrastill"]["median"] < 10
    assert found["same_weights"]["difference"] == found["same_weights"]["moved"] > 0.001


def test_language_memory(script, tmp_path):
    script("language_memory", "--answers", 5, 9, "--words", 64, "--out", tmp_path / "out.json")
    found = result(tmp_path / "out.json")
    assert found["words"] == 64
    assert list(found["answers"]) == ["5", "9"]
    for sides in found["answers"].values():
        assert sides["parts"]["loss"] == pytest.approx(sides["whole"]["loss"], rel=1e-5)
        assert sides["parts"]["mb"] >= 0


@pytest.mark.whole
def test_robustness(script, tmp_path, workshop):
    axes = {"task": {"topics": {"data": str(workshop.data())}}, "method": {"kd": {"method": "kd"}}}
    shared = {**QUICK, "teacher": "{teacher}", "epochs": 4}
    file = {"axes": axes, "shared": shared, "places": {"teacher": str(workshop.teacher())}}
    (tmp_path / "v.json").write_text(json.dumps(file))
    given = {"axes": axes, "shared": shared, "places": file["places"]}
    (made,) = Study(None, tmp_path / "rows.jsonl", **given, runs=tmp_path / "runs").run()
    words = [tmp_path / "v.json", "--rows", tmp_path / "rows.jsonl", "--runs", tmp_path / "runs"]
    module = script("robustness", *words, "--out", tmp_path / "out.jsonl")
    (row,) = Cells(tmp_path / "out.jsonl").read()["rows"]
    assert row["noise"]["as it is"] == made["dev"]
    assert set(row["noise"]) == set(module.NOISE)
    log = (tmp_path / "runs" / made["cell"] / "log.jsonl").read_text().splitlines()
    losses = [line["loss"] for line in map(json.loads, log) if "loss" in line]
    assert row["unsteadiness"] == pytest.approx(np.diff(losses).std(ddof=1) / np.mean(losses))
    chance = random.Random(0)
    text = "the quick brown fox jumps over it " * 200
    for share in (0.0, 0.02, 0.3):
        assert len(module.dropped(text, share, chance).split()) == pytest.approx(1400 * (1 - share), rel=0.05)
        changed = difflib.SequenceMatcher(None, text[:2000], module.typos(text[:2000], share, chance), False).ratio()
        assert (changed == 1) == (share == 0)
    assert module.dropped("one", 1.0, chance) == "one"


def test_serve(script, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "serving"))
    folder = importlib.import_module("serving").write_bundle(tmp_path / "bundle")

    def small(module: ModuleType) -> None:
        module.subprocess = subprocess  # the server is a process
        monkeypatch.setattr(module, "run_clients", lambda *a, seconds, **k: run_clients(*a, seconds=0.1, **k))

    run_clients = importlib.import_module("load").run_clients
    words = ["--clients", 1, "--seconds", 0.1, "--overload-seconds", 0, "--malformed", 3, "--stops", 0]
    script("serve", "--bundle", folder, *words, "--out", tmp_path / "out.json", first=small)
    found = result(tmp_path / "out.json")
    assert found["malformed"]["not_4xx"] == []
    assert [row["wrong"] for row in found["clients"]["rows"]] == [0]


@pytest.mark.whole
def test_recorded_runs(script, tmp_path):
    def small(module: ModuleType) -> None:
        module.TEACHERS = {"topics": {**module.TEACHERS["topics"], "epochs": 6}}
        module.RUNS = {name: module.RUNS[name] for name in ("kd-accumulate", "contrast-dev")}
        module.BUNDLES, module.INTERRUPTED = {}, ()

    script("recorded_runs", "--out", tmp_path / "before", first=small)
    module = script("recorded_runs", "--out", tmp_path / "after", "--compare", tmp_path / "before", first=small)
    found = result(tmp_path / "after" / "comparison.json")
    assert found["ok"]
    assert set(found["runs"]) == {"finetune-topics", "kd-accumulate", "contrast-dev"}
    assert all(row["equal"] and row["losses_differ"] == 0 for row in found["runs"].values())
    assert {"model of kd-accumulate: evaluate", "cache of kd-accumulate", "all runs: compare"} <= set(found["opened"])

    weights = next((tmp_path / "after").glob("runs/kd-accumulate/student/model.safetensors"))
    tensors = load_file(weights)
    largest = max(tensors, key=lambda name: float(tensors[name].abs().max()))
    save_file({**tensors, largest: tensors[largest] * 1.5}, weights)
    log = tmp_path / "after" / "runs" / "kd-accumulate" / "log.jsonl"
    log.write_text(log.read_text().replace('"loss": ', '"loss": 1'))
    two = (tmp_path / "before" / "runs" / "kd-accumulate", tmp_path / "after" / "runs" / "kd-accumulate")
    assert module.largest_difference(*two) == pytest.approx(0.5)
    assert module.losses_differ(*two) > 1


def test_recorded_inputs(script, tmp_path):
    script("recorded_inputs", tmp_path / "one")
    script("recorded_inputs", tmp_path / "two")
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes(), path


def test_contrast(script, tmp_path):
    texts = sentences(80)
    rows = [f"{one},{two}" for one, two in zip(texts[:40], texts[40:], strict=True)]
    (tmp_path / "pairs.csv").write_text("\n".join(["sent0,sent1", *rows]))
    words = ["--pairs", tmp_path / "pairs.csv", "--shape", "1/16/2/32", "--batch", 4, "--steps", 3, "--warm", 1]
    words += ["--rounds", 1, "--precision", "fp32", "--threads", 1, "--side", "a=", "--side", "b="]

    def timed(module: ModuleType) -> None:
        run = module.run

        def steady(*given: Any, **settings: Any) -> dict[str, float]:  # steps too short for a clock
            found = run(*given, **settings)
            return found | {"seconds": 0.1 * found["steps"], "cpu_seconds": 0.2 * found["steps"]}

        module.run = steady

    script("contrast", *words, "--out", tmp_path / "out.json", first=timed)
    found = result(tmp_path / "out.json")
    for figure in ("texts_per_s", "texts_per_cpu_s"):
        assert found[f"{figure}_median"].keys() == {"pairs, fp32"}
        assert found[f"{figure}_median"]["pairs, fp32"].keys() == {"a", "b"}
        assert found[f"{figure}_over_the_first"]["pairs, fp32"]["a"] == 1
    page = importlib.import_module("tables").contrast(found)
    assert f"| pairs, fp32 | {found['texts_per_s_median']['pairs, fp32']['a']:.0f} (1.00 x) | " in page


@pytest.mark.whole
def test_gpu(script, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out.json"
    if not torch.cuda.is_available():
        script("gpu", "--out", out)
        assert "no CUDA GPU" in capsys.readouterr().out
        assert not out.exists()
    script("gpu", "--tiny", "--sections", "teacher", "agreement", "steps", "--out", out)
    found = result(out)
    assert found["errors"] == {}
    assert 0 < found["teacher"]["vectors, mixed"]["from_text"]["share"] < 1
    assert [row["name"].split(",")[0] for row in found["steps"]["rows"]] == ["lrc_bert", "lrc_bert", "kd", "disco"]
    assert len(found["agreement"]["losses"]["bf16"]) >= 6
    assert found["agreement"]["largest_difference"] < 0.05
    page = importlib.import_module("tables").gpu(found)
    assert f"{found['teacher']['vectors, mixed']['from_text']['texts_per_s']:,.0f}" in page
    assert "disco, stored teacher" in page


def test_what_failed_on_a_gpu_is_recorded_and_the_rest_goes_on(script, tmp_path):
    def broken(module: ModuleType) -> None:
        def fails(place: Any, rate: float) -> dict[str, Any]:
            raise RuntimeError("no room")

        module.SECTIONS.update(steps=fails, provider=lambda place, rate: {"providers": []})

    with pytest.raises(AssertionError):  # exit code 1
        script("gpu", "--tiny", "--sections", "steps", "provider", "--out", tmp_path / "out.json", first=broken)
    found = result(tmp_path / "out.json")
    assert found["errors"] == {"steps": "RuntimeError: no room"}
    assert found["provider"]["providers"] == []


@pytest.mark.whole
def test_multilabel(script, tiny, tmp_path):
    pytest.importorskip("onnxscript")
    kinds = {"soup": "food", "song": "music", "drum": "music"}
    for seed, split in enumerate(("train", "dev", "test")):
        words = [f"{word} NN O B-{kinds[word]}" if word in kinds else f"{word} NN O O" for word in WORDS]
        tagged = dict(zip(WORDS, words, strict=True))
        lines = "\n\n".join("\n".join(tagged[word] for word in text.split()) for text in sentences(60, seed))
        (tmp_path / "mobie" / "conll").mkdir(parents=True, exist_ok=True)
        (tmp_path / "mobie" / "conll" / f"{split}.conll2003").write_text(f"-DOCSTART- -1- O O\n\n{lines}\n")

    def small(module: ModuleType) -> None:
        module.RATES, module.PARTS, module.DRAWS, module.STRENGTH = (1e-2,), (20,), 2, 1e-6
        settings = {"epochs": 8.0, "force": True, "precision": "fp32"}
        module.finetune = lambda **given: finetune(**{**given, **settings})
        module.distill = lambda **given: distill(**{**given, **settings})

    options = ["--student", "1/16/4/32", "--length", 24, "--seeds", 1, "--precision", "fp32", "--epochs", 1]
    words = ["--mobie", tmp_path / "mobie", "--model", tiny.embedder, "--runs", tmp_path / "runs", *options]
    script("multilabel", *words, "--out", tmp_path / "out.json", first=small)
    found = result(tmp_path / "out.json")
    rows = {(row["part"], row["name"]): row for row in found["rows"]}
    assert {name for part, name in rows if part == "test"} == {
        "teacher",
        "lrc_bert, seed 0",
        "kd, seed 0",
        "finetune, seed 0",
    }
    assert sum(part == "differences" for part, _ in rows) == 6
    assert list(rows["thresholds", "teacher"]["by_rows"]) == ["20"]
    page = importlib.import_module("multilabel_page").multilabel(found)
    assert f"| teacher | {100 * rows['test', 'teacher']['test']['map']:.1f} [" in page
    script("multilabel", *words, "--out", tmp_path / "out.json", first=small)
    assert result(tmp_path / "out.json") == found  # nothing is made again


@pytest.fixture
def speller(tmp_path, monkeypatch):
    """The folder of an encoder whose WordPiece tokenizer spells words."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "exporting"))
    write_letters = importlib.import_module("tiny_models").write_tokenizer
    folder = tmp_path / "model"
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=50, max_position_embeddings=40, initializer_range=0.2, **shape)
    BertModel(config).save_pretrained(folder)
    write_letters(folder)
    return folder


def test_trim_vocabulary(script, speller, tmp_path):
    for split, texts in {"train": "red cat\nold", "dev": "red cat", "test": "green dog\nold cat"}.items():
        lines = "\n\n".join("\n".join(f"{word}\tNN\tO\tO" for word in text.split()) for text in texts.splitlines())
        (tmp_path / f"{split}.conll2003").write_text(f"-DOCSTART- -1- O O\n\n{lines}\n")
    script("trim_vocabulary", "--model", speller, "--data", tmp_path, "--out", tmp_path / "out.json")
    found = result(tmp_path / "out.json")
    assert found["trimmed"]["pieces"] < found["whole"]["pieces"] == 50
    assert found["trimmed"]["parameters"] < found["whole"]["parameters"]
    otherwise = {split: row["split_otherwise"] for split, row in found["splits"].items()}
    assert otherwise == {"train": 0.0, "dev": 0.0, "test": 0.5}
    assert found["splits"]["dev"]["cosine"]["least"] == pytest.approx(1)
    assert found["splits"]["test"]["cosine"]["least"] < 1 - 1e-4


def write_sst2(data: Path) -> None:
    folder = data / "glue" / "SST-2"
    folder.mkdir(parents=True)
    for seed, name in enumerate(("train.tsv", "test_labelled_senteval.tsv")):
        lines = [f"{text}\t{n % 2}" for n, text in enumerate(sentences(60, seed))]
        (folder / name).write_text("\n".join(["sentence\tlabel", *lines, ""]))


@pytest.mark.whole
def test_first_hour(script, tiny, tmp_path):
    write_sst2(tmp_path / "data")

    def small(module: ModuleType) -> None:
        module.RATES, module.OTHER_RATES, module.LENGTH = (1e-3,), (1e-3,), 16
        module.STUDENT_RATES, module.LENGTHS = (1e-3,), ("quick",)
        module.PRESETS = {"good": SimpleNamespace(steps=lambda _: 10)}
        settings = {"epochs": 1.0, "force": True, "precision": "fp32"}
        module.finetune = lambda **given: finetune(**{**given, **settings})
        module.distill = lambda **given: distill(**{**given, **settings, "student": "1/16/4/32"})

    words = ["--data", tmp_path / "data", "--models", Path(tiny.embedder).parent, "--model", Path(tiny.embedder).name]
    words += [
        "--runs",
        tmp_path / "runs",
        "--sets",
        "sst2",
        "--sizes",
        40,
        "--ways",
        "common,default,probe,plain,rate,student",
    ]
    script("first_hour", *words, "--out", tmp_path / "out.json", first=small)
    found = result(tmp_path / "out.json")
    ways = {row["way"]: row for row in found["rows"]}
    assert set(ways) == {"common", "default", "probe", "plain 0.001", "rate 0.001", "student", "student 0.001 quick"}
    assert all(0 <= row["interval"][0] <= row["accuracy"] <= row["interval"][1] <= 1 for row in ways.values())
    page = importlib.import_module("first_hour_page").first_hour(found)
    model, accuracy = Path(tiny.embedder).name, {way: 100 * row["accuracy"] for way, row in ways.items()}
    assert f"| sst2, 40 rows | {model} | {accuracy['common']:.1f} | {accuracy['default']:.1f} [" in page
    near = accuracy["default"] >= max(accuracy["probe"], accuracy["plain 0.001"]) - 1
    assert f"a point of the best of the others in {near:d} of 1 sets at 40 rows" in page
    assert f"| {accuracy['student'] - accuracy['student 0.001 quick']:+.1f} |" in page
    script("first_hour", *words, "--out", tmp_path / "out.json", first=small)
    assert result(tmp_path / "out.json") == found  # nothing is made again


def test_few_labels(script, tiny, tmp_path):
    write_sst2(tmp_path / "data")
    seen = []

    def small(module: ModuleType) -> None:
        module.ROWS, module.LABELS, module.STEPS, module.BATCH, module.LENGTH = 60, 16, 4, 8, 16
        settings = {"force": True, "precision": "fp32", "batch_size": 8}

        def distilled(**given: Any) -> Any:
            seen.append(given)
            return distill(**given, **settings, student="1/16/4/32", start="random")

        module.distill = distilled
        module.finetune = lambda **given: finetune(**given, epochs=1.0, **settings)

    words = ["--data", tmp_path / "data", "--model", tiny.embedder, "--runs", tmp_path / "runs", "--sets", "sst2"]
    words += ["--seeds", 0, "--out", tmp_path / "out.json"]
    script("few_labels", *words, first=small)
    found = result(tmp_path / "out.json")
    assert [row["way"] for row in found["rows"]] == [
        "teacher",
        *(given["method"] + " + texts" * ("unlabelled" in given) for given in seen),
    ]
    assert {row["steps"] for row in found["rows"][1:]} == {4}
    labelled, texts = Path(seen[0]["data"]).read_text(), Path(seen[-1]["unlabelled"]).read_text().splitlines()
    assert len(labelled.splitlines()) == 17
    assert not any(text in labelled for text in texts)
    page = importlib.import_module("first_hour_page").few_labels(found)
    assert f"| sst2 | {100 * found['rows'][0]['test']:.1f} | " in page
    script("few_labels", *words, first=small)
    assert result(tmp_path / "out.json") == found  # nothing is made again


def write_classes(folder: Path) -> None:
    folder.mkdir()
    for split, seed in (("train", 0), ("test", 1)):
        rows = [(text, f"class {n % 4}") for n, text in enumerate(sentences(48, seed))]
        pd.DataFrame(rows, columns=["text", "category"]).to_csv(folder / f"{split}.csv.gz", index=False)


@pytest.mark.whole
def test_any_teacher(script, tiny, speller, tmp_path):
    write_classes(tmp_path / "data")

    def small(module: ModuleType) -> None:
        module.LABELS, module.BATCH, module.LENGTH, module.TOP = 12, 4, 16, 2
        module.STRUCTURES = ("static-8",)
        settings = {"force": True, "precision": "fp32"}
        module.finetune, module.distill = partial(finetune, **settings), partial(distill, **settings)

    words = [
        "--data",
        tmp_path / "data",
        "--english",
        tiny.embedder,
        "--multilingual",
        tiny.embedder,
        "--start",
        speller,
    ]
    words += ["--runs", tmp_path / "runs", "--seeds", 1, "--out", tmp_path / "out.json"]
    chosen = ["live", "top", "label alone", "multilingual, other tokens, lrc_bert aligned", "structure"]
    script("any_teacher", *words, "--only", *chosen, first=small)
    found = result(tmp_path / "out.json")
    rows = {row["name"]: row for row in found["rows"]}
    assert set(rows) == {
        "english teacher", "multilingual teacher", "live", "top 2 and the rest", "label alone",
        "multilingual, other tokens, lrc_bert aligned", "structure static-8",
    }  # fmt: skip
    assert all(0 <= row["interval"][0] <= row["test"] <= row["interval"][1] <= 1 for row in rows.values())
    assert rows["live"]["steps"] == rows["top 2 and the rest"]["steps"] == rows["label alone"]["steps"]
    assert rows["live"]["parameters"] == rows["label alone"]["parameters"] > rows["structure static-8"]["parameters"]
    answers = [json.loads(line) for line in (tmp_path / "runs/data/top.jsonl").read_text().splitlines()]
    page = importlib.import_module("any_teacher_page").any_teacher(found)
    assert f"| label alone | 1 | {100 * rows['label alone']['test']:.1f} | " in page
    assert page.count("| english teacher | 1 |") == 2
    assert {len(one["probabilities"]) for one in answers} == {2}
    assert all(sum(one["probabilities"].values()) < 1 for one in answers)
    script("any_teacher", *words, "--only", *chosen, first=small)
    assert result(tmp_path / "out.json") == found  # nothing is made again


@pytest.mark.whole
def test_selective(script, tiny, tmp_path):
    folder = tmp_path / "data" / "classification" / "banking77"
    folder.mkdir(parents=True)
    for seed, split in enumerate(("train", "test")):
        rows = [
            (f"{text} {('red', 'cat', 'dog')[n % 3]}", f"class {n % 3}") for n, text in enumerate(sentences(90, seed))
        ]
        pd.DataFrame(rows, columns=["text", "category"]).to_csv(folder / f"{split}.csv", index=False)

    def small(module: ModuleType) -> None:
        module.ROWS, module.LENGTH, module.HELD_OUT, module.TARGET = 90, 16, 1, 0.2
        settings = {"force": True, "precision": "fp32", "epochs": 2.0, "learning_rate": 1e-2, "dev_share": None}
        module.finetune = partial(finetune, **settings)

    words = ["--data", tmp_path / "data", "--model", tiny.embedder, "--runs", tmp_path / "runs"]
    words += ["--sets", "banking77", "--seeds", 0, "--out", tmp_path / "out.json"]
    script("selective", *words, first=small)
    found = result(tmp_path / "out.json")
    every, fewer = found["rows"]
    assert fewer["set"] == "banking77 without 1 intents"
    assert every["after"]["error"] >= 0 <= every["before"]["error"]
    assert fewer["out_of_scope"]["texts"] == 30
    page = importlib.import_module("any_teacher_page").selective(found)
    assert f"| banking77 | 1 | {100 * every['accuracy']:.1f} | " in page
    assert page.count("| 0 | probability | 0.") == page.count("| 0 | energy | 0.") == 1
    script("selective", *words, first=small)
    assert result(tmp_path / "out.json") == found  # nothing is made again


def write_tags(folder: Path) -> Path:
    """Entities: one or two colours after a word."""
    folder.mkdir(parents=True)
    for seed, (split, count) in enumerate({"train": 48, "dev": 24, "test": 16}.items()):
        rng, rows = random.Random(seed), []
        for n in range(count):
            before = " ".join(rng.choices(["cat", "dog", "runs", "sleeps", "very", "small"], k=rng.randint(1, 4)))
            colour = " ".join(rng.choices(["red", "green"], k=1 + n % 2))
            spans = [{"start": len(before) + 1, "end": len(before) + 1 + len(colour), "label": "colour"}]
            rows.append({"text": f"{before} {colour} old", "spans": spans} if n % 4 else {"text": before, "spans": []})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


TINY_TAGGER = {
    "learning_rate": 1e-2,
    "batch_size": 4,
    "checks": 2,
    "precision": "fp32",
    "max_length": 30,
    "force": True,
}


@pytest.mark.whole
def test_tagging(script, speller, tmp_path):
    data = write_tags(tmp_path / "data")

    def small(module: ModuleType) -> None:
        module.finetune = partial(finetune, **TINY_TAGGER)
        module.distill = partial(distill, **TINY_TAGGER, start="random")
        module.RUNTIMES, module.PRECISIONS = ("onnx",), ("fp32",)

    words = [
        "--mobie",
        data,
        "--multilingual",
        speller,
        "--runs",
        tmp_path / "runs",
        "--out",
        tmp_path / "out.json",
    ]
    words += ["--epochs", 4, "--seeds", 0, 1, "--students", "1/16/4/32"]
    script("tagging", *words, "--bundles", "lrc_bert", first=small)
    found = result(tmp_path / "out.json")
    ways = [row["way"] for row in found["rows"]]
    assert ways[:7] == ["teacher", "finetune", "kd", "lrc_bert", "finetune", "kd", "lrc_bert"]
    assert [(row["way"], row["runtime"], row["precision"]) for row in found["rows"][7:]] == [
        ("bundle of teacher", "onnx", "fp32"),
        ("bundle of student", "onnx", "fp32"),
        ("bundle of student, trimmed", "openvino", "int8"),
    ]
    assert {one["of"] for one in found["differences"]["mobie"]} == {"lrc_bert - finetune", "lrc_bert - kd"}
    assert all(one["interval"][0] <= one["points"] <= one["interval"][1] for one in found["differences"]["mobie"])
    page = importlib.import_module("tagging_page").tagging(found)
    assert "| 1/16/4/32, `lrc_bert` | 2 |" in page
    assert "| student | onnx | fp32 |" in page
    script("tagging", *words, "--bundles", "lrc_bert", first=small)
    assert result(tmp_path / "out.json") == found  # nothing is made again
    script("tagging", *words, "--longer", 5, "--vocabulary", "texts", "--methods", "kd", first=small)
    more = result(tmp_path / "out.json")["rows"][len(found["rows"]) :]
    assert [(row["student"], row["seed"]) for row in more] == [
        ("1/16/4/32, vocabulary of its texts, 5 epochs", seed) for seed in (0, 1)
    ]
    assert more[0]["steps"] > found["rows"][2]["steps"]

    words = [
        "--teacher",
        tmp_path / "runs" / "mobie-teacher",
        "--runs",
        tmp_path / "negatives",
        "--student",
        "1/16/4/32",
    ]
    words += ["--epochs", 1, "--batch-size", 8, "--seeds", 1, "--out", tmp_path / "negatives.json"]
    script("tagging_negatives", *words)
    found = result(tmp_path / "negatives.json")
    assert len(found["rows"]) == 6
    assert "| no mask | 1 |" in importlib.import_module("tagging_page").tagging_negatives(found)


ELSEWHERE = {
    "any_teacher_page": "`any_teacher` and `selective` make its results",
    "tagging_page": "`tagging` makes its results",
    "tagging_negatives": "beside `tagging`, of whose teacher its students are",
    "first_hour_page": "`first_hour` makes its results",
    "markdown_parts": "of the page that is compared above",
    "evidence_rows": "of the page that is compared above",
    "evidence_texts": "of the page that is compared above",
    "measured": "its file is compared above",
    "multilabel_page": "`multilabel` makes its results",
    "made_up": "its models and texts are those of `gpu`",
    "tables": "its page is compared above",
    "load": "clients, which `serve` uses",
    "serve_attack": "tests/serving attacks a server with it",
    "serve_libraries": "its other libraries have environments of their own",
}


def test_every_script_is_run():
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in SCRIPTS.glob("*.py")} - set(ELSEWHERE) <= tested
    assert set(ELSEWHERE) <= {path.stem for path in SCRIPTS.glob("*.py")}
