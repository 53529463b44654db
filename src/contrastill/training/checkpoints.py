"""Checkpoints that are complete: checksummed when written, verified before a run resumes from them."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

__all__ = ["Seal", "last_good_checkpoint"]

logger = logging.getLogger(__name__)
SEAL = "complete.json"


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
