"""Texts of a few words, and files of them."""

import csv
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NOUNS = ["cat", "dog", "horse", "mouse", "cow", "bird", "fish", "goat"]
VERBS = ["sees", "likes", "feeds", "hears", "chases", "paints"]


def sentences(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    made = (f"The {draw.choice(NOUNS)} {draw.choice(VERBS)} a {draw.choice(NOUNS)}, number {n}." for n in range(count))
    return [*made]


def write_rows(path: Path, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    return path
