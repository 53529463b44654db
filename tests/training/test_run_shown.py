"""A run in a notebook: its table as HTML, its line as text, and bars that move."""

import io
import sys
from pathlib import Path

import pytest

from contrastill.processes import bar_pause
from contrastill.results import RunResult, result_table
from contrastill.training import Run

NAME = "<script>alert('x')</script>&[bold]"


def scored(value: float) -> dict[str, object]:
    split = {"metrics": {"accuracy": value}, "rows": 300, "interval": [value - 0.01, value + 0.01]}
    return {"dev": split, "test": split, "parameters": 14_400_000, "size_mb": 57.6}


DISTILLED = {
    "task": NAME, "metric": "accuracy", "train_rows": 400, "teacher": scored(0.9), "student": scored(0.87),
    "kept": {"dev": 0.967, "test": 0.967},
}  # fmt: skip
CONTRASTED = {
    "base": NAME, "train_rows": 3, "dev": {"before": 70.0, "after": 75.5}, "retrieval": {"before": 1, "after": 2},
    "parameters": 1000, "size_mb": 1.0,
}  # fmt: skip


def run_of(metrics: dict[str, object], folder: Path) -> Run:
    return Run(folder, folder / "student", RunResult.from_json(metrics))


def test_a_notebook_shows_scores_sizes_and_places_with_every_text_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "a<b>"
    folder.mkdir()
    html = run_of(DISTILLED, folder)._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&amp;[bold] (accuracy)" in html
    assert "a&lt;b&gt;" in html
    for said in ("<th>teacher</th>", "0.8700 (0.860-0.880)", "14,400,000", "57.6", "kept of the teacher: dev 96.7%"):
        assert said.replace("<th>", '<th style="text-align: right">') in html
    assert "report:" not in html
    (folder / "report.html").touch()
    assert "report: " in run_of(DISTILLED, folder)._repr_html_()


def test_a_run_before_and_after_and_one_without_rows_are_shown_too(tmp_path: Path) -> None:
    html = run_of(CONTRASTED, tmp_path)._repr_html_()
    assert "70.00" in html
    assert "1,000 parameters, 1.0 MB" in html
    alone = {key: value for key, value in CONTRASTED.items() if key != "dev"}
    assert "<table>" not in run_of(alone, tmp_path)._repr_html_()
    assert result_table(RunResult.from_json(alone)).rows == []


def test_the_text_names_the_folder_the_scores_and_what_was_kept() -> None:
    said = repr(run_of(DISTILLED, Path("runs/student")))
    assert said.startswith("Run('runs/student', ")
    assert "test accuracy 0.87" in said
    assert said.endswith("dev kept 96.7%, test kept 96.7%)")
    assert "\n" not in said


class OutStream(io.StringIO):
    """As a notebook's kernel has it."""


OutStream.__module__ = "ipykernel.iostream"


def test_bars_move_in_a_notebook_and_are_rare_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", OutStream())
    assert bar_pause() < 1
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert bar_pause() >= 10
