"""A distilled student beside the same student on the labels alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from interruptions import cut_at, stopping_at
from workshop import Workshop, sha256, snapshot

from contrastill import Distillation, Interrupted, UserError, distill
from contrastill.cli.options import settings_of
from contrastill.report.paired import answers_of, difference
from contrastill.report.run import read_run


def settings(workshop: Workshop, out: Path, **changes: Any) -> dict[str, Any]:
    return workshop.settings(out, **{"method": "lrc_bert", "epochs": 1, "with_baseline": True, **changes})


@pytest.fixture(scope="module")
def both(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return distill(**settings(workshop, tmp_path_factory.mktemp("both") / "run"))


@pytest.fixture(scope="module")
def alone(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("alone") / "run"
    return distill(**settings(workshop, out, method="finetune", with_baseline=False))


def weights(folder: Path) -> str:
    return sha256(folder / "student/model.safetensors")


def test_the_baseline_is_the_run_on_labels_alone(both: Any, alone: Any) -> None:
    assert weights(both.folder / "baseline") == weights(alone.folder)
    assert both.metrics["baseline"] == alone.metrics["student"]
    assert list(both.result.models) == ["teacher", "baseline", "student"]
    assert both.metrics["steps"] == json.loads((both.folder / "baseline/metrics.json").read_text())["steps"]


def test_the_difference_is_the_paired_one(both: Any, alone: Any) -> None:
    for split in ("dev", "test"):
        ours, theirs = (answers_of(read_run(run.folder), split) for run in (both, alone))
        assert ours is not None
        assert theirs is not None
        found = both.metrics["against_baseline"][split]
        assert (found["difference"], found["low"], found["high"]) == difference(ours, theirs)
        scores = [both.metrics[name][split]["metrics"]["accuracy"] for name in ("student", "baseline")]
        assert found["difference"] == pytest.approx(scores[0] - scores[1])


def test_files_page_and_table_have_it(both: Any) -> None:
    stored = json.loads((both.folder / "metrics.json").read_text())
    assert stored == json.loads(json.dumps(both.metrics))
    page = (both.folder / "report.html").read_text()
    assert "Student minus baseline, accuracy on test:" in page
    assert "the same student, trained on the labels or given answers alone" in page
    assert "student minus baseline, dev accuracy x 100" in both._repr_html_()
    card = (both.model / "README.md").read_text(encoding="utf-8")
    assert "|  | student | baseline | teacher |" in card
    assert f"| {both.metrics['baseline']['test']['metrics']['accuracy']:.4f} (" in card
    assert "\n\nbaseline: the same student" in card
    assert json.loads((both.folder / "baseline/run.json").read_text())["settings"]["with_baseline"] is False


def test_a_baseline_that_is_there_is_not_made_again(workshop: Workshop, both: Any) -> None:
    before = snapshot(both.folder)
    with cut_at(1):
        again = distill(**settings(workshop, both.folder), resume=True)
    assert again.metrics == both.metrics
    assert snapshot(both.folder) == before


def test_a_finished_run_gets_one_later_and_an_interrupted_one_is_resumed(
    workshop: Workshop, both: Any, tmp_path: Path
) -> None:
    asked = settings(workshop, tmp_path / "run", with_baseline=False)
    plain = distill(**asked)
    assert "baseline" not in plain.metrics
    assert "baseline" not in (plain.model / "README.md").read_text(encoding="utf-8")
    chosen = settings_of(Distillation, {"with_baseline": True}, resume=plain.folder)
    with stopping_at(5), pytest.raises(Interrupted, match=f"--resume {plain.folder}`"):
        distill(**vars(chosen), resume=True)
    assert not (plain.folder / "baseline/student").exists()
    run = distill(**vars(chosen), resume=True)
    assert run.metrics["baseline"] == both.metrics["baseline"]
    assert run.metrics["against_baseline"] == both.metrics["against_baseline"]
    assert weights(run.folder / "baseline") == weights(both.folder / "baseline")
    assert weights(run.folder) == weights(both.folder)
    cards = [(each.model / "README.md").read_text(encoding="utf-8") for each in (run, both)]
    assert cards[0] == cards[1]


def test_an_interrupted_run_makes_its_baseline_when_it_is_resumed(
    workshop: Workshop, both: Any, tmp_path: Path
) -> None:
    asked = settings(workshop, tmp_path / "run")
    with stopping_at(5), pytest.raises(Interrupted):
        distill(**asked)
    assert not (tmp_path / "run/baseline").exists()
    run = distill(**asked, resume=True)
    assert weights(run.folder / "baseline") == weights(both.folder / "baseline")
    (tmp_path / "run/baseline/run.json").write_text("")  # as if it had been killed while its folder was made
    run = distill(**asked, resume=True)
    assert weights(run.folder / "baseline") == weights(both.folder / "baseline")


def test_texts_without_labels_are_the_students_alone_and_the_steps_are_equal(
    workshop: Workshop, tmp_path: Path
) -> None:
    more = tmp_path / "more.txt"
    more.write_text("".join(f"word{n} song word{n + 1}\n" for n in range(24)))
    asked = {"method": "kd", "epochs": None, "preset": "quick", "unlabelled": str(more), "learning_rate": None}
    run = distill(**settings(workshop, tmp_path / "run", **asked))
    twin = json.loads((run.folder / "baseline/metrics.json").read_text())
    record = json.loads((run.folder / "baseline/run.json").read_text())
    assert (run.metrics["train_rows"], twin["train_rows"]) == (88, 64)
    assert run.metrics["steps"] == twin["steps"] == 60
    assert record["data"]["decisions"]["length of the run"] == "60 steps, as the distilled student"
    assert (
        record["settings"]["learning_rate"]
        == json.loads((run.folder / "run.json").read_text())["settings"]["learning_rate"]
    )
    with cut_at(1):
        assert distill(**settings(workshop, tmp_path / "run", **asked), resume=True).metrics == run.metrics


def test_overwriting_a_run_deletes_its_baseline(workshop: Workshop, tmp_path: Path) -> None:
    quick = {"method": "kd", "epochs": 0.25}
    run = distill(**settings(workshop, tmp_path / "run", **quick))
    assert (run.folder / "baseline/student").is_dir()
    distill(**settings(workshop, tmp_path / "run", **quick, with_baseline=False, overwrite=True))
    assert not (run.folder / "baseline").exists()


def test_bundles_of_the_baseline_are_not_the_runs_own(both: Any) -> None:
    place = both.folder / "baseline/exports/onnx"
    place.mkdir(parents=True)
    (place / "bundle.json").write_text('{"runtime": "onnx"}')
    assert read_run(both.folder).bundles == []
    assert len(read_run(both.folder / "baseline").bundles) == 1
    (place / "bundle.json").unlink()
    place.rmdir()
    place.parent.rmdir()


def test_the_baseline_has_no_baseline() -> None:
    with pytest.raises(UserError, match="the baseline itself"):
        Distillation(teacher="t", out="o", method="finetune", with_baseline=True)
