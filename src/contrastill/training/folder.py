"""A run's folder: what is in it, and that nothing in it is lost or overwritten by accident.

run.json      settings, versions, machine, fingerprints, and whether the run has finished
metrics.json  scores of teacher and student, sizes, wall time of each phase
student/      the model, in plain Hugging Face layout, with its card (model/ after fine-tuning)
checkpoints/  for resuming; may be deleted once the run has finished
log.jsonl     every logged step: each loss term, the stage, dev scores
evidence.json answers on dev that the page shows
report.html   the run's page
exports/      bundles, if the model was exported; bench.json: their speed, if it was measured
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from contrastill.errors import UserError
from contrastill.machine import describe_machine
from contrastill.results import CARD
from contrastill.seal import file_seals
from contrastill.settings import Settings

__all__ = ["RunFolder", "processes"]

INPUTS = (
    "data",
    "dev",
    "test",
    "unlabelled",
    "texts",
    "pairs",
    "teacher",
    "model",
    "start",
    "anchor",
    "sts",
)  # settings that may be paths
FREE = {"out", "overwrite", "force", "report_to", "cache"}  # settings that may differ when a run is resumed


def processes() -> PartialState:
    """accelerate's view of the processes. On a machine without accelerator it must be told so, or it sees only one."""
    return PartialState(cpu=not torch.accelerator.is_available())


class RunFolder:
    """The folder `settings.out`, made or taken up again.

    Raises:
        UserError: it holds something and neither overwrite nor resume was asked for; it cannot be written to; or the
            run to resume had other settings.
    """

    def __init__(self, command: str, settings: Settings, resume: bool) -> None:
        self.path, self.command, self.settings = Path(settings.out).expanduser(), command, settings
        self.checkpoints = self.path / "checkpoints"
        self.main, self.begun = processes().is_main_process, resume
        self.record: dict[str, Any] = {"command": command, "settings": settings.record(), "status": "running"}
        if resume:
            self.record = self.read("run.json")
            self.check_same()
        elif self.main:
            self.check_free()

    @property
    def finished(self) -> bool:
        return self.record.get("status") == "finished"

    def check_same(self) -> None:
        stored, ours = self.record.get("settings", {}), self.settings.record()
        if self.record.get("command") != self.command:
            raise UserError(f"{self.path} holds a {self.record.get('command')!r} run, not {self.command!r}")
        other = {key for key in ours if key not in FREE and ours[key] != stored.get(key)}
        if other:
            was = {key: stored.get(key) for key in sorted(other)}
            raise UserError(
                f"cannot resume {self.path} with other settings: it was run with {was}; resume it as it was, "
                "or start a new run in another folder"
            )

    def check_free(self) -> None:
        """That a new run may begin here. Nothing is changed yet: what it replaces stays until all checks passed."""
        place = next(p for p in (self.path, *self.path.absolute().parents) if p.exists())
        if not place.is_dir() or not os.access(place, os.W_OK):
            raise UserError(f"cannot write to {self.path}: {place} is no folder, or read-only; choose another --out")
        if not self.path.exists() or not any(self.path.iterdir()):
            return
        if not self.settings.overwrite:
            raise UserError(
                f"{self.path} is not empty; choose another folder (--out), continue it (--resume), "
                "or replace it (--overwrite)"
            )
        if not (self.path / "run.json").is_file():
            raise UserError(f"{self.path} is not empty and holds no run of ours, so it is not overwritten")
        for name in INPUTS:
            given = getattr(self.settings, name, None) or []
            for value in [given] if isinstance(given, str) else given:
                if Path(value).expanduser().resolve().is_relative_to(self.path.resolve()):
                    raise UserError(f"--overwrite would delete this run's own --{name} ({value}); choose another --out")

    def begin(self) -> None:
        """Makes the folder of a new run, in place of what it may replace."""
        try:
            if self.main and not self.begun:
                if self.path.exists() and any(self.path.iterdir()):
                    shutil.rmtree(self.path)
                self.path.mkdir(parents=True, exist_ok=True)
                (self.path / "run.json").touch()  # killed from here on, it is known for ours
            self.begun = True
            self.note(machine=describe_machine())
        except OSError as error:
            raise UserError(f"cannot write to {self.path}: {error.strerror or error}; choose another --out") from None
        processes().wait_for_everyone()

    def note(self, **facts: Any) -> None:
        """Adds to run.json, once the run has begun."""
        self.record.update(facts)
        if self.begun:
            self.write("run.json", self.record)

    def check_fact(self, **facts: Any) -> None:
        """Notes facts that a resumed run must share with its beginning (data, teacher)."""
        for name, value in facts.items():
            if self.record.get(name, value) != value:
                raise UserError(
                    f"cannot resume {self.path}: {name.replace('_', ' ')} has changed since the run began; "
                    "restore it, or start a new run in another folder"
                )
        self.note(**facts)

    def write(self, name: str, content: Any) -> None:
        if self.main:
            self.write_text(name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def write_lines(self, name: str, rows: Iterable[Any]) -> None:
        if self.main:
            self.write_text(name, "".join(json.dumps(row) + "\n" for row in rows))

    def write_text(self, name: str, text: str) -> None:
        part = self.path / f"{name}.part"
        part.write_text(text, encoding="utf-8")
        os.replace(part, self.path / name)

    def read(self, name: str) -> dict[str, Any]:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise UserError(f"no run to resume at {self.path}: expected a {name} that can be read") from None

    def save_model(self, name: str, write: Callable[[Path], None], card: str) -> Path:
        """Lets `write` put the model beside its place, adds its card, and moves it there whole."""
        final, part = self.path / name, self.path / f"{name}.part"
        if self.main:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            write(part)
            (part / CARD).write_text(card, encoding="utf-8")
            seals = file_seals(part, [CARD])
            self.note(files={f"{name}/{file}": seal for file, seal in seals.items()})
            shutil.rmtree(final, ignore_errors=True)
            part.rename(final)
        processes().wait_for_everyone()
        return final
