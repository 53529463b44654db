"""run.json: a run's settings, its folder and its progress; and the checksums of its model."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from contrastill.errors import UserError, first_line
from contrastill.seal import changed_file, unique_keys

CARD = "README.md"
"""The file of a saved model that may be edited: no answer depends on it."""
CHECKED: dict[Path, Any] = {}
"""Folders that this process has checked, with the sizes and times of their files then."""
PROMPT_KINDS = ("prompts", "conversations")
"""Kinds of data of a language model's run."""
__all__ = [
    "CARD",
    "PLACES",
    "PROMPT_KINDS",
    "RunRecord",
    "check_sealed",
    "located",
    "read_metrics",
    "read_object",
    "write_text",
]

PLACES = (
    "data",
    "dev",
    "test",
    "unlabelled",
    "class_weights",
    "texts",
    "pairs",
    "teacher",
    "teacher_outputs",
    "model",
    "start",
    "anchor",
    "sts",
)
"""Settings that may name a file or folder that the run reads."""
WORDS = {"random", "copy", "inherit", "hub", "none"}  # their values that never do
KINDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}
STATUSES = ("running", "saved", "finished")


@dataclass
class RunRecord:
    """run.json: what was asked for, from which folder, how far the run is, and what it found out.

    status: "running"; "saved" once the trained model is in its place; "finished" once its scores are too.
    cwd: the folder that the run was started in; None in records that do not tell it.
    facts: the other entries (machine, data, fingerprints, preflight, …), by name.
    file: where the record was read; messages name it.
    """

    command: str
    settings: dict[str, Any]
    status: str = "running"
    cwd: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    file: Path = Path("run.json")

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """The record in a run's folder, or in the file itself.

        Raises:
            UserError: there is none, or it is damaged.
        """
        path = Path(folder).expanduser()
        path = path if path.name == "run.json" or path.is_file() else path / "run.json"
        return cls.from_json(read_object(path), path)

    @classmethod
    def of_model(cls, folder: str | Path) -> Self | None:
        """The record of the run that made the model in `folder`; None: it was made by none.

        Raises:
            UserError: the record is damaged.
        """
        path = Path(folder).resolve().parent / "run.json"
        if not Path(folder).is_dir() or not path.is_file():
            return None
        return cls.read(path)

    @classmethod
    def from_json(cls, found: Mapping[str, Any], file: Path = Path("run.json")) -> Self:
        """The record in a JSON object, its relative paths counted from the folder where the run was started.

        Raises:
            UserError: an entry is missing or of another kind.
        """
        entries = dict(found)
        command, settings, status, cwd = (entries.pop(name, None) for name in ("command", "settings", "status", "cwd"))
        settings = renamed(settings)
        record = cls(
            command=checked("run" if command is None else command, "command", file, str),
            settings=checked(settings, "settings", file, dict),
            status=checked("running" if status is None else status, "status", file, str),
            cwd=None if cwd is None else checked(cwd, "cwd", file, str),
            facts=entries,
            file=file,
        )
        if record.status not in STATUSES:
            raise UserError(f"{file}: expected status to be {' or '.join(STATUSES)}, got {shown(record.status)}")
        if record.cwd is not None:
            record.settings = located(record.settings, record.cwd)
        return record

    def to_json(self) -> dict[str, Any]:
        own = {"command": self.command, "settings": self.settings, "status": self.status, "cwd": self.cwd}
        return {**own, **self.facts}

    def setting(self, name: str, *kinds: type) -> Any:
        """A setting of one of these kinds; None where it was not given.

        Raises:
            UserError: it is of another kind.
        """
        value = self.settings.get(name)
        return None if value is None else checked(value, f"settings.{name}", self.file, *kinds)

    def fact(self, name: str, *kinds: type) -> Any:
        """An entry of one of these kinds; None where there is none.

        Raises:
            UserError: it is of another kind.
        """
        value = self.facts.get(name)
        return None if value is None else checked(value, name, self.file, *kinds)


def check_sealed(folder: str | Path) -> None:
    """Checks that a model in a run's folder has the files that the run saved, where its record tells their sha256.

    Raises:
        UserError: one is missing or another file; the record is damaged.
    """
    path = Path(folder).resolve()
    record = RunRecord.of_model(path)
    if record is None:
        return
    seals = {
        name.removeprefix(f"{path.name}/"): checked(seal, f"files.{name}", record.file, dict)
        for name, seal in (record.fact("files", dict) or {}).items()
        if name.startswith(f"{path.name}/")
    }
    for name, seal in seals.items():
        checked(seal.get("bytes"), f"files.{path.name}/{name}.bytes", record.file, int)
        checked(seal.get("sha256"), f"files.{path.name}/{name}.sha256", record.file, str)
    stamps = tuple((name, *stamp(path / name)) for name in seals)
    if CHECKED.get(path) == (stamps, str(seals)):  # a command opens a model several times: its tokenizer, its config, …
        return
    if changed := changed_file(path, seals):
        raise UserError(
            f"{path / changed} is not the file that the run saved (its sha256 is not the one in {record.file}): it was "
            "damaged, changed or deleted. Restore it, or train again; if the change is meant, copy the folder out of "
            "the run and give the copy"
        )
    CHECKED[path] = stamps, str(seals)


def stamp(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def read_metrics(folder: str | Path) -> dict[str, Any]:
    """The metrics.json of a run's folder.

    Raises:
        UserError: there is none, or it is damaged.
    """
    return read_object(Path(folder).expanduser() / "metrics.json")


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UserError: there is no such file, it is not to be read, or holds no object or a name twice.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique_keys)
    except FileNotFoundError:
        raise UserError(f"{path}: expected {about(path)}, found no such file; check the path") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: expected {about(path)}, got a file that cannot be read ({first_line(error)})"
        ) from None
    return checked(found, "its content", path, dict)


def about(path: Path) -> str:
    return {"run.json": "the run.json of a finished or interrupted run", "metrics.json": "the scores of a run"}.get(
        path.name, "a JSON object"
    )


def write_text(path: Path, text: str) -> None:
    """Writes a file whole, or leaves what was there."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8", errors="surrogateescape")
    os.replace(part, path)


def renamed(settings: Any) -> Any:
    """The settings under their present names: a record of an earlier version calls `task` "kind"."""
    if isinstance(settings, dict) and "kind" in settings and "task" not in settings:
        return {("task" if name == "kind" else name): value for name, value in settings.items()}
    return settings


def checked(value: Any, name: str, file: Path, *kinds: type) -> Any:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(KINDS[kind] for kind in kinds)
        raise UserError(f"{file}: expected {name} to be {wanted}, got {shown(value)}")
    return value


def shown(value: Any) -> str:
    """Any JSON value, short enough for a message."""
    if value is None:
        return "nothing"
    return repr(value)[:80] if isinstance(value, (str, int, float)) else KINDS[type(value)]


def located(settings: Mapping[str, Any], cwd: str | Path) -> dict[str, Any]:
    """The settings with absolute paths: whatever names a file or folder that exists, seen from `cwd`, and `cache`.

    Hub names stay names, and so does what exists nowhere.
    """
    found = dict(settings)
    for name in PLACES:
        value = found.get(name)
        if isinstance(value, list):
            found[name] = [place(one, cwd) for one in value]
        elif isinstance(value, str) and (name, value) != ("class_weights", "balanced"):
            found[name] = place(value, cwd)
    cache = found.get("cache")
    if isinstance(cache, str) and cache not in WORDS:
        found["cache"] = os.path.join(cwd, os.path.expanduser(cache))
    return found


def place(value: Any, cwd: str | Path) -> Any:
    if not isinstance(value, str) or not value or value in WORDS:
        return value
    before, colon, after = value.rpartition(":")  # glue/TASK:FOLDER
    for prefix, rest in (("", value), (before + colon, after)):
        path = os.path.normpath(os.path.join(cwd, os.path.expanduser(rest)))
        if rest and len(path) < 4096 and "\0" not in path and os.path.exists(path):
            return prefix + path
    return value
