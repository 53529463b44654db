"""A run of Pea-KD leaves a plain model, in which every layer has its weights."""

import json
from pathlib import Path

from transformers import AutoModelForSequenceClassification
from workshop import Workshop

from contrastill import distill, evaluate


def test_the_saved_student_needs_nothing_of_ours(workshop: Workshop, tmp_path: Path) -> None:
    asked = workshop.settings(tmp_path / "run", method="pea_kd", epochs=1, checks=2)
    run = distill(**asked)
    model = AutoModelForSequenceClassification.from_pretrained(run.model)
    weights = model.state_dict()
    lower, upper = (f"bert.encoder.layer.{n}.attention.self." for n in (0, 1))
    for kind in ("weight", "bias"):
        assert weights[f"{upper}query.{kind}"].equal(weights[f"{lower}key.{kind}"])
        assert weights[f"{upper}key.{kind}"].equal(weights[f"{lower}query.{kind}"])
        assert weights[f"{upper}value.{kind}"].equal(weights[f"{lower}value.{kind}"])
    assert not weights[f"{lower}query.weight"].equal(weights[f"{lower}key.weight"])
    assert not [name for name in weights if "verdict" in name]
    stored = sum(parameter.numel() for parameter in model.parameters())
    assert run.metrics["student"]["parameters"] == stored
    told = json.loads((run.folder / "run.json").read_text())["data"]["decisions"]["layers"]
    assert told.startswith("the upper 1 of 2 have the weights of the lower 1, ")
    assert f"of {stored:,} numbers" in told
    scored = evaluate(model=str(run.folder), data=asked["data"], split="dev")
    assert scored["metrics"]["accuracy"] == run.metrics["student"]["dev"]["metrics"]["accuracy"]
