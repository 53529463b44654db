"""What torch's exporter makes of a model, kept for the next test that exports the same one.

Tracing takes most of an export's time, and most tests of exports, bundles and benches export the same few tiny models.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

PLAIN = (bool, int, float, str, type(None), tuple)


def seal(module: torch.nn.Module, options: dict[str, Any]) -> str:
    """A sha256 of all that decides the graph: names of classes, weights, plain attributes, configs, inputs."""
    found = hashlib.sha256()

    def add(*values: object) -> None:
        found.update(repr(values).encode())

    for name, part in module.named_modules():
        kept = {key: value for key, value in sorted(vars(part).items()) if isinstance(value, PLAIN)}
        called = {
            key: value.__qualname__ for key, value in sorted(vars(part).items()) if hasattr(value, "__qualname__")
        }
        config = part.config.to_json_string(use_diff=False) if hasattr(part, "config") else ""
        add(name, type(part).__module__, type(part).__qualname__, kept, called, config)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        add(name, tensor.dtype, tuple(tensor.shape))
        found.update(tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    inputs = options.pop("kwargs")
    add({name: (tuple(value.shape), value.dtype, value.tolist()) for name, value in inputs.items()})
    dims = {
        name: {axis: (dim.__name__, dim.min, dim.max) for axis, dim in axes.items()}
        for name, axes in options.pop("dynamic_shapes").items()
    }
    add(dims, sorted(options.items()))
    return found.hexdigest()


def traced_once(export: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    """`torch.onnx.export` as `to_onnx` calls it, which traces a model that it has seen before no more."""
    folder.mkdir(exist_ok=True)

    def again(module: torch.nn.Module, **options: Any) -> Any:
        import onnx

        path = folder / f"{seal(module, dict(options))}.onnx"
        if not path.exists():
            made = export(module, **options)
            part = path.with_suffix(f".{id(made)}")
            onnx.save(made.model_proto, part)
            part.rename(path)
        return SimpleNamespace(model_proto=onnx.load(path))

    return again
