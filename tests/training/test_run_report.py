"""The page that a run leaves: made of the answers that were scored, and no reason for a run to fail."""

import json
import logging
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from workshop import CLASSES, Workshop

import contrastill.report
from contrastill import evaluation, finetune


@pytest.fixture(scope="module")
def run(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return workshop.distill(tmp_path_factory.mktemp("reported") / "run")


def evidence_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evidence.json").read_text(encoding="utf-8"))


def test_the_evidence_is_of_the_answers_that_were_scored(run: Any, workshop: Workshop) -> None:
    found, metrics = evidence_of(run.folder), run.metrics
    assert [each["name"] for each in found["classes"]] == sorted(CLASSES)
    assert (found["rows"], [each["rows"] for each in found["classes"]]) == (30, [10, 10, 10])
    for side, name in (("ours", "student"), ("theirs", "teacher")):
        scores = metrics[name]["dev"]["metrics"]
        for what, score in (("recall", "accuracy"), ("f1", "f1")):  # as many rows of each class
            mean = np.mean([each[side][what] for each in found["classes"]])
            assert mean == pytest.approx(scores[score], abs=1e-4)
    assert sum(found["histogram"]["counts"]) == 30


def test_an_example_has_its_own_text_and_label(run: Any, workshop: Workshop) -> None:
    lines = (workshop.data("single") / "dev.csv").read_text().splitlines()[1:]
    known = dict(line.rsplit(",", 1) for line in lines)
    examples = evidence_of(run.folder)["examples"]
    assert len(examples) == 20
    assert all(known[one["texts"][0]] == one["label"] for one in examples)
    apart = [one["difference"] for one in examples]
    assert apart == sorted(apart, reverse=True)


def test_the_answers_to_each_row_are_those_that_were_scored(run: Any) -> None:
    found = evidence_of(run.folder)["by_row"]
    assert set(found) == {"dev", "test"}
    for split, rows in found.items():
        for side, name in (("ours", "student"), ("theirs", "teacher")):
            right = np.mean(np.array(rows["truth"]) == np.array(rows[side]))
            assert right == pytest.approx(run.metrics[name][split]["metrics"]["accuracy"])


def test_pairs_and_scores_have_theirs(workshop: Workshop, tmp_path: Path) -> None:
    pairs = evidence_of(workshop.distill(tmp_path / "pairs", "pairs").folder)
    assert all(len(one["texts"]) == 2 for one in pairs["examples"])
    assert "the student's less the teacher's" in pairs["histogram"]["what"]
    found = workshop.distill(tmp_path / "scores", "scores")
    scores = evidence_of(found.folder)
    assert scores["kind"] == "regression"
    assert sum(band["rows"] for band in scores["bands"]) == 30
    assert np.corrcoef(scores["by_row"]["dev"]["truth"], scores["by_row"]["dev"]["ours"])[0, 1] == pytest.approx(
        found.metrics["student"]["dev"]["metrics"]["pearson"], abs=1e-4
    )
    assert "Errors along the scale" in (found.folder / "report.html").read_text()


def test_a_fine_tuned_model_has_evidence_without_a_teacher(workshop: Workshop, tmp_path: Path) -> None:
    settings = {k: v for k, v in workshop.settings(tmp_path / "run").items() if k not in ("student", "teacher")}
    found = evidence_of(finetune(model=str(workshop.encoder()), **settings).folder)
    assert found["equal_answers"] is None
    assert all(each["theirs"] is None for each in found["classes"])


def test_no_model_is_run_again_for_it(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    predict, leave = evaluation.predict, contrastill.report.leave_report

    def counted(*args: Any, **options: Any) -> Any:
        calls.append("predict")
        return predict(*args, **options)

    def begun(*args: Any) -> None:
        calls.append("report")
        leave(*args)

    monkeypatch.setattr(evaluation, "predict", counted)
    monkeypatch.setattr(import_module("contrastill.training.run"), "leave_report", begun)
    folder = workshop.distill(tmp_path / "run").folder
    assert (folder / "report.html").is_file()
    assert calls.count("report") == 1
    assert calls[-1] == "report"


def test_a_run_whose_report_fails_is_finished_all_the_same(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(folder: Path) -> Path:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr(contrastill.report, "write_report", broken)
    with caplog.at_level(logging.WARNING):
        found = workshop.distill(tmp_path / "run")
    assert "its report could not be written: a mistake of ours" in caplog.text
    assert json.loads((found.folder / "run.json").read_text())["status"] == "finished"
    assert not (found.folder / "report.html").exists()


def test_the_report_tells_the_run_s_own_scores(run: Any) -> None:
    page = (run.folder / "report.html").read_text(encoding="utf-8").replace("\u00a0", " ")
    for name in ("student", "teacher"):
        for split in ("dev", "test"):
            assert f"{100 * run.metrics[name][split]['metrics']['accuracy']:.2f} %" in page
    assert all(f"<h3>{term}</h3>" in page for term in ("cos_nce", "soft", "hard"))
