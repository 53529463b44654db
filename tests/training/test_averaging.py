"""The mean of a run's last weights."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from interruptions import stopping_at
from safetensors.torch import load_file
from torch import nn
from workshop import QUICK_TEACHER, Workshop, sha256, write_encoder

from contrastill import Distillation, Interrupted, UserError, distill, finetune
from contrastill.training.checkpoints import LastWeights, mean_of

LATE = {"representation": 0.8, "joint": 0.2}


def test_the_mean_is_that_of_each_number_and_counts_are_the_last() -> None:
    states = [
        {"a": torch.tensor([1.0, 2.0]), "n": torch.tensor([1]), "h": torch.tensor([1.0], dtype=torch.bfloat16)},
        {"a": torch.tensor([2.0, 4.0]), "n": torch.tensor([7]), "h": torch.tensor([2.0], dtype=torch.bfloat16)},
        {"a": torch.tensor([6.0, 0.0]), "n": torch.tensor([3]), "h": torch.tensor([3.0], dtype=torch.bfloat16)},
    ]
    found = mean_of(states)
    assert found["a"].tolist() == [sum(float(state["a"][n]) for state in states) / 3 for n in range(2)]
    assert found["n"].tolist() == [3]
    assert (found["h"].tolist(), found["h"].dtype) == ([2.0], torch.bfloat16)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


def kept(folder: Path, steps: list[int], ends: list[int], most: int = 3) -> LastWeights:
    """Of a run of 20 steps, checked every 4; at step n its weight is n."""
    model = Model()
    method: Any = SimpleNamespace(milestones=lambda total: ends, student=SimpleNamespace(model=model))
    found = LastWeights(most, method, folder)
    for step in steps:
        model.weight.data.fill_(step)
        state = SimpleNamespace(global_step=step, max_steps=20, is_world_process_zero=True)
        found.on_save(SimpleNamespace(save_steps=4), state, None)
    return found


@pytest.mark.parametrize(
    ("steps", "ends", "mean"),
    {
        "the last three": ([4, 8, 12, 16, 20], [20], (12, 16, 20)),
        "those there are": ([4, 8], [20], (4, 8)),
        "an interruption between checks is none": ([4, 8, 12, 13, 16, 17, 18, 20], [20], (12, 16, 20)),
        "those of the last stage": ([4, 8, 12, 16, 20], [12, 20], (16, 20)),
        "those before a stage without steps": ([4, 8, 12, 16, 20], [20, 20], (12, 16, 20)),
        "written again after a resume": ([4, 8, 12, 8, 12, 16, 20], [20], (12, 16, 20)),
    }.values(),
    ids=lambda value: str(value),
)
def test_the_weights_at_the_last_checks_are_kept(
    tmp_path: Path, steps: list[int], ends: list[int], mean: tuple[int, ...]
) -> None:
    found = kept(tmp_path, steps, ends)
    assert found.load_mean(20) == mean
    assert found.method.student.model.weight.item() == pytest.approx(sum(mean) / len(mean))
    assert len(list((tmp_path / "weights").iterdir())) <= 3


def test_of_one_weight_nothing_is_loaded(tmp_path: Path) -> None:
    found = kept(tmp_path, [4, 8, 12, 16, 20], [16, 20])
    found.method.student.model.weight.data.fill_(-1)
    assert found.load_mean(20) == (20,)
    assert found.method.student.model.weight.item() == -1


def settings_of(workshop: Workshop, out: Path, **changes: Any) -> dict[str, Any]:
    return workshop.settings(out, **{"method": "kd", "average": 3, "learning_rate": 1e-3, **changes})


@pytest.fixture(scope="module")
def averaged(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return distill(**settings_of(workshop, tmp_path_factory.mktemp("averaged") / "run"))


def test_the_saved_model_has_the_mean_and_says_so(averaged: Any) -> None:
    states = [load_file(averaged.folder / f"checkpoints/weights/{step}.safetensors") for step in (8, 12, 16)]
    saved, expected = load_file(averaged.model / "model.safetensors"), mean_of(states)
    assert saved.keys() <= expected.keys()
    assert [name for name in saved if not torch.equal(saved[name], expected[name])] == []
    assert not torch.equal(expected["classifier.weight"], states[-1]["classifier.weight"])
    assert (averaged.metrics["averaged"], averaged.metrics["checkpoint"]) == (3, 16)
    record = json.loads((averaged.folder / "run.json").read_text())
    assert "the mean of the weights at steps 8, 12, 16" in record["data"]["decisions"]["checkpoint"]
    assert "the mean of the last weights" in record["selection"]
    assert "the mean of the weights at steps 8, 12, 16" in (averaged.folder / "report.html").read_text()
    assert "the mean of the last 3 checks" in averaged._repr_html_()


@pytest.mark.parametrize("steps", [(6,), (14, 15)])
def test_a_resumed_run_has_the_same_mean(
    workshop: Workshop, averaged: Any, tmp_path: Path, steps: tuple[int, ...]
) -> None:
    settings, resume = settings_of(workshop, tmp_path / "run"), False
    for step in steps:
        with stopping_at(step), pytest.raises(Interrupted):
            distill(**settings, resume=resume)
        resume = True
    run = distill(**settings, resume=True)
    assert sha256(run.model / "model.safetensors") == sha256(averaged.model / "model.safetensors")


def test_training_itself_is_as_without(workshop: Workshop, averaged: Any, tmp_path: Path) -> None:
    run = distill(**settings_of(workshop, tmp_path / "run", average=None, keep_checkpoints=False))
    logs = [
        [row for row in map(json.loads, (each.folder / "log.jsonl").read_text().splitlines()) if "loss" in row]
        for each in (run, averaged)
    ]
    assert logs[0] == logs[1]
    assert not (run.folder / "checkpoints").exists()


def test_a_last_stage_of_one_check_has_no_mean(workshop: Workshop, tmp_path: Path) -> None:
    run = distill(**settings_of(workshop, tmp_path / "run", method="lrc_bert", stages=LATE, keep_checkpoints=False))
    record = json.loads((run.folder / "run.json").read_text())
    assert "fewer than two checks" in record["data"]["decisions"]["average"]
    assert "averaged" not in run.metrics
    assert not (run.folder / "checkpoints").exists()


def test_words_that_do_not_occur_keep_their_rows(workshop: Workshop, tmp_path: Path) -> None:
    """Of such a vocabulary only the occurring rows are trained and kept beside the checkpoints."""
    model = write_encoder(tmp_path / "model", vocab_size=400)
    settings = {**QUICK_TEACHER, "epochs": 2, "average": 2}
    run = finetune(model=str(model), data=str(workshop.data()), out=str(tmp_path / "run"), **settings)
    assert run.metrics["averaged"] == 2
    name = "bert.embeddings.word_embeddings.weight"
    before, after = load_file(model / "model.safetensors")[name], load_file(run.model / "model.safetensors")[name]
    parts = list((run.folder / "checkpoints/weights").iterdir())
    assert {len(load_file(part)[name]) for part in parts} != {400}
    assert after.shape == before.shape
    assert torch.equal(after[200:], before[200:])
    assert not torch.equal(after[:100], before[:100])


@pytest.mark.parametrize(("average", "why"), [(1, "from 2"), (0, "from 2"), (11, "at most as many"), ("x", "whole")])
def test_a_mean_that_cannot_be_is_refused(average: Any, why: str) -> None:
    with pytest.raises(UserError, match=why):
        Distillation(teacher="t", out="o", average=average)
