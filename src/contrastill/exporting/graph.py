"""From a torch module to one ONNX graph with a free batch size and length."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from contrastill.bundle import without_usage_data
from contrastill.errors import UserError, first_line
from contrastill.exporting.source import Exportable

if TYPE_CHECKING:
    import onnx

__all__ = ["OPSET", "check_opset", "needed", "to_onnx"]

OPSET = 18
SAMPLE = ("a short text", "another, which is somewhat longer, so that one of them is padded")


def needed(*names: str) -> None:
    """Raises a UserError that says how to install what is missing."""
    without_usage_data()
    for name in names:
        try:
            __import__(name)
        except ImportError as error:
            raise UserError(f"exporting needs {name} ({error}): pip install 'contrastill[export]'") from None


def to_onnx(source: Exportable, path: Path, opset: int = OPSET) -> None:
    """Writes the whole computation, float32, weights inside the file.

    torch's exporter (torch.export, then ONNX) keeps the batch and the length as symbols. The text is traced by its
    shapes alone, so control flow that depends on token values is refused by torch itself.

    Raises:
        UserError: an opset that the exporter or the runtime does not know, or a model that cannot be traced.
    """
    needed("onnx", "onnxscript", "onnxruntime")
    import onnx

    check_opset(opset)
    sample = [text if source.texts == 1 else (text, text) for text in SAMPLE]
    inputs = source.encode(sample)
    batch, length = torch.export.Dim("batch", min=1), torch.export.Dim("length", min=1, max=source.max_length)
    try:
        with quiet():
            program = torch.onnx.export(
                source.module,
                kwargs=inputs,
                input_names=list(source.inputs),
                output_names=[source.output],
                dynamo=True,
                dynamic_shapes={name: {0: batch, 1: length} for name in source.inputs},
                opset_version=opset,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter raises what the model's code raises, in many types
        raise UserError(
            f"{source.name}: torch could not export this model ({first_line(error)}); an architecture whose code "
            "branches on the tokens' values cannot become one graph"
        ) from error
    assert program is not None
    model = program.model_proto
    written = next(one.version for one in model.opset_import if one.domain == "")
    if written != opset:  # it leaves what it cannot convert as it was, and only tells
        raise UserError(
            f"expected an --opset that torch's exporter can write, got {opset} (it wrote {written}); use a lower one, "
            f"or leave it out ({OPSET})"
        )
    del model.graph.value_info[:]  # of a transposed weight the exporter leaves the former shape
    describe(model, source)
    onnx.save(model, path)


def describe(model: onnx.ModelProto, source: Exportable) -> None:
    """Metadata inside the file, for those who find it alone."""
    import onnx

    onnx.helper.set_model_props(
        model,
        {
            "task": source.task,
            "labels": json.dumps(source.labels, ensure_ascii=False),
            "max_length": str(source.max_length),
            "name": source.name,
            "teacher": source.teacher or "",
            "producer": "contrastill",
        },
    )


def check_opset(opset: int) -> None:
    """Raises a UserError if it is none that runs here."""
    newest = newest_opset()
    if not OPSET <= opset <= newest:
        raise UserError(f"expected an --opset from {OPSET} to {newest}, the newest that runs here, got {opset}")


def newest_opset() -> int:
    """The newest opset that the installed ONNX Runtime promises to run; it need not be the onnx package's."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    for opset in range(onnx.defs.onnx_opset_version(), OPSET - 1, -1):
        value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", value[:1], value[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        options: Any = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            return opset
        except Exception:
            continue
    return OPSET


@contextmanager
def quiet() -> Iterator[None]:
    """No notes and progress bars of the exporters; our own log lines come between their calls."""
    loggers = [logging.getLogger(name) for name in (None, "torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
