"""The values of a chart at the pointer: invisible shapes over the picture that show a value when pointed at.

Each value is the `<title>` of an SVG element, which browsers show without scripts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from markupsafe import escape
from matplotlib.axes import Axes

__all__ = ["Frame", "band", "bands", "spot"]

MOST = 60  # bands of a chart
RADIUS = 9


class Frame:
    """Where the axes lie in a picture of this size, once it is drawn."""

    def __init__(self, axes: Axes, width: float, height: float) -> None:
        self.axes, self.width, self.height = axes, width, height
        self.box = axes.get_position()

    def x(self, value: float) -> float:
        return self.width * (self.box.x0 + self.box.width * share(value, self.axes.get_xlim(), self.axes.get_xscale()))

    def y(self, value: float) -> float:
        up = self.box.y0 + self.box.height * share(value, self.axes.get_ylim(), self.axes.get_yscale())
        return self.height * (1 - up)

    @property
    def top(self) -> float:
        return self.height * (1 - self.box.y1)

    @property
    def tall(self) -> float:
        return self.height * self.box.height


def share(value: float, limits: tuple[float, float], scale: str) -> float:
    low, high = (math.log(end) for end in limits) if scale == "log" else limits
    place = math.log(value) if scale == "log" else value
    return (place - low) / (high - low)


def band(frame: Frame, left: float, right: float, said: str) -> str:
    """As tall as the axes, from one value of x to another."""
    low, high = frame.axes.get_xlim()
    ends = [frame.x(min(max(end, low), high)) for end in (left, right)]
    return (
        f'<rect x="{ends[0]:.1f}" y="{frame.top:.1f}" width="{ends[1] - ends[0]:.1f}" height="{frame.tall:.1f}">'
        f"<title>{escape(said)}</title></rect>"
    )


def bands(frame: Frame, said: Sequence[tuple[float, str]]) -> list[str]:
    """One for each place on the axis of x, sorted, half the way to its neighbours; of many, some."""
    every = max(1, math.ceil(len(said) / MOST))
    some = [*said[::every]]
    places = [place for place, _ in some]
    middles = [(a + b) / 2 for a, b in itertools.pairwise(places)]
    low, high = frame.axes.get_xlim()
    return [
        band(frame, left, right, words)
        for left, right, (_, words) in zip([low, *middles], [*middles, high], some, strict=True)
    ]


def spot(frame: Frame, x: float, y: float, said: str) -> str:
    """A disc around a point."""
    return f'<circle cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="{RADIUS}"><title>{escape(said)}</title></circle>'
