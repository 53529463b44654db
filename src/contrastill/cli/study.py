"""The command that makes a study."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from contrastill.cli.options import Json, pairs_of
from contrastill.cli.show import reporting
from contrastill.errors import UserError, quoted, quoted_each
from contrastill.ranges import suggestion
from contrastill.screen import say

__all__ = ["register"]

Many = list[str] | None
KINDS = (".svg", ".png", ".pdf")


def study(
    variants: Annotated[
        Path,
        typer.Argument(
            help="JSON file with `variants` (name: settings) or `axes` (axis: value: settings), with `shared` settings "
            "and `places` (name: path, or settings of a run made first)."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="File of a row for each run, .jsonl or .json; the runs in it are not repeated.")
    ],
    seeds: Annotated[int, typer.Option(help="Number of seeds: 0, 1, 2, …")] = 1,
    only: Annotated[
        Many,
        typer.Option(
            help="A variant to run, or values of axes ('300 labels, kd': all that have both); may be repeated "
            "[default: all]."
        ),
    ] = None,
    set_: Annotated[
        Many, typer.Option("--set", help="A setting of all variants, in place of theirs, as name=value.")
    ] = None,
    place: Annotated[Many, typer.Option(help="Path that replaces {name} in a setting, as name=path.")] = None,
    runs: Annotated[Path | None, typer.Option(help="Folder of the runs [default: beside --out].")] = None,
    by: Annotated[
        str | None,
        typer.Option(help="Axis whose values are then shown side by side, or 'variant', with paired differences."),
    ] = None,
    to: Annotated[str | None, typer.Option(help="Value of --by to which differences are [default: the first].")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Picture of the differences by --by with their intervals: .svg, .png or .pdf.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make runs of several variants at several seeds, each once, and compare them on dev.

    Example: contrastill study variants.json --out study.json --seeds 3 --set teacher=runs/teacher/model
    """
    with reporting(as_json) as show:
        from contrastill.studies import Study

        facts = {"command": f"contrastill study {variants} --seeds {seeds} --out {out}"}
        given = {name: value_of(text) for name, text in pairs_of(set_ or [], "set").items()}
        places = pairs_of(place or [], "place")
        it = Study.of(variants, out, set=given, places=places, facts=facts, seeds=seeds, runs=runs)
        check_axis(by, to, plot, {**it.axes, "variant": it.variants})
        rows = it.run(only or ())
        if plot is not None and by is not None:
            it.plot(plot, by, to)
        show({"out": str(out), "rows": rows}, lambda: say(it.markdown() if by is None else it.compared(by, to)))


def check_axis(by: str | None, to: str | None, plot: Path | None, axes: dict[str, Any]) -> None:
    """Raises a UserError, before work, if there is no such axis or value, or no such kind of picture."""
    if plot is not None and plot.suffix not in KINDS:
        raise UserError(f"--plot: expected a file that ends in {', '.join(KINDS)}, got {quoted(str(plot))}")
    if by is None:
        if to is not None or plot is not None:
            raise UserError(f"--{'to' if plot is None else 'plot'} shows differences of --by: give the axis too")
    elif by not in axes:
        raise UserError(f"--by: expected an axis ({quoted_each(axes)}), got {quoted(by)}{suggestion(by, axes)}")
    elif to is not None and to not in axes[by]:
        raise UserError(f"--to: expected a value of {by} ({quoted_each(axes[by])}), got {quoted(to)}")


def value_of(text: str) -> Any:
    """A value as JSON would write it, else text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def register(app: typer.Typer) -> None:
    app.command()(study)
