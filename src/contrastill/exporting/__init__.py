"""Export: one graph that any ONNX Runtime or OpenVINO user runs, with proof that it still answers right."""

from contrastill.exporting.run import export
from contrastill.exporting.source import Exportable, exportable
from contrastill.exporting.verify import verify
from contrastill.exporting.write import build

__all__ = ["Exportable", "build", "export", "exportable", "verify"]
