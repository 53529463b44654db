"""Probabilities to act on, from a model's temperature to the bundle that says when it abstains."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import CLASSES, sentences, write_rows
from typer.testing import CliRunner

from contrastill import UserError, cli, evaluate, predict
from contrastill.bundle import METADATA, open_bundle, read_metadata
from contrastill.errors import CheckFailed
from contrastill.evaluation.calibration import softmax
from contrastill.evaluation.selective import covered, lower_bound, threshold_for
from contrastill.exporting import export, exportable
from contrastill.exporting.gate import Examples
from contrastill.exporting.run import check_target
from contrastill.exporting.verify import verify
from contrastill.exporting.write import write_metadata
from contrastill.seal import SEAL, seal_of

MADE: dict[str, Any] = {}
TEXTS = [f"{text} word{n % 14}" for n, text in enumerate(sentences(400, seed=3))]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)

    def call(*words: Any) -> tuple[int, str, str]:
        result = CliRunner().invoke(cli.app, [str(word) for word in words])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.stdout, " ".join(result.stderr.split())

    return call


@pytest.fixture
def model(tiny_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """A classifier with a temperature of 2."""
    folder = shutil.copytree(tiny_folder("bert"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"temperatures": [2.0]}))
    return folder


@pytest.fixture
def rows(model: Path, tmp_path: Path) -> Path:
    """Rows that the model answers as they are labelled, but for one in twelve: some of those it is less sure of."""
    if "rows" not in MADE:
        answers = exportable(str(model)).run(TEXTS)
        labels, sure = answers.argmax(1), answers.max(1)
        wrong = np.argsort(sure)[: len(TEXTS) // 6 : 2]
        labels[wrong] = (labels[wrong] + 1) % 3
        MADE["rows"] = "".join(f"{text},{CLASSES[label]}\n" for text, label in zip(TEXTS, labels, strict=True))
    (tmp_path / "rows.csv").write_text("text,label\n" + MADE["rows"])
    return tmp_path / "rows.csv"


@pytest.fixture
def bundle(model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To read, and not to change."""
    if "bundle" not in MADE:
        out = tmp_path_factory.mktemp("abstaining") / "bundle"
        MADE["bundle"] = export(model=str(model), data=str(rows), precision="fp32", out=str(out), target=0.9).folder
    return MADE["bundle"]


def test_the_temperature_is_in_the_graph_and_changes_no_label(
    bundle: Path, model: Path, tiny_folder: Callable[..., Path]
) -> None:
    opened, plain = open_bundle(bundle), exportable(str(tiny_folder("bert")))
    with torch.no_grad():
        logits = plain.module.model(**plain.encode(TEXTS[:50])).logits.numpy()
    expected = softmax(logits / 2, axis=1)
    assert opened.metadata["temperatures"] == [2.0]
    assert opened.run(TEXTS[:50]) == pytest.approx(expected, abs=1e-5)
    assert exportable(str(model)).run(TEXTS[:50]) == pytest.approx(expected, abs=1e-5)
    assert opened.answer.named(opened.run(TEXTS)) == plain.answer.named(plain.run(TEXTS))
    assert (opened.run(TEXTS).max(1) < plain.run(TEXTS).max(1)).all()


def test_the_bundle_holds_the_threshold_and_what_was_shown(bundle: Path, rows: Path) -> None:
    metadata = read_metadata(bundle)
    found, gate = metadata["abstain"], metadata["gate"]
    assert (found["target"], found["level"], found["data"], found["rows"]) == (0.9, 0.95, gate["data"], gate["rows"])
    assert found["low"] == lower_bound(found["right"], found["covered"]) >= 0.9
    assert found["coverage"] == found["covered"] / found["rows"] > 0.3
    assert set(gate["calibration"]) == {"torch", "bundle"}
    assert gate["calibration"]["bundle"]["error"] == pytest.approx(gate["calibration"]["torch"]["error"], abs=1e-3)
    card = (bundle / "README.md").read_text()
    assert f"where the largest probability is {found['threshold']:.4f} or more" in card
    assert "calibration error" in card
    assert verify(bundle=str(bundle))["problems"] == []


def test_predict_says_when_it_abstains(bundle: Path, rows: Path, tmp_path: Path) -> None:
    opened = open_bundle(bundle)
    threshold, sure = opened.metadata["abstain"]["threshold"], opened.run(TEXTS).max(1)
    predict(model=str(bundle), data=str(rows), out=str(tmp_path / "out.jsonl"))
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [list(one) for one in answers] == [["label", "score", "abstain"]] * len(TEXTS)
    assert [one["abstain"] for one in answers] == [one["score"] < threshold for one in answers]
    assert {one["abstain"] for one in answers} == {True, False}
    assert [one["score"] for one in answers] == pytest.approx(sure, abs=1e-5)
    predict(model=str(bundle), data=str(rows), out=str(tmp_path / "out.csv"), top=2)
    table = (tmp_path / "out.csv").read_text().splitlines()
    assert table[0] == "label,score,abstain,label_2,score_2"
    assert table[1].split(",")[2] == str(answers[0]["abstain"]).lower()
    predict(model=str(bundle), data=str(rows), out=str(tmp_path / "out.parquet"))


def test_without_a_target_answers_are_as_before(model: Path, rows: Path, tmp_path: Path) -> None:
    made = export(model=str(model), data=str(rows), precision="fp32", out=str(tmp_path / "plain"))
    assert "abstain" not in made.metadata
    assert list(open_bundle(made.folder).answer.record(np.array([0.1, 0.7, 0.2]))) == ["label", "score"]
    assert "answer alone" not in (made.folder / "README.md").read_text()


def test_evaluate_tells_what_the_bundles_threshold_covers(bundle: Path, rows: Path, run: Any) -> None:
    opened = open_bundle(bundle)
    labels = [CLASSES.index(line.split(",")[1]) for line in rows.read_text().splitlines()[1:]]
    answers = opened.run(TEXTS)
    judged = answers.max(1).astype(float), answers.argmax(1) == labels
    threshold = opened.metadata["abstain"]["threshold"]
    found = evaluate(model=str(bundle), data=str(rows))
    assert found["abstain"] == {"target": 0.9, **covered(*judged, threshold).to_json()}
    asked = evaluate(model=str(bundle), data=str(rows), target=0.95)
    chosen = threshold_for(*judged, 0.95)
    assert chosen is not None
    assert asked["target"] == {"target": 0.95, "level": 0.95, "reached": True, **chosen.to_json()}
    code, out, _ = run("evaluate", "--model", bundle, "--data", rows, "--target", 0.95)
    assert code == 0
    assert f"the bundle's threshold {threshold:.4f} (target 90.0%) covers {found['abstain']['coverage']:.1%}" in out
    assert f"target 95.0%: threshold {chosen.threshold:.4f} covers {chosen.coverage:.1%} of the rows" in out
    assert "calibration error" in out


def test_a_target_that_no_threshold_reaches(model: Path, rows: Path, tmp_path: Path, run: Any) -> None:
    lines = rows.read_text().splitlines()
    random = np.random.default_rng(0).permutation(len(TEXTS)) % 3
    guessed = [f"{line.split(',')[0]},{CLASSES[n]}" for line, n in zip(lines[1:], random, strict=True)]
    rows.write_text("\n".join(["text,label", *guessed]) + "\n")
    words = ("--data", rows, "--target", 0.9)
    code, out, err = run("export", model, "--precision", "fp32", "--max-drop", 100, "--out", "none", *words)
    assert (code, out) == (1, "")
    assert "--target 0.9: no threshold reaches it on rows dev: of the " in err
    assert "nothing was written" in err
    assert not (tmp_path / "none").exists()
    assert not list(tmp_path.glob(".export-*"))
    code, out, _ = run("evaluate", "--model", model, *words)
    assert code == 1
    assert "target 90.0%: NOT REACHED by any threshold: of the " in out
    code, out, _ = run("evaluate", "--model", model, "--json", *words)
    found = json.loads(out)["target"]
    assert code == 1
    assert (found["reached"], set(found)) == (False, {"target", "level", "reached", "reason"})


def test_of_one_class_and_of_three_rows(model: Path, rows: Path, tmp_path: Path) -> None:
    lines = rows.read_text().splitlines()
    one = [line for line in lines if line.endswith(f",{CLASSES[0]}") or line.startswith("text,")]
    few = tmp_path / "few.csv"
    few.write_text("\n".join([*one[:3], lines[-1]]) + "\n")
    found = evaluate(model=str(model), data=str(few), target=0.97)
    assert found["target"]["reason"] == "3 rows are too few: 99 are needed even if all answers are right"
    assert len(found["calibration"]["groups"]) == 1
    same = tmp_path / "same.csv"
    same.write_text("\n".join(one) + "\n")
    found = evaluate(model=str(model), data=str(same), target=0.5)
    assert found["target"]["reached"]
    assert 0 <= found["calibration"]["error"] <= 1


REFUSED = {
    "above 1": (["MODEL", "--target", 97], "--target: expected a number above 0, below 1, got"),
    "of 1": (["MODEL", "--target", 1], "--target: expected a number above 0, below 1, got"),
    "of 0": (["MODEL", "--target", 0], "--target: expected a number above 0, below 1, got"),
    "no number": (["MODEL", "--target", "nan"], "--target: expected a number above 0, below 1"),
    "too few rows": (["MODEL", "--target", 0.999], "--target 0.999: expected at least 2,995 rows to show it on, got"),
    "no data": (["MODEL", "--target", 0.9], "--target: expected labelled dev rows to choose a threshold on, got none"),
    "scores": (["SCORER", "--target", 0.9], "--target: expected a model that gives a text one class of several"),
    "vectors": (["EMBEDDER", "--target", 0.9], "--target: expected a model that gives a text one class of several"),
    "labels": (["LABELLER", "--target", 0.9], "got one that answers probabilities of 3 labels; such answers have no"),
    "tags": (["TAGGER", "--target", 0.9], "got one that answers entities of 1 types; such answers have no"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_export_refuses_what_it_cannot_promise(
    case: str, run: Any, model: Path, rows: Path, tiny_folder: Callable[..., Path], tiny_model: Any, tmp_path: Path
) -> None:
    words, message = REFUSED[case]
    (tmp_path / "some.txt").write_text("\n".join(TEXTS) + "\n")
    data = ["--texts", "some.txt"] if case in ("no data", "scores", "vectors", "labels", "tags") else ["--data", rows]
    places = {"MODEL": model, "SCORER": tiny_folder("bert", classes=1)}
    if words[0] == "EMBEDDER":
        places["EMBEDDER"] = tiny_folder("embedder")
    if words[0] == "LABELLER":
        places["LABELLER"] = changed(model, {"problem_type": "multi_label_classification", "temperatures": [1.0] * 3})
    if words[0] == "TAGGER":
        places["TAGGER"] = tagger(model, tiny_model)
    words = [places.get(word, word) for word in words]
    code, out, err = run("export", *words, *data, "--precision", "fp32", "--out", "none")
    assert code == 2, err
    assert message in err
    assert out == ""
    assert not (tmp_path / "none").exists()


def changed(folder: Path, entries: dict[str, Any]) -> Path:
    config = json.loads((folder / "config.json").read_text()) | entries
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def tagger(folder: Path, tiny_model: Any) -> Path:
    made = tiny_model("bert", tags=True)
    made.config.id2label = dict(enumerate(["O", "B-road", "I-road"]))
    made.config.label2id = {name: n for n, name in made.config.id2label.items()}
    made.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("option", ["target", "oos"])
def test_evaluate_refuses_other_tasks(option: str, tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    data = write_rows(tmp_path / "scores.csv", scores=True)
    (tmp_path / "some.txt").write_text("red\n")
    asked: Any = {"target": 0.9} if option == "target" else {"oos": str(tmp_path / "some.txt")}
    with pytest.raises(UserError, match=rf"--{option}: expected a model that gives a text one class of several"):
        evaluate(model=str(tiny_folder("bert", classes=1)), data=str(data), **asked)


def test_a_threshold_is_not_chosen_on_rows_of_training(model: Path) -> None:
    train = Examples("data train", TEXTS, "accuracy", judge=lambda answers: 1.0, split="train")
    with pytest.raises(UserError, match=r"--target: expected labelled dev rows .*got data train, from which the model"):
        check_target(0.9, exportable(str(model)), train)
    check_target(0.9, exportable(str(model)), replace(train, split="dev"))


# ---- what a bundle may say


def sealed(folder: Path, **entries: Any) -> None:
    metadata = json.loads((folder / METADATA).read_text()) | entries
    text = json.dumps(metadata | {SEAL: seal_of(metadata)})
    (folder / METADATA).write_text(text)


GOOD = {"threshold": 0.5, "target": 0.9}


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        *(("temperatures", value) for value in ([0.0], [-1.0], [float("nan")], [float("inf")], [], ["2"], [True])),
        *(("temperatures", value) for value in (2.0, None, {})),
        *(("abstain", value) for value in (0.5, [], {}, {"threshold": 0.5}, {"target": 0.9})),
        *(("abstain", GOOD | {"threshold": value}) for value in (1.5, -0.1, float("nan"), "0.5", None, True)),
        ("abstain", GOOD | {"target": 97}),
    ],
)  # fmt: skip
def test_nonsense_is_refused_even_if_it_is_sealed(
    entry: str, value: Any, bundle_of: Callable[..., Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(bundle_of("bert"), tmp_path / "copy")
    sealed(folder, **{entry: value})
    with pytest.raises(UserError, match=rf"expected another kind of {entry}, got"):
        open_bundle(folder)


def test_an_edited_threshold_breaks_the_seal(bundle_of: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(bundle_of("bert"), tmp_path / "copy")
    write_metadata(folder, {"abstain": GOOD, "temperatures": [1.5]})
    assert open_bundle(folder).answer.record(np.array([0.4, 0.3, 0.3]))["abstain"] is True
    metadata = json.loads((folder / METADATA).read_text())
    for changed_entries in ({"abstain": GOOD | {"threshold": 0.1}}, {"temperatures": [1.0]}, {"abstain": None}):
        (folder / METADATA).write_text(json.dumps(metadata | changed_entries))
        with pytest.raises(UserError, match="entries differ from the exported ones"):
            open_bundle(folder)


def test_a_regressor_cannot_abstain(bundle_of: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(bundle_of("bert", classes=1), tmp_path / "copy")
    sealed(folder, abstain=GOOD)
    with pytest.raises(UserError, match="expected another kind of abstain, got"):
        open_bundle(folder)


# ---- texts of no class


def test_texts_of_no_class_are_scored_by_probability_and_energy(
    bundle: Path, model: Path, rows: Path, run: Any
) -> None:
    Path("strangers.txt").write_text("old old old old\nword40 word41\nvery\n")
    found = evaluate(model=str(model), data=str(rows), oos="strangers.txt")
    outside = found["out_of_scope"]
    assert (outside["texts"], set(outside["scores"])) == (3, {"probability", "energy"})
    source = exportable(str(model))
    inside, others = source.run(TEXTS).max(1), source.run(["old old old old", "word40 word41", "very"]).max(1)
    shares = [np.mean((inside > one) + (inside == one) / 2) for one in others]
    assert outside["scores"]["probability"]["auroc"] == pytest.approx(np.mean(shares), abs=1e-6)
    for score in outside["scores"].values():
        low, high = score["interval"]
        assert 0 <= low <= score["auroc"] <= high <= 1
        assert 0 <= score["fpr95"] <= 1
    assert "answered" not in outside
    exported = evaluate(model=str(bundle), data=str(rows), oos="strangers.txt")["out_of_scope"]
    assert set(exported["scores"]) == {"probability"}
    assert exported["scores"]["probability"]["auroc"] == pytest.approx(np.mean(shares), abs=1e-3)
    threshold = read_metadata(bundle)["abstain"]["threshold"]
    assert exported["answered"] == np.mean(
        open_bundle(bundle).run(["old old old old", "word40 word41", "very"]).max(1) >= threshold
    )
    code, out, _ = run("evaluate", "--model", bundle, "--data", rows, "--oos", "strangers.txt")
    assert code == 0
    assert "3 texts of no class, by probability: AUROC " in out
    assert f"above the threshold {threshold:.4f}: " in out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "strangers.csv"),
        ("text\n", r"--oos: expected texts that belong to no class, got none in .*strangers\.csv"),
        ('text\nold old\n""\n', "strangers.csv, line 3: expected a text in column 'text'"),
        ("body,mood\na,b\n", "text"),
        ("SAME", r"got 400 of 400 that are among the scored rows too and have one there, such as"),
    ],
)
def test_files_that_hold_no_texts_of_no_class(
    content: str, message: str, model: Path, rows: Path, tmp_path: Path
) -> None:
    (tmp_path / "strangers.csv").write_text(rows.read_text() if content == "SAME" else content)
    with pytest.raises(UserError, match=message):
        evaluate(model=str(model), data=str(rows), oos=str(tmp_path / "strangers.csv"))


def test_a_file_that_is_not_there(model: Path, rows: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        evaluate(model=str(model), data=str(rows), oos="nowhere.txt")


def test_check_failed_is_what_python_sees(model: Path, rows: Path, tmp_path: Path) -> None:
    lines = rows.read_text().splitlines()
    rows.write_text(
        "\n".join([lines[0], *(f"{line.split(',')[0]},{CLASSES[n % 3]}" for n, line in enumerate(lines[1:]))])
    )
    with pytest.raises(CheckFailed, match="no threshold reaches it"):
        export(model=str(model), data=str(rows), precision="fp32", max_drop=100.0, out=str(tmp_path / "b"), target=0.95)


def test_a_model_whose_temperature_is_nonsense_is_refused(model: Path, rows: Path) -> None:
    for wrong in ([0.0], [-2.0], [], [1.0, 2.0, 3.0], "warm", 2.0, [float("nan")]):
        changed(model, {"temperatures": wrong})
        with pytest.raises(UserError, match=r"expected temperatures to be a list of 1 numbers above 0, got"):
            evaluate(model=str(model), data=str(rows))
