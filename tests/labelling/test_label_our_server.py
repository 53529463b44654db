"""`contrastill label` asks `/predict` of a real `contrastill serve`."""

import json
import sys
from pathlib import Path

import pytest

from contrastill import UserError
from contrastill.bundle import open_bundle
from contrastill.labelling import label

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))

from serving import Server, write_bundle

TEXTS = [f"w{n} w{n + 1}" for n in range(6)] + [" ".join(["w7"] * 40)]


def test_a_bundle_s_probabilities_are_stored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_bundle(tmp_path / "bundle", "classification")
    bundle = open_bundle(folder)
    running = Server(folder, tmp_path / "log.txt").wait_until_ready()
    try:
        usual = {"data": TEXTS, "endpoint": f"http://127.0.0.1:{running.port}/predict", "out": tmp_path / "out.jsonl"}
        made = label(**usual)
        assert (made.mode, made.answered, made.left) == ("probabilities", len(TEXTS), 0)
        assert "1 texts are longer than the server's model reads" in caplog.text
        found = {row["text"]: row for row in map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())}
        for text, row in zip(TEXTS, bundle.run(TEXTS), strict=True):
            wanted = dict(zip(bundle.answer.labels or (), map(float, row), strict=True))
            assert found[text]["probabilities"] == pytest.approx(wanted, abs=2e-6)
            assert found[text]["label"] == max(wanted, key=lambda name: wanted[name])
        assert label(**usual).stored == len(TEXTS)
        with pytest.raises(UserError, match="expected the classes of the server"):
            label(**usual | {"labels": ["good", "bad"], "out": tmp_path / "other.jsonl"})
        with pytest.raises(UserError, match=r"got 404: .*the model 'other' is not here"):
            label(**usual | {"model": "other", "out": tmp_path / "other.jsonl"})
    finally:
        running.process.terminate()
        running.process.wait(120)
