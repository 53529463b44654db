"""`contrastill export` and `verify` as they are called: what is written, what is refused, what is left behind."""

import fcntl
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import CLASSES, sentences, write_rows
from transformers import XLMRobertaForSequenceClassification
from typer.testing import CliRunner

import warm
from contrastill import cli, evaluate
from contrastill.bundle import Bundle, open_bundle
from contrastill.exporting import build, export, exportable
from contrastill.exporting.quantize import quantized_onnx
from contrastill.exporting.verify import verify
from contrastill.exporting.vocabulary import trimmed
from contrastill.exporting.write import write_metadata
from test_trimming import CORPUS, KINDS, hugging_face, model_of


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()

    def call(*words):
        result = runner.invoke(cli.app, [str(word) for word in words])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.stdout, " ".join(result.stderr.split())

    return call


@pytest.fixture
def rows(tmp_path):
    return write_rows(tmp_path / "rows.csv")


@pytest.fixture
def exported(tiny_folder, rows, tmp_path):
    """A float32 bundle with its gate, measured on the dev share of the rows."""
    return export(model=str(tiny_folder("bert")), data=str(rows), precision="fp32", out=str(tmp_path / "bundle")).folder


def test_a_classifier_with_its_gate(run, rows, tiny_folder, tmp_path):
    code, out, err = run("export", tiny_folder("bert"), "--data", rows, "--out", "b", "--max-drop", 100, "--json")
    assert code == 0, err
    shown = json.loads(out)
    gate = shown["gate"]
    assert shown["labels"] == CLASSES
    assert shown["precision"] == "int8"
    assert (gate["data"], gate["rows"], gate["metric"]) == ("rows dev", 15, "accuracy")
    assert gate["drop_points"] == pytest.approx(100 * (gate["torch"] - gate["bundle"]))
    assert gate["cut_share"] == 0.0
    assert 0.9 < gate["agreement"]["cosine_min"] <= gate["agreement"]["cosine_mean"] <= 1
    assert gate["latency_ms"]["torch_p50"] > 0
    metadata = json.loads((tmp_path / "b" / "bundle.json").read_text())
    assert metadata["gate"] == gate
    assert shown == {"bundle": "b", **metadata}
    assert "accuracy x 100" in (tmp_path / "b" / "README.md").read_text()
    assert not list(tmp_path.glob(".export-*"))


def test_what_is_printed_ends_with_lines_that_run(run, rows, tiny_folder):
    code, out, _ = run("export", tiny_folder("bert"), "--precision", "fp32", "--data", rows, "--out", "b")
    assert code == 0
    printed, names = out.partition("To run it:\n")[2], {}
    exec(printed, names)
    assert names["answers"].shape == (2, 3)


@pytest.mark.parametrize("scored", [True, False])
def test_an_embedding_model_is_judged_by_its_similarities(scored, run, tiny_folder, tmp_path):
    pairs = write_rows(tmp_path / "pairs.csv", pairs=True, scores=True)
    (tmp_path / "texts.txt").write_text("\n".join(sentences(40, seed=5)))
    extra = ["--data", pairs] if scored else []
    code, out, err = run(
        "export", tiny_folder("embedder"), "--texts", "texts.txt", *extra, "--out", "b", "--max-drop", 100, "--json"
    )
    assert code == 0, err
    gate = json.loads(out)["gate"]
    assert gate["metric"] == ("spearman" if scored else "spearman with torch's similarities")
    assert (gate["torch"] == pytest.approx(1)) == (not scored)
    assert 0.9 < gate["agreement"]["cosine_mean"] < 1


def test_a_file_that_lost_too_much_is_not_written(run, rows, tiny_folder, tmp_path, monkeypatch):
    import onnx

    def ruined(graph, path, recipe, samples, keep_head):
        quantized_onnx(graph, path, recipe, samples, keep_head)
        model = onnx.load(path)
        for tensor in model.graph.initializer:
            if tensor.name.endswith("classifier.bias"):  # one class for everything
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([90, 0, 0], np.float32), tensor.name))
        onnx.save(model, path)

    monkeypatch.setattr("contrastill.exporting.write.quantized_onnx", ruined)
    monkeypatch.setattr(
        "contrastill.tasks.Classification.score", lambda _, a, *__: {"accuracy": float((a.argmax(1) > 0).mean())}
    )
    code, _, err = run("export", tiny_folder("bert"), "--data", rows, "--out", "b")
    assert code == 1
    assert "loses more than --max-drop 0.5 points" in err
    assert "Try more calibration texts" in err
    assert all(name in err for name in ("static", "static-attention-kept", "dynamic"))  # every recipe was tried
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv"]


def test_without_data_the_card_says_that_nothing_was_measured(run, tiny_folder, tmp_path):
    code, out, _ = run("export", tiny_folder("bert"), "--precision", "fp32", "--out", "b")
    assert code == 0
    assert "not measured" in out
    assert "**not measured**" in (tmp_path / "b" / "README.md").read_text()


def test_a_run_lends_its_data_and_keeps_its_bundles(run, rows, tiny_folder, tmp_path):
    shutil.copytree(tiny_folder("bert"), tmp_path / "runs" / "s" / "student")
    test = write_rows(tmp_path / "test.csv", count=20)
    settings = {"data": str(rows), "max_length": 12, "teacher": "runs/big/model", "dev_share": 0.2, "test": str(test)}
    (tmp_path / "runs" / "s" / "run.json").write_text(json.dumps({"settings": settings}))
    code, out, err = run("export", "runs/s", "--precision", "fp32", "--json")
    assert code == 0, err
    shown = json.loads(out)
    assert shown["bundle"] == "runs/s/exports/onnx-fp32"
    assert (shown["name"], shown["teacher"], shown["max_length"]) == ("s", "big", 12)
    assert shown["gate"]["rows"] == 12
    expected = evaluate(model="runs/s/exports/onnx-fp32", data=str(test))
    assert shown["test"] == {"data": "rows test"} | {name: expected[name] for name in ("metrics", "rows", "interval")}
    code, _, err = run("export", "runs/s", "--precision", "fp32")
    assert code == 2
    assert "holds something already; pass --overwrite" in err
    test.unlink()
    assert run("export", "runs/s", "--precision", "fp32", "--overwrite")[0] == 0
    assert "test" not in json.loads((tmp_path / "runs/s/exports/onnx-fp32/bundle.json").read_text())
    rows.rename(tmp_path / "elsewhere.csv")
    code, _, err = run("export", "runs/s", "--overwrite")
    assert code == 2
    assert "the run's own data: expected" in err
    assert "or give --data" in err


BAD = {
    "no such model": (["nowhere/at/all", "--out", "b"], "found nothing at"),
    "no model": (["empty", "--out", "b"], "expected a model's folder"),
    "no place": (["MODEL", "--precision", "fp32"], "missing --out"),
    "a file for a folder": (["MODEL", "--out", "rows.csv"], "expected a folder, got the file"),
    "a folder of something else": (["MODEL", "--out", "full", "--overwrite"], "holds something else"),
    "bfloat16 for ONNX": (["MODEL", "--precision", "bf16", "--out", "b"], "use --to openvino"),
    "a format": (["MODEL", "--to", "tflite", "--out", "b"], "--to: expected one of onnx, openvino, got 'tflite'"),
    "a precision": (
        ["MODEL", "--precision", "int4", "--out", "b"],
        "expected one of fp32, bf16, int8, got 'int4'",
    ),
    "a recipe": (["MODEL", "--recipe", "magic", "--data", "rows.csv", "--out", "b"], "expected one of static"),
    "a recipe elsewhere": (["MODEL", "--recipe", "weights", "--data", "rows.csv", "--out", "b"], "with --to onnx"),
    "an opset": (["MODEL", "--opset", "99", "--data", "rows.csv", "--out", "b"], "expected an --opset from 18"),
    "a drop": (["MODEL", "--max-drop", "-1", "--out", "b"], "--max-drop: expected a number from 0 to 100 (points)"),
    "nothing to calibrate on": (["MODEL", "--out", "b"], "int8 needs texts to calibrate on"),
    "empty texts": (["MODEL", "--texts", "blank.txt", "--out", "b"], "blank.txt: expected rows, got an empty file"),
    "no labels": (["MODEL", "--data", "unlabelled.csv", "--out", "b"], "label"),
    "other classes": (["MODEL", "--data", "other.csv", "--out", "b"], "classes of the model (cold, mild, hot), got"),
    "other columns": (["MODEL", "--data", "rows.csv", "--text", "body", "--out", "b"], "body"),
    "no scores": (["EMBEDDER", "--data", "rows.csv", "--texts", "some.txt", "--out", "b"], "expected a score per pair"),
    "too long": (["MODEL", "--max-length", "99", "--data", "rows.csv", "--out", "b"], "from 4 to 34"),
    "a dev file alone": (["MODEL", "--precision", "fp32", "--dev", "rows.csv", "--out", "b"], "--dev: expected --data"),
    "a label of vectors": (
        ["EMBEDDER", "--label", "x", "--texts", "some.txt", "--out", "b"],
        "--label: expected a class",
    ),
    "below a file": (["MODEL", "--data", "rows.csv", "--out", "rows.csv/b"], "cannot write to rows.csv/b"),
    "the folder one is in": (["MODEL", "--data", "rows.csv", "--out", ".", "--overwrite"], "that can be replaced"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_before_work(case, run, rows, tiny_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "some.txt").write_text("red cat\nold dog\n")
    (tmp_path / "unlabelled.csv").write_text("text\nred\ngreen\n")
    (tmp_path / "other.csv").write_text("text,label\n" + "".join(f"red {n},{'ab'[n % 2]}\n" for n in range(40)))
    words, message = BAD[case]
    names = {"MODEL": tiny_folder("bert"), "EMBEDDER": tiny_folder("embedder") if "EMBEDDER" in words else ""}
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run("export", *(names.get(word, word) for word in words))
    assert code == 2, err
    assert message in err
    assert "Traceback" not in err
    assert out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_leaves_nothing(run, rows, tiny_folder, tmp_path, monkeypatch):
    import errno

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("contrastill.exporting.run.write_bundle", full)
    code, _, err = run("export", tiny_folder("bert"), "--precision", "fp32", "--data", rows, "--out", "b")
    assert code == 2
    assert "no space left on the disk" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv"]


def test_a_disk_without_room_is_seen_before(run, rows, tiny_folder, monkeypatch):
    monkeypatch.setattr("contrastill.exporting.run.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
    code, _, err = run("export", tiny_folder("bert"), "--precision", "fp32", "--data", rows, "--out", "b")
    assert code == 2
    assert "MB free at b" in err.replace("\n", " ")


def test_a_failed_export_leaves_the_former_bundle(run, exported, rows, tiny_folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in exported.iterdir()}
    words = ["export", tiny_folder("bert"), "--precision", "fp32", "--data", rows, "--out", exported, "--overwrite"]
    with monkeypatch.context() as patch:  # the gate refuses
        patch.setattr("contrastill.tasks.Classification.score", lambda _, a, *__: {"accuracy": float(a.sum() == 0)})
        patch.setattr(
            "contrastill.exporting.gate.Examples.points_lost", lambda *_: {"drop_points": 50, "torch": 1, "bundle": 0.5}
        )
        assert run(*words)[0] == 1
    rename = Path.rename

    def refusing(self, goal):
        if self.name == "fp32":
            raise PermissionError(13, "Permission denied", str(goal))
        return rename(self, goal)

    with monkeypatch.context() as patch:  # the last step fails, when the former has been moved away
        patch.setattr(Path, "rename", refusing)
        code, _, err = run(*words)
        assert code == 2
        assert "could not be written ([Errno 13] Permission denied" in err
    assert {path.name: path.read_bytes() for path in exported.iterdir()} == before
    assert not list(exported.parent.glob(".export-*"))


def test_a_killed_export_leaves_nothing_under_the_name_and_the_next_one_tidies_up(run, rows, tiny_folder, tmp_path):
    code = (
        "import os, signal\nfrom contrastill.exporting import run\n"
        "run.compare = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"run.export(model={str(tiny_folder('bert'))!r}, data={str(rows)!r}, precision='fp32', out='b')"
    )
    killed = warm.run([sys.executable, "-c", code], cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (left,) = tmp_path.glob(".export-*")
    assert (left / "fp32" / "model.onnx").is_file()
    assert not (tmp_path / "b").exists()
    os.utime(left, (0, 0))
    alive = tmp_path / ".export-alive"
    alive.mkdir()
    with (alive / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.utime(alive, (0, 0))
        assert run("export", tiny_folder("bert"), "--precision", "fp32", "--data", rows, "--out", "b")[0] == 0
    assert [*tmp_path.glob(".export-*")] == [alive]


def test_a_model_that_uses_all_its_positions(run, rows, tiny_folder):
    code, _, err = run(
        "export", tiny_folder("bert"), "--precision", "fp32", "--max-length", 34, "--data", rows, "--out", "b"
    )
    assert code == 0, err


def test_two_texts_are_too_few_to_be_judged_on(run, tiny_folder, tmp_path):
    (tmp_path / "two.txt").write_text("red cat\nold dog\n")
    code, out, err = run(
        "export", tiny_folder("embedder"), "--precision", "fp32", "--texts", "two.txt", "--out", "b", "--json"
    )
    assert code == 0, err
    assert (json.loads(out)["gate"]["data"], json.loads(out)["gate"]["rows"]) == ("made-up texts", 64)


# ---- verify


def probes_of(folder):
    return json.loads((folder / "bundle.json").read_text())["probes"]


def test_a_regressors_scores_are_compared_by_their_size(run, tiny_folder, tmp_path):
    folder = build(exportable(str(tiny_folder("bert", classes=1))), tmp_path / "b", precision="fp32")
    code, out, _ = run("verify", folder, "--json")
    assert code == 0
    assert json.loads(out)["probes"]["likeness_min"] > 0.999
    probes = probes_of(folder)
    probes["answers"] = [[2 * score] for (score,) in probes["answers"]]  # the same sign
    write_metadata(folder, {"probes": probes})
    code, out, _ = run("verify", folder)
    assert code == 1
    assert "differ here (similarity 0.5" in out


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("probes", {"texts": ["red"]}, "the stored answers (probes) are damaged"),
        ("probes", ["red"], "the stored answers (probes) are damaged"),
        ("probes", {"texts": ["red", "cat"], "answers": [[0.5, 0.5, 0]]}, "the stored answers (probes) are damaged"),
        ("gate", {"metric": "accuracy"}, "the recorded measurements (gate) are damaged"),
        ("gate", [1], "the recorded measurements (gate) are damaged"),
    ],
)
def test_a_record_that_is_damaged(entry, value, message, run, exported, rows):
    write_metadata(exported, {entry: value})
    code, _, err = run("verify", exported, "--data", rows)
    assert code == 2
    assert message in err


def test_a_bundle_verifies_with_its_own_data_and_alone(run, exported, rows):
    code, out, _ = run("verify", exported, "--json")
    assert code == 0
    assert list(json.loads(out)) == ["bundle", "files", "problems", "probes"]
    assert json.loads(out)["probes"]["likeness_min"] > 0.999
    found = verify(bundle=str(exported), data=str(rows))
    assert list(found) == [
        "bundle", "files", "problems", "probes", "data", "rows", "metric", "value", "interval", "as_exported",
        "drop_points",
    ]  # fmt: skip
    assert list(found["as_exported"]) == ["data", "torch", "bundle", "drop_points", "max_drop"]
    assert found["rows"] == 60  # a file by itself: all of it
    assert found["problems"] == []
    assert found["value"] == pytest.approx(np.mean([*map(right_answer(exported), range(60))]))


def right_answer(folder):
    answers = open_bundle(folder).run(sentences(60)).argmax(axis=1)
    return lambda n: answers[n] == n % 3


def test_a_worse_value_is_a_problem_and_exit_code_1(run, exported, tmp_path):
    gate = json.loads((exported / "bundle.json").read_text())["gate"]
    write_metadata(exported, {"gate": gate | {"torch": 1.0}})
    code, out, _ = run("verify", exported, "--data", tmp_path / "rows.csv", "--max-drop", 1)
    assert code == 1
    assert "PROBLEM: accuracy" in out
    assert run("verify", exported, "--data", tmp_path / "rows.csv", "--max-drop", 100)[0] == 0


def test_a_machine_that_computes_otherwise_is_a_problem(run, exported):
    probes = probes_of(exported)
    write_metadata(exported, {"probes": probes | {"answers": [row[::-1] for row in probes["answers"]]}})
    code, out, _ = run("verify", exported)
    assert code == 1
    assert "the answers to the stored texts differ here" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["BUNDLE", "--max-drop", "1"], "expected --data with it"),
        (["BUNDLE", "--data", "pairs.csv"], "expected one text a row for this model, got pairs"),
        (["BUNDLE", "--data", "rows.csv", "--split", "noon"], "--split: expected one of train, dev, test"),
        (["BUNDLE", "--data", "missing.csv"], "missing.csv"),
        (["MODEL"], "expected a bundle"),
    ],
)
def test_verify_refuses_what_does_not_fit(words, message, run, exported, tiny_folder, tmp_path):
    write_rows(tmp_path / "pairs.csv", pairs=True)
    names = {"BUNDLE": exported, "MODEL": tiny_folder("bert")}
    code, _, err = run("verify", *(names.get(word, word) for word in words))
    assert code == 2, err
    assert message in err


# ---- a smaller vocabulary


def test_texts_of_the_corpus_are_read_and_answered_as_before(tiny_folder, tmp_path):
    source = exportable(str(tiny_folder("bert")))
    corpus = ["red cat", "green dog sleeps", "old"]
    smaller, report = trimmed(source, corpus, ["blue cat runs", "red cat"])
    assert report.after < report.before == 50
    assert smaller.parameters == source.parameters - report.parameters_saved
    np.testing.assert_allclose(smaller.run(corpus), source.run(corpus), atol=1e-6)
    tokens = smaller.tokenizer.convert_ids_to_tokens
    assert [tokens(row) for row in smaller.encode(corpus)["input_ids"]] == [
        source.tokenizer.convert_ids_to_tokens(row) for row in source.encode(corpus)["input_ids"]
    ]
    assert (report.split_otherwise, report.unknown_before) == (0.5, 0)
    assert report.longer > 1.5  # "blue" is spelt: b ##l ##u ##e
    assert report.unknown_after == 0
    bundle = open_bundle(build(smaller, tmp_path / "b", precision="fp32"), threads=1)
    np.testing.assert_allclose(bundle.run(corpus), source.run(corpus), atol=1e-5)
    assert bundle.tokenizer.get_vocab_size() == report.after


@pytest.mark.parametrize("kind", ["unigram", "bytes_bpe"])
def test_a_bundle_of_another_trimmed_tokenizer_answers_as_the_whole_model(kind, tmp_path):
    torch.manual_seed(0)
    tokenizer, corpus = hugging_face(KINDS[kind]()), CORPUS[:40]
    config = model_of(tokenizer).config
    XLMRobertaForSequenceClassification(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    source = exportable(str(tmp_path / "model"))
    smaller, report = trimmed(source, corpus, [])
    bundle = open_bundle(build(smaller, tmp_path / "b", precision="fp32"), threads=1)
    assert bundle.tokenizer.get_vocab_size() == report.after < report.before
    np.testing.assert_allclose(bundle.run(corpus), source.run(corpus), atol=1e-5)
    assert bundle.metadata["pad_id"] == smaller.encoder.config.pad_token_id == source.tokenizer.pad_token_id


def test_trim_is_compared_with_the_whole_model(run, rows, tiny_folder, tmp_path):
    (tmp_path / "few.txt").write_text("red cat\nold dog\n")
    code, out, err = run(
        "export", tiny_folder("bert"), "--trim", "--texts", "few.txt", "--data", rows, "--out", "b", "--max-drop", 100,
        "--precision", "fp32", "--json",
    )  # fmt: skip
    assert code == 0, err
    shown = json.loads(out)
    assert shown["vocabulary"]["split_otherwise"] > 0.5
    assert shown["gate"]["agreement"]["cosine_min"] < 0.9999  # fp32 alone would agree to the sixth digit


@pytest.mark.parametrize("fault", [lambda answers: answers[:, ::-1], lambda answers: answers * np.nan])
def test_a_runtime_that_is_wrong_at_one_length_is_noticed(fault, run, rows, tiny_folder, tmp_path, monkeypatch):
    """As OpenVINO's int8 attention is, where a text has as many tokens as a head is wide."""
    right = Bundle.compute

    def wrong(self, inputs):
        answers = right(self, inputs)
        return fault(answers) if inputs["input_ids"].shape[1] == 13 else answers

    monkeypatch.setattr(Bundle, "compute", wrong)
    code, _, err = run("export", tiny_folder("bert"), "--precision", "fp32", "--data", rows, "--out", "b")
    assert code == 1
    assert "answers change when a text is padded" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv"]
