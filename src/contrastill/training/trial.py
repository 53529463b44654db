"""Training steps without an update that leave no trace."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from contrastill.training.plan import Plan

__all__ = ["trial"]


@contextmanager
def trial(run: Plan, device: torch.device) -> Iterator[Callable[[Sequence[int] | np.ndarray], float]]:
    """Gives a function that takes rows forward and backward and returns their loss. Gradients, buffers (queues) and the
    random state are put back at the end; the model stays on the device, in train mode."""
    model = run.model
    buffers = {name: value.clone() for name, value in model.named_buffers()}

    def step(rows: Sequence[int] | np.ndarray) -> float:
        batch = {name: value.to(device) for name, value in run.batch(rows).items()}
        with torch.autocast(device.type, dtype=run.dtype, enabled=run.dtype is not None):
            loss: Tensor = model(**run.dearest(batch))["loss"]
        loss.backward()
        return float(loss.detach())  # waits for the device

    model.to(device).train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield step
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
