"""From the milliseconds of rounds to a row's figures."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

__all__ = ["Turns", "figures", "ratio", "value"]

Turns = list[list[list[float]]]
"""Milliseconds of every call: rounds, the repeats of a turn, its calls."""
SAMPLES = 2000


def value(turn: Sequence[Sequence[float]]) -> float:
    """One figure for a round: each call's median over the repeats, and their mean over the calls, short and long."""
    return float(np.median(np.asarray(turn), axis=0).mean())


def figures(turns: Turns, batch: float) -> dict[str, Any]:
    """Percentiles over all calls, throughput, spread over the rounds (interquartile range by median)."""
    calls = np.concatenate([np.ravel(turn) for turn in turns])
    rounds = np.array([value(turn) for turn in turns])
    p50, p95, p99 = np.percentile(calls, [50, 95, 99]).tolist()
    low, middle, high = np.percentile(rounds, [25, 50, 75]).tolist()
    return {
        "p50_ms": round(p50, 4),
        "p95_ms": round(p95, 4),
        "p99_ms": round(p99, 4),
        "throughput_per_s": round(1000 * batch / middle, 2),
        "spread": round((high - low) / middle, 4),
        "calls": len(calls),
        "rounds_ms": [round(one, 4) for one in rounds.tolist()],
    }


def ratio(slow: Sequence[float], fast: Sequence[float], seed: int = 0) -> tuple[float, list[float]]:
    """How many times faster, and its 95 % interval: rounds are drawn anew in pairs, for what disturbs a round disturbs
    both of its sides."""
    a, b = np.asarray(slow), np.asarray(fast)
    drawn = np.random.default_rng(seed).integers(0, len(a), (SAMPLES, len(a)))
    low, high = np.percentile(np.median(a[drawn], axis=1) / np.median(b[drawn], axis=1), [2.5, 97.5]).tolist()
    return round(median(a.tolist()) / median(b.tolist()), 3), [round(low, 3), round(high, 3)]
