"""From a name, a folder or a file to checked rows: train, dev, test with one shape, whatever they came from."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
from datasets import Dataset

from contrastill.data.read import Table, read_lines, split_name
from contrastill.data.rows import checked_rows, columns_of, encode_labels, hides_labels, judge_labels
from contrastill.data.sources import find_tables, read_split
from contrastill.data.tasks import METRICS, Task
from contrastill.errors import UserError

__all__ = ["UNLABELLED", "TaskData", "load_task", "text_key"]

UNLABELLED = -100  # the class of a row without one, as in torch's cross_entropy; a regression row has NaN


@dataclass(frozen=True)
class TaskData:
    """The rows of a task. Each split has example_id, text, text_pair (pairs only) and label (class id or float).

    Unlabelled rows stand at the end of `train`, with label -100 (classification) or NaN (regression).
    """

    task: Task
    train: Dataset | None
    dev: Dataset | None
    test: Dataset | None
    notes: tuple[str, ...] = ()  # what loading left out or decided, a sentence each

    @property
    def splits(self) -> dict[str, Dataset]:
        found = {"train": self.train, "dev": self.dev, "test": self.test}
        return {name: split for name, split in found.items() if split is not None}

    def fingerprint(self) -> str:
        """A sha256 of every row of every split and of the class names: equal data, equal fingerprint."""
        digest = hashlib.sha256(json.dumps([self.task.kind, self.task.labels]).encode())
        for name, split in self.splits.items():
            digest.update(json.dumps([name, split.to_dict()]).encode())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Rows per split and what to know about them; `duplicates` are texts seen earlier in the same split."""
        train_keys: set[int] = set()
        rows: dict[str, dict[str, int]] = {}
        counts: Counter[int] = Counter()
        for name, split in self.splits.items():
            texts, labels = split["text"][:], split["label"][:]
            pairs = split["text_pair"][:] if self.task.text_pair else [None] * len(split)
            keys = [text_key(text, pair) for text, pair in zip(texts, pairs, strict=True)]
            labelled = [x for x in labels if (x != UNLABELLED if self.task.labels else not math.isnan(x))]
            rows[name] = {
                "rows": len(split),
                "labelled": len(labelled),
                "unlabelled": len(split) - len(labelled),
                "duplicates": len(keys) - len(set(keys)),
            }
            if name == "train":
                train_keys, counts = set(keys), Counter(labelled)
            else:
                rows[name]["also_in_train"] = sum(key in train_keys for key in keys)
        about: dict[str, Any] = {"task": self.task.name, "kind": self.task.kind, "splits": rows}
        if self.task.labels:
            per_class = [counts[i] for i in range(len(self.task.labels))]
            about |= {"classes": len(per_class), "class_count_min": min(per_class), "class_count_max": max(per_class)}
        return about | {"notes": list(self.notes)}


def text_key(text: str, text_pair: str | None = None) -> int:
    """A stable 63-bit hash of a text or pair: equal for equal texts, on every machine and in every run."""
    content = text if text_pair is None else f"{len(text)}:{text}{text_pair}"
    person = b"text" if text_pair is None else b"pair"
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8, person=person).digest(), "big") >> 1


def load_task(
    source: str | Path,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    kind: str | None = None,
    labels: Sequence[str] | None = None,
    dev: str | Path | None = None,
    test: str | Path | None = None,
    dev_share: float = 0.1,
    unlabelled: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    encoding: str = "utf-8",
    metric: str | None = None,
) -> TaskData:
    """Load a task and check every row of it.

    Args:
        source: `glue/mrpc` (the Hub, or `glue/mrpc:FOLDER` for GLUE's own files), `org/name` or `org/name:config` (any
            other Hub dataset), a folder (GLUE's own files, known by the folder's name, or train / dev / test files), or
            one file of training rows.
        text, text_pair, label: columns of your own data; guessed only where the names leave no doubt.
        kind: "classification" or "regression"; without it, numbers that are not all whole mean regression.
        labels: class names in the order of their ids. Without it: the order the source gives, else numbers by value,
            else names by alphabet. Cells may hold names, or ids if no name is a number.
        dev, test: further files, in place of those the source has.
        dev_share: the share of train that becomes dev if there is none, class by class; 0 for no dev.
        unlabelled: rows without labels for train: .txt (one text a line), or a file with the text columns.
        limit: keep so many of the labelled train rows: one of every class, then in proportion.
        seed: picks the rows of the dev share and of `limit`.
        metric: the metric that selects checkpoints.
    """
    if not 0 <= dev_share <= 0.5:
        raise UserError(f"expected a dev share from 0 to 0.5, got {dev_share}; try 0.1")
    if limit is not None and limit < 1:
        raise UserError(f"expected a limit of at least one row, got {limit}; leave it out to keep all rows")
    if kind not in (None, *METRICS):
        raise UserError(f"expected kind {' or '.join(METRICS)}, got {kind!r}")
    found = find_tables(
        source, own=any(o is not None for o in (text, text_pair, label, kind, labels)), encoding=encoding
    )
    tables = dict(found.tables)
    for split, file in (("dev", dev), ("test", test)):
        if file is not None:
            tables[split] = read_split(Path(file), found.glue, encoding)
    first = next(iter(tables.values()))  # train, where there is one
    task = found.glue or columns_of(found.name, first, text, text_pair, label)

    notes: list[str] = []
    if "test" in tables and found.public and test is None and hides_labels(tables["test"], task.label):
        notes.append(f"{tables.pop('test').name} has no labels and was left out")
    benchmark = found.glue is not None
    frames = {
        split: checked_rows(table, task, split, benchmark=benchmark, notes=notes) for split, table in tables.items()
    }
    if not benchmark:
        if "train" not in frames and labels is None and kind != "regression":
            raise UserError(
                f"{source}: expected training rows, got {', '.join(frames)} only; add them, or pass --labels"
            )
        task = judge_labels(task, first, frames[next(iter(frames))]["label"], kind, labels)
    if metric is not None:
        if metric not in METRICS[task.kind]:
            raise UserError(f"expected a metric for {task.kind} ({', '.join(METRICS[task.kind])}), got {metric!r}")
        task = replace(task, metrics=(metric, *(m for m in task.metrics if m != metric)))
    for split, frame in frames.items():
        frame["label"] = encode_labels(frame["label"], task, tables[split], given=labels is not None)

    if "train" in frames:
        train, classes = frames["train"], frames["train"]["label"].nunique()
        if task.labels and classes < 2:
            only = task.labels[train["label"].iloc[0]]
            raise UserError(
                f"{first.name}: expected at least two classes, got {only!r} in every row; add rows of another"
            )
        if "dev" not in frames and dev_share:
            held = _spread(train, task, seed, start=0.5)[: max(1, round(len(train) * dev_share))]
            if len(held) == len(train):
                raise UserError(
                    f"{first.name}: expected rows enough to hold some out, got {len(train)}; pass --dev FILE"
                )
            frames["dev"], train = train.iloc[np.sort(held)], train.drop(train.index[held])
            notes.append(f"dev is {len(held)} rows held out of train")
        if limit is not None:
            if task.labels and limit < classes:
                raise UserError(f"expected a limit of at least one row a class ({classes}), got {limit}; raise --limit")
            train = train.iloc[np.sort(_spread(train, task, seed, start=0.0)[:limit])]
        frames["train"] = train
    if unlabelled is not None:
        rest = _unlabelled(Path(unlabelled), task, found.glue, encoding, notes)
        frames["train"] = pd.concat([frames["train"], rest]) if "train" in frames else rest
    built = {split: _dataset(frame, task) for split, frame in frames.items()}
    return TaskData(task, built.get("train"), built.get("dev"), built.get("test"), tuple(notes))


def _unlabelled(path: Path, task: Task, glue: Task | None, encoding: str, notes: list[str]) -> pd.DataFrame:
    if split_name(path)[1] == ".txt":
        if task.text_pair:
            raise UserError(
                f"{path}: expected two texts a row, as {task.name} has, got a .txt file; "
                f"pass a .csv, .tsv, .jsonl or .parquet file with the columns {task.text!r} and {task.text_pair!r}"
            )
        lines, blank = read_lines(path, encoding)
        if blank:
            notes.append(f"{path}: {blank} blank lines were left out")
        table = Table(str(path), pd.DataFrame({task.text: lines}, dtype=object))
    else:
        table = read_split(path, glue, encoding)
    rows = checked_rows(table, task, "unlabelled", benchmark=glue is not None, notes=notes)
    rows["label"] = UNLABELLED if task.labels else math.nan
    return rows


def _spread(frame: pd.DataFrame, task: Task, seed: int, start: float) -> np.ndarray:
    """Row positions in a seeded order, every beginning of which holds the classes in proportion.

    Row j of a class of n stands at (j + start) / n. With start 0 every class comes once before any comes twice; with
    0.5 the first half never takes the last row of a class.
    """
    shuffled = np.random.default_rng(seed).permutation(len(frame))
    if not task.labels:
        return shuffled
    labels = frame["label"].to_numpy()[shuffled]
    by_class = pd.Series(labels).groupby(labels)
    place = (by_class.cumcount() + start) / by_class.transform("size")
    return shuffled[np.argsort(place.to_numpy(), kind="stable")]


def _dataset(frame: pd.DataFrame, task: Task) -> Dataset:
    columns = {"example_id": "string", "text": "string"} | ({"text_pair": "string"} if task.text_pair else {})
    types = columns | {"label": "int64" if task.labels else "float64"}
    features = datasets.Features({column: datasets.Value(dtype) for column, dtype in types.items()})
    return Dataset.from_dict({column: frame[column].tolist() for column in features}, features=features)
