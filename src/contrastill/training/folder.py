"""A run's folder: what is in it, and that nothing in it is lost or overwritten by accident.

run.json      settings, versions, machine, fingerprints, and whether the run has finished
metrics.json  scores of teacher and student, sizes, wall time of each phase
student/      the model, in plain Hugging Face layout, with its card (model/ after fine-tuning)
checkpoints/  for resuming; may be deleted once the run has finished
log.jsonl     every logged step: each loss term, the stage, dev scores
"""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.errors import UserError
from contrastill.machine import describe_machine
from contrastill.settings import Settings

__all__ = ["RunFolder"]

FREE = {"out", "overwrite", "force", "report_to"}  # settings that may differ when a run is resumed


class RunFolder:
    """The folder `settings.out`, made or taken up again.

    Raises:
        UserError: it holds something and neither overwrite nor resume was asked for; it cannot be written to; or the
            run to resume had other settings.
    """

    def __init__(self, command: str, settings: Settings, resume: bool) -> None:
        self.path, self.command, self.settings = Path(settings.out).expanduser(), command, settings
        self.checkpoints = self.path / "checkpoints"
        self.main = PartialState().is_main_process
        self.record: dict[str, Any] = {}
        if resume:
            self.record = self.read("run.json")
            self.check_same()
        elif self.main:
            self.make_empty()
        PartialState().wait_for_everyone()
        if not resume:
            self.note(command=command, settings=settings.record(), status="running", machine=describe_machine())

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

    def make_empty(self) -> None:
        try:
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                if not self.settings.overwrite:
                    raise UserError(
                        f"{self.path} is not empty; choose another folder (--out), continue it (--resume), "
                        "or replace it (--overwrite)"
                    )
                if not (self.path / "run.json").is_file():
                    raise UserError(f"{self.path} is not empty and holds no run of ours, so it is not overwritten")
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / "run.json").touch()
        except OSError as error:
            raise UserError(f"cannot write to {self.path}: {error.strerror or error}; choose another --out") from None

    def note(self, **facts: Any) -> None:
        """Adds to run.json."""
        self.record.update(facts)
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

    def save_model(self, name: str, model: PreTrainedModel, tokenizer: Tokenizer, card: str) -> Path:
        """Writes the model beside its place and moves it there whole."""
        final, part = self.path / name, self.path / f"{name}.part"
        if self.main:
            shutil.rmtree(part, ignore_errors=True)
            model.save_pretrained(part)
            tokenizer.save_pretrained(part)
            (part / "README.md").write_text(card, encoding="utf-8")
            shutil.rmtree(final, ignore_errors=True)
            part.rename(final)
        PartialState().wait_for_everyone()
        return final
