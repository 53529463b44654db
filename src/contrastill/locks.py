"""Locks of the operating system on files and folders; they are released when a process ends, in any way."""

import contextlib
import errno
import logging
import os
import socket
import time
from pathlib import Path
from typing import IO, Any

from contrastill.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOCK", "FolderLock", "locked"]

logger = logging.getLogger(__name__)

LOCK = ".lock"
"""The file in a folder that is locked; it holds who did so."""
HELD = (errno.EWOULDBLOCK, errno.EACCES)


def locked(file: IO[Any]) -> bool:
    """Whether this process could lock the file; it keeps the lock until the file is closed."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False


class FolderLock:
    """Keeps a folder to one process, from now until `release`. The folder is made; unless used, it goes at the end.

    name: the file in it that is locked; a folder has as many locks as names. Where the folder cannot be written to,
    nothing is locked: whoever writes there will say so. Where the file system has no locks, a warning says so.

    Raises:
        UserError: another process, or another call in this one, holds it.
    """

    def __init__(self, folder: Path, name: str = LOCK) -> None:
        self.folder, self.name = folder, name
        self.file: IO[str] | None = None
        self.made: list[Path] = []
        with contextlib.suppress(OSError):
            while not (file := self.attempt()):
                pass
            self.file = file

    def attempt(self) -> IO[str] | None:
        """The locked file; None: its last holder removed it meanwhile."""
        places = (self.folder, *self.folder.absolute().parents)
        self.made = self.made or [place for place in places if not place.exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            file = (self.folder / self.name).open("a+", encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(file.fileno()), os.stat(self.folder / self.name)):
                raise FileNotFoundError
        except FileNotFoundError:
            file.close()
            return None
        except OSError as error:
            if error.errno in HELD:
                raise self.in_use(file) from None
            logger.warning("%s cannot be locked (%s): start no second run there", self.folder, error.strerror)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        file.flush()
        return file

    def in_use(self, file: IO[str]) -> UserError:
        file.seek(0)
        who = file.read(200).strip() or "another process"
        file.close()
        return UserError(f"{self.folder} is in use by {who}; wait until it has ended, or choose another folder")

    def release(self) -> None:
        """Releases the lock, and removes it and the empty folders that were made for it."""
        if self.file is None:
            return
        with contextlib.suppress(OSError):
            (self.folder / self.name).unlink()
        self.file.close()
        self.file = None
        with contextlib.suppress(OSError):
            for place in self.made:
                place.rmdir()
