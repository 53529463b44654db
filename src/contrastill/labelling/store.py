"""The file of answers: a JSON line a text, written as answers come.

Beside OUT.jsonl lie OUT.settings.json, and OUT.unanswered.jsonl with texts that have no answer.
"""

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contrastill.data.files import check_place
from contrastill.errors import UserError, quoted
from contrastill.growing import Growing
from contrastill.labelling.question import Texts

__all__ = ["Store", "check_out"]

logger = logging.getLogger(__name__)

FLAGS = {
    "model": "--model", "mode": "--mode", "labels": "--labels", "prompt": "--prompt", "examples": "--examples",
    "repeats": "--repeats", "temperature": "--temperature", "max_tokens": "--max-tokens", "columns": "--text",
}  # fmt: skip
"""Settings that change answers -> their options."""
LONG = ("labels", "prompt", "examples")
"""Those that a message does not show."""


def check_out(out: Path, data: Path | None) -> None:
    """Checks that the answers may be written to a file.

    Raises:
        UserError: another kind of file, a folder, the file of the texts, no folder for it.
    """
    if out.suffix != ".jsonl":
        raise UserError(f"--out: expected a file ending in .jsonl, got {quoted(out.name)}")
    check_place(out, data)


class Store(Growing):
    """The answers in a file, and the texts in the file beside it that have none.

    columns: of the texts. asked: all texts that need no further question. counts: class -> texts. tokens: sent and
    answered, in both files.
    """

    command, noun, flags, long = "contrastill label", "answers", FLAGS, LONG

    def __init__(self, out: Path, columns: tuple[str, ...]) -> None:
        super().__init__(out)
        self.columns = columns
        self.beside = out.with_name(f"{out.stem}.unanswered.jsonl")
        self.clear()

    def clear(self) -> None:
        self.asked: set[Texts] = set()
        self.counts: Counter[str] = Counter()
        self.tokens = (0, 0)
        self.unanswered = 0

    # ---- reading

    def read(self, repair: bool = False) -> None:
        """Reads settings and texts. repair: a line that a killed process left unfinished is cut off.

        Raises:
            UserError: a file is damaged, or was not written by `label`.
        """
        self.clear()
        self.check_ours()
        self.read_settings()
        self.check({"columns": self.columns}, ("columns",))
        for path in (self.out, self.beside):
            if path.is_file():
                for number, line in enumerate(self.whole_lines(path, repair), 1):
                    self.count(path, number, line)

    def whole_lines(self, path: Path, repair: bool) -> list[bytes]:
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            logger.warning("%s: the last line is unfinished; it is dropped, and its text asked again", path)
            if repair:
                os.truncate(path, whole)
        return content[:whole].split(b"\n")[:-1]

    def count(self, path: Path, number: int, line: bytes) -> None:
        try:
            row = json.loads(line)
            texts = [row[name] for name in self.columns]
            tokens = (int(row.get("tokens_in", 0)), int(row.get("tokens_out", 0)))
            good = all(isinstance(text, str) for text in texts)
            label = row["label"] if path == self.out else None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            good = False
        if not good:
            raise UserError(
                f"{path}, line {number}: expected a row of `contrastill label` with {', '.join(self.columns)}, got "
                f"{quoted(line.decode(errors='replace'))}; correct or remove the line"
            )
        self.noted(texts, label, tokens)

    def noted(self, texts: list[str], label: Any, tokens: tuple[int, int]) -> None:
        self.asked.add(texts[0] if len(texts) == 1 else (texts[0], texts[1]))
        self.tokens = (self.tokens[0] + tokens[0], self.tokens[1] + tokens[1])
        if label is None:
            self.unanswered += 1
        else:
            self.counts[str(label)] += 1

    # ---- writing

    def begin(self, settings: Mapping[str, Any], overwrite: bool) -> None:
        """Writes the settings of the answers, before the first one. overwrite: what is stored is deleted first."""
        if overwrite:
            self.files[self.out].truncate(0)
            self.beside.unlink(missing_ok=True)
            self.clear()
        self.write_settings(settings)

    def add(self, texts: Texts, cells: Mapping[str, Any]) -> None:
        """Writes the row of a text: an answer, or, without a label, to the file beside."""
        label = cells.get("label")
        path = self.beside if label is None else self.out
        parts = [texts] if isinstance(texts, str) else [*texts]
        row = dict(zip(self.columns, parts, strict=True)) | dict(cells)
        if path not in self.files:
            self.files[path] = path.open("ab")
        line = json.dumps(row, ensure_ascii=False).encode(errors="backslashreplace")  # half a character: as JSON has it
        self.files[path].write(line + b"\n")
        self.files[path].flush()
        self.noted(parts, label, (cells.get("tokens_in", 0), cells.get("tokens_out", 0)))
