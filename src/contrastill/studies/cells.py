"""Results that are computed once and kept in a file: JSON lines (.jsonl), or one JSON object."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contrastill.errors import UserError
from contrastill.locks import locked
from contrastill.results import read_object, write_text

__all__ = ["Cells", "has"]

Row = dict[str, Any]


class Cells:
    """The rows of a file, each known by its key. Several processes may add to one file.

    In a .jsonl file the first line is {"about": the facts}, each further line a row: a row is added, nothing is written
    anew, so that the files of several machines are put together by `cat`. Any other file is {facts, "rows": [...]}.

    facts: what the file says beside the rows, where it has none of that name.

    Raises:
        UserError: the file is a folder.
    """

    def __init__(self, file: str | Path, facts: Mapping[str, Any] | None = None) -> None:
        self.file, self.facts = Path(file).expanduser(), dict(facts or {})
        if self.file.is_dir():
            raise UserError(f"--out: expected a file, got the folder {self.file}")
        self.lines = self.file.suffix == ".jsonl"

    def read(self) -> Row:
        """The facts, and `rows`: of rows with one key (`cell` of a study) the first.

        Raises:
            UserError: the file is damaged, or holds no rows.
        """
        if not self.file.exists():
            return {"rows": []}
        found = self.read_lines() if self.lines else read_object(self.file)
        if not isinstance(rows := found.get("rows"), list) or not all(isinstance(row, dict) for row in rows):
            raise UserError(f"{self.file}: expected the rows of a study, got JSON without them; choose another file")
        return found

    def read_lines(self) -> Row:
        try:
            lines = [json.loads(line) for line in self.whole_lines() if line.strip()]
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.file}: expected a JSON object a line, got {error}; choose another file") from None
        if not all(isinstance(line, dict) for line in lines) or (lines and not isinstance(lines[0].get("about"), dict)):
            raise UserError(f"{self.file}: expected the rows of a study, got other JSON lines; choose another file")
        facts: Row = {}
        for line in reversed(lines):
            facts |= line["about"] if list(line) == ["about"] else {}
        return {**facts, "rows": [line for line in lines if list(line) != ["about"]]}

    def whole_lines(self) -> list[bytes]:
        """The lines with an end: one without was being written when its process was killed, and is no row."""
        return self.file.read_bytes().split(b"\n")[:-1] if self.file.exists() else []

    def find(self, key: Mapping[str, Any]) -> Row | None:
        """The row of this key; None: it is to be made. Raises as `read`."""
        return next((row for row in self.read()["rows"] if has(row, key)), None)

    def once(self, key: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> Row:
        """The row of this key, made and written unless the file holds it. Raises as `read`."""
        if (known := self.find(key)) is not None:
            return known
        row = {**key, **make()}
        with self.held():
            there = self.read()
            if (known := next((one for one in there["rows"] if has(one, key)), None)) is not None:
                return known  # of another process
            if self.lines:
                self.append(row)
            else:
                there["rows"].append(row)
                write_text(self.file, json.dumps({**self.facts, **there}, indent=1) + "\n")
        return row

    def append(self, row: Mapping[str, Any]) -> None:
        kept = sum(len(line) + 1 for line in self.whole_lines())
        lines = [row] if kept else [{"about": self.facts}, row]
        with self.file.open("r+b" if self.file.exists() else "wb") as file:
            file.truncate(kept)
            file.seek(kept)
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other processes from writing."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.with_name(f".{self.file.name}.lock").open("w") as lock:
            for _ in range(40):  # 2 s, where a write takes none: a file system may have no locks
                if locked(lock):
                    break
                time.sleep(0.05)
            yield


def has(row: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    return all(row.get(name) == value for name, value in key.items())
