"""The command line: each command is the function of the same name, each option a field of its settings."""

import gc
import traceback
from typing import Annotated

import typer

from contrastill.cli import cache, deploy, evaluate, label, study, train
from contrastill.cli.options import Commands
from contrastill.cli.show import console
from contrastill.screen import open_streams, say

__all__ = ["app", "main"]

FAULT = "this is a fault of Contrastill, not of what you gave it; please report the lines above"

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Make a slow text encoder small and fast by contrastive knowledge distillation, and prove what it kept.",
)
for room in (train, evaluate, deploy, study, cache, label):
    room.register(app)


def main() -> None:
    """Runs the command line. Exit codes: 0 done, 1 a failed run or check, 2 bad input, 130 interrupted (and saved)."""
    open_streams()
    gc.set_threshold(100_000)  # a sixth of the start was to look for garbage among a million objects that stay
    try:
        app()
    except Exception:
        traceback.print_exc()
        console.error("error:", FAULT)
        raise SystemExit(1) from None


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from contrastill import __version__

        say(__version__)
        raise typer.Exit
