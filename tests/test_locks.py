"""A folder is one process's, until that ends, however it ends."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from contrastill import UserError, locks
from contrastill.locks import LOCK, FolderLock

HOLD = "import sys, time; from pathlib import Path; from contrastill.locks import FolderLock; "
HOLD += "lock = FolderLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"


def test_a_folder_that_is_held_tells_by_whom_and_is_free_once_that_is_killed(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "a/b"], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=rf"in use by process {other.pid} on {socket.gethostname()} since 20"):
        FolderLock(tmp_path / "a/b")
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    lock = FolderLock(tmp_path / "a/b")
    assert str(os.getpid()) in (tmp_path / "a/b" / LOCK).read_text()
    lock.release()
    assert not list((tmp_path / "a/b").iterdir())


def test_two_calls_of_one_process_and_two_names_of_one_folder_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a")
    first = FolderLock(tmp_path / "a")
    for name in ("a", "b/../a/.", "link"):
        (tmp_path / "b").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=f"in use by process {os.getpid()} "):
            FolderLock(tmp_path / name)
    first.release()
    FolderLock(tmp_path / "link").release()


def test_folders_that_were_made_for_a_lock_go_with_it_unless_they_are_used(tmp_path: Path) -> None:
    FolderLock(tmp_path / "a/b/c").release()
    assert not (tmp_path / "a").exists()
    lock = FolderLock(tmp_path / "a/b/c")
    (tmp_path / "a/file").touch()
    lock.release()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_a_lock_that_ends_while_another_of_its_name_begins_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other, mkdir = FolderLock(tmp_path / "a", "x"), FolderLock(tmp_path / "a", "y"), Path.mkdir

    def later(*place: Any, **how: Any) -> None:
        first.release()
        mkdir(*place, **how)

    monkeypatch.setattr(Path, "mkdir", later)
    FolderLock(tmp_path / "a", "x").release()
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["y"]
    other.release()
    assert not list((tmp_path / "a").glob("*"))


def test_a_file_in_the_way_locks_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in ("file", "file/below"):
        FolderLock(tmp_path / place).release()
    assert (tmp_path / "file").is_file()


@pytest.mark.skipif(locks.fcntl is None, reason="no locks here")
def test_a_file_system_without_locks_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locks.fcntl, "flock", none)
    lock = FolderLock(tmp_path)
    assert "cannot be locked (Operation not supported)" in caplog.text
    lock.release()
