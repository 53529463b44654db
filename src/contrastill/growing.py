"""A file that grows row by row, the settings that made it beside it: the same call goes on where one ended."""

import contextlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, ClassVar, Self

from contrastill.errors import UserError, quoted
from contrastill.locks import locked

__all__ = ["Growing"]


class Growing:
    """A file OUT.SUFFIX that one process at a time writes to, and OUT.settings.json.

    command: that writes such files; noun: their rows, in messages. flags: settings that change the rows -> their
    options; long: those that a message does not show. files: the open ones, by path.
    """

    command: ClassVar[str]
    noun: ClassVar[str]
    flags: ClassVar[Mapping[str, str]]
    long: ClassVar[Collection[str]]

    def __init__(self, out: Path) -> None:
        self.out = out
        self.settings_file = out.with_name(f"{out.stem}.settings.json")
        self.settings: dict[str, Any] | None = None
        self.files: dict[Path, IO[bytes]] = {}

    def read(self, repair: bool = False) -> None:
        """Reads what is stored. repair: what a killed process left unfinished is cut off."""
        raise NotImplementedError

    @contextlib.contextmanager
    def opened(self, overwrite: bool) -> Iterator[Self]:
        """Opens the file for one process, and reads what is there. overwrite: it will be deleted, and is not read.

        Raises:
            UserError: another process writes it, it is damaged, or it cannot be written.
        """
        there = self.out.exists()
        try:
            with self.out.open("ab") as file:
                if not locked(file):
                    raise UserError(f"{self.out}: another process writes it; wait for it, or choose another --out")
                try:
                    self.check_ours()
                    if not overwrite:
                        self.read(repair=True)
                    self.files[self.out] = file
                    yield self
                finally:
                    if not there and self.settings is None:
                        self.out.unlink(missing_ok=True)
                    for other in self.files.values():
                        other.close()
        except OSError as error:
            raise UserError(
                f"{self.out} could not be written ({error}); what was stored is kept. Make room, and call again"
            ) from error

    def check_ours(self) -> None:
        """Raises a UserError if another command, or person, wrote the file."""
        if self.out.is_file() and self.out.stat().st_size and not self.settings_file.is_file():
            raise UserError(
                f"{self.out}: expected a file of `{self.command}`, with {self.settings_file.name} beside it, got "
                "another; choose another --out"
            )

    def read_settings(self) -> None:
        """Reads the settings of the stored rows, if there are any.

        Raises:
            UserError: they are damaged.
        """
        if not self.settings_file.is_file():
            return
        try:
            self.settings = dict(json.loads(self.settings_file.read_bytes()))
        except (ValueError, TypeError, RecursionError):
            raise UserError(
                f"{self.settings_file}: expected the settings of {self.out.name}, got a damaged file; pass "
                "--overwrite to begin anew, or another --out"
            ) from None

    def check(self, settings: Mapping[str, Any], names: Iterable[str] | None = None) -> None:
        """Checks that the stored rows are those that these settings give. names: of the settings compared, by default
        all of `flags`.

        Raises:
            UserError: one differs.
        """
        if self.settings is None:
            return
        for name in self.flags if names is None else names:
            stored, given = self.settings.get(name), json.loads(json.dumps(settings.get(name)))
            if stored == given:
                continue
            values = ("as it was", "another") if name in self.long else (quoted(stored), quoted(given))
            raise UserError(
                f"{self.flags[name]}: expected {values[0]} for the {self.noun} in {self.out}, got {values[1]}; pass "
                "--overwrite to delete them and begin anew, or another --out"
            )

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Replaces the settings beside the file, whole or not at all."""
        self.settings = dict(settings)
        part = self.settings_file.with_name(self.settings_file.name + ".part")
        part.write_text(json.dumps(self.settings, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        os.replace(part, self.settings_file)
