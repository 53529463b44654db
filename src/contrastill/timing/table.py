"""Tables of the rows: one for each length and batch, the fastest of each model in bold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from contrastill.screen import Screen

__all__ = ["HEAD", "cells", "fastest", "groups", "print_table", "title"]

HEAD = (
    "model",
    "runtime",
    "p50 ms",
    "p95",
    "p99",
    "rounds differ",
    "texts/s",
    "x faster",
    "95 %",
    "x, same runtime",
    "load s",
    "memory MB",
    "file MB",
    "GFLOP",
)
WIDE = 150
"""Columns of a screen that has room for the whole table."""
LESS = ("rounds differ", "x, same runtime", "load s", "memory MB", "file MB", "GFLOP")
"""Columns left out on a narrower screen."""


def groups(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Rows of one length and batch together."""
    keys = list(dict.fromkeys((row["length"], row["batch"]) for row in rows))
    return [[row for row in rows if (row["length"], row["batch"]) == key] for key in keys]


def title(row: Mapping[str, Any]) -> str:
    length = "real texts" if row["length"] == "data" else f"{row['length']} tokens"
    if row["length"] == "data" and "tokens" in row:
        length += f" ({row['tokens']:.0f} tokens on average)"
    return f"{length}, {'one text' if row['batch'] == 1 else 'batches of ' + str(row['batch'])}"


def fastest(group: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Each model's row with the highest throughput."""
    best: dict[str, Mapping[str, Any]] = {}
    for row in sorted((row for row in group if "error" not in row), key=lambda row: row["throughput_per_s"]):
        best[row["model"]] = row
    return list(best.values())


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row under `HEAD`."""
    runtime = f"{row['runtime']} {row['precision']}" + (f", {row['workers']} streams" if row["workers"] > 1 else "")
    runtime += f", {row['new_tokens']} new tokens" if row.get("new_tokens") else ""
    if "error" in row:
        return [row["model"], runtime, "failed", *[""] * (len(HEAD) - 3)]
    interval = row["ratio_interval"]
    return [
        row["model"],
        runtime,
        *(figure(row[name]) for name in ("p50_ms", "p95_ms", "p99_ms")),
        f"{row['spread']:.0%}",
        *(figure(row[name]) for name in ("throughput_per_s", "ratio")),
        f"{figure(interval[0])} to {figure(interval[1])}" if interval else "–",
        *(figure(row[name]) for name in ("same_ratio", "load_s", "memory_mb", "file_mb", "gflops")),
    ]


def figure(value: float | None) -> str:
    """Three digits, two below a tenth."""
    if value is None:
        return "–"
    if abs(value) < 0.0995:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


def print_table(result: Mapping[str, Any]) -> None:
    """Prints the tables on stdout; the line below them names the reference of the ratios."""
    console = Screen(width=200)
    shown = [n for n, name in enumerate(HEAD) if console.width >= WIDE or name not in LESS]
    for group in groups(result["rows"]):
        table = Table(
            title=title(next((row for row in group if "error" not in row), group[0])),
            title_justify="left",
            box=SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )
        lines = [cells(row) for row in group]
        for n in shown:
            words = " ".join([HEAD[n], *(line[n] for line in lines)]).split()
            table.add_column(
                HEAD[n],
                justify="left" if HEAD[n] in ("model", "runtime") else "right",
                min_width=max(map(len, words)),  # a cell may take several lines, a word may not
            )
        best = fastest(group)
        for row, about in zip(group, lines, strict=True):
            table.add_row(*(about[n] for n in shown), style="bold" if row in best and len(group) > 1 else None)
        console.print(table)
    if len(shown) < len(HEAD):
        console.print(f"On a wider screen, and by --json: {'; '.join(LESS)}.")
    rule = result["yardstick"]
    if rule:
        console.print(
            f"x faster: than {rule['model']}, {rule['runtime']} {rule['precision']}. {result['threads']} threads. "
            "Bold: each model's highest texts/s."
        )
    for line in (*result["warnings"], *result["left_out"]):
        console.print(f"note: {line}", soft_wrap=True)
    for row in result["rows"]:
        if "error" in row:
            what = f"{cells(row)[0]}, {cells(row)[1]}, {title(row)}"
            console.print(f"failed: {what}: {row['error']}", soft_wrap=True)
