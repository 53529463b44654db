"""Export: one graph that any ONNX Runtime or OpenVINO user runs, with proof that it still answers right."""

from contrastill.export.run import export
from contrastill.export.source import Exportable, exportable
from contrastill.export.verify import verify
from contrastill.export.write import build

__all__ = ["Exportable", "build", "export", "exportable", "verify"]
