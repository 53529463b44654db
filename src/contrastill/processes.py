"""The processes that train together."""

import sys

import torch
from accelerate import PartialState

__all__ = ["bar_pause", "processes"]


def processes() -> PartialState:
    """accelerate's view of the processes. On a machine without accelerator it must be told so, or it sees only one."""
    return PartialState(cpu=not torch.accelerator.is_available())


def bar_pause() -> float:
    """Seconds between two drawings of a progress bar: a fraction in a terminal or a notebook, many in a log file."""
    notebook = type(sys.stderr).__module__.startswith("ipykernel")
    return 0.2 if notebook or sys.stderr.isatty() else 30.0
