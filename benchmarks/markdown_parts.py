"""What the pages that are made of results, docs/benchmarks.md and docs/evidence.md, have in common."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]) + "\n"


def machine(result: dict[str, Any]) -> str:
    found = result["machine"]
    return f"{found['cpu']}, {found['torch_threads']} threads, torch {found['torch']}; `{result['command']}`"


def write_or_check(about: str | None, file: Path, page: Callable[[], str]) -> None:
    """The command line of a page: writes it, or with --check ends with exit code 1 if the file is another."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        sys.exit(file.read_text() != page())
    file.write_text(page())
