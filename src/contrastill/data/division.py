"""Training rows divided: some held out as dev, as many kept as asked for, each part with every class."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from contrastill.data.cells import some
from contrastill.data.entity_types import rare_types, rarest_type
from contrastill.data.multilabel import rarest, separated
from contrastill.data.schema import Schema
from contrastill.errors import UserError

__all__ = ["check_train", "divide"]

ENOUGH = 100  # dev rows, up to which a quarter of the rows may be held out
SHARED_BY = {
    "classification": " by class",
    "multilabel": " by the rarest label of each",
    "tagging": " by the rarest type of each",
    "regression": "",
}


def check_train(train: pd.DataFrame, task: Schema, name: str, *, one_class: bool) -> None:
    """Raises a UserError unless there is something to learn. one_class: whether a single class will do."""
    classes = groups(train, task).nunique()
    if task.kind == "tagging":
        if not any(train["label"]):
            raise UserError(f"{name}: expected texts with entities in column {task.label!r}, got none; add some")
    elif task.kind == "multilabel":
        if not any(map(any, train["label"])):
            raise UserError(f"{name}: expected rows with labels in column {task.label!r}, got none")
    elif task.labels and classes < 2 and not one_class:
        only = task.labels[train["label"].iloc[0]]
        raise UserError(f"{name}: expected at least two classes, got {only!r} in every row; add rows of another")
    elif not task.labels and len(train) > 1 and classes == 1:
        raise UserError(
            f"{name}: expected scores that differ in column {task.label!r}, got one for all rows: every score is "
            f"{train['label'].iloc[0]:g}; is it the right column (--label)?"
        )


def divide(
    frames: dict[str, pd.DataFrame],
    task: Schema,
    name: str,
    *,
    dev_share: float | None,
    limit: int | None,
    seed: int,
    decided: dict[str, str],
) -> None:
    """Holds out a dev split where there is none, and keeps as many training rows as `limit` says.

    Raises:
        UserError: too few rows.
    """
    train = frames["train"]
    classes = groups(train, task).nunique()
    if "dev" not in frames and dev_share != 0:
        held = held_out(train, task, seed, dev_share, name)
        decided["dev"] = f"{len(held)} of {len(train)} rows of train, held out{SHARED_BY[task.kind]}"
        frames["dev"], train = train.iloc[np.sort(held)], train.drop(train.index[held])
    if limit is not None:
        if task.labels and limit < classes:
            raise UserError(f"expected a limit of at least one row a class ({classes}), got {limit}; raise --limit")
        train = train.iloc[np.sort(spread(train, task, seed, start=0.0)[:limit])]
    frames["train"] = train
    if task.labels:
        remarks = {"multilabel": separated, "tagging": rare_types}.get(task.kind, rare_classes)
        decided |= remarks(frames, task)


def rare_classes(frames: Mapping[str, pd.DataFrame], task: Schema) -> dict[str, str]:
    """Remarks on classes with hardly any rows."""
    counts = {split: Counter(frame["label"]) for split, frame in frames.items()}
    train, dev = counts["train"], counts.get("dev")
    groups = {
        "classes of one training row": [n for n, rows in train.items() if rows == 1],
        "classes without training rows": [n for n in range(len(task.labels)) if not train[n]],
        "classes in dev alone": [] if dev is None else [n for n in dev if not train[n]],
        "classes without dev rows": [] if dev is None else [n for n in range(len(task.labels)) if not dev[n]],
    }
    return {
        what: f"{len(classes)} ({some([task.labels[n] for n in sorted(classes)])})"
        for what, classes in groups.items()
        if classes
    }


def held_out(train: pd.DataFrame, task: Schema, seed: int, share: float | None, name: str) -> np.ndarray:
    """The positions of the rows that become dev: class by class, and never the last row of one."""
    order = spread(train, task, seed, start=0.5)
    if task.labels:
        labels = pd.Series(groups(train, task).to_numpy()[order])
        by_class = labels.groupby(labels)
        order = order[(by_class.cumcount() < by_class.transform("size") - 1).to_numpy()]
    else:
        order = order[: len(train) - 1]
    if not len(order):
        few = " with no class twice" if task.labels else ""
        raise UserError(
            f"{name}: expected rows enough to hold some out, got {len(train)}{few}; pass --dev FILE, or --dev-share 0"
        )
    return order[: max(1, dev_rows(len(train), share))]


def dev_rows(rows: int, share: float | None) -> int:
    """Rows to hold out. Without a share: a tenth; up to a quarter where a tenth is fewer than `ENOUGH`."""
    return round(rows * share) if share is not None else max(round(rows / 10), min(ENOUGH, rows // 4))


def groups(frame: pd.DataFrame, task: Schema) -> "pd.Series[Any]":
    """The class of each row by which rows are divided: of several labels or entities, the rarest."""
    if task.kind == "tagging":
        return pd.Series(rarest_type(frame["label"].tolist()), index=frame.index)
    if task.kind != "multilabel":
        return frame["label"]
    return pd.Series(rarest(frame["label"].tolist()), index=frame.index)


def spread(frame: pd.DataFrame, task: Schema, seed: int, start: float) -> np.ndarray:
    """Row positions in a seeded order, every beginning of which holds the classes in proportion.

    Row j of a class of n stands at (j + start) / n. With start 0 every class comes once before any comes twice; with
    0.5 the first half never takes the last row of a class.
    """
    shuffled = np.random.default_rng(seed).permutation(len(frame))
    if not task.labels:
        return shuffled
    labels = groups(frame, task).to_numpy()[shuffled]
    by_class = pd.Series(labels).groupby(labels)
    place = (by_class.cumcount() + start) / by_class.transform("size")
    return shuffled[np.argsort(place.to_numpy(), kind="stable")]
