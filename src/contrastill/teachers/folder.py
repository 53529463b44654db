"""The folder of all caches: its place, its entries, their verification and deletion."""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from contrastill.errors import UserError
from contrastill.teachers.store import TYPES, Facts, verified

__all__ = ["Entry", "cache_root", "entries", "make_cache_folder", "prune", "verify"]

MARK = "CACHEDIR.TAG"  # backup tools leave such folders out (bford.info/cachedir)
SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55\n# Teacher outputs stored by contrastill; may be deleted.\n"
OURS = re.compile(rf"[0-9a-f]{{16}}/(.+)-({'|'.join(TYPES)})-[0-9a-f]{{16}}")  # the folder of a field, below the root


@dataclass(frozen=True)
class Entry:
    """One field of one teacher. damaged: its store.json is lost, so that its facts are those in the folder's name."""

    folder: Path
    facts: Facts
    name: str  # of the teacher, as it was given
    texts: int
    bytes: int
    used: float  # when it was last used, seconds since the epoch
    damaged: bool = False

    @property
    def last_used(self) -> str:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(self.used))

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "texts": self.texts,
            "bytes": self.bytes,
            "used": self.last_used,
            **asdict(self.facts),
            "damaged": self.damaged,
            "folder": str(self.folder),
        }


def cache_root(given: str | Path | None = None) -> Path:
    """The folder given, else $CONTRASTILL_CACHE, else contrastill in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(given or os.environ.get("CONTRASTILL_CACHE") or f"{home}/contrastill").expanduser()


def make_cache_folder(root: Path) -> None:
    """Makes the folder, and marks it as a cache."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not (root / MARK).exists():
            (root / MARK).write_text(SIGNATURE, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write to the cache folder {root}: {error.strerror or error}; choose another (--cache DIR), or do "
            "without (--cache none)"
        ) from None


def described(folder: Path) -> tuple[Facts, dict[str, Any]] | None:
    try:
        stored = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        facts = Facts(**{f.name: stored[f.name] for f in fields(Facts)})
        return (facts, stored) if facts.folder(folder.parent.parent) == folder else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def entries(root: Path) -> Iterator[Entry]:
    """The content of the folder; sizes and counts from the files' heads, unverified."""
    for folder in sorted(root.glob("*/*")):
        named = OURS.fullmatch(folder.relative_to(root).as_posix())
        if named is None or not folder.is_dir():
            continue
        found, shards = described(folder), list(folder.glob("*.safetensors"))
        facts, stored = found or (Facts(folder.parent.name, named[1], 0, "", named[2]), {})
        dated = folder / "store.json" if (folder / "store.json").exists() else folder
        yield Entry(
            folder,
            facts,
            str(stored.get("name", "")),
            sum(map(texts_in, shards)),
            sum(shard.stat().st_size for shard in shards),
            dated.stat().st_mtime,
            damaged=found is None,
        )


def texts_in(shard: Path) -> int:
    try:
        with shard.open("rb") as file:
            return int(json.loads(file.read(int.from_bytes(file.read(8), "little")))["counts"]["shape"][0])
    except (OSError, ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError):
        return 0


def verify(root: Path) -> Iterator[tuple[Path, bool]]:
    """Reads every shard completely: (path, whether its checksum is right). Changes nothing."""
    for entry in entries(root):
        if entry.damaged:
            yield entry.folder / "store.json", False
            continue
        for path, shard in verified(entry.folder, entry.facts):
            yield path, shard is not None


def prune(
    root: Path, *, unused_days: float | None = None, teacher: str | None = None, dry_run: bool = False
) -> list[Entry]:
    """Deletes the entries not used for so many days, or of the teachers whose name or fingerprint begins so.

    Returns what was (or, in a dry run, would be) deleted. Only folders of ours are touched, known by their names.
    """
    if unused_days is None and not teacher:
        raise UserError("expected what to delete: --unused-days N, --teacher NAME, or --unused-days 0 for everything")
    now, gone = time.time(), []
    for entry in entries(root):
        old = unused_days is None or now - entry.used >= unused_days * 86400
        named = not teacher or entry.facts.teacher.startswith(teacher) or entry.name == teacher
        if old and named:
            gone.append(entry)
            if not dry_run:
                shutil.rmtree(entry.folder)
    if not dry_run:
        for folder in {entry.folder.parent for entry in gone}:
            if not any(OURS.fullmatch(left.relative_to(root).as_posix()) for left in folder.glob("*")):
                shutil.rmtree(folder)  # only its students' starts are left
    return gone
