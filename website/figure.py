"""Draws README.md's figure, quality against latency, from demo/result.json: python -m website.figure"""

import json
import math
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "demo" / "result.json"
FIGURE = ROOT / "docs" / "figures" / "quality-latency.svg"
WIDTH, HEIGHT = 720, 330
LEFT, RIGHT, TOP, BOTTOM = 62, 24, 58, 48  # margins around the axes
ROOM = 150  # pixels between two labels on one line
STYLE = """<style>
svg { --ink: #1d232b; --muted: #5b6570; --grid: #dfe3e8; --back: #ffffff; --blue: #0b62b8; background: var(--back) }
@media (prefers-color-scheme: dark) {
  svg { --ink: #e8ebef; --muted: #a3adb8; --grid: #353c45; --back: #14181d; --blue: #6db3f7 }
}
text { font: 13px system-ui, "Segoe UI", sans-serif; fill: var(--muted); text-anchor: middle }
text { paint-order: stroke; stroke: var(--back); stroke-width: 4px }
.name { fill: var(--ink); font-weight: 600 } .left { text-anchor: end } line { stroke: var(--grid) }
.teacher { fill: var(--ink); stroke: var(--ink) } .student { fill: var(--blue); stroke: var(--blue) }
</style>"""


@dataclass(frozen=True)
class Point:
    """A model: milliseconds for one text, accuracy in % with its interval, megabytes."""

    name: str
    kind: str
    ms: float
    accuracy: float
    low: float
    high: float
    mb: float


def points(summary: dict[str, Any]) -> list[Point]:
    """The teacher, the first student that saw all texts, and the files exported from it; the fastest first."""
    teacher, student = summary["rows"][:2]
    exports = [row for row in summary["rows"] if row["name"].startswith(f"{student['name']}, ")]
    named = [("teacher", teacher), ("student, PyTorch", student)]
    named += [(row["name"].removeprefix(f"{student['name']}, "), row) for row in exports]
    found = [
        Point(
            name, "teacher" if row is teacher else "student", row["latency_ms_p50"], 100 * row["accuracy"],
            100 * row["interval"][0], 100 * row["interval"][1], row["size_mb"],
        )
        for name, row in named
    ]  # fmt: skip
    return sorted(found, key=lambda point: point.ms)


def words(found: list[Point]) -> str:
    """The figure in words, for readers who do not see it."""
    return "; ".join(f"{p.name}: {p.accuracy:.2f} % in {p.ms:.1f} ms, {p.mb:.0f} MB" for p in found)


def drawing(summary: dict[str, Any]) -> str:
    """A whole SVG file; its colours follow the reader's light or dark setting."""
    found = points(summary)
    slowest, fastest = max(p.ms for p in found) * 1.6, min(p.ms for p in found) / 1.6
    bottom, top = math.floor(min(p.low for p in found)) - 1, math.ceil(max(p.high for p in found))

    def across(ms: float) -> float:
        share = math.log(ms / fastest) / math.log(slowest / fastest)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def up(accuracy: float) -> float:
        return round(HEIGHT - BOTTOM - (accuracy - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM), 1)

    parts = []
    for accuracy in range(bottom, top + 1):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(accuracy)}" y2="{up(accuracy)}"/>')
        parts.append(f'<text class="left" x="{LEFT - 8}" y="{up(accuracy) + 4}">{accuracy} %</text>')
    for ms in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500):
        if fastest <= ms <= slowest:
            parts.append(f'<line x1="{across(ms)}" x2="{across(ms)}" y1="{up(top)}" y2="{up(bottom)}"/>')
            parts.append(f'<text x="{across(ms)}" y="{HEIGHT - BOTTOM + 18}">{ms:g} ms</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}">time for one text (log scale)</text>')
    parts.append('<text style="text-anchor: start" x="8" y="20">test accuracy, 95 % interval</text>')
    for n, point in enumerate(found):
        x, y = across(point.ms), up(point.accuracy)
        crowded = n % 2 and x - across(found[n - 1].ms) < ROOM
        label = up(point.low) + 18 if crowded else up(point.high) - 24
        mark = (
            f'<path d="M{x} {y - 7}l7 7l-7 7l-7 -7z"/>'
            if point.kind == "teacher"
            else f'<circle cx="{x}" cy="{y}" r="6"/>'
        )
        bar = f'<path stroke-width="2" opacity=".55" d="M{x} {up(point.low)}V{up(point.high)}"/>'
        parts.append(f'<g class="{point.kind}">{bar}{mark}</g>')
        parts.append(f'<text class="name" x="{x}" y="{label}">{escape(point.name)}</text>')
        parts.append(f'<text x="{x}" y="{label + 16}">{point.ms:.1f} ms, {point.mb:.0f} MB</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    title = f"<title>Quality against latency</title><desc>{escape(words(found))}</desc>"
    return "\n".join([head, title, STYLE, *parts, "</svg>", ""])


if __name__ == "__main__":
    FIGURE.parent.mkdir(exist_ok=True)
    FIGURE.write_text(drawing(json.loads(RESULT.read_text("utf-8"))), encoding="utf-8")
    print(f"written: {FIGURE.relative_to(ROOT)}")
