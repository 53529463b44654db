"""The last steps of a demo: the student as int8 bundles for both runtimes, behind the gate, timed beside the models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from contrastill.bundle import Bundle, open_bundle
from contrastill.machine import describe_machine
from contrastill.report import leave_report
from contrastill.screen import Screen

__all__ = ["Timed", "exported", "graph_mb", "leave_figures", "speeds_of"]

RUNTIMES = {"onnx": "int8 ONNX Runtime", "openvino": "int8 OpenVINO"}
CPU = torch.device("cpu")
FIGURES = ("latency_ms_p50", "throughput_per_s", "threads")


class Timed(nn.Module):
    """A function of token ids and their mask, called as a model is, so that it can be timed beside one."""

    def __init__(self, call: Callable[[dict[str, Tensor]], Any], device: torch.device = CPU) -> None:
        super().__init__()
        self.call, self.device = call, device

    def forward(self, **inputs: Tensor) -> Any:
        return self.call(inputs)


def call_of(bundle: Bundle) -> Callable[[dict[str, Tensor]], Any]:
    return lambda inputs: bundle.compute({name: inputs[name].numpy() for name in bundle.metadata["inputs"]})


def exported(run: Path, console: Screen, **options: Any) -> dict[str, Bundle]:
    """A run's student as int8 bundles below its folder; the gate judges them on the run's own dev data."""
    from contrastill.exporting import export

    bundles = {}
    for to, name in RUNTIMES.items():
        made = export(model=str(run), to=to, precision="int8", overwrite=True, **options)
        gate = made.metadata["gate"]
        console.print(
            f"{name} ({made.metadata['recipe']}): {gate['metric']} {100 * gate['bundle']:.2f} of "
            f"{100 * gate['torch']:.2f} on dev",
        )
        bundles[name] = open_bundle(made.folder, threads=torch.get_num_threads())
    return bundles


def speeds_of(
    models: Mapping[str, Any],
    bundles: Mapping[str, Bundle],
    singles: Sequence[Any],
    batches: Sequence[Any],
    seconds: float,
) -> dict[str, dict[str, float]]:
    """CPU speed of each, turn by turn, on the same tokens: one text at a time, and in batches."""
    from contrastill.evaluation import measure

    timed: dict[str, Any] = {**models, **{name: Timed(call_of(bundle)) for name, bundle in bundles.items()}}
    found = measure(timed, singles, batches, seconds=seconds)
    return {name: {figure: getattr(speed, figure) for figure in FIGURES} for name, speed in found.items()}


def leave_figures(run: Path, speeds: dict[str, dict[str, float]], student: str, bundles: dict[str, Bundle]) -> None:
    """The demo's timings as the run's bench.json (see docs/bench.md), and its page with them."""
    rows = [
        {
            "model": "teacher" if name == "teacher" else "student",
            "runtime": bundles[name].runtime if name in bundles else "torch",
            "precision": "int8" if name in bundles else "fp32",
            "length": "data",
            "batch": 1,
            "workers": 1,
            "p50_ms": speeds[name]["latency_ms_p50"],
            "ratio": speeds["teacher"]["latency_ms_p50"] / speeds[name]["latency_ms_p50"],
        }
        for name in ("teacher", student, *bundles)
    ]
    figures = {"machine": describe_machine(), "threads": speeds["teacher"]["threads"], "rows": rows}
    (run / "bench.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    leave_report(run)


def graph_mb(bundle: Bundle) -> float:
    """The graph's files, in MB (10^6 bytes)."""
    files = bundle.metadata["files"]
    return sum(one["bytes"] for name, one in files.items() if name != "tokenizer.json") / 1e6
