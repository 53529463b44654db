"""A short cut of the fuzz (`make fuzz`): some cases of each kind, and that each kind of fault would be found."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import driver
import options
import run_records

CASES = 60


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime")
    home = tmp_path_factory.mktemp("fuzz")
    driver.make_world(home)
    return home


@pytest.mark.whole
def test_some_cases_of_each_kind_end_done_or_refused_in_a_short_message(home: Path) -> None:
    found = driver.fuzz(home, seed=11, count=CASES)
    assert found["faults"] == []
    assert found["cases"] == CASES
    for kind, counts in found["counts"].items():
        assert counts.get("refused", 0) >= 3, kind


def test_the_same_seed_gives_the_same_cases() -> None:
    record = {"command": "distill", "settings": {"epochs": 1.0, "out": "o"}}
    for make in (lambda count: options.mutations(5, count), lambda count: run_records.mutations(record, 5, count)):
        assert [*make(20)] == [*make(40)][:20]


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (lambda *_: 1 / 0, "traceback"),
        (lambda *_: print("error: " + "x" * 3000, file=sys.stderr) or sys.exit(2), "difference"),
        (lambda *_: sys.exit(3), "difference"),
        (lambda *_: [None for _ in iter(int, 1)], "hang"),
    ],
    ids=["a traceback", "a long message", "an exit code without a message", "a hang"],
)
def test_each_kind_of_fault_is_seen(broken: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contrastill import teachers as cache

    monkeypatch.setattr(driver, "LIMIT", 0.3)
    monkeypatch.setattr(cache, "entries", broken)
    assert driver.command(["cache", "list"], tmp_path).kind == kind


def test_a_setting_that_is_recorded_otherwise_than_it_was_given_is_a_difference(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"settings": {"epochs": 0.5, "seed": 3, "set": {"alpha": "1"}}}))
    assert driver.compare({"epochs": ["0.5"], "seed": ["3"], "set": ["alpha=1"]}, tmp_path, tmp_path) is None
    for given in ({"epochs": ["0.6"]}, {"seed": ["3.5"]}, {"set": ["alpha=1", "beta=1"]}):
        assert driver.compare(given, tmp_path, tmp_path).kind == "difference"
