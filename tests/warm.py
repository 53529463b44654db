"""Processes of a test that start warm: forked from one that has imported the libraries, which takes ten seconds.

A test that is about imports, or about the interpreter's own options, starts a process of its own with `subprocess`.
"""

import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import forkserver, reduction
from pathlib import Path
from typing import IO, Any

import pytest

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["warm_imports"])
PIPE = subprocess.PIPE


class Descriptor:
    """A file descriptor that goes along to the process."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return detached, (reduction.DupFd(self.number),)


def start_server() -> None:
    """Python 3.11 gives it no path of ours, and says nothing of imports that fail."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
        forkserver.ensure_running()


def detached(duplicate: Any) -> int:
    number: int = duplicate.detach()
    return number


class Popen:
    """What the tests use of `subprocess.Popen`, of `[python, -m, module, *args]` and `[python, -c, code, *args]`."""

    def __init__(
        self,
        command: Sequence[Any],
        *,
        env: dict[str, str] | None = None,
        cwd: Any = None,
        stdin: int | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        text: bool = True,
        encoding: str = "utf-8",
        start_new_session: bool = False,
    ) -> None:
        assert text
        at = next(n for n, word in enumerate(command) if word in ("-m", "-c"))
        assert set(command[1:at]) <= {"-P"}
        ours: dict[str, IO[str]] = {}
        theirs: list[Descriptor] = []
        opened: list[int] = []
        for name, given in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
            number = ("stdin", "stdout", "stderr").index(name)
            if given == PIPE:
                read, write = os.pipe()
                own, other = (write, read) if name == "stdin" else (read, write)
                ours[name] = open(own, "w" if name == "stdin" else "r", encoding=encoding)  # noqa: SIM115
                opened.append(number := other)
            elif given is not None:
                assert not isinstance(given, int)
                number = given.fileno()
            theirs.append(Descriptor(number))
        self.stdin, self.stdout, self.stderr = (ours.get(name) for name in ("stdin", "stdout", "stderr"))
        self.process = CONTEXT.Process(
            target=begin,
            args=(
                [str(word) for word in command[at:]],
                dict(os.environ if env is None else env),
                os.fspath(cwd or os.getcwd()),
                theirs,
                start_new_session,
            ),
        )
        start_server()
        self.process.start()
        for number in opened:
            os.close(number)
        assert self.process.pid is not None
        self.pid: int = self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    poll = returncode.fget

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("a process that started warm", timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for the end, and kills the process where that does not come in time."""
        if self.stdin is not None:
            with suppress(BrokenPipeError):
                self.stdin.close()
        with ThreadPoolExecutor(2) as readers:
            stdout, stderr = (readers.submit(rest, pipe) for pipe in (self.stdout, self.stderr))
            try:
                self.wait(timeout)
            finally:
                self.kill()
        return stdout.result(), stderr.result()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.process.kill()


def run(command: Sequence[Any], *, timeout: float | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run(..., capture_output=True, text=True, check=False)`."""
    process = Popen(command, stdout=PIPE, stderr=PIPE, **options)
    stdout, stderr = process.communicate(timeout)
    assert process.returncode is not None
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def rest(pipe: IO[str] | None) -> str:
    if pipe is None or pipe.closed:
        return ""
    with pipe:
        return pipe.read()


def begin(words: list[str], env: dict[str, str], cwd: str, streams: list[int], session: bool) -> None:
    """In the process: takes its surroundings over and runs what is asked, as `python words` would."""
    assert "warm_imports" in sys.modules
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests run in the background would ignore it
    if session:
        os.setsid()
    os.environ.clear()
    os.environ.update(env)
    if threads := env.get("OMP_NUM_THREADS"):  # libraries read it when they were imported, of another environment
        sys.modules["torch"].set_num_threads(int(threads))
    tempfile.tempdir = None
    os.chdir(cwd)
    for number, given in enumerate(streams):
        os.dup2(given, number)
        os.close(given)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    for number, name in ((1, "stdout"), (2, "stderr")):
        raw = io.BufferedWriter(io.FileIO(number, "w", closefd=False))
        setattr(sys, name, io.TextIOWrapper(raw, encoding="utf-8", line_buffering=True))
    how, what, *args = words
    sys.argv = [what, *args]
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
