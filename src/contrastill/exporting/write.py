"""Writing a bundle: the graph in the chosen format and precision, the tokenizer, and the metadata of both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Tokenizer

import contrastill
from contrastill import spans
from contrastill.bundle import FORMAT, METADATA
from contrastill.errors import UserError
from contrastill.exporting.graph import OPSET, to_onnx
from contrastill.exporting.probes import Probes, answered, made_up
from contrastill.exporting.quantize import RECIPES, Recipe, calibration, openvino_file, quantized_onnx
from contrastill.exporting.source import Exportable, Texts
from contrastill.seal import SEAL, file_seals, seal_of

__all__ = ["build", "recipes_for", "write_bundle", "write_metadata"]

RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}
UNSEALED = ("README.md", METADATA)
"""Files of a bundle that no answer depends on, and the one that holds the seals."""


def build(
    source: Exportable,
    folder: str | Path,
    *,
    to: str = "onnx",
    precision: str = "int8",
    texts: Texts | None = None,
    recipe: str | None = None,
    count: int = 300,
    opset: int = OPSET,
) -> Path:
    """Writes a bundle without checking its answers, as `export` does.

    Args:
        texts: what int8 is calibrated on.
        recipe: one of `RECIPES`; by default the first that the runtime has.

    Raises:
        UserError: an unknown recipe, no texts for int8, or a model that cannot be exported.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = recipes_for(to, recipe)[0] if precision == "int8" else None
    samples = calibration(source, texts or [], count) if precision == "int8" else []
    with TemporaryDirectory(dir=folder.parent) as place:
        graph = Path(place) / "graph.fp32"
        to_onnx(source, graph, opset)
        write_bundle(source, graph, folder, to, precision, chosen, samples, made_up(source))
    return folder


def recipes_for(to: str, name: str | None) -> list[Recipe]:
    """The recipes that a runtime has, or the named one."""
    here = [recipe for recipe in RECIPES if RUNTIMES[to] in recipe.runtimes]
    if name is None:
        return here
    if named := [recipe for recipe in here if recipe.name == name]:
        return named
    raise UserError(f"--recipe: expected one of {', '.join(r.name for r in here)} with --to {to}, got {name!r}")


def write_bundle(
    source: Exportable,
    graph: Path,
    folder: Path,
    to: str,
    precision: str,
    recipe: Recipe | None,
    samples: Sequence[dict[str, Any]],
    probes: Probes,
) -> None:
    """Writes the folder's files, from the float32 `graph`, and its sealed metadata.

    Raises:
        NotFinite: the graph answers NaN or infinity.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if to == "openvino":
        file = folder / "model.xml"
        openvino_file(graph, file, precision, recipe, samples, source.answer.per_word)
    else:
        file = folder / "model.onnx"
        if recipe is None:
            shutil.copyfile(graph, file)
        else:
            quantized_onnx(graph, file, recipe, samples, source.answer.per_word)
    write_tokenizer(source, folder)
    if source.answer.per_word:  # reads and decodes without this package
        shutil.copyfile(str(spans.__file__), folder / "spans.py")
    source.encoder.config.save_pretrained(folder)
    write_metadata(
        folder,
        {
            "format": FORMAT,
            "name": source.name,
            "task": source.task,
            "labels": source.labels,
            **({"thresholds": source.thresholds} if source.thresholds else {}),
            **({"temperatures": source.temperatures} if source.temperatures else {}),
            "dimensions": source.dimensions,
            "ordered": source.ordered,
            "texts": source.texts,
            "max_length": source.max_length,
            "positions": source.positions,
            "prompt": source.prompt,
            "pad_id": source.tokenizer.pad_token_id or 0,
            "runtime": RUNTIMES[to],
            "precision": precision,
            "recipe": recipe.name if recipe else None,
            "file": file.name,
            "inputs": source.inputs,
            "output": source.output,
            "teacher": source.teacher,
            "parameters": source.parameters,
            "contrastill": contrastill.__version__,
            "files": file_seals(folder, UNSEALED),
            "gate": None,
        },
    )
    write_metadata(folder, {"probes": answered(folder, probes)})


def write_tokenizer(source: Exportable, folder: Path) -> None:
    """As transformers writes it; tokenizer.json cuts at the longest input and pads by itself."""
    source.tokenizer.save_pretrained(folder)
    file = str(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(file)
    tokenizer.enable_truncation(source.max_length, direction=source.tokenizer.truncation_side)
    tokenizer.enable_padding(pad_id=source.tokenizer.pad_token_id or 0, pad_token=source.tokenizer.pad_token or "[PAD]")
    tokenizer.save(file)


def write_metadata(folder: Path, entries: dict[str, Any]) -> dict[str, Any]:
    """Adds entries to bundle.json, seals it, and returns all. What is not finite is written as null."""
    path = folder / METADATA
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known |= json.loads(json.dumps(entries), parse_constant=lambda _: None)
    known[SEAL] = seal_of(known)
    path.write_text(json.dumps(known, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return known
