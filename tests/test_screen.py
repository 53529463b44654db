"""What is printed: names as they are, whatever they hold; streams that end, lack or cannot spell; JSON that is JSON."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contrastill import cli, screen
from contrastill.cli import show
from contrastill.errors import UserError
from contrastill.results import RunResult

NAME = "t[/x][bold]:smile:"
STEERING = "a\x1b[31mb\x07\r‮c\ud800"
SHOWN = "a\\x1b[31mb\\x07\\r\\u202ec\\ud800"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")


def scored(value: float = 0.5) -> dict[str, Any]:
    return {"metrics": {NAME: value}, "interval": [0.4, 0.6]}


def print_run(**metrics: Any) -> None:
    show.print_run(Path(NAME), Path(NAME) / "student", RunResult.from_json(metrics))


def run() -> None:
    size = {"parameters": 1, "size_mb": 1.0}
    print_run(
        task=NAME, metric=NAME, teacher={"dev": scored(), **size}, student={"dev": scored(), **size}, kept={NAME: 1}
    )


def contrast() -> None:
    print_run(base=NAME, train_rows=3, dev={"before": 1.0, "after": 2.0}, parameters=1, size_mb=1.0)


def bundle(lost: float = 0.0) -> None:
    gate = {
        "data": NAME,
        "rows": 3,
        "metric": NAME,
        "torch": 1.0,
        "bundle": 1.0,
        "latency_ms": {"torch_p50": 1.0, "bundle_p50": 1.0},
        "agreement": {"equal_labels": 1.0, "max_abs_difference": 0.0, "cosine_mean": None},
        "drop_points": lost,
        "max_drop": 1.0,
    }
    show.print_bundle({"gate": gate, "files": {}, "recipe": None, "name": NAME, "runtime": "onnx", "precision": "int8"})


def table() -> None:
    from contrastill.timing.table import print_table

    row = {"model": NAME, "runtime": "torch", "precision": "fp32", "workers": 1, "length": 8, "batch": 1}
    failed = row | {"error": f"no model at {NAME}"}
    print_table({"rows": [failed], "yardstick": None, "warnings": [NAME], "left_out": [NAME], "threads": 1})


@pytest.mark.parametrize("printer", [run, contrast, bundle, table])
def test_a_name_with_markup_in_it_is_printed_as_it_is(printer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    printer()
    printed = capsys.readouterr().out
    assert printed.count(NAME) >= 2
    assert "😄" not in printed


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (0.1, "lost 0.10 of 1 points allowed; "),
        (-0.001, "lost 0.00 of 1 points allowed; "),
        (-0.1, "gained 0.10 points (1 may be lost); "),
    ],
)
def test_the_gate_says_what_was_lost_or_gained(lost: float, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    bundle(lost)
    assert said in capsys.readouterr().out


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["contrastill", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return SimpleNamespace(code=ended.value.code, **capsys.readouterr()._asdict())


def test_the_cache_lists_and_deletes_a_teacher_whose_name_has_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from contrastill import teachers as cache
    from contrastill.teachers.folder import Entry
    from contrastill.teachers.store import Facts

    facts = Facts(teacher="f" * 64, field="logits", width=3, computed="float32", stored="float16")
    entries = [Entry(tmp_path, facts, name=NAME, texts=1, bytes=1, used=0.0)]
    monkeypatch.setattr(cache, "entries", lambda root: entries)
    monkeypatch.setattr(cache, "prune", lambda root, **_: entries)
    root = tmp_path / "[x][bold]"
    listed = command(monkeypatch, capsys, "cache", "list", "--cache", str(root))
    assert (listed.code, NAME in listed.out, str(root) in listed.out) == (0, True, True)
    deleted = command(monkeypatch, capsys, "cache", "prune", "--cache", str(root), "--unused-days", "1")
    assert (deleted.code, NAME in deleted.out) == (0, True)


def test_a_suite_of_a_model_whose_name_has_markup_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from contrastill.training import suite

    monkeypatch.setattr(suite, "evaluate_suite", lambda _: ({NAME: 1.0}, {NAME: (0.0, 2.0)}))
    printed = command(monkeypatch, capsys, "evaluate", "--suite", "sts", "--model", NAME)
    assert (printed.code, printed.out.count(NAME)) == (0, 2)


def test_errors_and_log_lines_hold_names_as_they_are_and_steer_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    import typer

    def fail() -> None:
        with show.reporting(transformers=False):
            logging.getLogger("contrastill").warning("read %s and %s", NAME, STEERING)
            raise UserError(f"no {NAME} in {STEERING}")

    with pytest.raises(typer.Exit):
        fail()
    said = " ".join(capsys.readouterr().err.split())
    assert f"read {NAME} and {SHOWN}" in said
    assert f"error: no {NAME} in {SHOWN}" in said
    assert "\x1b[31m" not in said


def test_a_line_keeps_its_breaks_and_every_other_letter() -> None:
    assert screen.visible(STEERING) == SHOWN
    assert screen.visible("ü 中 👩‍🚀\n\tx") == "ü 中 👩‍🚀\n\tx"


def test_numbers_that_are_none_are_null_in_json() -> None:
    found = json.loads(screen.json_text({"a": [float("nan"), 1.5], "b": {"c": float("-inf")}, "d": "ü"}))
    assert found == {"a": [None, 1.5], "b": {"c": None}, "d": "ü"}


# ---- streams -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        ("CONTRASTILL compare 'läufe' --out 'ü.html' 2>&1 >&-", {2}),
        ("CONTRASTILL --help <&- | head -n 1", {0, 1, 141}),  # the help is typer's to print
    ],
)
def test_no_locale_and_no_stream_that_is_closed_ends_in_a_traceback(line: str, codes: set[int]) -> None:
    words = ["bash", "-o", "pipefail", "-c", line.replace("CONTRASTILL", f"'{sys.executable}' -m contrastill")]
    given = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(words, capture_output=True, env=given, check=False)
    said = done.stderr + done.stdout
    assert b"Traceback" not in said
    assert b"Exception" not in said
    assert done.returncode in codes, done


def test_json_is_json_in_a_locale_that_cannot_spell_it(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", out)
    with show.reporting(as_json=True, transformers=False) as give:
        give({"ü": "\udcff\x1b"}, None)
    assert json.loads(out.buffer.getvalue()) == {"ü": "\udcff\x1b"}  # type: ignore[attr-defined]


def test_a_reader_that_is_gone_ends_a_command_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from contrastill import teachers as cache

    def gone(root: Path) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(cache, "entries", gone)
    monkeypatch.setattr(show, "reader_gone", lambda: sys.exit(141))
    ended = command(monkeypatch, capsys, "cache", "list")
    assert (ended.code, ended.err) == (141, "")


def test_a_fault_of_ours_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from contrastill import teachers as cache

    monkeypatch.setattr(cache, "entries", lambda root: 1 / 0)
    ended = command(monkeypatch, capsys, "cache", "list")
    assert ended.code == 1
    assert "ZeroDivisionError" in ended.err
    assert "a fault of Contrastill" in ended.err


def test_a_run_says_where_its_model_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    size = {"parameters": 1, "size_mb": 1.0}
    models = {"probe": {"dev": scored(), **size}, "model": {"dev": scored(), **size}}
    print_run(task="intents", metric=NAME, checkpoint=0, **models)
    said = capsys.readouterr().out
    assert "probe: a linear fit on the frozen encoder" in said
    assert "no checkpoint was better on dev than the start" in said
    print_run(task="intents", metric=NAME, checkpoint=8, model=models["model"])
    said = capsys.readouterr().out
    assert "linear fit" not in said
    assert "no checkpoint" not in said
