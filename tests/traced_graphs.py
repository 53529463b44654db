"""What torch's exporter makes of a model, kept for the next test that exports the same one.

Tracing takes most of an export's time, and most tests of exports, bundles and benches export tiny models of the same
few structures. A graph is traced with random weights and kept by its structure; each model's own then take their place.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

NAMES = ("_name_or_path", "id2label", "label2id", "transformers_version")
PLAIN = (bool, int, float, str, type(None), tuple)


def structure(module: torch.nn.Module, options: dict[str, Any]) -> str:
    """A sha256 of all that decides the graph but for its weights: classes, plain attributes, configs, inputs."""
    found = hashlib.sha256()

    def add(*values: object) -> None:
        found.update(repr(values).encode())

    for name, part in module.named_modules():
        kept = {key: value for key, value in sorted(vars(part).items()) if isinstance(value, PLAIN)}
        called = {
            key: value.__qualname__ for key, value in sorted(vars(part).items()) if hasattr(value, "__qualname__")
        }
        config = part.config.to_dict() if hasattr(part, "config") else {}
        config = sorted((key, repr(value)) for key, value in config.items() if key not in NAMES)
        add(name, type(part).__module__, type(part).__qualname__, kept, called, config)
    of_weights = weights(module)
    for name, tensor in module.state_dict(keep_vars=True).items():
        add(name, tensor.dtype, tuple(tensor.shape), None if name in of_weights else tensor.tolist())
    for name, tensor in module.named_buffers():
        add(name, tensor.tolist())
    inputs = options.pop("kwargs")
    add({name: (tuple(value.shape), value.dtype, value.tolist()) for name, value in inputs.items()})
    dims = {
        name: {axis: (dim.__name__, dim.min, dim.max) for axis, dim in axes.items()}
        for name, axes in options.pop("dynamic_shapes").items()
    }
    add(dims, sorted(options.items()))
    return found.hexdigest()


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters, each once, that can be told apart: more than one number."""
    return {name: value.detach() for name, value in module.named_parameters() if value.numel() > 1}


def forms(value: torch.Tensor) -> dict[str, np.ndarray[Any, Any]]:
    """How the exporter may write a weight."""
    plain = value.cpu().numpy()
    return {"plain": plain, **({"transposed": plain.T} if plain.ndim == 2 else {})}


def marked(export: Callable[..., Any], module: torch.nn.Module, options: dict[str, Any]) -> tuple[Any, Any]:
    """The graph of random weights; for each of its tensors, the weight and form that it is. The module keeps its own.

    Raises:
        LookupError: a tensor of the graph is made of weights but is none of them.
    """
    import onnx

    own = {name: value.clone() for name, value in weights(module).items()}
    draw = torch.Generator().manual_seed(0)
    try:
        for value in weights(module).values():
            value.copy_(torch.randn(value.shape, generator=draw))
        made = export(module, **options).model_proto
        known = {
            (array.shape, array.tobytes()): (name, form)
            for name, value in weights(module).items()
            for form, array in reversed(forms(value).items())
        }
    finally:
        for name, value in weights(module).items():
            value.copy_(own[name])
    places, fixed = {}, {(tuple(b.shape), b.numpy().tobytes()) for b in module.buffers() if b.dtype == torch.float32}
    for tensor in made.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if (key := (array.shape, array.tobytes())) in known:
            places[tensor.name] = known[key]
        elif array.dtype == np.float32 and array.size > 1 and key not in fixed:
            raise LookupError(tensor.name)
    return made, places


def traced_once(export: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    """`torch.onnx.export` as `to_onnx` calls it, which traces each structure once."""
    folder.mkdir(exist_ok=True)

    def again(module: torch.nn.Module, **options: Any) -> Any:
        import onnx

        path = folder / f"{structure(module, dict(options))}.onnx"
        table = path.with_suffix(".json")
        if not table.exists():
            try:
                made, places = marked(export, module, options)
            except LookupError:
                return export(module, **options)
            part = path.with_suffix(f".{id(made)}")
            onnx.save(made, part)
            part.rename(path)
            part.write_text(json.dumps(places))
            part.rename(table)
        made, own = onnx.load(path), weights(module)
        places = json.loads(table.read_text())
        for tensor in made.graph.initializer:
            if tensor.name in places:
                name, form = places[tensor.name]
                array = np.ascontiguousarray(forms(own[name])[form])
                tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        return SimpleNamespace(model_proto=made)

    return again
