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


def test_lines_are_added_and_a_line_that_a_kill_cut_off_is_no_row(tmp_path: Path) -> None:
    file = tmp_path / "cells.jsonl"
    for n in range(2):
        Cells(file, {"command": "x"}).once({"n": n}, lambda n=n: {"dev": n, "said": "a\u2028b"})
    first = file.read_bytes()
    assert [json.loads(line) for line in first.decode().splitlines()] == [
        {"about": {"command": "x"}},
        {"n": 0, "dev": 0, "said": "a\u2028b"},
        {"n": 1, "dev": 1, "said": "a\u2028b"},
    ]
    for cut in ('{"n": 2, "de', '{"n": 2, "dev": 2}'):  # without its end, whole or not
        file.write_bytes(first + cut.encode())
        assert Cells(file).find({"n": 2}) is None
        assert Cells(file).once({"n": 2}, lambda: {"dev": 5})["dev"] == 5
        assert file.read_bytes() == first + b'{"n": 2, "dev": 5}\n'
    file.write_bytes(b'{"about": {"comm')
    assert Cells(file, {"note": 1}).once({"n": 3}, lambda: {})["n"] == 3
    assert file.read_bytes() == b'{"about": {"note": 1}}\n{"n": 3}\n'


def test_files_of_several_machines_are_put_together_by_cat(tmp_path: Path) -> None:
    for name, rows in {"a": (0, 1), "b": (1, 2)}.items():
        for n in rows:
            Cells(tmp_path / f"{name}.jsonl", {"machine": name, name: 1}).once({"n": n}, lambda name=name: {"by": name})
    both = tmp_path / "both.jsonl"
    both.write_bytes((tmp_path / "a.jsonl").read_bytes() + (tmp_path / "b.jsonl").read_bytes())
    found = Cells(both).read()
    assert {key: found[key] for key in ("machine", "a", "b")} == {"machine": "a", "a": 1, "b": 1}
    assert [row["n"] for row in found["rows"]] == [0, 1, 1, 2]
    assert Cells(both).find({"n": 1}) == {"n": 1, "by": "a"}


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
    refused(tmp_path / "cells.json", content.encode())


@pytest.mark.parametrize(
    "content", [b"{\n", b"[]\n", b"{}\n", b'{"n": 1}\n', b'{"about": 1}\n', b'{"about": {}}\n1\n', b"\xff\n"]
)
def test_other_lines_are_an_error_too(tmp_path: Path, content: bytes) -> None:
    refused(tmp_path / "cells.jsonl", content)


def refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"cells\.jsonl?: expected"):
        Cells(file).once({"name": "a"}, lambda: pytest.fail("made before the file was looked at"))
    assert file.read_bytes() == content


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_two_processes_lose_no_row(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"cells.{kind}"
    command = [sys.executable, "-c", ADD, str(file)]
    both = [subprocess.Popen([*command, str(n)], env={**os.environ}) for n in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    rows = Cells(file).read()["rows"]
    assert sorted(row["n"] for row in rows) == list(range(40))
    assert all(row["square"] == row["n"] ** 2 for row in rows)
