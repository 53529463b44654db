"""Results that are computed once and kept in a JSON file."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contrastill.errors import UserError, quoted
from contrastill.locks import locked
from contrastill.results import read_object, write_text

__all__ = ["Cells"]


class Cells:
    """The `rows` of a JSON file, each known by its key. Several processes may add to one file.

    facts: entries beside the rows, written where the file has none of that name.
    """

    def __init__(self, file: str | Path, facts: Mapping[str, Any] | None = None) -> None:
        self.file, self.facts = Path(file).expanduser(), dict(facts or {})

    def read(self) -> dict[str, Any]:
        """The file's object.

        Raises:
            UserError: it is damaged, or holds no rows.
        """
        found = read_object(self.file) if self.file.exists() else {"rows": []}
        if not isinstance(rows := found.get("rows"), list) or not all(isinstance(row, dict) for row in rows):
            raise UserError(f"{self.file}: expected the rows of a study, got JSON without them; choose another file")
        return found

    def find(
        self, key: Mapping[str, Any], settings: Mapping[str, Any] | None = None, overwrite: bool = False
    ) -> dict[str, Any] | None:
        """The row of this key; None: it is to be made.

        settings: what it is made with, as JSON. overwrite: whether a row made with others is to be made anew.

        Raises:
            UserError: the row was made with other settings, which is not to be overwritten; as `read`.
        """
        row = next((row for row in self.read()["rows"] if has(row, key)), None)
        if row is None or settings is None or (there := row.get("settings", {})) == settings:
            return row
        if overwrite:
            return None
        names = [name for name in {**there, **settings} if there.get(name) != settings.get(name)]
        other = "; ".join(f"{n} {quoted(there.get(n))} there, {quoted(settings.get(n))} here" for n in names)
        raise UserError(
            f"{self.file} holds {', '.join(map(str, key.values()))}, made with other settings ({other}); write to "
            "another file (--out), use another name, or repeat the run (--overwrite)"
        )

    def once(
        self,
        key: Mapping[str, Any],
        make: Callable[[], Mapping[str, Any]],
        settings: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """The row of this key, made and written unless the file holds it; as `find`."""
        if (known := self.find(key, settings, overwrite)) is not None:
            return known
        row = {**key, **({} if settings is None else {"settings": settings}), **make()}
        with self.held():
            there = self.read()
            rows = [*(other for other in there["rows"] if not has(other, key)), row]
            write_text(self.file, json.dumps({**self.facts, **there, "rows": rows}, indent=1) + "\n")
        return row

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
