"""A run's folder as its page reads it: missing or damaged files are named, and the rest is shown."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contrastill import results
from contrastill.errors import UserError, first_line
from contrastill.results import RunResult

__all__ = ["RunFiles", "dig", "mapping", "number", "objects", "read_run"]

DEEPEST = 3  # folders below the run's in which an exported bundle is looked for


@dataclass
class RunFiles:
    """The contents of a run's folder. Missing files are empty."""

    folder: Path
    record: dict[str, Any]  # run.json
    result: RunResult  # metrics.json
    log: list[dict[str, Any]]
    evidence: dict[str, Any]
    bench: dict[str, Any]
    bundles: list[dict[str, Any]]  # each bundle.json, with its place under "path"
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.folder.resolve().name or str(self.folder)

    @property
    def command(self) -> str:
        return str(self.record.get("command", "run"))

    @property
    def settings(self) -> dict[str, Any]:
        return mapping(self.record.get("settings"))

    @property
    def finished(self) -> bool:
        return self.record.get("status") == "finished" and self.scored

    @property
    def scored(self) -> bool:
        return self.result != RunResult()


def read_run(folder: str | Path) -> RunFiles:
    """Reads a run's folder.

    Raises:
        UserError: there is no such folder, or no run.json that can be read in it.
    """
    path = Path(folder).expanduser()
    problems: list[str] = []
    if not path.is_dir():
        raise UserError(f"expected the folder of a run, got {str(folder)!r}, which is not a folder; check the path")
    record = read_object(path / "run.json", problems)
    if not record:
        said = problems[0] if problems else "it has no run.json"
        raise UserError(f"expected the folder of a run, got {str(folder)!r}: {said}; name a run's --out folder")
    metrics = read_object(path / "metrics.json", problems)
    if record.get("status") != "finished":
        problems.append("The run has not finished: it is at work, was interrupted or failed. What it left is shown.")
    elif not metrics and not (path / "metrics.json").exists():
        problems.append("metrics.json is missing: there are no scores to show.")
    return RunFiles(
        folder=path,
        record=record,
        result=RunResult.from_json(metrics),
        log=read_log(path / "log.jsonl", problems),
        evidence=read_object(path / "evidence.json", problems),
        bench=read_object(path / "bench.json", problems),
        bundles=read_bundles(path, problems),
        problems=problems,
    )


def read_object(path: Path, problems: list[str], name: str | None = None) -> dict[str, Any]:
    """A JSON object; empty where there is none. name: what the file is called in a problem, if not by its last part."""
    name = name or path.name
    if not path.exists():
        return {}
    try:
        return results.read_object(path)
    except UserError as error:
        problems.append(f"{name} cannot be read ({str(error).removeprefix(f'{path}: ')}).")
        return {}


def read_log(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    """The lines that are whole, in the order of their steps."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        problems.append("log.jsonl is missing: there are no curves.")
        return []
    except OSError as error:
        problems.append(f"log.jsonl cannot be read ({first_line(error)}).")
        return []
    rows, broken = [], 0
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            broken += bool(line.strip())
            continue
        if isinstance(row, dict) and number(row.get("step")) is not None:
            rows.append(row)
        else:
            broken += 1
    if broken:
        problems.append(f"{broken} of {len(lines)} lines of log.jsonl are broken and left out.")
    return sorted(rows, key=lambda row: row["step"])


def read_bundles(folder: Path, problems: list[str]) -> list[dict[str, Any]]:
    found = []
    for depth in range(1, DEEPEST + 1):
        for path in sorted(folder.glob("*/" * depth + "bundle.json")):
            place = path.relative_to(folder)
            if any(part.startswith(".") for part in place.parts) or place.parts[0] == "baseline":
                continue  # an export that is not finished, or of another run
            if bundle := read_object(path, problems, place.as_posix()):
                found.append({**bundle, "path": place.parent.as_posix()})
    return found


def dig(value: Any, *keys: str) -> Any:
    """value[key][key]…, or None where that is not there."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def number(value: Any, *keys: str) -> float | None:
    """A finite number found by `dig`, or None."""
    found = results.number(dig(value, *keys))
    return None if found is None else float(found)


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
