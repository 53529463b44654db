"""Charts as SVG that stands in the page: static, its colours the page's own variables, so that it follows light, dark
and print. matplotlib draws; it is imported here and nowhere else, when a page is written."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from contrastill.report import hover

__all__ = ["Chart", "Line", "Mark", "Point", "histogram", "key", "lines", "reliability", "restart", "tradeoff"]

WIDTH, HEIGHT = 4.5, 2.9  # inches of 72 units: as wide as a phone's screen, so that letters need no shrinking
INK, MUTED, GRID, BACK = "#000001", "#000002", "#000003", "#000004"
SERIES = tuple(f"#0000a{n}" for n in range(8))
VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", BACK: "card"} | {c: f"c{n}" for n, c in enumerate(SERIES)}
DASHES = {"solid": "-", "dashed": (0, (5, 2)), "dotted": (0, (1.5, 1.5))}  # CSS's names; of those of one colour
MARKERS = {"teacher": "D", "before": "D", "trained": "o", "bundle": "s"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "contrastill",
    "text.parse_math": False,  # a name may hold dollars
    "font.size": 11,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "lines.linewidth": 1.6,
}
Box = tuple[float, float, float, float]  # left, bottom, right, top
Offset = tuple[int, int, str]  # of a name from its point: to the right, up, and which end of it is there
LEAST_SPAN = 0.02  # of the axis of quality, as a share of what it ends at
NEAR = 13  # nearer names need no line
MOST_NAMES, LONGEST_NAME = 8, 26  # of points and letters: beyond, points have numbers and the names stand below
OFFSETS: tuple[Offset, ...] = (
    (9, 0, "left"),
    (-9, 0, "right"),
    (0, 13, "center"),
    (0, -13, "center"),
    *((right, up, side) for up in (16, -16, 28, -28, 40, -40) for right, side in ((12, "left"), (-12, "right"))),
)

numbers = itertools.count()  # of a page's charts: an id may stand once in it


@dataclass(frozen=True)
class Mark:
    """Legend mark of a name: a colour (the page's variable), and a dash (CSS's word) or a number."""

    name: str
    color: str
    dash: str = ""
    number: int = 0


@dataclass(frozen=True)
class Chart:
    """A picture with its heading, its explanation and its legend."""

    title: str
    picture: Any
    note: str = ""
    small: bool = False
    key: Sequence[Mark] = ()


@dataclass(frozen=True)
class Line:
    """One curve: points with their steps, the steps between which it is drawn faint, and its group (its colour)."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    faint: tuple[tuple[float, float], ...] = ()
    dots: bool = False
    group: int = 0
    raw: Sequence[float] = ()  # the values as they were logged, if these are smoothed


@dataclass(frozen=True)
class Point:
    """A model in the trade-off chart: position, interval, kind (its marker) and group (its colour)."""

    name: str
    x: float
    y: float
    low: float | None
    high: float | None
    kind: str
    group: int


def restart() -> None:
    """Numbers the charts of a new page from 0, so that the same run gives the same page."""
    global numbers
    numbers = itertools.count()


def look(group: int) -> tuple[str, str]:
    """A group's colour and dash: one of eight, then the same ones dashed, then dotted."""
    return SERIES[group % len(SERIES)], list(DASHES)[group // len(SERIES) % len(DASHES)]


def key(named: Sequence[tuple[str, int]]) -> list[Mark]:
    """The legend of several groups; a single group needs none."""
    if len(named) < 2:
        return []
    return [Mark(name, VARIABLES[color], dash) for name, (color, dash) in ((name, look(n)) for name, n in named)]


@matplotlib.rc_context(STYLE)
def lines(
    curves: Sequence[Line],
    title: str,
    alt: str,
    *,
    stages: Sequence[tuple[str, float, float]] = (),
    mark: float | None = None,
    levels: Sequence[tuple[str, float]] = (),
    height: float = HEIGHT,
    share: bool = False,
) -> Markup:
    """Curves over steps; `stages` (name, first step, last step) are parted by a line if there are several. mark: a step
    with a line of its own, if it is reached. levels: named values to compare with. share: values are from 0 to 1."""
    figure, axes = blank(height)
    for curve in curves:
        color, dash = look(curve.group)
        if curve.raw:
            axes.plot(curve.steps, curve.raw, color=color, alpha=0.35, linewidth=0.9)
        marker: dict[str, Any] = {"marker": "o", "markersize": 3.5} if curve.dots or len(curve.steps) < 2 else {}
        for steps, values, faint in pieces(curve):
            line: dict[str, Any] = {"linestyle": ":", "alpha": 0.75} if faint else {"linestyle": DASHES[dash]}
            axes.plot(steps, values, color=color, **line, **marker)
    axes.margins(y=0.1)
    if share:
        axes.set_ylim(-0.04, 1.12)
    top = axes.get_xaxis_transform()
    for n, (name, first, _) in enumerate(stages if len(stages) > 1 else ()):
        if n:
            axes.axvline(first, color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)))
        axes.annotate(name, (first, 1), (3, 3), xycoords=top, textcoords="offset points", color=MUTED, fontsize=10)
    for name, value in levels:
        axes.axhline(value, color=MUTED, linewidth=0.9, linestyle=(0, (1.5, 1.5)))
        right = axes.get_yaxis_transform()
        axes.annotate(
            name, (1, value), (0, 3), xycoords=right, textcoords="offset points", color=MUTED, ha="right", fontsize=10
        )
    if mark is not None and mark <= max((step for curve in curves for step in curve.steps), default=0):
        axes.axvline(mark, color=INK, linewidth=0.9, linestyle=(0, (3, 2)))
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlim(left=0)
    axes.yaxis.set_major_locator(MaxNLocator(5 if height == HEIGHT else 3))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return svg(figure, title, alt, lambda frame: hover.bands(frame, values_by_step(curves)))


def values_by_step(curves: Sequence[Line]) -> list[tuple[float, str]]:
    """Each step at which a curve has a value, and the values in words."""
    found: dict[float, list[str]] = {}
    for curve in curves:
        name = f"{curve.name}: " if len(curves) > 1 else ""
        for n, (step, value) in enumerate(zip(curve.steps, curve.values, strict=True)):
            said = f"{curve.raw[n]:.4g} (smoothed: {value:.4g})" if curve.raw else f"{value:.4g}"
            found.setdefault(step, []).append(name + said)
    return [(step, f"step {step:,.0f}: {'; '.join(found[step])}") for step in sorted(found)]


def pieces(curve: Line) -> list[tuple[list[float], list[float], bool]]:
    """The curve cut where it turns faint or plain; neighbouring pieces share a point."""
    found: list[tuple[list[float], list[float], bool]] = []
    for step, value in zip(curve.steps, curve.values, strict=True):
        faint = any(first < step <= last for first, last in curve.faint)
        if not found or found[-1][2] != faint:
            joint = ([found[-1][0][-1]], [found[-1][1][-1]]) if found else ([], [])
            found.append((joint[0], joint[1], faint))
        found[-1][0].append(step)
        found[-1][1].append(value)
    return found


@matplotlib.rc_context(STYLE)
def tradeoff(points: Sequence[Point], x_label: str, y_label: str, alt: str) -> tuple[Markup, list[Mark]]:
    """Quality against cost, which is on a logarithmic axis. Every point has its name; or, if they are many or long, a
    number, and the names are returned."""
    figure, axes = blank(HEIGHT * 1.15)
    numbered = len(points) > MOST_NAMES or max(len(point.name) for point in points) > LONGEST_NAME
    marks = [Mark(p.name, VARIABLES[color_of(p)], number=n) for n, p in enumerate(points, 1)] if numbered else []
    for point in points:
        color = color_of(point)
        if point.low is not None and point.high is not None:
            axes.vlines(point.x, point.low, point.high, color=color, linewidth=1.2, alpha=0.6)
        axes.plot(point.x, point.y, MARKERS.get(point.kind, "o"), color=color, markersize=7, markeredgecolor=BACK)
    axes.set_xscale("log")
    axes.margins(x=0.25, y=0.25)
    bottom, top = axes.get_ylim()
    if top - bottom < (least := LEAST_SPAN * abs(top)):  # a hair's breadth is not to look like a gulf
        axes.set_ylim((bottom + top - least) / 2, (bottom + top + least) / 2)
    low, high = axes.get_xlim()
    if high / low < 4:  # a single point, or all alike: room on both sides
        middle = (low * high) ** 0.5
        axes.set_xlim(middle / 2, middle * 2)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ticks(*axes.get_xlim()))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    name_points(axes, [replace(p, name=str(n)) for n, p in enumerate(points, 1)] if numbered else points, figure)
    said = [(point, f"{point.name}: {point.y:.4g} at {point.x:.3g}{bounds(point)}") for point in points]
    spots = [(point.x, point.y, words) for point, words in said]
    picture = svg(
        figure, f"{y_label} against {x_label}", alt, lambda frame: [hover.spot(frame, *each) for each in spots]
    )
    return picture, marks


def bounds(point: Point) -> str:
    return "" if point.low is None or point.high is None else f" (95\u00a0%: {point.low:.4g} to {point.high:.4g})"


def color_of(point: Point) -> str:
    return INK if point.kind in ("teacher", "before") else SERIES[point.group % len(SERIES)]


def ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers within the limits: 1, 2, 5, 10, …, or more of them where these are too few."""
    inside: list[float] = []
    for digits in ((1, 2, 5), (1, 2, 3, 5, 7), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)):
        inside = [digit * 10.0**power for power in range(-6, 9) for digit in digits]
        inside = [value for value in inside if low <= value <= high]
        if len(inside) >= 3:
            break
    return inside[:: -(-len(inside) // 7)] if inside else []


def name_points(axes: Axes, points: Sequence[Point], figure: Figure) -> None:
    """Writes each point's name where it covers the least of what is there already; far names have a line to it."""
    FigureCanvasSVG(figure).draw()  # fixes the layout, hence where a point is
    places = {point: axes.transData.transform((point.x, point.y)) for point in points}
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in places.values()]
    for point, (x, _) in places.items():
        if point.low is not None and point.high is not None:
            ends = axes.transData.transform([(point.x, point.low), (point.x, point.high)])[:, 1]
            taken.append((x - 1, ends[0], x + 1, ends[1]))
    frame = axes.get_window_extent()
    for point, (x, y) in places.items():

        def cost(offset: Offset, box: Box) -> float:
            outside = max(0, frame.x0 - box[0], box[2] - frame.x1 - 8, frame.y0 - box[1])
            return 20 * outside + sum(overlap(box, other) for other in taken) + abs(offset[0]) + abs(offset[1])

        boxes = {offset: box_of(x, y, len(point.name), offset) for offset in OFFSETS}
        right, up, side = best = min(OFFSETS, key=lambda offset: cost(offset, boxes[offset]))
        taken.append(boxes[best])
        line: dict[str, Any] = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 5}
        line["relpos"] = (0 if side == "left" else 1, 0.5)  # the end of the name at which it ends
        axes.annotate(
            point.name, (point.x, point.y), (right, up), textcoords="offset points", ha=side, va="center", fontsize=10,
            color=INK, annotation_clip=False, arrowprops=line if abs(right) + abs(up) > NEAR else None,
        )  # fmt: skip


def box_of(x: float, y: float, letters: int, offset: Offset) -> Box:
    """About where a name of so many letters would be."""
    right, up, side = offset
    width = 5.9 * letters
    left = x + right - {"left": 0, "center": width / 2, "right": width}[side]
    return left, y + up - 6, left + width, y + up + 6


def overlap(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


@matplotlib.rc_context(STYLE)
def histogram(
    low: float,
    high: float,
    grouped: Sequence[tuple[int, Sequence[float]]],
    label: str,
    alt: str,
    median: float | None = None,
) -> Markup:
    """Shares of rows over equal bins from low to high, by group: bars of one, outlines of several.

    Bins at an end that hold less than 0.2 % of all rows are one bin, so that the others have room.
    """
    figure, axes = blank(HEIGHT)
    together = [sum(each) for each in zip(*(counts for _, counts in grouped), strict=True)]
    first, last = filled(together), len(together) - filled(together[::-1])
    bars: dict[tuple[float, float], list[str]] = {}
    for group, counts in grouped:
        width, total = (high - low) / len(counts), max(1, sum(counts))
        inner = [sum(counts[: first + 1]), *counts[first + 1 : last - 1], sum(counts[last - 1 :])]
        shares = [100 * count / total for count in inner[: last - first]]  # of a single bin, that one
        edges = [low + width * k for k in range(first, last + 1)]
        for left, right, each in zip(edges[:-1], edges[1:], shares, strict=True):
            bars.setdefault((left, right), []).append(f"{each:.1f}\u00a0%")
        if len(grouped) == 1:
            axes.bar(edges[:-1], shares, width * 0.9, align="edge", color=SERIES[0])
        else:
            color, dash = look(group)
            axes.stairs(shares, edges, color=color, linestyle=DASHES[dash])
    if median is not None and len(grouped) == 1:
        axes.axvline(median, color=INK, linewidth=1, linestyle=(0, (3, 2)))
    axes.set_xlabel(label)
    axes.set_ylabel("% of rows")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="x", visible=False)
    said = [(*ends, f"{ends[0]:.3g} to {ends[1]:.3g}: {', '.join(each)} of rows") for ends, each in bars.items()]
    return svg(figure, label, alt, lambda frame: [hover.band(frame, *each) for each in said])


@matplotlib.rc_context(STYLE)
def reliability(grouped: Sequence[Sequence[tuple[float, float, float]]], alt: str) -> Markup:
    """Share of right answers against probability, in groups of (probability, share, rows), beside the line on which
    both are equal."""
    figure, axes = blank(HEIGHT)
    low = min(value for groups in grouped for group in groups for value in group[:2])
    axes.plot([low, 1], [low, 1], color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)))
    spots: list[tuple[float, float, str]] = []
    for group, points in enumerate(grouped):
        color, dash = look(group)
        x, y = [one[0] for one in points], [one[1] for one in points]
        axes.plot(x, y, "o", color=color, linestyle=DASHES[dash], linewidth=1, markersize=4, zorder=3 - group)
        spots += [(p, share, f"{p:.1%} said, {share:.1%} right, of {rows:,.0f} rows") for p, share, rows in points]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
    axes.set_xlabel("probability, %")
    axes.set_ylabel("right, %")
    return svg(figure, "Right answers by probability", alt, lambda frame: [hover.spot(frame, *each) for each in spots])


def filled(counts: Sequence[float]) -> int:
    """The first bin, up to which (with it) there are 0.2 % of all rows; not so late that nothing is left."""
    sums = list(itertools.accumulate(counts))
    found = next((n for n, count in enumerate(sums) if count > 0.002 * sums[-1]), 0)
    return max(0, min(found, len(counts) // 2 - 4))


def blank(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.set_axisbelow(True)
    return figure, axes


def svg(figure: Figure, title: str, alt: str, values: Callable[[hover.Frame], Sequence[str]]) -> Markup:
    """The figure as an element of the page: no fonts, sizes, ids or colours of its own. values: for the pointer."""
    file = io.StringIO()
    FigureCanvasSVG(figure).print_svg(file, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = file.getvalue()
    width, height = (72 * size for size in figure.get_size_inches())
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    body = re.sub(r"<(metadata|style).*?</\1>|<!--.*?-->", "", body, flags=re.DOTALL)  # their style is for a whole file
    body = re.sub(r"font-family: [^;\"]+;? ?", "", body)
    for color, variable in VARIABLES.items():
        body = body.replace(color, f"var(--{variable})")
    unique = f"k{next(numbers)}-"
    body = re.sub(r' id="[^"]*_[^"]*"', "", body)  # of groups, to which nothing points
    body = re.sub(r'\bid="', f'id="{unique}', body)
    body = re.sub(r'(xlink:href="|url\()#', rf"\1#{unique}", body).replace("xlink:href", "href")
    body = re.sub(r"\s*\n\s*", " ", body)
    head = (
        f'<svg class="chart" role="img" viewBox="0 0 {width:g} {height:g}" aria-labelledby="{unique}t {unique}d" '
        f'xmlns="http://www.w3.org/2000/svg"><title id="{unique}t">{escape(title)}</title>'
        f'<desc id="{unique}d">{escape(alt)}</desc>'
    )
    shown = "".join(values(hover.Frame(figure.axes[0], width, height)))
    return Markup(f'{head}{body}<g class="hover">{shown}</g></svg>')
