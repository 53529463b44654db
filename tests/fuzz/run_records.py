"""Edits of a run's run.json: entries and settings left out, of another type or value, beyond all bounds, or new."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

__all__ = ["mutations"]

FOREIGN: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 1.5, 2**40, 10**400, 1e308, float("nan"), float("inf"), "", " ", "other"),
    *([], ["other"], [[]], [None], {}, {"other": 1}, {"other": {"deep": []}}, "x" * 300, "a\0b", "\ud800", "t[/x]"),
)
RAW = (
    "",
    "{",
    "[]",
    "null",
    "3",
    '"text"',
    "\x00",
    "{}" * 2,
    "[" * 100_000,
    '{"settings": ' * 50_000,
    "nan",
    "\ufeff{}",
)


def mutations(record: dict[str, Any], seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """`count` edited files: what was done, and the bytes."""
    for number in range(count):
        draw = random.Random(f"records {seed}/{number}")
        yield edited(record, draw)


def edited(record: dict[str, Any], draw: random.Random) -> tuple[str, bytes]:
    if draw.random() < 0.05:
        text = draw.choice(RAW)
        return f"the text {text[:20]!r}", text.encode()
    if draw.random() < 0.05:
        whole = json.dumps(record).encode()
        at = draw.randrange(len(whole))
        return f"cut at {at}", whole[:at] + draw.choice([b"", b"\xff", b"\x00"])
    found, said = copy.deepcopy(record), []
    for _ in range(draw.choice([1, 1, 1, 2])):
        inner = found["settings"] if isinstance(found.get("settings"), dict) and draw.random() < 0.75 else found
        name = draw.choice([*inner, "new"]) if inner else "new"
        if draw.random() < 0.1:
            inner.pop(name, None)
            said.append(f"without {name}")
        else:
            inner[name] = draw.choice(FOREIGN)
            said.append(f"{name}: {str(inner[name])[:20] if not isinstance(inner[name], int) else 'a number'!r}")
    return "; ".join(said), json.dumps(found).encode()
