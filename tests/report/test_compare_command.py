"""`contrastill compare`, and what it does not wait for."""

import json
import subprocess
import sys
from pathlib import Path

from run_folders import class_evidence
from typer.testing import CliRunner

from contrastill.cli import app

call = CliRunner().invoke


def test_it_writes_a_page_of_the_runs_it_names(write_run, tmp_path: Path) -> None:
    runs = [str(write_run("a")), str(write_run("b", evidence=class_evidence()))]
    out = tmp_path / "page.html"
    done = call(app, ["compare", *runs, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(out)
    assert "Comparison of a, b" in out.read_text()
    assert json.loads(call(app, ["compare", runs[0], "--out", str(out), "--json"]).stdout) == {"page": str(out)}


def test_a_folder_without_a_run_ends_with_code_2(tmp_path: Path) -> None:
    done = call(app, ["compare", str(tmp_path), "--out", str(tmp_path / "page.html")])
    assert done.exit_code == 2
    assert "expected the folder of a run" in done.output
    assert not (tmp_path / "page.html").exists()


def test_a_page_is_written_without_torch_and_help_without_matplotlib(write_run) -> None:
    folder = str(write_run(evidence=class_evidence()))
    code = f"""
import sys
import contrastill.cli, contrastill.report, contrastill.report.evidence
assert not {{"matplotlib", "jinja2", "torch", "scipy"}} & set(sys.modules), "imported too early"
contrastill.report.write_report({folder!r})
assert not {{"torch", "transformers", "scipy", "matplotlib.pyplot"}} & set(sys.modules), "not needed"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
