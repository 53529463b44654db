"""int8: weights by channel, activations by ranges seen on calibration texts, each way of doing it a `Recipe`.

NNCF finds the ranges and smooths outliers into the weights (SmoothQuant, Xiao et al., 2022, arXiv 2211.10438) for both
runtimes. The table of word vectors, most of a small student, is quantised too, a scale for each word.

Weights of products use 7 of their 8 bits. An x86 processor without VNNI adds two products of 8-bit numbers in 16 bits:
255 x 127 x 2 does not fit and is cut off in silence, 255 x 64 x 2 fits. So a file answers alike on every processor.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contrastill.errors import UserError
from contrastill.exporting.graph import needed, quiet
from contrastill.exporting.source import Exportable, Texts

__all__ = ["RECIPES", "Recipe", "calibration", "openvino_file", "quantized_onnx"]

TABLE = 1 << 14
"""Numbers from which on a table that is looked up is worth quantising."""


@dataclass(frozen=True)
class Recipe:
    """One way to int8."""

    name: str
    what: str
    runtimes: tuple[str, ...] = ("onnxruntime", "openvino")
    smooth: float | None = 0.5
    """SmoothQuant's alpha; None: NNCF's own default (0.95)."""
    attention: bool = True
    """Whether the products inside attention are int8 too."""
    symmetric: bool = False
    """Whether activations have their zero point at zero: a little faster, a little coarser."""
    static: bool = True


RECIPES = (
    Recipe("static", "calibrated, smoothed half-way, attention's products too", ("onnxruntime",)),
    Recipe("static-0.95", "calibrated, smoothed further", ("onnxruntime",), smooth=None),
    Recipe(
        "static-symmetric",
        "as static-0.95, zero points at zero, attention's products kept",
        ("openvino",),
        smooth=None,
        attention=False,
        symmetric=True,
    ),
    Recipe("static-attention-kept", "calibrated, attention's products kept in floating point", attention=False),
    Recipe("dynamic", "ranges found anew in every call", ("onnxruntime",), static=False),
    Recipe("weights", "8-bit weights alone; computed in floating point", ("openvino",), static=False),
)
"""From the one that quantises most to the most careful.

OpenVINO (2026.4, on a processor with AMX) answers wrongly from int8 attention where a text has as many tokens as a head
is wide: there attention is kept. The gate looks for faults of this kind in every file (`steadiness`).
"""


def calibration(source: Exportable, texts: Texts, count: int, seed: int = 0) -> list[dict[str, np.ndarray[Any, Any]]]:
    """Inputs of single texts, drawn at random: a padded batch would show ranges of tokens that nobody reads."""
    usable = [text for text in texts if (text.strip() if isinstance(text, str) else any(part.strip() for part in text))]
    if not usable:
        raise UserError(
            "int8 needs texts to calibrate on, got none; give --data or --texts with texts like those served"
        )
    order = np.random.default_rng(seed).permutation(len(usable))[:count]
    return [{k: v.numpy() for k, v in source.encode([usable[row]]).items()} for row in order]


def openvino_file(
    onnx_file: Path,
    path: Path,
    precision: str,
    recipe: Recipe | None,
    samples: Sequence[dict[str, Any]],
    keep_head: bool = False,
) -> None:
    """Writes model.xml and model.bin: float32, bfloat16 (stored in 16 bits) or int8 by a recipe.

    keep_head: whether the layer that gives the logits stays in floating point: a tagger's reads the encoder's own
    vectors, whose few large numbers leave the others no steps in int8.
    """
    needed("openvino")
    import openvino

    model = openvino.Core().read_model(onnx_file)
    for port in (*model.inputs, *model.outputs):
        port.get_tensor().set_names({port.any_name})
    if precision == "int8":
        assert recipe is not None
        nncf = quiet_nncf()
        if recipe.static:
            products = [op.get_friendly_name() for op in model.get_ordered_ops() if is_attention_product(op)]
            model = static(nncf, model, samples, recipe, products, head_of_openvino(model) if keep_head else ())
        else:
            kept = nncf.IgnoredScope(names=head_of_openvino(model)) if keep_head else None
            with quiet():
                model = nncf.compress_weights(model, ignored_scope=kept)
    # compressed again, an 8-bit weight's scale would be read back as it was written: nothing to win
    openvino.save_model(model, path, compress_to_fp16=precision == "bf16")


def head_of_openvino(model: Any) -> list[str]:
    """The name of the last product with a weight."""
    products = [op for op in model.get_ordered_ops() if op.get_type_name() == "MatMul" and not is_attention_product(op)]
    return [products[-1].get_friendly_name()]


def is_attention_product(op: Any) -> bool:
    """A product of two activations, neither a weight."""
    if op.get_type_name() != "MatMul":
        return False
    return not any(leads_to_constant(op.input_value(side).get_node()) for side in (0, 1))


def leads_to_constant(node: Any) -> bool:
    while node.get_type_name() in ("Convert", "Multiply", "Reshape", "Transpose") and node.get_input_size():
        node = node.input_value(0).get_node()
    return node.get_type_name() == "Constant"


def quantized_onnx(
    onnx_file: Path, path: Path, recipe: Recipe, samples: Sequence[dict[str, Any]], keep_head: bool = False
) -> None:
    """Writes an int8 ONNX file whose products ONNX Runtime computes in integers. keep_head: as `openvino_file`."""
    import onnx

    model = onnx.load(onnx_file)
    weights = {tensor.name for tensor in model.graph.initializer}
    head = [n.name for n in model.graph.node if n.op_type in ("MatMul", "Gemm") and weights & set(n.input)][-1:]
    head = head if keep_head else []
    if recipe.static:
        nncf = quiet_nncf()
        lookups = [node.name for node in model.graph.node if node.op_type == "Gather"]
        products = [n.name for n in model.graph.node if n.op_type == "MatMul" and not weights & set(n.input)]
        model = static(nncf, model, samples, recipe, products, [*lookups, *head])
        unsigned_activations(model)
    else:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with quiet():
            quantize_dynamic(
                onnx_file,
                path,
                per_channel=True,
                weight_type=QuantType.QInt8,
                reduce_range=True,
                op_types_to_quantize=["MatMul", "Gemm"],
                nodes_to_exclude=head,
            )
        model = onnx.load(path)
    quantize_tables(model)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def static(
    nncf: Any, model: Any, samples: Sequence[Any], recipe: Recipe, products: list[str], keep: Sequence[str] = ()
) -> Any:
    from nncf.quantization.advanced_parameters import AdvancedSmoothQuantParameters, OverflowFix

    advanced: dict[str, Any] = {"overflow_fix": OverflowFix.ENABLE}
    if recipe.smooth is not None:
        advanced["smooth_quant_alphas"] = AdvancedSmoothQuantParameters(matmul=recipe.smooth)
    ignored = [*keep, *([] if recipe.attention else products)]
    with quiet():
        return nncf.quantize(
            model,
            nncf.Dataset(samples),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.PERFORMANCE if recipe.symmetric else nncf.QuantizationPreset.MIXED,
            subset_size=len(samples),
            ignored_scope=nncf.IgnoredScope(names=ignored) if ignored else None,
            advanced_parameters=nncf.AdvancedQuantizationParameters(**advanced),
        )


def quiet_nncf() -> Any:
    """NNCF, without its usage statistics, log lines and progress bars."""
    os.environ.setdefault("NNCF_CI", "1")  # the switch that it has for "send nothing"
    needed("nncf")
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)  # nncf.set_log_level would set all of its handlers, also others'
    return nncf


def unsigned_activations(model: Any) -> None:
    """Activations as uint8, in place: x86 processors multiply uint8 by int8, and ONNX Runtime fuses only that.

    A zero point moves by 128 and so does every quantised value: nothing else changes.
    """
    from onnx import numpy_helper

    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    of_activations = {node.output[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    for node in graph.node:
        quantises = node.op_type == "QuantizeLinear"
        if not quantises and not (node.op_type == "DequantizeLinear" and node.input[0] in of_activations):
            continue
        tensor = tensors[node.input[2]]
        zero = numpy_helper.to_array(tensor)
        if zero.dtype == np.int8:
            tensor.CopyFrom(numpy_helper.from_array((zero.astype(np.int16) + 128).astype(np.uint8), tensor.name))
    del graph.value_info[:]  # it tells the former types


def quantize_tables(model: Any) -> None:
    """Tables that are looked up (word vectors) as int8 with a float32 scale for each row, in place."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    done: set[str] = set()
    nodes = []
    for node in graph.node:
        name = node.input[0] if node.op_type == "Gather" else ""
        table = numpy_helper.to_array(tensors[name]) if name in tensors else np.zeros(0)
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        if table.ndim != 2 or axis != 0 or table.size < TABLE or table.dtype != np.float32:
            nodes.append(node)
            continue
        if name not in done:
            scale = np.abs(table).max(axis=1, keepdims=True) / 127
            scale[scale == 0] = 1
            whole = np.clip(np.round(table / scale), -127, 127).astype(np.int8)
            graph.initializer.extend(
                [numpy_helper.from_array(whole, f"{name}_int8"), numpy_helper.from_array(scale, f"{name}_scale")]
            )
            done.add(name)
        ids, out = node.input[1], node.output[0]
        nodes += [
            helper.make_node("Gather", [f"{name}_int8", ids], [f"{out}_int8"]),
            helper.make_node("Cast", [f"{out}_int8"], [f"{out}_whole"], to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{name}_scale", ids], [f"{out}_scale"]),
            helper.make_node("Mul", [f"{out}_whole", f"{out}_scale"], [out]),
        ]
    used = {name for node in nodes for name in node.input}
    del graph.node[:]
    graph.node.extend(nodes)
    for name in done - used:
        graph.initializer.remove(tensors[name])
