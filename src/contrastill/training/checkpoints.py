"""Checkpoints that are complete: checksummed when written, verified before a run resumes from them; and the weights of
which a mean is taken."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainerCallback

from contrastill.methods import Method
from contrastill.training.choice import clone_state

__all__ = ["LastWeights", "Seal", "last_good_checkpoint", "mean_of"]

logger = logging.getLogger(__name__)
SEAL = "complete.json"
WEIGHTS = "weights"
"""The folder, beside the checkpoints, of the weights of which a mean is taken."""


class Seal(TrainerCallback):
    """Marks a checkpoint as complete: the last file written, with the size and sha256 of every other."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if args.world_size > 1:
            torch.distributed.barrier()  # every process has written its random state
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            seal = folder / SEAL
            seal.with_suffix(".part").write_text(json.dumps(contents(folder)), encoding="utf-8")
            seal.with_suffix(".part").rename(seal)


def contents(folder: Path) -> dict[str, list[Any]]:
    files = sorted(p for p in folder.iterdir() if p.stem != Path(SEAL).stem)
    return {p.name: [p.stat().st_size, hashlib.sha256(p.read_bytes()).hexdigest()] for p in files}


def last_good_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint; broken ones are skipped with a warning."""
    names = (p.name.removeprefix("checkpoint-") for p in folder.glob("checkpoint-*"))
    steps = sorted((int(name) for name in names if name.isdecimal()), reverse=True)
    for checkpoint in (folder / f"checkpoint-{step}" for step in steps):
        try:
            if json.loads((checkpoint / SEAL).read_text(encoding="utf-8")) == contents(checkpoint):
                return checkpoint
        except (OSError, ValueError):
            pass
        logger.warning("%s is not whole (the run was cut while saving it, or it was changed): skipped", checkpoint)
    return None


# ---- the mean of a run's last weights (Izmailov et al. 2018, arXiv:1803.05407; at the run's own learning rates)


class LastWeights(TrainerCallback):
    """Keeps the student's weights at the last few checks of the last stage, in `checkpoints/weights`.

    A checkpoint holds three times as much, and one more is written where a run is interrupted. Files are written before
    their checkpoint is sealed: a resumed run has those up to its step, and writes later ones again.
    """

    def __init__(self, most: int, method: Method, checkpoints: Path) -> None:
        self.most, self.method, self.folder = most, method, checkpoints / WEIGHTS

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step, total = state.global_step, state.max_steps
        begin = max(end for end in (0, *self.method.milestones(total)) if end < total)
        if not state.is_world_process_zero or step <= begin or (step % args.save_steps and step < total):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / "step.part"
        weights = clone_state(self.method.student.model)
        save_file({name: value.contiguous() for name, value in weights.items()}, part)
        os.replace(part, self.file(step))
        for old in self.steps(step)[: -self.most]:
            self.file(old).unlink()

    def file(self, step: int) -> Path:
        return self.folder / f"{step}.safetensors"

    def steps(self, last: int) -> list[int]:
        """The steps, up to this one, whose weights are there."""
        names = (file.stem for file in self.folder.glob("*.safetensors"))
        return sorted(step for name in names if name.isdecimal() and (step := int(name)) <= last)

    def load_mean(self, last: int) -> tuple[int, ...]:
        """Gives the student the mean of the weights that are kept, and returns their steps; of fewer than two, nothing
        changes."""
        steps = tuple(self.steps(last)[-self.most :])
        if len(steps) > 1:
            self.method.student.model.load_state_dict(mean_of([load_file(self.file(step)) for step in steps]))
        return steps


def mean_of(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several models' weights, computed in float64 and rounded to their type; tensors that are not
    floating-point (positions, counts) are the last model's."""
    last = states[-1]
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in last.items()
    }
