"""The parent's side of a worker: one process for each model, runtime and precision. Nothing outlives the parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["Failed", "Process", "temporary_folder"]

DEADLINE = 900.0
"""Seconds for an answer: the slowest models take minutes to load, or to pass over all texts once; none takes longer."""
KEEPER = "import shutil, sys; sys.stdin.read(); shutil.rmtree(sys.argv[1], ignore_errors=True)"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is deleted however this process ends, by SIGKILL too: a small process waits for its end."""
    home = tempfile.mkdtemp(prefix="contrastill-bench-")
    keeper = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", KEEPER, home],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield Path(home)
    finally:
        keeper.communicate()


class Failed(Exception):
    """A worker failed or has ended. The message is the error of its row."""


class Process:
    """A worker with its threads pinned; close it, or use it in `with`."""

    def __init__(self, threads: int) -> None:
        pinned = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        self.said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 (see __exit__)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "contrastill.timing.worker"],  # -P: a random.py lying here is not Python's
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            env={**os.environ, **pinned, "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": os.pathsep.join(sys.path)},
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is the parent's: it ends its workers itself
        )

    def ask(self, do: str, **what: Any) -> dict[str, Any]:
        """Waits for the answer, up to `DEADLINE`; a worker that is late is ended.

        Raises:
            Failed: the worker says that it cannot, it has ended, or it was late.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            self.process.kill()

        clock = threading.Timer(DEADLINE, end)
        clock.daemon = True
        clock.start()
        try:
            print(json.dumps({"do": do, **what}), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except OSError:
            line = ""
        finally:
            clock.cancel()
        if not line.endswith("\n"):  # none, or one that its end cut off
            ending = self.ending()
            raise Failed(f"it did not answer within {DEADLINE:g} seconds, and was stopped" if late.is_set() else ending)
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def ending(self) -> str:
        code = self.process.wait()
        if code < 0:
            return f"its process was ended by signal {-code}" + (": out of memory?" if code == -9 else "")
        self.said.seek(0)
        last = (self.said.read().strip().splitlines() or ["it printed nothing"])[-1]
        return f"its process ended with code {code}: {last[:300]}"

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()  # not for the end of its pipes, which a process that a library forked may hold
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):  # what was not read any more
                pipe.close()  # type: ignore[union-attr]
        self.said.close()
