"""The only output to the terminal: foreign texts and names are shown literally, without effect on it.

Neither rich's markup ("[bold]", ":smile:") nor control characters, such as a terminal's escape sequences, act from
inside a name.
"""

import contextlib
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

__all__ = ["LogHandler", "Screen", "json_text", "progress", "say", "visible"]

logger = logging.getLogger(__name__)

WIDTH = 160  # columns of what is piped or written to a file
EVERY = 30.0  # seconds between two lines of progress where there is no terminal
KEPT = {"\n", "\t"}
STEERING = {chr(n) for span in ((0x202A, 0x202F), (0x2066, 0x206A), (0x2028, 0x202A)) for n in range(*span)}
READER_GONE = 141  # as a shell tells of a process that SIGPIPE ended


def visible(text: object) -> str:
    """The text with every character escaped that a terminal would act on instead of showing it."""
    return "".join(letter if plain(letter) else letter.encode("unicode_escape").decode() for letter in str(text))


def plain(letter: str) -> bool:
    return letter in KEPT or not (
        letter < " " or "\x7f" <= letter < "\xa0" or "\ud800" <= letter <= "\udfff" or letter in STEERING
    )


def say(text: object = "") -> None:
    """Prints a line on stdout, as it is."""
    print(visible(text))


def json_text(result: Any, ascii_only: bool = False) -> str:
    """The result as JSON, in which a number that is not finite is null."""
    return json.dumps(finite(result), indent=2, ensure_ascii=ascii_only, allow_nan=False)


def finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Screen(Console):
    """A console on which a string is text: markup, emoji codes and highlighting are off, control characters escaped."""

    def __init__(self, stderr: bool = False, width: int = WIDTH) -> None:
        """width: where it is no terminal, and $COLUMNS does not say."""
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = width

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)

    def on_broken_pipe(self) -> None:
        reader_gone()

    def error(self, word: str, message: object, style: str = "bold red") -> None:
        """A word in colour, then the message."""
        self.print(Text.assemble((word, style), " ", visible(message)), soft_wrap=True)


class LogHandler(RichHandler):
    """Log lines on the screen, with control characters escaped."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(console=screen, show_path=False)

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


@contextlib.contextmanager
def progress(total: int, noun: str = "rows") -> Iterator[Callable[[int], None]]:
    """A bar on stderr; where that is no terminal, a line twice a minute."""
    screen = Screen(stderr=True)
    if screen.is_terminal:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        parts = (TextColumn(noun), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*parts, console=screen, transient=True) as bar:
            task = bar.add_task(noun, total=total)
            yield lambda count: bar.advance(task, count)
        return
    done, said = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, said
        done += count
        if time.monotonic() - said > EVERY:
            said = time.monotonic()
            logger.info("%d of %d %s", done, total, noun)

    yield advance


def open_streams() -> None:
    """Makes standard streams that a process lacks, and sees that no character stops them in any locale."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def reader_gone() -> None:
    """Ends the process quietly, as whoever read its output has closed it (`| head`)."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(null, stream.fileno())  # so that the interpreter's last flush does not fail
    raise SystemExit(READER_GONE)
