"""A run's folder: its files, and the protection against losing or overwriting them.

run.json      settings, versions, machine, fingerprints, and how far the run is
metrics.json  scores of teacher and student, sizes, wall time of each phase
student/      the model, in plain Hugging Face layout, with its card (model/ after fine-tuning)
checkpoints/  for resuming; deleted once the run has finished (--keep-checkpoints)
log.jsonl     every logged step: each loss term, the stage, dev scores
evidence.json answers on dev that the page shows
seen.safetensors  keys of the rows that were learnt from, by which later runs tell whether theirs are new
report.html   the run's page
baseline/     the run of the same student on the labels or given answers alone (--with-baseline)
exports/      bundles, if the model was exported; bench.json: their speed, if it was measured
.lock         held by the process that is at work here
"""

import contextlib
import json
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from contrastill.errors import UserError
from contrastill.locks import LOCK, FolderLock
from contrastill.machine import bf16_held, bf16_pays, describe_machine
from contrastill.processes import processes
from contrastill.results import CARD, PLACES, RunRecord, RunResult, located, read_metrics, write_text
from contrastill.seal import file_seals
from contrastill.settings import Settings

__all__ = ["BASELINE", "RunFolder"]

logger = logging.getLogger(__name__)

S = TypeVar("S", bound=Settings)

BASELINE = "baseline"
"""The folder of a run's baseline, and its column in metrics.json."""
WRITTEN = ("student", "model", "checkpoints", "exports", BASELINE)
WRITTEN_FILES = ("metrics.json", "log.jsonl", "evidence.json", "seen.safetensors", "report.html", "bench.json")
DECIDED = {
    "max_length",
    "epochs",
    "learning_rate",
    "method",
    "start",
    "task",
}  # settings that the run fills in where they are not given
FREE = {
    "out",
    "overwrite",
    "force",
    "report_to",
    "cache",
    "keep_checkpoints",
    "with_baseline",
}  # may differ when a run is resumed


class RunFolder:
    """The folder `settings.out`, made or taken up again. As a context it is held: no second run can be at work there.

    Raises:
        UserError: it holds something and neither overwrite nor resume was asked for; it cannot be written to; another
            run is at work there; or the run to resume had other settings.
    """

    def __init__(self, command: str, settings: Settings, resume: bool) -> None:
        self.path, self.command, self.settings = Path(settings.out).expanduser(), command, settings
        self.checkpoints = self.path / "checkpoints"
        self.main, self.begun = processes().is_main_process, resume
        cwd = os.getcwd()
        self.record = RunRecord(command, located(settings.record(), cwd), "running", cwd, file=self.path / "run.json")
        self.lock = FolderLock(self.path) if self.main and (not resume or self.path.is_dir()) else None
        try:
            if resume:
                self.take_up()
            elif self.main:
                self.check_free()
        except BaseException:
            self.release()
            raise

    def __enter__(self) -> Self:
        self.held = bf16_held(self.began_with_bf16())
        self.held.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.held.__exit__(None, None, None)
        self.release()

    def began_with_bf16(self) -> bool | None:
        """Whether bfloat16 was the faster choice where the run to resume began: it stays what is computed in."""
        machine = self.record.facts.get("machine") if self.begun else None
        found = machine.get("bf16_pays") if isinstance(machine, dict) else None
        if not isinstance(found, bool):
            return None
        if found != bf16_pays() and getattr(self.settings, "precision", None) == "auto":
            begun, here = ("bfloat16", "float32") if found else ("float32", "bfloat16")
            logger.info("--precision auto: %s, as the run began with it; begun here it would be %s", begun, here)
        return found

    def release(self) -> None:
        if self.lock is not None:
            self.lock.release()

    def result(self, model: str) -> RunResult | None:
        """The results of a finished run whose model is still there; if only one of both is lost, it is made again."""
        if self.record.status != "finished":
            return None
        try:
            found = RunResult.from_json(read_metrics(self.path))
        except UserError as error:
            logger.warning("the run had finished, and is finished again: %s", error)
            return None
        if any((self.path / model).glob("*.json")):
            return found
        logger.warning("the run had finished, and is finished again: %s holds no model", self.path / model)
        return None

    def take_up(self) -> None:
        """Reads the record of the run to resume, whose settings must be ours; where paths lead to counts, not how they
        are written."""
        asked = self.record
        try:
            self.record = RunRecord.read(self.path / "run.json")
        except UserError as error:
            raise UserError(f"no run to resume at {self.path}: {error}") from None
        if self.record.command != self.command:
            raise UserError(f"{self.path} holds a {self.record.command!r} run, not {self.command!r}")
        self.check_same(asked.settings, asked.cwd or ".")

    def check_same(self, ours: dict[str, Any], cwd: str) -> None:
        """Checks that the settings equal those of the run to resume, except its automatic choices."""
        stored = located(self.record.settings, cwd)
        left = {key for key in DECIDED if ours.get(key) is None}
        other = {key for key in ours.keys() - FREE - left if ours[key] != stored.get(key)}
        if other and not other & stored.keys():
            raise UserError(
                f"cannot resume {self.path}: it was started by a version of Contrastill without "
                f"{', '.join(sorted(other))}; start a new run in another folder (--from {self.path / 'run.json'})"
            )
        if other:
            was = ", ".join(f"{key} = {stored.get(key)!r:.80}" for key in sorted(other))
            raise UserError(
                f"cannot resume {self.path} with other settings: it was run with {was}; resume it as it was, "
                "or start a new run in another folder"
            )

    def decided(self, settings: S) -> S:
        """The settings, completed by the automatic choices of the run to resume."""
        if not self.begun:
            return settings
        names = {each.name for each in fields(settings)} & DECIDED - {"max_length"}
        open_ = {name for name in names if getattr(settings, name) is None}
        stored = {name: self.record.setting(name, int, float, str) for name in open_}
        return replace(settings, **stored)

    def settle(self, settings: Settings) -> None:
        """Records the settings with the run's automatic choices; a resumed run must choose the same."""
        self.settings, cwd = settings, os.getcwd()
        ours = located(settings.record(), cwd)
        if self.begun:
            self.check_same(ours, cwd)
        else:
            self.record.settings = ours

    def check_free(self) -> None:
        """Checks that the folder can take a new run; deletes nothing: a replaced run stays until all checks passed."""
        place = next(p for p in (self.path, *self.path.absolute().parents) if p.exists())
        if not place.is_dir() or not os.access(place, os.W_OK):
            raise UserError(
                f"cannot write to {self.path}: {place} is not a folder, or is read-only; choose another --out"
            )
        there = sorted(p.name for p in self.path.iterdir() if p.name != LOCK) if self.path.exists() else []
        if not there:
            return
        if not (self.path / "run.json").is_file():
            raise UserError(f"{self.path} is not empty and is not a Contrastill run; choose another folder (--out)")
        if not self.settings.overwrite:
            raise UserError(
                f"{self.path} is not empty; choose another folder (--out), continue the run in it (--resume "
                f"{self.path}, without other settings), or replace it (--overwrite)"
            )
        for name in PLACES:
            given = getattr(self.settings, name, None) or []
            for value in [given] if isinstance(given, str) else given:
                place = Path(value).expanduser()
                if place.exists() and place.resolve().is_relative_to(self.path.resolve()):
                    raise UserError(f"--overwrite would delete this run's own --{name} ({value}); choose another --out")
        ours = {name + end for name in (*WRITTEN, *WRITTEN_FILES, "run.json") for end in ("", ".part")}
        if foreign := [name for name in there if name not in ours and not name.startswith(".")]:
            raise UserError(
                f"--overwrite replaces only the files of a run, and {self.path} has others: "
                f"{', '.join(repr(name)[:80] for name in foreign[:5])}; move it away, or choose another --out"
            )

    def begin(self) -> None:
        """Makes the folder of a new run, in place of what it may replace."""
        try:
            if self.main and not self.begun:
                self.path.mkdir(parents=True, exist_ok=True)
                (self.path / "run.json").write_text("")  # killed from here on, it is known for ours
                self.clear()
            self.begun = True
            self.note(machine=describe_machine())
        except OSError as error:
            raise UserError(f"cannot write to {self.path}: {error.strerror or error}; choose another --out") from None
        processes().wait_for_everyone()

    def clear(self) -> None:
        """Deletes the files of an earlier run, except its record."""
        for name in WRITTEN:
            for place in (self.path / name, self.path / f"{name}.part"):
                if place.is_symlink():
                    place.unlink()
                elif place.exists():
                    shutil.rmtree(place)
        for name in WRITTEN_FILES:
            (self.path / name).unlink(missing_ok=True)

    def drop_checkpoints(self) -> None:
        """Deletes the checkpoints of a run that has finished, unless they are to be kept.

        What else lies beside them (a reporter's log) stays, and so do those of a version that did not know the setting.
        """
        if not self.main or self.settings.keep_checkpoints or "keep_checkpoints" not in self.record.settings:
            return
        for checkpoint in self.checkpoints.glob("checkpoint-*"):
            shutil.rmtree(checkpoint, ignore_errors=True)
        shutil.rmtree(self.checkpoints / "weights", ignore_errors=True)  # of `LastWeights`
        with contextlib.suppress(OSError):
            self.checkpoints.rmdir()

    def note(self, *, status: str | None = None, **facts: Any) -> None:
        """Adds entries to run.json, once the run has begun."""
        self.record.status = status or self.record.status
        self.record.facts.update(facts)
        if self.begun:
            self.write("run.json", self.record.to_json())

    def check_fact(self, **facts: Any) -> None:
        """Notes facts that a resumed run must share with its beginning (data, teacher)."""
        for name, value in facts.items():
            if self.record.facts.get(name, value) != value:
                raise UserError(
                    f"cannot resume {self.path}: {name.replace('_', ' ')} has changed since the run began; "
                    "restore it, or start a new run in another folder"
                )
        self.note(**facts)

    def spent(self) -> dict[str, float]:
        """Seconds of the phases before training, in the parts of the run up to now."""
        noted = self.record.facts.get("seconds")
        known = noted.items() if isinstance(noted, dict) else ()
        return {str(phase): float(seconds) for phase, seconds in known if isinstance(seconds, int | float)}

    def write(self, name: str, content: Any) -> None:
        if self.main:
            write_text(self.path / name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def write_lines(self, name: str, rows: Iterable[Any]) -> None:
        if self.main:
            write_text(self.path / name, "".join(json.dumps(row) + "\n" for row in rows))

    def save_model(self, name: str, write: Callable[[Path], None]) -> Path:
        """Calls `write` on a temporary folder, and moves the complete model to its place."""
        final, part = self.path / name, self.path / f"{name}.part"
        if self.main:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            write(part)
            open_to_readers(part)
            seals = file_seals(part, [CARD])
            self.note(files={f"{name}/{file}": seal for file, seal in seals.items()})
            shutil.rmtree(final, ignore_errors=True)
            part.rename(final)
        processes().wait_for_everyone()
        return final


def open_to_readers(folder: Path) -> None:
    """Gives files the permissions of any new file there: safetensors 0.8 lets their owner alone read what it writes."""
    new = folder / ".new"
    new.touch()
    mode = stat.S_IMODE(new.stat().st_mode)
    new.unlink()
    for file in folder.rglob("*"):
        if file.is_file():
            with contextlib.suppress(OSError):  # a file system without permissions
                file.chmod(mode)
