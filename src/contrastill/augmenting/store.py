"""The file of texts: rows without labels, and how far it has come, so that a killed call goes on there."""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from contrastill.data.files import check_place
from contrastill.data.load import text_key
from contrastill.errors import UserError, quoted
from contrastill.growing import Growing

__all__ = ["FORMATS", "Store", "check_out"]

FORMATS = (".csv", ".jsonl")
COUNTS = ("rows", "written", "repeated", "replaced", "words", "beyond")


def check_out(out: Path, data: Path | None) -> None:
    """Checks that texts may be written to a file.

    Raises:
        UserError: another kind of file, a folder, the file of the data, no folder for it.
    """
    if out.suffix not in FORMATS:
        raise UserError(f"--out: expected a file ending in {' or '.join(FORMATS)}, got {quoted(out.name)}")
    check_place(out, data)


class Store(Growing):
    """The texts in a file, chunk by chunk.

    columns: of the texts. done: what the file holds: `bytes`, and the counts of a call's result. seen: the keys of its
    texts, and of others that are not to be written.
    """

    command, noun, long = "contrastill augment", "texts", ("data", "weights")
    flags = {
        "data": "--data", "columns": "--text", "model": "--model", "by": "--by", "weights": "--model",
        "copies": "--copies", "probability": "--probability", "candidates": "--candidates", "common": "--common",
        "seed": "--seed", "max_length": "--max-length",
    }  # fmt: skip

    def __init__(self, out: Path, columns: tuple[str, ...], seen: set[int]) -> None:
        super().__init__(out)
        self.columns, self.seen = columns, seen
        self.done = dict.fromkeys((*COUNTS, "bytes"), 0)

    def check_ours(self) -> None:
        super().check_ours()
        if self.settings_file.is_file():
            self.read_settings()
            found, self.settings = self.settings or {}, None
            done = found.get("done")
            if (
                found.get("command") != self.command
                or not isinstance(done, dict)
                or any(type(done.get(name)) is not int for name in self.done)
            ):
                raise UserError(
                    f"{self.settings_file}: expected the settings of a file of `{self.command}`, got others; choose "
                    "another --out"
                )

    def read(self, repair: bool = False) -> None:
        """Reads settings and texts. repair: a chunk that a killed process left unfinished is cut off.

        Raises:
            UserError: the file is not as `augment` left it.
        """
        self.read_settings()
        if self.settings is None:
            return
        self.check({"columns": self.columns}, ("columns",))
        self.done = self.settings.pop("done")
        with self.out.open("rb") as file:
            content = file.read(self.done["bytes"])
        keys = [text_key(*texts) for texts in self.texts_in(content)]
        if len(content) < self.done["bytes"] or len(keys) != self.done["written"]:
            raise UserError(
                f"{self.out}: expected the {self.done['written']:,} texts that an earlier call wrote, got a file that "
                "was changed; pass --overwrite to begin anew, or another --out"
            )
        if repair:
            os.truncate(self.out, len(content))
        self.seen.update(keys)

    def texts_in(self, content: bytes) -> Iterator[Sequence[str]]:
        """The texts of each row, up to one that cannot be read."""
        try:
            lines = io.StringIO(content.decode(), newline="")
            if self.out.suffix == ".csv":
                rows: Iterator[Sequence[str]] = csv.reader(lines, strict=True)
                next(rows, None)
            else:
                rows = ([row[name] for name in self.columns] for row in map(json.loads, lines))
            for row in rows:
                if len(row) != len(self.columns) or not all(isinstance(text, str) for text in row):
                    return
                yield row
        except (ValueError, csv.Error, KeyError, TypeError, RecursionError):
            return

    def begin(self, settings: Mapping[str, Any], overwrite: bool) -> None:
        """Checks, or writes, the settings of the texts. overwrite: what is stored is deleted first.

        Raises:
            UserError: the stored texts were made with others.
        """
        if overwrite:
            self.files[self.out].truncate(0)
            self.settings = None
        self.check(settings)
        if self.settings is None:
            self.note(settings)

    def note(self, settings: Mapping[str, Any]) -> None:
        """Writes the settings, and how far the file has come."""
        own = {name: value for name, value in settings.items() if name != "done"}
        self.write_settings({"command": self.command, **own, "done": self.done})

    def discard(self) -> None:
        """Forgets a file into which nothing was written."""
        self.settings = None
        self.settings_file.unlink()

    def add(self, texts: Sequence[Sequence[str]], counts: Mapping[str, int]) -> None:
        """Writes the texts of a chunk of rows, and then that it is there. counts: of this chunk."""
        made = io.StringIO(newline="")
        if self.out.suffix == ".csv":
            table = csv.writer(made, lineterminator="\n")
            if not self.done["bytes"]:
                table.writerow(self.columns)
            table.writerows(texts)
        else:
            rows = (dict(zip(self.columns, each, strict=True)) for each in texts)
            made.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        content = made.getvalue().encode()
        self.files[self.out].write(content)
        self.files[self.out].flush()
        added = {**counts, "written": len(texts), "bytes": len(content)}
        self.done = {name: before + added.get(name, 0) for name, before in self.done.items()}
        self.note(self.settings or {})
