"""Tagging through everything: teacher, students, scores, page, bundle, predictions, the server's answers."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForTokenClassification
from workshop import CLASSES, QUICK, QUICK_TEACHER, Workshop, write_splits

from contrastill import UserError, distill, evaluate, export, finetune, predict, verify
from contrastill.bundle import open_bundle
from contrastill.data.windows import windows_of
from contrastill.errors import CheckFailed
from contrastill.loading import load_tokenizer
from contrastill.spans import Scheme
from contrastill.tasks import Tagging, load_rows

TYPES = ("food", "music", "sport")
METRICS = {"f1", "precision", "recall", "f1_macro"}
FILLING = [f"word{n}" for n in range(8)]


def tagged(rng: random.Random, parts: int) -> dict[str, Any]:
    """Words that mean nothing, and entities of one or two words of a class."""
    text, spans = "", []
    for _ in range(parts):
        text += " ".join(rng.choices(FILLING, k=rng.randint(1, 3))) + " "
        kind = rng.choice(TYPES)
        surface = " ".join(rng.choices(CLASSES[kind], k=rng.randint(1, 2)))
        spans.append({"start": len(text), "end": len(text) + len(surface), "label": kind})
        text += surface + " "
    return {"text": text.strip(), "spans": spans}


def write_rows(path: Path, count: int, seed: int) -> None:
    rng = random.Random(seed)
    rows = [
        tagged(rng, n % 4) if n % 4 else {"text": " ".join(rng.choices(FILLING, k=6)), "spans": []}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_splits(tmp_path_factory.mktemp("spans"), write_rows)


@pytest.fixture(scope="module")
def teacher(workshop: Workshop, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("teacher") / "run"
    settings = QUICK_TEACHER | {"epochs": 45, "out": str(out), "data": str(data), "task": "tagging"}
    return finetune(model=str(workshop.encoder()), **settings)


@pytest.fixture(scope="module")
def student(teacher: Any, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    (data / "more.txt").write_text("word1 soup word2\nword3 word4\n")
    out = tmp_path_factory.mktemp("student") / "run"
    more = {"unlabelled": str(data / "more.txt"), "perturb": "l2-per-token"}
    return distill(teacher=str(teacher.model), data=str(data), out=str(out), **QUICK | {"epochs": 6, **more})


@pytest.fixture(scope="module")
def bundle(student: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return export(model=str(student.folder), precision="fp32", out=str(tmp_path_factory.mktemp("bundle") / "b"))


def test_a_teacher_learns_and_its_model_says_what_it_answers(teacher: Any) -> None:
    scores = teacher.metrics["model"]["test"]
    assert set(scores["metrics"]) == METRICS
    assert scores["metrics"]["f1"] > 0.85
    assert scores["interval"][0] <= scores["metrics"]["f1"] <= scores["interval"][1]
    model = AutoModelForTokenClassification.from_pretrained(teacher.model)
    assert [model.config.id2label[n] for n in range(7)] == list(Scheme.bio(TYPES).tags)
    card = (teacher.model / "README.md").read_text()
    assert "entities: food, music, sport" in card
    assert 'pipeline("token-classification"' in card


def test_a_student_learns_from_it_without_a_changed_line_of_the_method(student: Any) -> None:
    record = json.loads((student.folder / "run.json").read_text())
    assert (record["settings"]["task"], record["settings"]["method"]) == ("tagging", "lrc_bert")
    assert record["data"]["splits"]["train"]["unlabelled"] == 2
    assert student.metrics["student"]["test"]["metrics"]["f1"] > 0.6
    assert student.metrics["kept"]["test"] > 0.6
    evidence = json.loads((student.folder / "evidence.json").read_text())
    assert (evidence["kind"], [one["name"] for one in evidence["classes"]]) == ("tagging", list(TYPES))
    page = (student.folder / "report.html").read_text()
    assert all(
        words in page for words in ("Types of entities", "teacher, times", "Where student and teacher differ most")
    )
    assert all(name in page for name in TYPES)


@pytest.mark.parametrize("method", ["kd", "pkd", "tinybert", "finetune"])
def test_every_method_of_labels_runs(teacher: Any, data: Path, tmp_path: Path, method: str) -> None:
    settings = QUICK | {"epochs": 1, "checks": 1, "method": method, "out": str(tmp_path / "run")}
    run = distill(teacher=str(teacher.model), data=str(data), **settings)
    assert set(run.metrics["student"]["dev"]["metrics"]) == METRICS


def test_a_cached_teacher_gives_the_student_that_a_live_one_gives(teacher: Any, data: Path, tmp_path: Path) -> None:
    runs = []
    for name, cache in (("live", "none"), ("stored", str(tmp_path / "cache"))):
        settings = QUICK | {"epochs": 1, "checks": 1, "method": "kd", "precision": "fp32", "cache": cache}
        settings |= {"max_length": 12}  # some texts are several windows
        if cache != "none":
            settings["cache_dtype"] = "float32"
        runs.append(distill(teacher=str(teacher.model), data=str(data), out=str(tmp_path / name), **settings))
    live, stored = (run.metrics["student"]["dev"]["metrics"] for run in runs)
    assert live == pytest.approx(stored, abs=1e-6)


def test_windows_lose_no_text_and_hide_only_the_part_of_an_entity_that_another_shows(teacher: Any, data: Path) -> None:
    rows, tokenizer = load_rows(str(data)).train, load_tokenizer(str(teacher.model))
    found = windows_of(rows, tokenizer, 9, Scheme.bio(TYPES))
    assert sum(reading.long for reading in found.readings) > 40
    numbers = found.rows["text_number"]
    for number, reading in enumerate(found.readings):
        mine = [row for row, n in zip(found.rows, numbers, strict=True) if n == number]
        assert len(mine) == len(reading.windows)
        begun = [sum(label % 2 == 1 for label in row["labels"]) for row in mine]  # B tags are odd
        assert max(begun, default=0) <= len(rows[number]["label"]) // 3
        assert sum(begun) >= len(rows[number]["label"]) // 3  # each entity begins in some window
        for row in mine:
            assert all(
                (label >= -100) and (at or label == -100)
                for label, at in zip(row["labels"], row["answered"], strict=True)
            )


def test_shorter_windows_give_the_same_scores_all_but(teacher: Any, data: Path) -> None:
    whole = evaluate(model=str(teacher.folder), data=str(data), split="test")
    short = evaluate(model=str(teacher.folder), data=str(data), split="test", max_length=9)
    assert whole["cut_share"] == 0
    assert short["cut_share"] > 0.3
    assert short["metrics"]["f1"] == pytest.approx(whole["metrics"]["f1"], abs=0.1)


def test_a_bundle_finds_the_same_entities(student: Any, bundle: Any, data: Path, tmp_path: Path) -> None:
    assert bundle.metadata["task"] == "tagging"
    gate = bundle.metadata["gate"]
    assert (gate["metric"], gate["agreement"]["equal_labels"]) == ("f1", 1)
    assert set(gate["types"]) == set(TYPES)
    checked = verify(bundle=str(bundle.folder), data=str(data / "test.jsonl"), max_drop=100.0)
    assert checked["problems"] == []
    assert checked["value"] == pytest.approx(student.metrics["student"]["test"]["metrics"]["f1"], abs=1e-4)
    scored = evaluate(model=str(bundle.folder), data=str(data / "test.jsonl"))
    assert scored["metrics"] == pytest.approx(student.metrics["student"]["test"]["metrics"], abs=1e-4)
    rows = []
    for n, model in enumerate((bundle.folder, student.folder)):
        out = tmp_path / f"{n}.jsonl"
        predict(model=str(model), data=str(data / "test.jsonl"), text="text", keep=["text"], out=str(out))
        rows.append([json.loads(line) for line in out.read_text().splitlines()])
    for one, other in zip(*rows, strict=True):
        assert [span["text"] for span in one["spans"]] == [one["text"][s["start"] : s["end"]] for s in one["spans"]]
        assert [(s["start"], s["end"], s["label"]) for s in one["spans"]] == [
            (s["start"], s["end"], s["label"]) for s in other["spans"]
        ]
        assert [s["score"] for s in one["spans"]] == pytest.approx([s["score"] for s in other["spans"]], abs=1e-3)
    assert sum(len(row["spans"]) for row in rows[0]) > 20


def test_one_models_spans_are_anothers_labels(bundle: Any, data: Path, workshop: Workshop, tmp_path: Path) -> None:
    texts = [json.loads(line)["text"] for line in (data / "train.jsonl").read_text().splitlines()]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    predict(
        model=str(bundle.folder),
        data=str(data / "train.jsonl"),
        text="text",
        keep=["text"],
        out=str(tmp_path / "said.jsonl"),
    )
    settings = QUICK_TEACHER | {"epochs": 1, "checks": 1, "out": str(tmp_path / "run")}
    settings |= {"data": str(tmp_path / "said.jsonl"), "dev": str(data / "dev.jsonl")}
    run = finetune(model=str(workshop.encoder()), **settings)
    assert set(run.metrics["model"]["dev"]["metrics"]) == METRICS


def test_a_text_of_five_thousand_words_has_the_entities_of_its_last_paragraph(bundle: Any, student: Any) -> None:
    model = open_bundle(bundle.folder)
    last = "word1 word2 soup word3"
    text = "word1 word2 word3 word4 " * 1250 + "\n\n" + last
    assert len(text.split()) > 5_000
    (alone,), (found,) = model.run([last]), model.run([text])
    scheme = model.answer.scheme
    there = [text[s.start : s.end] for s in found.spans(scheme) if s.start >= len(text) - len(last)]
    assert found.windows > 50
    assert there == [last[s.start : s.end] for s in alone.spans(scheme)] == ["soup"]


def test_the_bundles_own_function_needs_no_package_of_ours(bundle: Any, tmp_path: Path) -> None:
    card = (bundle.folder / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0].replace("PATH OF THIS FOLDER", str(bundle.folder))
    code = code.replace('"a text, of any length"', '"word1 soup word2 " * 40')
    (tmp_path / "run.py").write_text(code + "\nassert not {'torch', 'contrastill'} & set(sys.modules)\n")
    done = subprocess.run([sys.executable, "-I", str(tmp_path / "run.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("soup") == 40


def test_a_type_that_loses_more_than_allowed_stops_the_export(student: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from contrastill.exporting import gate

    real = gate.Examples.points_lost

    def worse(self: Any, before: Any, after: Any) -> Any:
        found = real(self, before, after)
        found["types"]["music"]["bundle"] -= 0.2
        return found

    monkeypatch.setattr(gate.Examples, "points_lost", worse)
    settings = {"model": str(student.folder), "precision": "fp32", "out": str(tmp_path / "bundle")}
    with pytest.raises(CheckFailed, match=r"20\.00 points of the F1 of 'music', more than --max-drop-type 5"):
        export(**settings, max_drop_type=5.0)
    assert not (tmp_path / "bundle").exists()
    assert export(**settings, max_drop_type=30.0).metadata["gate"]["max_drop_type"] == 30


def test_a_limit_by_type_is_for_taggers(workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--max-drop-type: expected a tagger with it"):
        export(model=str(workshop.teacher()), out=str(tmp_path / "b"), max_drop_type=1.0)


def test_a_teacher_of_classes_is_told_from_a_tagger(workshop: Workshop, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a model that answers the task of the data \(tagging\)"):
        distill(teacher=str(workshop.teacher()), data=str(data), out=str(tmp_path / "run"), **QUICK)


def test_tags_of_another_scheme_are_the_teachers_own(teacher: Any, data: Path, tmp_path: Path) -> None:
    model = AutoModelForTokenClassification.from_pretrained(teacher.model)
    names = {n: model.config.id2label[6 - n] for n in range(7)}  # in reverse, "O" last
    model.config.id2label, model.config.label2id = names, {name: n for n, name in names.items()}
    model.classifier.weight.data, model.classifier.bias.data = (
        model.classifier.weight.flip(0),
        model.classifier.bias.flip(0),
    )
    model.save_pretrained(tmp_path / "other")
    load_tokenizer(str(teacher.model)).save_pretrained(tmp_path / "other")
    scores = [
        evaluate(model=str(m), data=str(data), split="test")["metrics"] for m in (teacher.model, tmp_path / "other")
    ]
    assert scores[0] == pytest.approx(scores[1])
    settings = QUICK | {"epochs": 1, "checks": 1, "method": "kd", "out": str(tmp_path / "run")}
    run = distill(teacher=str(tmp_path / "other"), data=str(data), **settings)
    assert run.metrics["teacher"]["test"]["metrics"] == pytest.approx(scores[0])
    student = AutoModelForTokenClassification.from_pretrained(run.model)
    assert student.config.id2label[6] == "O"


def test_labels_of_texts_count_by_text() -> None:
    task = Tagging(["a", "b"])
    assert task.names == ("O", "B-a", "I-a", "B-b", "I-b")
    assert task.head()["num_labels"] == 5
    assert "problem_type" not in task.head()


def test_the_server_gives_the_spans_that_python_gives(bundle: Any, data: Path) -> None:
    testclient = pytest.importorskip("starlette.testclient")
    from contrastill.serving.app import make_app
    from contrastill.settings import Serving

    model = open_bundle(bundle.folder)
    texts = [json.loads(line)["text"] for line in (data / "test.jsonl").read_text().splitlines()][:8]
    texts.append("word1 word2 " * 60 + "soup 👩‍👩‍👧 word3")
    with testclient.TestClient(make_app(model, Serving.given({"bundle": str(bundle.folder)}))) as client:
        found = client.post("/predict", json={"texts": texts}).json()
        expected = [model.answer.record(row) for row in model.run(texts)]
        assert [[s["text"] for s in one["spans"]] for one in found["predictions"]] == [
            [s["text"] for s in one["spans"]] for one in expected
        ]
        assert found["predictions"][-1]["spans"][-1]["text"] == "soup"
        assert found["usage"]["truncated"] == 0
        assert found["usage"]["tokens"] > 130
        words = client.post("/predict", json={"texts": texts[:1], "top": 2}).json()["predictions"][0]["words"]
        assert len(words) == len(texts[0].split())
        assert "in overlapping parts" in client.get("/").text
        assert client.post("/embed", json={"texts": texts[:1]}).status_code == 404


def test_a_tagger_without_its_run_is_exported_with_texts_alone(student: Any, data: Path, tmp_path: Path) -> None:
    shutil.copytree(student.model, tmp_path / "tagger")
    texts = [json.loads(line)["text"] for line in (data / "train.jsonl").read_text().splitlines()]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    made = export(
        model=str(tmp_path / "tagger"), texts=[str(tmp_path / "texts.txt")], out=str(tmp_path / "b"), calibration=16
    )
    assert made.metadata["gate"] is None
    assert made.metadata["probes"]["texts"]
    assert verify(bundle=str(made.folder))["problems"] == []
    assert open_bundle(made.folder).run(texts[:4])[0].values.shape[1] == 7
    onnx = pytest.importorskip("onnx")  # int8 but for the layer of the logits: see `quantize.openvino_file`
    kept = onnx.load(made.folder / "model.onnx").graph.initializer
    assert any(7 in one.dims and len(one.dims) == 2 and one.data_type == onnx.TensorProto.FLOAT for one in kept)
    assert any(one.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8) for one in kept)


def test_a_tagger_is_checked_before_it_is_trained(workshop: Workshop, data: Path) -> None:
    from typer.testing import CliRunner

    from contrastill.cli import app

    words = ["doctor", "--teacher", str(workshop.teacher()), "--data", str(data)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "expected a model that answers the task of the data (tagging)" in " ".join(done.output.split())
