"""`contrastill evaluate` of a bundle: the scores of its model, at its own length."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_models import write_rows
from typer.testing import CliRunner

from contrastill import UserError, evaluate
from contrastill.cli import app


@pytest.mark.parametrize(("classes", "pairs"), [(3, False), (3, True), (1, False)])
def test_a_bundle_scores_as_its_model_does(
    bundle_of: Callable[..., Path], tiny_folder: Callable[..., Path], tmp_path: Path, classes: int, pairs: bool
) -> None:
    data = write_rows(tmp_path / "rows.csv", pairs=pairs, scores=classes == 1)
    bundle = bundle_of("bert", classes=classes, **({"pairs": True} if pairs else {}))
    ours = evaluate(model=str(bundle), data=str(data))
    theirs = evaluate(model=str(tiny_folder("bert", classes=classes)), data=str(data))
    assert ours["metrics"] == pytest.approx(theirs["metrics"], abs=1e-6)
    assert ours["interval"] == pytest.approx(theirs["interval"], abs=1e-4)
    same = ("rows", "split", "max_length", "cut_share", "parameters")
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}


def test_what_the_command_prints_and_refuses(bundle_of: Callable[..., Path], tmp_path: Path) -> None:
    data, bundle = str(write_rows(tmp_path / "rows.csv")), str(bundle_of())
    shown = CliRunner().invoke(app, ["evaluate", "--model", bundle, "--data", data, "--json"])
    found = json.loads(shown.stdout)
    assert found["rows"] == 60
    assert list(found) == [
        "model", "split", "metrics", "rows", "interval", "calibration", "max_length", "cut_share", "parameters",
        "size_mb",
    ]  # fmt: skip
    assert "60 rows" in CliRunner().invoke(app, ["evaluate", "--model", bundle, "--data", data]).stdout
    with pytest.raises(UserError, match=r"--max-length: expected a model, got a bundle"):
        evaluate(model=bundle, data=data, max_length=8)
    with pytest.raises(UserError, match=r"expected a bundle of labels or scores, got one of a vector of"):
        evaluate(model=str(bundle_of("embedder")), data=data)
    with pytest.raises(UserError, match=r"expected pairs of texts"):
        evaluate(model=str(bundle_of("bert", pairs=True)), data=data)
