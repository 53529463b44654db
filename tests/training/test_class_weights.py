"""Runs whose label loss weighs classes: balanced, or by a file."""

import json
from pathlib import Path
from typing import Any

import pytest
from interruptions import stopping_at
from workshop import QUICK_TEACHER, Workshop, scored_rows, sha256, single_rows, write_csv, write_task

from contrastill import Distillation, Interrupted, UserError, distill, finetune
from contrastill.training.class_weights import read_weights

CLASSES = ("food", "music", "sport")
GOOD = {"food": 1, "music": 2.5, "sport": 0.5}


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 rows of food, 16 of music, 16 of sport."""
    rows = single_rows(96, 0)
    some = {name: [row for row in rows if row["label"] == name] for name in CLASSES}
    train = [*some["food"], *some["music"][:16], *some["sport"][:16]]
    folder = write_task(tmp_path_factory.mktemp("uneven"), single_rows)
    write_csv(folder / "train.csv", train)
    return folder


def teaching(workshop: Workshop, data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return {**QUICK_TEACHER, "model": str(workshop.encoder()), "data": str(data), "out": str(out), **changes}


def weights_file(path: Path, weights: Any) -> str:
    path.write_text(weights if isinstance(weights, str) else json.dumps(weights))
    return str(path)


def losses(folder: Path, term: str = "loss") -> list[float]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row[term] for row in rows if term in row]


def test_balanced_weights_are_in_the_record_and_on_the_page(
    workshop: Workshop, uneven: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run = finetune(**teaching(workshop, uneven, tmp_path / "run", class_weights="balanced"))
    record = json.loads((run.folder / "run.json").read_text())
    assert record["class_weights"] == pytest.approx({"food": 64 / 96, "music": 64 / 48, "sport": 64 / 48})
    said = record["data"]["decisions"]["class weights"]
    assert said == "balanced: food 0.6667, music 1.333, sport 1.333"
    assert said in caplog.text
    assert said in (run.folder / "report.html").read_text()


def test_equal_weights_change_nothing_and_others_do(workshop: Workshop, uneven: Path, tmp_path: Path) -> None:
    """A mean divides by the weights: the same factor for all classes is none."""
    plain = finetune(**teaching(workshop, uneven, tmp_path / "plain", head="random"))
    found = {}
    for name, weights in (("fours", dict.fromkeys(CLASSES, 4)), ("good", GOOD)):
        file = weights_file(tmp_path / f"{name}.json", weights)
        run = finetune(**teaching(workshop, uneven, tmp_path / name, head="random", class_weights=file))
        found[name] = losses(run.folder)
    assert found["fours"] == pytest.approx(losses(plain.folder), rel=1e-4)
    assert abs(found["good"][0] - losses(plain.folder)[0]) > 1e-3


def test_a_distillation_weighs_its_label_loss_and_resumes(workshop: Workshop, tmp_path: Path) -> None:
    file = weights_file(tmp_path / "weights.json", GOOD)
    settings = workshop.settings(tmp_path / "a", method="kd", class_weights=file, epochs=1)
    whole = distill(**settings)
    settings["out"] = str(tmp_path / "b")
    with stopping_at(3), pytest.raises(Interrupted):
        distill(**settings)
    Path(file).write_text(json.dumps({**GOOD, "food": 9}))
    with pytest.raises(UserError, match="class weights has changed"):
        distill(**settings, resume=True)
    weights_file(Path(file), GOOD)
    resumed = distill(**settings, resume=True)
    assert sha256(resumed.model / "model.safetensors") == sha256(whole.model / "model.safetensors")
    plain = distill(**workshop.settings(tmp_path / "c", method="kd", epochs=1))
    assert losses(whole.folder, "kd")[0] == losses(plain.folder, "kd")[0]
    assert losses(whole.folder, "hard")[0] != losses(plain.folder, "hard")[0]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "cannot be read"),
        ("[1, 2, 3]", "a list"),
        ('{"food": 1, "music": 1, "sport": 1, "food": 2}', "two entries are called 'food'"),
        ({"food": 1, "musik": 1, "sport": 1}, r"'musik'; did you mean 'music'\?"),
        ({"food": 1, "music": 1}, "none of sport"),
        ({}, "none of food, music, sport"),
        ({**GOOD, "food": 0}, "'food' above 0"),
        ({**GOOD, "food": -1}, "got -1"),
        ({**GOOD, "food": float("nan")}, "got NaN"),
        ({**GOOD, "food": float("inf")}, "got Infinity"),
        ({**GOOD, "food": 10**400}, "'food'"),
        ({**GOOD, "food": 1e7}, "at most 1,000,000"),
        ({**GOOD, "food": "2"}, 'got "2"'),
        ({**GOOD, "food": True}, "got true"),
        ({**GOOD, "food": None}, "got null"),
        ({**GOOD, "food": [1]}, "'food'"),
    ],
)
def test_a_file_that_gives_no_weights_is_refused(tmp_path: Path, content: Any, why: str) -> None:
    with pytest.raises(UserError, match=why):
        read_weights(Path(weights_file(tmp_path / "weights.json", content)), CLASSES)


def test_a_file_that_is_not_there_and_a_wrong_word_are_refused(tmp_path: Path) -> None:
    for name in ("none.json", "balance"):
        with pytest.raises(UserError, match=rf"--class-weights: expected 'balanced' or a JSON file.*{name}"):
            read_weights(tmp_path / name, CLASSES)


def test_what_has_no_weighted_label_loss_is_refused_before_work(workshop: Workshop, tmp_path: Path) -> None:
    scores = write_task(tmp_path / "scores", scored_rows)
    with pytest.raises(UserError, match="'regression', which has no classes"):
        finetune(**teaching(workshop, scores, tmp_path / "run", class_weights="balanced"))
    settings = workshop.settings(tmp_path / "run", method="kd", class_weights="balanced", accumulate=2)
    with pytest.raises(UserError, match="a weighted mean over the labelled examples"):
        distill(**settings)
    settings = workshop.settings(tmp_path / "run", method="kd", class_weights="balanced", set={"alpha": 1.0})
    with pytest.raises(UserError, match="label loss, got one whose weight is 0"):
        distill(**settings)
    assert not (tmp_path / "run").exists()


def test_the_word_balanced_names_no_file_in_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contrastill.results import located

    (tmp_path / "balanced").mkdir()
    (tmp_path / "weights.json").touch()
    monkeypatch.chdir(tmp_path)
    for given, stored in (("balanced", "balanced"), ("weights.json", str(tmp_path / "weights.json"))):
        record = Distillation(teacher="t", out="o", class_weights=given).record()
        assert located(record, tmp_path)["class_weights"] == stored
