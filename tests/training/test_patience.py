"""Runs that end when dev no longer improves."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from interruptions import PowerCut, cut_at, stopping_at
from workshop import Workshop, sha256, single_rows, write_csv

from contrastill import Distillation, Interrupted, UserError, distill, finetune
from contrastill.training.callbacks import Patience

TOTAL = 20


def ended(scores: list[float], patience: int, ends: tuple[int, ...] = (TOTAL,), higher: bool = True) -> str | None:
    """Of dev scores at steps 2, 4, ….  ends: of the stages."""
    method: Any = SimpleNamespace(milestones=lambda total: list(ends))
    log: list[dict[str, float]] = []
    for n, score in enumerate(scores, 1):
        log += [{"loss": 1.0, "step": 2 * n}, {"eval_accuracy": score, "eval_f1": -score, "step": 2 * n}]
    return Patience(patience, method, "accuracy", higher).ended(log, TOTAL)


@pytest.mark.parametrize(
    ("scores", "patience", "stops"),
    {
        "no check": ([], 1, False),
        "one check": ([0.5], 1, False),
        "a worse one": ([0.5, 0.4], 1, True),
        "an equal one is no improvement": ([0.5, 0.5], 1, True),
        "two in a row": ([0.5, 0.4, 0.5], 2, True),
        "not in a row": ([0.5, 0.4, 0.6, 0.5], 2, False),
        "above the one before, not above the best": ([0.6, 0.4, 0.5], 2, True),
        "at the end there is nothing to stop": ([0.6] * 10, 2, False),
    }.values(),
    ids=lambda value: str(value),
)
def test_patience_counts_checks_without_a_better_score(scores: list[float], patience: int, stops: bool) -> None:
    assert (ended(scores, patience) is not None) == stops
    assert (ended([-score for score in scores], patience, higher=False) is not None) == stops


def test_the_reason_names_steps_and_score() -> None:
    assert ended([0.5, 0.625, 0.5, 0.5], 2) == (
        "ended at step 8 of 20: 2 checks in a row had no better dev accuracy than 0.625 at step 4 (--patience 2)"
    )


def test_only_checks_of_the_last_stage_count() -> None:
    falling = [0.9, 0.8, 0.7, 0.6, 0.5]
    assert ended(falling, 2, (6, TOTAL)) is None  # steps 8 and 10 are in the last stage: one check after its best
    assert "than 0.6 at step 8" in str(ended([*falling, 0.4], 2, (6, TOTAL)))
    assert ended([*falling, 0.65], 1, (6, TOTAL)) is None  # better than those of its stage
    assert ended(falling, 2, (TOTAL, TOTAL)) is not None  # a last stage without steps is none


def flat(workshop: Workshop, out: Path, **changes: Any) -> dict[str, Any]:
    """A run that learns nothing: 16 steps, checked at 4, 8, 12 and 16."""
    return workshop.settings(out, **{"method": "kd", "learning_rate": 1e-9, "patience": 2, **changes})


@pytest.fixture(scope="module")
def stopped(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return distill(**flat(workshop, tmp_path_factory.mktemp("stopped") / "run"))


def last_step(folder: Path) -> int:
    return max(json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines())


def test_a_run_ends_early_and_says_why(stopped: Any) -> None:
    record = json.loads((stopped.folder / "run.json").read_text())
    assert record["stopped"].startswith("ended at step 12 of 16: 2 checks in a row had no better dev accuracy than")
    assert last_step(stopped.folder) == 12
    assert (stopped.metrics["steps"], stopped.metrics["planned_steps"]) == (12, 16)
    page = (stopped.folder / "report.html").read_text()
    assert "ended at step 12 of 16" in page


def test_a_run_that_patience_does_not_end_is_as_without_it(workshop: Workshop, tmp_path: Path) -> None:
    """The last of its stages has one check, so the first stage's scores, which do not rise, end nothing."""
    late = {"method": "lrc_bert", "stages": {"representation": 0.8, "joint": 0.2}, "learning_rate": 3e-4}
    runs = [distill(**flat(workshop, tmp_path / str(n), patience=n, **late)) for n in (1, None)]
    models = [sha256(run.model / "model.safetensors") for run in runs]
    assert models[0] == models[1]
    assert [run.metrics["steps"] for run in runs] == [16, 16]
    assert "planned_steps" not in runs[0].metrics
    assert "stopped" not in json.loads((runs[0].folder / "run.json").read_text())


@pytest.mark.parametrize("step", [5, 9, 12])
def test_a_resumed_run_keeps_the_count(workshop: Workshop, stopped: Any, tmp_path: Path, step: int) -> None:
    settings = flat(workshop, tmp_path / "run")
    with cut_at(step) if step == 12 else stopping_at(step), pytest.raises(PowerCut if step == 12 else Interrupted):
        distill(**settings)
    run = distill(**settings, resume=True)
    assert last_step(run.folder) == 12
    assert sha256(run.model / "model.safetensors") == sha256(stopped.model / "model.safetensors")


def test_a_stop_asked_for_as_patience_ends_is_the_end(workshop: Workshop, stopped: Any, tmp_path: Path) -> None:
    with stopping_at(12):
        run = distill(**flat(workshop, tmp_path / "run"))
    assert sha256(run.model / "model.safetensors") == sha256(stopped.model / "model.safetensors")


def raising(*_: Any, **__: Any) -> None:
    raise PowerCut


@pytest.mark.parametrize(
    "changes", [{}, {"patience": None, "epochs": 1.25, "learning_rate": 3e-3}], ids=["patience", "in mid-epoch"]
)
def test_a_run_killed_after_its_last_checkpoint_trains_no_further(
    workshop: Workshop, tmp_path: Path, changes: dict[str, Any]
) -> None:
    whole = distill(**flat(workshop, tmp_path / "whole", **changes))
    settings = flat(workshop, tmp_path / "run", **changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("contrastill.training.labelled.chosen", raising)
        with pytest.raises(PowerCut):
            distill(**settings)
    with cut_at(last_step(whole.folder) + 1):
        run = distill(**settings, resume=True)
    assert sha256(run.model / "model.safetensors") == sha256(whole.model / "model.safetensors")
    assert run.metrics["student"] == whole.metrics["student"]


@pytest.mark.parametrize(
    ("patience", "why"), [(0, "from 1"), (-1, "from 1"), (1.5, "whole"), (10, "fewer"), (11, "fewer")]
)
def test_patience_that_cannot_end_a_run_is_refused(patience: Any, why: str) -> None:
    with pytest.raises(UserError, match=why):
        Distillation(teacher="t", out="o", patience=patience)


@pytest.mark.parametrize("option", ["patience", "average"])
def test_without_dev_there_is_nothing_to_wait_for(workshop: Workshop, tmp_path: Path, option: str) -> None:
    data = write_csv(tmp_path / "rows.csv", single_rows(40, 0))
    with pytest.raises(UserError, match=f"--{option}: expected a run that is scored on dev"):
        finetune(model=str(workshop.encoder()), data=str(data), dev_share=0, out=str(tmp_path / "run"), **{option: 2})
    assert not (tmp_path / "run").exists()
