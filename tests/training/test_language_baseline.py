"""A distilled language model beside the same student on the given answers alone."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from interruptions import cut_at, stopping_at
from workshop import sha256, snapshot

from contrastill import Interrupted, UserError, distill
from contrastill.cli.options import settings_of
from contrastill.report.paired import answers_of, difference
from contrastill.report.run import read_run
from contrastill.results import result_table
from contrastill.settings import LanguageDistillation

sys.path.insert(0, str(Path(__file__).parents[1] / "language"))
from tiny_language import taught

QUICK: dict[str, Any] = {"batch_size": 16, "checks": 2, "learning_rate": 3e-3, "precision": "fp32", "epochs": 1}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The settings of a distillation with a baseline, without its folder."""
    made = taught(tmp_path_factory.mktemp("language"), **QUICK)
    return {**made, "method": "gkd", "set": {"beta": 1.0}, "with_baseline": True}


@pytest.fixture(scope="module")
def both(asked: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return distill(**asked, out=str(tmp_path_factory.mktemp("both") / "run"))


@pytest.fixture(scope="module")
def alone(asked: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    changes = {"method": "sft", "set": {}, "with_baseline": False}
    return distill(**{**asked, **changes}, out=str(tmp_path_factory.mktemp("alone") / "run"))


def weights(folder: Path) -> str:
    return sha256(folder / "student/model.safetensors")


def stored(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return found


def test_the_baseline_is_the_run_on_given_answers_alone(both: Any, alone: Any) -> None:
    assert weights(both.folder / "baseline") == weights(alone.folder)
    assert both.metrics["baseline"] == alone.metrics["student"]
    assert both.metrics["baseline"]["test"]["metrics"]["kl"] > 0
    assert list(both.result.models) == ["teacher", "baseline", "student"]
    assert both.metrics["steps"] == stored(both.folder / "baseline", "metrics.json")["steps"]
    assert stored(both.folder / "baseline", "run.json")["settings"]["with_baseline"] is False


def test_the_difference_is_the_paired_one_by_the_metric_that_selects(both: Any, alone: Any) -> None:
    for split in ("dev", "test"):
        ours, theirs = (answers_of(read_run(run.folder), split) for run in (both, alone))
        assert ours is not None
        assert theirs is not None
        found = both.metrics["against_baseline"][split]
        assert found["metric"] == "kl"
        assert (found["difference"], found["low"], found["high"]) == difference(ours, theirs)
        student, baseline = (both.metrics[name][split]["metrics"]["kl"] for name in ("student", "baseline"))
        assert found["difference"] == pytest.approx(student - baseline, abs=1e-4)


def test_samples_are_the_same_rows_by_all_three(both: Any, alone: Any) -> None:
    samples = stored(both.folder, "evidence.json")["samples"]
    assert len(samples) == 10
    assert all(list(one["answers"]) == ["teacher", "baseline", "student"] for one in samples)
    twins = stored(both.folder / "baseline", "evidence.json")
    assert [one["answers"]["baseline"] for one in samples] == twins["beside"]
    known = {one["prompt"]: one["answers"]["student"] for one in stored(alone.folder, "evidence.json")["samples"]}
    shared = [one for one in samples if one["prompt"] in known]
    assert shared
    assert all(one["answers"]["baseline"] == known[one["prompt"]] for one in shared)
    assert {one["prompt"]: one["row"] for one in samples}.items() >= {
        one["prompt"]: one["row"] for one in twins["samples"] if one["prompt"] in {each["prompt"] for each in shared}
    }.items()


def test_page_table_and_card_have_it(both: Any) -> None:
    assert stored(both.folder, "metrics.json") == json.loads(json.dumps(both.metrics))
    page = (both.folder / "report.html").read_text(encoding="utf-8")
    assert "Student minus baseline, KL from the teacher on test:" in page
    assert "the same student, trained on the labels or given answers alone" in page
    assert page.count("<dt>baseline") == 10
    table = result_table(both.result)
    assert table.columns == ["", "teacher", "baseline", "student"]
    value = both.metrics["against_baseline"]["test"]["difference"]
    assert any(note.startswith(f"student minus baseline, test kl: {value:+.4f} (") for note in table.notes)
    card = (both.model / "README.md").read_text(encoding="utf-8")
    assert "|  | student | baseline | teacher |" in card
    assert f"{both.metrics['baseline']['test']['metrics']['kl']:.4f} (" in card
    assert "\n\nbaseline: the same student" in card


def test_a_baseline_that_is_there_is_not_made_again(both: Any, asked: dict[str, Any]) -> None:
    before = snapshot(both.folder)
    with cut_at(1):
        again = distill(**asked, out=str(both.folder), resume=True)
    assert again.metrics == both.metrics
    assert snapshot(both.folder) == before


def test_a_finished_run_gets_one_later_and_an_interrupted_one_is_resumed(
    both: Any, asked: dict[str, Any], tmp_path: Path
) -> None:
    plain = distill(**{**asked, "with_baseline": False}, out=str(tmp_path / "run"))
    assert "baseline" not in plain.metrics
    chosen = settings_of(LanguageDistillation, {"with_baseline": True}, resume=plain.folder)
    with stopping_at(5), pytest.raises(Interrupted, match=f"--resume {plain.folder}`"):
        distill(**vars(chosen), resume=True)
    assert not (plain.folder / "baseline/student").exists()
    run = distill(**vars(chosen), resume=True)
    for name in ("baseline", "against_baseline"):
        assert run.metrics[name] == both.metrics[name]
    assert stored(run.folder, "evidence.json") == stored(both.folder, "evidence.json")
    assert weights(run.folder / "baseline") == weights(both.folder / "baseline")


def test_a_student_of_the_teachers_layers_has_a_baseline_that_ends_early(asked: dict[str, Any], tmp_path: Path) -> None:
    changes = {"student": "1L", "start": "copy", "patience": 1, "checks": 4, "epochs": 2.3, "select": "exact_match"}
    run = distill(**{**asked, **changes}, out=str(tmp_path / "run"))
    twin = stored(run.folder / "baseline", "metrics.json")
    planned = [found.get("planned_steps", found["steps"]) for found in (run.metrics, twin)]
    assert planned[0] == planned[1]
    assert run.metrics["against_baseline"]["test"]["metric"] == "exact_match"
    assert any("test exact_match x 100:" in note for note in result_table(run.result).notes)
    with cut_at(1):
        assert distill(**{**asked, **changes}, out=str(tmp_path / "run"), resume=True).metrics == run.metrics


def test_the_baseline_has_no_baseline() -> None:
    with pytest.raises(UserError, match="'sft', the baseline itself"):
        LanguageDistillation(teacher="t", data="d", out="o", method="sft", student="1L", with_baseline=True)
