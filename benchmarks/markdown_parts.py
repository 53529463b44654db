"""What the sections of docs/benchmarks.md have in common."""

from typing import Any


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]) + "\n"


def machine(result: dict[str, Any]) -> str:
    found = result["machine"]
    return f"{found['cpu']}, {found['torch_threads']} threads, torch {found['torch']}; `{result['command']}`"
