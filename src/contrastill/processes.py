"""The processes that train together."""

import torch
from accelerate import PartialState

__all__ = ["processes"]


def processes() -> PartialState:
    """accelerate's view of the processes. On a machine without accelerator it must be told so, or it sees only one."""
    return PartialState(cpu=not torch.accelerator.is_available())
