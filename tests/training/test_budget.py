"""Length and learning rate of a run that was asked for neither."""

import json
from pathlib import Path
from typing import Any

import pytest
from workshop import Workshop

from contrastill import finetune
from contrastill.errors import UserError
from contrastill.training.budget import PRESETS, default_rate
from contrastill.training.run import Run


def short(workshop: Workshop, out: Path, **changes: Any) -> Run:
    given = {"model": str(workshop.encoder()), "data": str(workshop.data()), "out": str(out), "max_length": 32}
    return finetune(**given | {"batch_size": 8, "checks": 1, "precision": "fp32", "head": "random"} | changes)


@pytest.mark.parametrize(
    ("preset", "one", "steps"),
    [
        ("quick", 8, 60),
        ("good", 8, 200),
        ("good", 100, 400),
        ("good", 5000, 5000),
        ("best", 100, 1000),
        ("good", 2000, 4000),
    ],
)
def test_steps_follow_the_rows_within_bounds(preset: str, one: int, steps: int) -> None:
    assert PRESETS[preset].steps(one) == steps


def test_narrow_models_learn_faster_and_none_faster_than_was_tried() -> None:
    rates = [default_rate("finetune", width) for width in (1024, 768, 384, 312, 32)]
    assert rates == sorted(rates)
    assert rates[1] == 5e-5
    assert rates[-1] == 3e-4
    assert default_rate("distill", 312, 64) == 3e-4


def test_models_are_fine_tuned_on_few_pairs_at_lower_rates() -> None:
    rates = [default_rate("finetune", 384, pairs) for pairs in (225, 500, 2_000, 9_000)]
    assert rates == [4.7e-5, 7.1e-5, 1.4e-4, 1.4e-4]


def test_what_was_decided_is_recorded(workshop: Workshop, tmp_path: Path) -> None:
    run = short(workshop, tmp_path / "run", preset="quick")
    record = json.loads((run.folder / "run.json").read_text())
    assert run.metrics["steps"] == 60
    assert record["settings"]["epochs"] == 60 / 8
    assert record["settings"]["learning_rate"] == 3e-4
    decisions = record["data"]["decisions"]
    assert "60 steps, 7.5 passes" in decisions["length of the run"]
    assert "width, 32" in decisions["learning rate"]
    again = finetune(**record["settings"] | {"out": str(tmp_path / "again"), "preset": "best"})
    assert again.metrics["steps"] == 60  # passes that are given are taken


def test_minutes_are_kept(workshop: Workshop, tmp_path: Path) -> None:
    run = short(workshop, tmp_path / "run", minutes=0.03)
    assert run.metrics["steps"] >= 1
    assert 0.2 < run.metrics["seconds"]["training"] < 9  # of 1.8 seconds, on a machine with other work


def test_a_run_in_minutes_is_resumed_at_the_length_that_it_began_with(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contrastill.training import budget

    run = short(workshop, tmp_path / "run", minutes=0.01)
    record = run.folder / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"status": "running"}))
    monkeypatch.setattr(budget, "seconds_a_step", lambda run: 1e-4)
    again = short(workshop, tmp_path / "run", minutes=0.01, resume=True)
    assert again.metrics["steps"] == run.metrics["steps"]


@pytest.mark.parametrize("wrong", [{"preset": "fast"}, {"minutes": 0}, {"minutes": -1}, {"head": "mean"}])
def test_wrong_budgets_are_refused(workshop: Workshop, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(wrong))}"):
        short(workshop, tmp_path / "run", **wrong)
