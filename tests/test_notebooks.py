"""The notebook of the docs runs from top to bottom, at tiny size: its first code cell, the choices, is replaced."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import contrastill

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebooks" / "first_student.ipynb"
sys.path.insert(0, str(ROOT / "tests" / "training"))

from workshop import QUICK, Workshop  # noqa: E402


def code_of(path: Path) -> list[str]:
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_runs(shared_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    workshop = Workshop(shared_folder / "workshop")
    choices, *rest = code_of(NOTEBOOK)
    names = [line.partition(" = ")[0] for line in choices.splitlines() if " = " in line]
    assert names == ["MODEL", "DATA", "STUDENT", "QUESTIONS"]
    quick = {name: QUICK[name] for name in ("batch_size", "epochs", "checks", "learning_rate", "max_length")}

    def with_quick(run: Any) -> Any:
        return lambda **settings: run(**quick | settings)

    # an export in fp32: whether int8 keeps so small a model's answers is the gate's matter, not the notebook's
    monkeypatch.setattr(contrastill, "finetune", with_quick(contrastill.finetune), raising=False)
    monkeypatch.setattr(contrastill, "distill", with_quick(contrastill.distill), raising=False)
    export = contrastill.export
    monkeypatch.setattr(
        contrastill, "export", lambda **s: export(**s | {"precision": "fp32", "max_drop": 100.0}), raising=False
    )
    monkeypatch.chdir(tmp_path)
    tiny = {
        "MODEL": str(workshop.encoder()),
        "DATA": str(workshop.data()),
        "STUDENT": "2/16/4/32",
        "QUESTIONS": ["soup and bread", "a goal"],
    }
    for cell in rest:
        exec(compile(cell, str(NOTEBOOK), "exec"), tiny)
    said = capsys.readouterr().out
    assert "kept: {'" in said or "kept: 0" in said or "kept: 1" in said
    assert said.count(" -> ") == 2
    assert (tmp_path / "runs/notebook/student/report.html").is_file()


def test_the_notebook_holds_no_run_of_a_machine() -> None:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert all(not cell.get("outputs") for cell in cells)
