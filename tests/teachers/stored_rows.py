"""Small stores of random rows, and what they must answer."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from contrastill.teachers.store import Facts, Store

WIDTH = 5


def facts(stored: str = "float32", **changes) -> Facts:
    given = {"teacher": "a" * 64, "field": "layer-1-tokens", "width": WIDTH, "computed": "float32", "stored": stored}
    return Facts(**given | changes)


def random_rows(texts: int, *, width: int = WIDTH, longest: int = 4, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Keys (N, 16), counts (N,) of 1 to `longest` rows, values (sum of counts, width) as a tensor."""
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 256, (texts, 16), dtype=np.uint8)
    counts = rng.integers(1, longest + 1, texts).astype(np.int32)
    return keys, counts, torch.from_numpy(rng.normal(size=(int(counts.sum()), width)).astype(np.float32))


def by_text(keys: np.ndarray, counts: np.ndarray, values: Tensor) -> dict[bytes, np.ndarray]:
    """Key -> (n, D), cut in a loop."""
    result, at = {}, 0
    for key, count in zip(keys, counts.tolist(), strict=True):
        result[key.tobytes()] = values[at : at + count].numpy()
        at += count
    return result


def filled(root: Path, about: Facts, shards: int = 1, texts: int = 6) -> tuple[Store, dict[bytes, np.ndarray]]:
    """A store of so many shards, read back, and all that was put into it, as float32."""
    store, everything = Store(root, about), {}
    for seed in range(shards):
        rows = random_rows(texts, width=about.width, seed=seed)
        store.append(*rows)
        everything |= by_text(*rows)
    store.refresh()
    return store, everything


def answers(store: Store, keys: list[bytes]) -> dict[bytes, np.ndarray]:
    """What the store has of those texts, as numbers of its stored type (bfloat16 as float32)."""
    rows = store.find(np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16))
    return {key: numbers(store, store.read(int(row))) for key, row in zip(keys, rows, strict=True) if row >= 0}


def numbers(store: Store, values: np.ndarray) -> np.ndarray:
    if store.facts.stored != "bfloat16":
        return values
    return torch.from_numpy(values.copy()).view(torch.bfloat16).float().numpy()
