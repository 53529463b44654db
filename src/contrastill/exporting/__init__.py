"""Export: one graph for ONNX Runtime or OpenVINO, with a check of its quality."""

from typing import TYPE_CHECKING, Any

__all__ = ["Exportable", "build", "export", "exportable"]

if TYPE_CHECKING:
    from contrastill.exporting.run import export
    from contrastill.exporting.source import Exportable, exportable
    from contrastill.exporting.write import build

HOMES = {"Exportable": "source", "build": "write", "export": "run", "exportable": "source"}


def __getattr__(name: str) -> Any:
    """Names are imported when first used: `verify` checks a bundle where there is no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
