"""The rows that a run learnt from, kept with it, so that later runs can tell whether their dev rows are among them."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from contrastill.errors import UserError
from contrastill.loading.place import inner_folder
from contrastill.results import RunRecord, located
from contrastill.settings import Distillation

__all__ = ["SEEN", "rows_of_teacher", "seen_by", "seen_share", "write_seen"]

logger = logging.getLogger(__name__)

SEEN = "seen.safetensors"
"""A run's file with the sorted `text_key` of each row that it learnt from."""
ROWS = ("text", "text_pair", "label", "task", "separator", "labels", "dev", "test")


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
    """The share of keys that are among those seen, of those alone that are not in `apart_from`."""
    among = np.isin(keys, seen)
    if apart_from is not None:
        among &= ~np.isin(keys, apart_from)
    return float(among.mean()) if len(keys) else 0.0


def rows_of_teacher(settings: Distillation) -> Distillation:
    """The settings with the columns and the dev and test rows of the teacher's own run, where its data are the same
    and none were given: a student is judged on rows that its teacher did not learn from."""
    if not Path(settings.teacher).expanduser().is_dir():
        return settings
    record = RunRecord.of_model(inner_folder(Path(settings.teacher).expanduser(), settings.teacher))
    if record is None or record.settings.get("data") != located({"data": settings.data}, Path.cwd())["data"]:
        return settings
    known = {name: record.setting(name, str, list) for name in ROWS if getattr(settings, name) is None}
    known = {name: value for name, value in known.items() if value is not None}
    if known:
        told = ", ".join(f"{name} = {str(value)[:80]}" for name, value in known.items())
        logger.info("as in the run of the teacher, whose data are the same: %s", told)
    return replace(settings, **known)
