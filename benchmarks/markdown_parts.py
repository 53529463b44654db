"""What the pages that are made of results, docs/benchmarks.md and docs/evidence.md, have in common."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from contrastill.errors import counted


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]) + "\n"


def machine(result: dict[str, Any]) -> str:
    found = result["machine"]
    return f"{found['cpu']}, {counted(found['torch_threads'], 'thread')}, torch {found['torch']}; `{result['command']}`"


def write_or_check(about: str | None, pages: Mapping[Path, Callable[[], str]]) -> None:
    """The command line of pages: writes them, or with --check ends with exit code 1 if a file is another."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        sys.exit(any(file.read_text() != page() for file, page in pages.items()))
    for file, page in pages.items():
        file.write_text(page())
