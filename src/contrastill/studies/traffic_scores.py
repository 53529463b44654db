"""Scores of extracted events: by trigger and by argument, with intervals over the documents."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["SCORES", "compared", "counted", "scored"]

SCORES = ("event", "event_overlap", "argument", "argument_overlap")
"""event: type and trigger span; argument: type, role and span; overlap: the span need only overlap."""

Item = tuple[tuple[str, ...], tuple[tuple[int, int], ...]]
"""What must be equal, and the spans of which one must be."""

Counts = np.ndarray[Any, Any]
"""(documents, 3): right, predicted, gold."""


def items(events: Iterable[Mapping[str, Any]], of: str) -> list[Item]:
    """The distinct things that are scored: events of one type and trigger (a row each for several lines) are one."""
    found: list[Item]
    if of.startswith("event"):
        found = [((e["type"],), tuple(tuple(span) for span in e["triggers"])) for e in events]
    else:
        found = [((e["type"], role), ((start, end),)) for e in events for role, start, end in e["arguments"]]
    return list(dict.fromkeys(found))


def right(predicted: Sequence[Item], gold: Sequence[Item], overlap: bool) -> list[bool]:
    """For each predicted item, whether it is right; a gold item is met once, by an equal one first."""
    left, found = list(gold), [False] * len(predicted)
    for fits in (_equal, _overlap) if overlap else (_equal,):
        for n, item in enumerate(predicted):
            met = None if found[n] else next((one for one in left if one[0] == item[0] and fits(item[1], one[1])), None)
            if met is not None:
                left.remove(met)
                found[n] = True
    return found


def _equal(a: Collection[tuple[int, int]], b: Collection[tuple[int, int]]) -> bool:
    return bool(set(a) & set(b))


def _overlap(a: Collection[tuple[int, int]], b: Collection[tuple[int, int]]) -> bool:
    return any(x[0] < y[1] and y[0] < x[1] for x in a for y in b)


def counted(predicted: Sequence[Any], gold: Sequence[Any], of: str) -> dict[str, Counts]:
    """Type -> counts a document, and `all` of them. Both: the events of each document, in one order."""
    types = sorted({e["type"] for events in (*predicted, *gold) for e in events})
    counts = {name: np.zeros((len(gold), 3)) for name in ("all", *types)}
    for n, (mine, theirs) in enumerate(zip(predicted, gold, strict=True)):
        asked, known = items(mine, of), items(theirs, of)
        for item, good in zip(asked, right(asked, known, of.endswith("overlap")), strict=True):
            for name in ("all", item[0][0]):
                counts[name][n] += (good, 1, 0)
        for item in known:
            for name in ("all", item[0][0]):
                counts[name][n, 2] += 1
    return counts


def f1(right: Any, predicted: Any, gold: Any) -> Any:
    """2 right / (predicted + gold); 1 where there is neither."""
    return np.where(predicted + gold > 0, 2 * right / np.maximum(predicted + gold, 1), 1.0)


def draws(documents: int, samples: int, seed: int) -> Any:
    """How often each document is drawn, (samples, documents)."""
    return np.random.default_rng(seed).multinomial(documents, np.full(documents, 1 / max(1, documents)), size=samples)


def _interval(values: Any) -> list[float]:
    return [round(float(value), 4) for value in np.percentile(values, (2.5, 97.5))]


def scored(
    predicted: Sequence[Any], gold: Sequence[Any], samples: int = 1000, seed: int = 0
) -> dict[str, dict[str, dict[str, Any]]]:
    """Score -> type -> precision, recall, F1, its 95 % bootstrap interval over the documents, and the counts."""
    weights = draws(len(gold), samples, seed)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for of in SCORES:
        found[of] = {}
        for name, counts in counted(predicted, gold, of).items():
            good, asked, known = (float(value) for value in counts.sum(0))
            found[of][name] = {
                "precision": round(good / asked, 4) if asked else None,
                "recall": round(good / known, 4) if known else None,
                "f1": round(float(f1(good, asked, known)), 4),
                "interval": _interval(f1(*(weights @ counts).T)),
                "right": int(good),
                "predicted": int(asked),
                "gold": int(known),
            }
    return found


def compared(
    first: Sequence[Any], second: Sequence[Any], gold: Sequence[Any], samples: int = 1000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Score -> F1 of the second chain minus the first's, with a paired 95 % interval (the same documents are drawn)."""
    weights, found = draws(len(gold), samples, seed), {}
    for of in SCORES:
        a, b = (counted(chain, gold, of)["all"] for chain in (first, second))
        drawn = f1(*(weights @ b).T) - f1(*(weights @ a).T)
        point = float(f1(*b.sum(0)) - f1(*a.sum(0)))
        found[of] = {"difference": round(point, 4), "interval": _interval(drawn)}
    return found
