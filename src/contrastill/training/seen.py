"""The rows that a run learnt from, kept with it, so that later runs can tell whether their dev rows are among them."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from contrastill.errors import UserError
from contrastill.loading.place import inner_folder

__all__ = ["SEEN", "seen_by", "seen_share", "write_seen"]

SEEN = "seen.safetensors"
"""A run's file with the sorted `text_key` of each row that it learnt from."""


def write_seen(folder: Path, keys: Iterable[int]) -> None:
    (folder / SEEN).write_bytes(save({"train": np.unique(np.fromiter(keys, np.int64))}))


def seen_by(name: str) -> np.ndarray | None:
    """The keys of the rows that a model was trained on; None: that is not known."""
    if not Path(name).expanduser().is_dir():
        return None
    try:
        keys = load((inner_folder(Path(name).expanduser(), name).resolve().parent / SEEN).read_bytes())["train"]
        return keys if keys.dtype == np.int64 and keys.ndim == 1 else None
    except (OSError, UserError, SafetensorError, KeyError):
        return None


def seen_share(keys: np.ndarray, seen: np.ndarray, apart_from: np.ndarray | None = None) -> float:
    """The share of keys among those seen, counted without the keys in `apart_from`."""
    among = np.isin(keys, seen)
    if apart_from is not None:
        among &= ~np.isin(keys, apart_from)
    return float(among.mean()) if len(keys) else 0.0
