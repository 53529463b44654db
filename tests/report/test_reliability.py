"""The figure of right answers by probability: what it says, and that damaged figures leave the page whole."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_folders import METRICS, Page, write_bundle

from contrastill.report import charts, write_report
from contrastill.report.calibration import reliability
from contrastill.report.run import read_run

AFTER = {
    "error": 0.021,
    "by_chance": 0.019,
    "log_loss": 0.3,
    "groups": [[0.4, 0.5, 12], [0.7, 0.65, 12], [0.95, 1.0, 12]],
}
BEFORE = {
    "error": 0.102,
    "by_chance": 0.017,
    "log_loss": 0.4,
    "groups": [[0.6, 0.5, 12], [0.9, 0.65, 12], [1.0, 1.0, 12]],
}
TITLE = "How far its probabilities can be believed"


def with_calibration(**splits: Any) -> dict[str, Any]:
    metrics = copy.deepcopy(METRICS)
    for split, found in splits.items():
        metrics["student"][split]["calibration"] = found
    return metrics


def test_the_page_shows_test_with_and_without_the_temperature(write_run: Callable[..., Path]) -> None:
    fitted = AFTER | {"temperatures": [1.8], "before": BEFORE}
    folder = write_run(metrics=with_calibration(test=fitted, dev=AFTER))
    page = Page(write_report(folder))
    said = " ".join(" ".join(page.words).split())
    assert TITLE in said
    assert "Each point: rows of test of similar probability" in said
    assert "Calibration error 2.1 %, of which chance alone makes 1.9 %; without the temperature 10.2 %" in said
    assert "without the temperature" in said
    assert "95.0% said, 100.0% right, of 12 rows" in page.source
    chart = reliability(read_run(folder))
    assert chart is not None
    assert [mark.name for mark in chart.key] == ["as it answers", "without the temperature"]


def test_without_test_rows_dev_is_shown_and_without_either_nothing(write_run: Callable[..., Path]) -> None:
    chart = reliability(read_run(write_run("dev", metrics=with_calibration(dev=AFTER))))
    assert chart is not None
    assert "rows of dev" in chart.note
    assert "without the temperature" not in chart.note
    assert list(chart.key) == []
    assert reliability(read_run(write_run("none"))) is None
    assert TITLE not in write_report(write_run("again")).read_text()


@pytest.mark.parametrize(
    "damaged",
    [
        "high",
        {},
        {"groups": "all"},
        {"groups": [[0.4, 0.5], "x", None, [0.1, "a", 3], [1e300, 0.5, 3], [0.5, -0.1, 3]]},
        {"groups": [[0.5, 0.5, -3]], "error": "high"},
    ],
)
def test_damaged_figures_are_left_out(damaged: Any, write_run: Callable[..., Path]) -> None:
    folder = write_run(metrics=with_calibration(test=damaged))
    assert TITLE not in write_report(folder).read_text()


def test_a_part_that_is_damaged_leaves_the_rest(write_run: Callable[..., Path]) -> None:
    fitted = {"groups": [[0.4, 0.5, 12], [0.4, None, 12]], "before": "x"}
    chart = reliability(read_run(write_run(metrics=with_calibration(test=fitted))))
    assert chart is not None
    assert "Calibration error –" in chart.note
    assert chart.picture.count("<circle") == 1


def test_one_group_of_a_model_that_is_always_right_is_drawn() -> None:
    assert "<svg" in charts.reliability([[(1.0, 1.0, 9.0)]], "all right")


def test_bundles_say_their_calibration_and_their_threshold(write_run: Callable[..., Path]) -> None:
    folder = write_run()
    error = {"torch": {"error": 0.0123, "by_chance": 0.02}, "bundle": {"error": 0.0345, "by_chance": 0.0211}}
    write_bundle(folder / "exports" / "onnx-int8", "int8", 0.87, 2.0, 10**6, calibration=error)
    file = folder / "exports" / "onnx-int8" / "bundle.json"
    abstain = {"target": 0.97, "threshold": 0.8125, "coverage": 0.625}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"abstain": abstain}))
    page = Page(write_report(folder))
    table = next(row for row in page.rows if any("exports/onnx-int8" in cell for cell in row) and len(row) > 12)
    assert [cell.strip() for cell in table[-6:]] == ["0.0345", "0.0123", "0.0211", "0.97", "0.8125", "0.625"]
