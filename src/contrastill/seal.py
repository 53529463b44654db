"""Seals: the sha256 of files, and of metadata whatever its spacing and the order of its keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["SEAL", "changed_file", "file_seals", "seal_of", "sha256", "unique_keys"]

SEAL = "seal"
"""The entry of sealed metadata that holds its seal."""


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_seals(folder: Path, free: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """Path below the folder -> bytes and sha256 of each file in it but the `free` ones."""
    left_out = set(free)
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name: {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for name, path in files.items()
        if name not in left_out
    }


def changed_file(folder: Path, seals: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The first file that is missing or not the sealed one."""
    for name, sealed in seals.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != sealed["bytes"] or sha256(path) != sealed["sha256"]:
            return name
    return None


def seal_of(metadata: Mapping[str, Any]) -> str:
    """sha256 over the canonical JSON of all entries but the seal: sorted keys, no spaces, ASCII, shortest floats."""
    entries = {name: value for name, value in metadata.items() if name != SEAL}
    text = json.dumps(entries, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """`object_pairs_hook` for JSON in which a second entry of one name is an error, not the one that counts.

    Raises:
        ValueError: a name occurs twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two entries are called {twice[:80]!r}")
    return found
