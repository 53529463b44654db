"""A row is made once, however often, and by how many processes, it is asked for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from contrastill import UserError
from contrastill.studies import Cells

ADD = """
import sys
from pathlib import Path
from contrastill.studies import Cells
cells = Cells(Path(sys.argv[1]), {"made by": "two"})
for n in range(int(sys.argv[2]), 40, 2):
    cells.once({"n": n}, lambda: {"square": n * n})
"""


def test_a_row_is_made_once_and_other_keys_are_other_rows(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, int]:
        made.append(1)
        return {"found": len(made)}

    for _ in range(2):  # as another process would
        cells = Cells(tmp_path / "new" / "cells.json")
        assert cells.once({"part": "runs", "name": "a"}, make)["found"] == 1
        assert cells.once({"part": "runs", "name": "b"}, make)["found"] == 2
    assert json.loads((tmp_path / "new" / "cells.json").read_text())["rows"] == [
        {"part": "runs", "name": "a", "found": 1},
        {"part": "runs", "name": "b", "found": 2},
    ]


def test_other_settings_are_refused_by_name_and_replace_the_row_only_when_asked(tmp_path: Path) -> None:
    cells, key = Cells(tmp_path / "cells.json"), {"name": "kd", "seed": 3}
    cells.once(key, lambda: {"dev": 1}, {"epochs": 2, "rate": 0.1})
    cells.once({"name": "else"}, lambda: {"dev": 5})
    with pytest.raises(UserError, match=r"holds kd, 3, made with other settings \(epochs 2 there, 4 here; ") as error:
        cells.once(key, lambda: {"dev": 2}, {"epochs": 4, "batch": 8, "rate": 0.1})
    for said in ("batch None there, 8 here", "another file", "another name", "--overwrite"):
        assert said in str(error.value)
    assert "rate" not in str(error.value)
    assert cells.find(key)["dev"] == 1
    assert cells.once(key, lambda: {"dev": 2}, {"epochs": 4}, overwrite=True)["dev"] == 2
    assert cells.once(key, lambda: {"dev": 3}, {"epochs": 4}, overwrite=True)["dev"] == 2
    assert [row["dev"] for row in cells.read()["rows"]] == [5, 2]


def test_what_else_the_file_holds_is_kept(tmp_path: Path) -> None:
    (tmp_path / "cells.json").write_text(json.dumps({"note": "by hand", "rows": [{"name": "old", "dev": 1}]}))
    Cells(tmp_path / "cells.json", {"note": "ours", "command": "x"}).once({"name": "new"}, lambda: {"dev": 2})
    found = json.loads((tmp_path / "cells.json").read_text())
    assert (found["note"], found["command"]) == ("by hand", "x")
    assert [row["name"] for row in found["rows"]] == ["old", "new"]


@pytest.mark.parametrize(
    "content", ["", "{", '{"rows": ', "[]", "{}", '{"rows": {}}', '{"rows": [1]}', "\x00", '{"accuracy": 0.9}']
)
def test_a_damaged_or_foreign_file_is_an_error_and_stays_as_it_is(tmp_path: Path, content: str) -> None:
    file = tmp_path / "cells.json"
    file.write_text(content)
    with pytest.raises(UserError, match=r"cells\.json: expected"):
        Cells(file).once({"name": "a"}, lambda: pytest.fail("made before the file was looked at"))
    assert file.read_text() == content


def test_two_processes_lose_no_row(tmp_path: Path) -> None:
    file = tmp_path / "cells.json"
    command = [sys.executable, "-c", ADD, str(file)]
    both = [subprocess.Popen([*command, str(n)], env={**os.environ}) for n in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    rows = json.loads(file.read_text())["rows"]
    assert sorted(row["n"] for row in rows) == list(range(40))
    assert all(row["square"] == row["n"] ** 2 for row in rows)
