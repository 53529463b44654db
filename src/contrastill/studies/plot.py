"""The differences of a study as a picture: a point and its interval in each line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from contrastill.errors import UserError
from contrastill.studies.paired import Difference

__all__ = ["forest"]

COLORS = {"better": "#0b62b8", "worse": "#b3261e"}  # as the words in a table; all else is grey
LEVEL, GRID = "#6b7580", "#dfe3e8"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "contrastill",
    "text.parse_math": False,
    "font.size": 9,
}


@matplotlib.rc_context(STYLE)
def forest(found: Sequence[Difference], file: Path) -> None:
    """Draws differences, each combination of the other axes as a block, and writes the picture.

    Raises:
        UserError: there is nothing to draw, or no room for the file.
    """
    if not found:
        raise UserError("expected differences to draw, got none: no two values of the axis have a seed in common")
    labels = list(dict.fromkeys(one.label for one in found))
    values = list(dict.fromkeys(one.value for one in found))
    panels = Figure(figsize=(7.2, 0.7 + len(labels) * (0.42 + 0.2 * len(values))), layout="constrained")
    FigureCanvasAgg(panels)
    shared = len({one.metric for one in found}) == 1
    for axes, label in zip(panels.subplots(len(labels), squeeze=False, sharex=shared)[:, 0], labels, strict=True):
        lines = [one for one in found if one.label == label]
        for place, one in enumerate(lines):
            color = COLORS.get(one.so, LEVEL)
            if one.low is not None and one.high is not None:
                axes.hlines(place, one.low, one.high, color=color, linewidth=1.6)
            axes.plot(one.mean, place, "o", color=color, markersize=5)
        axes.axvline(0, color="#1d232b", linewidth=0.8)
        axes.set_yticks(range(len(lines)), [f"{one.value} ({one.better} of {one.seeds})" for one in lines])
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.set_title(f"{label} · {lines[0].metric}" if label else lines[0].metric, loc="left", fontsize=9)
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
    about = "with its 95 % interval over the seeds (seeds in which it is better)"
    panels.supxlabel(f"difference to {found[0].to} on dev, {about}", fontsize=9)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        panels.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)
    except OSError as error:
        raise UserError(f"{file}: expected a file that can be written, got: {error.strerror or error}") from None
