"""Every `contrastill …` line of README.md and docs/ is one that the command line knows: command, options, values."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from contrastill.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(contrastill [a-z][^`]*)`")
OURS = re.compile(r"(?:^|\s)(?:python -m )?contrastill (?=[a-z])")


def lines_of(page: Path) -> list[str]:
    """The commands in a page's blocks, continued lines joined, comments gone."""
    found = []
    for _, block in BLOCK.findall(page.read_text("utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            if line.lstrip("$ ").startswith(("contrastill ", "python -m contrastill ", "torchrun ")):
                found += [line[at.end() :] for at in [OURS.search(line)] if at]
    return found


def inline_of(page: Path) -> list[str]:
    return [words.removeprefix("contrastill ") for words in INLINE.findall(page.read_text("utf-8"))]


DOCUMENTED = [(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in lines_of(page)]
MENTIONED = [(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in inline_of(page)]


def words_of(line: str) -> list[str]:
    """As a shell would cut them, without a comment and what it pipes into; … stands for what a reader fills in."""
    words = shlex.split(line, comments=True)
    ends = [n for n, word in enumerate(words) if word in ("|", ">", "&&", "&", ";")]
    return [word.rstrip(";") for word in words[: ends[0] if ends else None] if word != "…"]


def parsed(words: list[str]) -> Any:
    """The command line read, and not run.

    Raises:
        Exception: an unknown command or option, a value of another kind.
    """
    command = typer.main.get_command(app)
    parent = None
    while hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands, f"no such command: {name}"
        parent, command = command.make_context(command.name, [], resilient_parsing=True), command.commands[name]
    return command.make_context(name, words, parent=parent)


@pytest.mark.parametrize(("page", "line"), DOCUMENTED, ids=lambda each: each[:60])
def test_a_documented_command_is_one_that_is_read(page: str, line: str) -> None:
    parsed(words_of(line))


@pytest.mark.parametrize(("page", "line"), MENTIONED, ids=lambda each: each[:60])
def test_a_command_in_running_text_names_a_command_and_options_that_exist(page: str, line: str) -> None:
    """Its values may be left out: only names are looked at."""
    command: Any = typer.main.get_command(app)
    words = line.split()
    while words and hasattr(command, "commands") and re.fullmatch(r"[a-z]+", words[0]):
        assert words[0] in command.commands
        command = command.commands[words.pop(0)]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help"}
    asked = {word.rstrip(",.;:)]").lstrip("[(").partition("=")[0] for word in words}
    assert {word for word in asked if word.startswith("--") and len(word) > 2} <= known


def test_commands_were_found() -> None:
    assert len([page for page, _ in DOCUMENTED if page == "README.md"]) >= 4
    assert len([page for page, _ in DOCUMENTED if page == "docs/quickstart.md"]) >= 6
    assert len(DOCUMENTED) >= 90


@pytest.mark.parametrize("line", ["distil --teacher x", "distill --techer x", "distill --epochs many --teacher x"])
def test_a_wrong_one_would_be_seen(line: str) -> None:
    with pytest.raises((Exception, AssertionError), match=r"such|option|valid"):
        parsed(words_of(line))
