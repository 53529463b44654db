"""What a run's page says to do next: commands that fit the run, that a shell reads, and that the command line knows."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from run_folders import METRICS, RECORD, Page, log_rows, scores, write_bundle

from contrastill.cli import app
from contrastill.report import write_report
from contrastill.report.next_steps import MOST, next_steps
from contrastill.report.run import read_run

Write = Callable[..., Path]
SLOWER = "the loss rose from 1 to 2; lower --learning-rate (it was 0.0003)"


def commands(folder: Path) -> list[list[str]]:
    """The words of each command, after the command line has read it."""
    found = [shlex.split(step.command) for step in next_steps(read_run(folder))]
    group: Any = typer.main.get_command(app)
    for program, name, *words in found:
        assert program == "contrastill"
        group.commands[name].make_context(name, list(words))
    return [words[1:] for words in found]


def record(**settings: Any) -> dict[str, Any]:
    return {**RECORD, "settings": RECORD["settings"] | {"learning_rate": 3e-4, **settings}}


def timed() -> dict[str, Any]:
    row = {"model": "student", "runtime": "torch", "precision": "fp32", "length": "data", "batch": 1, "p50_ms": 5.0}
    return {"threads": 2, "rows": [row]}


def test_a_fresh_student_is_exported_then_timed(write_run: Write) -> None:
    folder = write_run()
    assert [words[0] for words in commands(folder)] == ["export", "bench"]
    assert commands(folder)[0] == ["export", str(folder), "--to", "onnx", "--precision", "int8"]
    page = Page(write_report(folder))
    assert "What to do next" in page.text
    assert f"contrastill bench --run {folder}" in page.text


def test_what_is_done_is_not_said_again(write_run: Write) -> None:
    folder = write_run(bench=timed())
    write_bundle(folder / "exports" / "onnx-int8", "int8", 0.87, 2.0, 14_500_000)
    assert commands(folder) == [["serve", f"{folder}/exports/onnx-int8"]]


def test_a_wide_interval_asks_for_more_rows(write_run: Write) -> None:
    known = scores(0.85, 0.84, 36) | {"interval": [0.75, 0.95]}
    metrics = {**METRICS, "student": METRICS["student"] | {"test": known}}
    assert ["evaluate", "--model"] in [words[:2] for words in commands(write_run(metrics=metrics))]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (SLOWER, ["--learning-rate", "0.0001"]),
        ("dev still rises; train longer (--epochs), or on more rows", ["--epochs", "4"]),
        ("dev has 30 rows; score it on more rows (--dev FILE)", ["--dev", "FILE"]),
        ("the rate is low; raise --learning-rate", ["--learning-rate", "0.0009"]),
        ("it fell; lower --learning-rate (it was 0.0003), or take other --data", ["--learning-rate", "0.0001"]),
        ("the answers are noise; try --epochs 12", ["--epochs", "12"]),
    ],
)
def test_a_doubt_s_first_change_comes_first(said: str, words: list[str], write_run: Write) -> None:
    folder = write_run(record={**record(dev=None), "warnings": [said]})
    first = commands(folder)[0]
    assert first == ["distill", "--from", f"{folder}/run.json", *words, "--out", f"{folder}-2"]


@pytest.mark.parametrize(("said", "asked"), [("dev has 30 rows; score it on more rows (--dev FILE)", 1), (SLOWER, 0)])
def test_the_page_asks_for_words_where_a_command_lacks_some(said: str, asked: int, write_run: Write) -> None:
    page = Page(write_report(write_run(record={**record(dev=None), "warnings": [said]})))
    assert page.text.count("Words in capitals are yours to fill in.") == asked


@pytest.mark.parametrize("said", ["the labels look odd", "all is lost; give --no-such-setting 3", "see; --student"])
def test_a_doubt_that_names_no_change_gives_no_command(said: str, write_run: Write) -> None:
    assert [words[0] for words in commands(write_run(record={**record(), "warnings": [said]}))] == ["export", "bench"]


def test_there_are_three_at_most_and_none_twice(write_run: Write) -> None:
    many = [SLOWER, SLOWER + " ", *(f"a doubt; train longer (--epochs), or {n}" for n in range(5))]
    found = commands(write_run(record={**record(), "warnings": many}))
    assert len(found) == MOST
    assert len({" ".join(words) for words in found}) == MOST


def test_a_folder_in_the_way_is_not_named(write_run: Write) -> None:
    folder = write_run(record={**record(), "warnings": [SLOWER]})
    folder.with_name("student-2").mkdir()
    assert commands(folder)[0][-1] == f"{folder}-2-2"


@pytest.mark.parametrize("name", ["a run's folder", "$(touch x) & `y`; z", "-rf", 'q"uote', "é<b>"])
def test_paths_are_quoted_for_a_shell(name: str, write_run: Write, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    write_run(name, record={**record(), "warnings": [SLOWER]})
    monkeypatch.chdir(tmp_path)
    place = f"./{name}" if name.startswith("-") else name
    again, export, _ = commands(Path(name))
    assert again[2] == f"{place}/run.json"
    assert again[-1] == f"{place}-2"
    assert export[1] == place
    assert "<b>" not in Page(write_report(name)).source.replace("<b>0", "")


def test_an_interrupted_run_is_resumed(write_run: Write) -> None:
    folder = write_run(record={**RECORD, "status": "running"}, metrics=None, log=log_rows(10))
    assert commands(folder) == [["distill", "--resume", str(folder)]]


def test_a_teacher_is_distilled_and_a_general_student_specialised(write_run: Write) -> None:
    metrics = {name: value for name, value in METRICS.items() if name not in ("student", "teacher", "kept")}
    tuned = write_run("tuned", {**record(), "command": "finetune"}, {**metrics, "model": METRICS["student"]})
    assert commands(tuned)[0] == ["distill", "--teacher", str(tuned), "--out", f"{tuned}-student"]
    held = {**RECORD["settings"], "data": "DataFrame of 300 rows passed in Python, sha256 0123456789abcdef"}
    passed = write_run("passed", {**record(), "command": "finetune", "settings": held}, metrics)
    assert all("distill" not in words for words in commands(passed))
    general = write_run("general", {**record(), "command": "pretrain"}, metrics)
    assert commands(general)[0][-4:] == ["--start", f"{general}/student", "--out", f"{general}-student"]
    own = write_run("own", {**record(student="as-is", start="ORG/ENCODER"), "command": "pretrain"}, metrics)
    assert commands(own)[0][5:9] == ["--student", "as-is", "--start", f"{own}/student"]


def test_a_command_of_another_time_has_none(write_run: Write) -> None:
    folder = write_run(record={**RECORD, "command": "rm -rf /"})
    assert commands(folder) == []
    assert "What to do next" not in Page(write_report(folder)).text
    (folder / "run.json").write_text(json.dumps({"settings": {}}))
    assert commands(folder) == []


def test_a_model_trained_on_pairs_is_scored_on_pairs_judged_by_people(write_run: Write) -> None:
    metrics = {"base": "m", "steps": 4, "train_rows": 90, "held_out": 40, "retrieval": {"before": 60.0, "after": 70.0}}
    settings = {"model": "m", "pairs": "pairs.csv", "dev": None}
    folder = write_run(record={**record(), "command": "contrast", "settings": settings}, metrics=metrics, log=[])
    assert commands(folder)[:2] == [
        ["evaluate", "--suite", "sts", "--model", f"{folder}/model"],
        ["export", str(folder), "--to", "onnx", "--precision", "int8"],
    ]
    page = Page(write_report(folder)).text
    assert "checked against the original:" in page
