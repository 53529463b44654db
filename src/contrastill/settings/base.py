"""What a settings dataclass is made of."""

from dataclasses import field
from typing import Any

__all__ = ["option"]


def option(default: Any, help: str, panel: str = "Training") -> Any:
    return field(default=default, metadata={"help": help, "panel": panel})
