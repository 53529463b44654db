"""From a name, a folder or a file to checked rows: train, dev, test with one shape, whatever they came from."""

import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
from datasets import Dataset

from contrastill.data.cells import some
from contrastill.data.classes import Names, encode_labels, judge_labels, unnamed
from contrastill.data.delimited import check_delimiter
from contrastill.data.files import LINES, split_name
from contrastill.data.multilabel import (
    encode_sets,
    gathered,
    judge_sets,
    label_columns,
    lists,
    rarest,
    separated,
    sets_of_labels,
)
from contrastill.data.read import Table, read_lines
from contrastill.data.rows import checked_rows, columns_of, hides_labels
from contrastill.data.schema import METRICS, Schema
from contrastill.data.sources import find_tables, read_split
from contrastill.errors import UserError

logger = logging.getLogger(__name__)

__all__ = ["UNLABELLED", "TaskData", "load_task", "text_key"]

LABELS = "labels of the columns"  # a table's column of what several label columns say
SHARED_BY = {"classification": " by class", "multilabel": " by the rarest label of each", "regression": ""}
UNLABELLED = -100  # the class of a row without one, as in torch's cross_entropy; a regression row has NaN


@dataclass(frozen=True)
class TaskData:
    """The rows of a task. Each split has example_id, text, text_pair (pairs only) and label.

    A label is a class id, a number, or a list of 0 and 1 (multilabel). Unlabelled rows stand at the end of `train`,
    with label -100, NaN, or a list of NaN.
    """

    schema: Schema
    train: Dataset | None
    dev: Dataset | None
    test: Dataset | None
    decisions: Mapping[str, str] = field(default_factory=dict)  # what was decided -> how, and on what evidence

    @property
    def splits(self) -> dict[str, Dataset]:
        found = {"train": self.train, "dev": self.dev, "test": self.test}
        return {name: split for name, split in found.items() if split is not None}

    def fingerprint(self) -> str:
        """A sha256 of every row of every split and of the class names: equal data, equal fingerprint."""
        digest = hashlib.sha256(json.dumps([self.schema.kind, self.schema.labels]).encode())
        for name, split in self.splits.items():
            digest.update(json.dumps([name, split.to_dict()]).encode())
        return digest.hexdigest()

    def report(self) -> str:
        """What was decided, a line each."""
        return "\n".join([f"data: {self.schema.name}", *(f"  {name}: {how}" for name, how in self.decisions.items())])

    def describe(self) -> dict[str, Any]:
        """Rows per split and what to know about them; `duplicates` are texts seen earlier in the same split."""
        train_keys: set[int] = set()
        rows: dict[str, dict[str, int]] = {}
        counts: Counter[int] = Counter()
        for name, split in self.splits.items():
            texts, labels = split["text"][:], split["label"][:]
            pairs = split["text_pair"][:] if self.schema.text_pair else [None] * len(split)
            keys = [text_key(text, pair) for text, pair in zip(texts, pairs, strict=True)]
            labelled = [x for x in labels if known_label(x)]
            rows[name] = {
                "rows": len(split),
                "labelled": len(labelled),
                "unlabelled": len(split) - len(labelled),
                "duplicates": len(keys) - len(set(keys)),
            }
            if name == "train":
                train_keys = set(keys)
                counts = Counter(n for x in labelled for n in ([x] if not isinstance(x, list) else positives(x)))
            else:
                rows[name]["also_in_train"] = sum(key in train_keys for key in keys)
        about: dict[str, Any] = {"task": self.schema.name, "kind": self.schema.kind, "splits": rows}
        if self.schema.labels:
            per_class = [counts[i] for i in range(len(self.schema.labels))]
            about |= {"classes": len(per_class), "class_count_min": min(per_class), "class_count_max": max(per_class)}
        return about | {"decisions": dict(self.decisions)}


def known_label(label: Any) -> bool:
    """Whether a row has a label: a class, a score, or yes and no to each of several."""
    first = label[0] if isinstance(label, list) else label
    return not math.isnan(first) and first != UNLABELLED


def positives(labels: Sequence[float]) -> list[int]:
    return [n for n, there in enumerate(labels) if there]


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
    label: str | Sequence[str] | None = None,
    kind: str | None = None,
    labels: Sequence[str] | None = None,
    dev: str | Path | None = None,
    test: str | Path | None = None,
    dev_share: float = 0.1,
    unlabelled: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    encoding: str = "utf-8",
    delimiter: str | None = None,
    metric: str | None = None,
    separator: str | None = None,
    of_model: Sequence[str] | None = None,
) -> TaskData:
    """Load a task and check every row of it. What was decided about it is logged, and is in `TaskData.decisions`.

    Args:
        source: `glue/mrpc` (the Hub, or `glue/mrpc:FOLDER` for GLUE's own files), `org/name` or `org/name:config` (any
            other Hub dataset), a folder (GLUE's own files, known by the folder's name, or train / dev / test files), or
            one file of training rows.
        text, text_pair, label: columns of your own data; guessed only where the names leave no doubt. With kind
            "multilabel", `label` may name several columns of yes and no ("a,b", or a list).
        kind: "classification", "regression" or "multilabel"; without it, numbers that are not all whole mean
            regression, lists of labels "multilabel", and cells that speak for several are refused.
        separator: sets the labels of a cell apart, with kind "multilabel" ("|").
        labels: class names in the order of their ids. Without it: the order the source gives, else numbers by value,
            else names by alphabet. A split may hold ids in place of names if no name has a digit.
        dev, test: further files, in place of those the source has.
        dev_share: the share of train that becomes dev if there is none, class by class; 0 for no dev.
        unlabelled: rows without labels for train: .txt (one text a line), or a file with the text columns.
        limit: keep so many of the labelled train rows: one of every class, then in proportion.
        encoding, delimiter: of the text files, where they are not UTF-8, and not what a file's name and header tell.
        seed: picks the rows of the dev share and of `limit`.
        metric: the metric that selects checkpoints.
        of_model: the class names of the model that is to read the data, in the order of its ids, or any one name if it
            gives scores: for data that do not name their classes themselves.
    """
    if not 0 <= dev_share <= 0.5:
        raise UserError(f"expected a dev share from 0 to 0.5, got {dev_share}; try 0.1")
    if limit is not None and limit < 1:
        raise UserError(f"expected a limit of at least one row, got {limit}; leave it out to keep all rows")
    if kind not in (None, *METRICS):
        raise UserError(f"expected kind {', '.join(METRICS)}, got {kind!r}")
    if separator is not None and kind not in (None, "multilabel"):
        raise UserError(f"expected --separator with --task multilabel alone, got --task {kind}")
    kind = "multilabel" if separator is not None else kind
    found = find_tables(
        source,
        own=any(o is not None for o in (text, text_pair, label, kind, labels)),
        encoding=encoding,
        delimiter=delimiter,
    )
    decided: dict[str, str] = {}
    tables, files, left = dict(found.tables), dict(found.files), [found.left] if found.left else []
    for split, file in (("dev", dev), ("test", test)):
        if file is not None:
            if split in files:
                left.append(f"{files[split]} (--{split} is in its place)")
            tables[split], files[split] = read_split(Path(file), found.glue, encoding, delimiter), str(file)
    decided["files"] = _in_words(files)
    if left:
        decided["files left aside"] = "; ".join(left)
    if delimiter is not None:
        check_delimiter(delimiter, [table.name for table in tables.values()])
    told = [note for table in tables.values() for note in table.notes]
    first = next(iter(tables.values()))  # train, where there is one
    benchmark = found.glue is not None
    if kind == "multilabel" and (columns := label_columns(label, list(map(str, first.frame.columns)))):
        tables = {split: gathered(table, columns, into=LABELS) for split, table in tables.items()}
        first, label, labels = next(iter(tables.values())), LABELS, labels or columns
    if found.glue is None:
        task = columns_of(found.name, first, text, text_pair, label, decided)
    else:
        task = found.glue
        decided["kind"] = f"{task.kind}: GLUE's {task.name}"

    notes: list[str] = []
    if "test" in tables and found.public and test is None and hides_labels(tables["test"], task.label):
        notes.append(f"{tables.pop('test').name} has no labels and was left out")
        del files["test"]
        decided["files"] = _in_words(files)
    if kind is None and not benchmark and task.label in first.frame and lists(first.frame[task.label]):
        kind, why = "multilabel", f"the cells of {task.label!r} are lists"
    else:
        why = "as --task says"
    frames = {
        split: checked_rows(table, task, split, benchmark=benchmark, notes=notes, sets=kind == "multilabel")
        for split, table in tables.items()
    }
    known = _known(task, first, labels, of_model)
    if kind == "multilabel":
        for split, frame in frames.items():
            frame["label"] = sets_of_labels(frame["label"], tables[split], task.label, separator, known)
        task = judge_sets(task, first, frames[next(iter(frames))]["label"], known, why, decided)
    elif not benchmark:
        if kind is None and labels is None and of_model is not None and len(of_model) == 1:
            kind = "regression"
        if "train" not in frames and known is None and kind != "regression":
            raise UserError(
                f"{source}: expected training rows, got {', '.join(frames)} only; add them, or pass --labels"
            )
        task = judge_labels(task, first, frames[next(iter(frames))]["label"], kind, known, decided)
    if metric is not None:
        if metric not in METRICS[task.kind]:
            raise UserError(f"expected a metric for {task.kind} ({', '.join(METRICS[task.kind])}), got {metric!r}")
        task = replace(task, metrics=(metric, *(m for m in task.metrics if m != metric)))
    read_as = {}
    for split, frame in frames.items():
        if task.kind == "multilabel":
            frame["label"] = encode_sets(frame["label"], task, tables[split], known)
        else:
            frame["label"], read_as[split] = encode_labels(frame["label"], task, tables[split], known)
    if read_as and task.labels:
        decided["label cells"] = _in_words(read_as)

    if "train" in frames:
        train, classes = frames["train"], _groups(frames["train"], task).nunique()
        if task.kind == "multilabel":
            if not any(map(any, train["label"])):
                raise UserError(f"{first.name}: expected rows with labels in column {task.label!r}, got none")
        elif task.labels and classes < 2 and not (known is not None and known.loosely):  # a model may be scored on one
            only = task.labels[train["label"].iloc[0]]
            raise UserError(
                f"{first.name}: expected at least two classes, got {only!r} in every row; add rows of another"
            )
        if not task.labels and len(train) > 1 and classes == 1:
            raise UserError(
                f"{first.name}: expected scores that differ in column {task.label!r}, got one for all rows: every "
                f"score is {train['label'].iloc[0]:g}; is it the right column (--label)?"
            )
        if "dev" not in frames and dev_share:
            held = _held_out(train, task, seed, dev_share, first.name)
            decided["dev"] = f"{len(held)} of {len(train)} rows of train, held out{SHARED_BY[task.kind]}"
            frames["dev"], train = train.iloc[np.sort(held)], train.drop(train.index[held])
        if limit is not None:
            if task.labels and limit < classes:
                raise UserError(f"expected a limit of at least one row a class ({classes}), got {limit}; raise --limit")
            train = train.iloc[np.sort(_spread(train, task, seed, start=0.0)[:limit])]
        frames["train"] = train
        if task.labels:
            decided |= separated(frames, task) if task.kind == "multilabel" else _of_classes(frames, task)
    if unlabelled is not None:
        rest = _unlabelled(Path(unlabelled), task, found.glue, encoding, delimiter, notes, told)
        frames["train"] = pd.concat([frames["train"], rest]) if "train" in frames else rest
        decided["files"] = _in_words({**files, "unlabelled": str(unlabelled)})
    if told:
        decided["reading"] = "; ".join(told)
    if notes:
        decided["rows left out"] = "; ".join(notes)
    built = {split: _dataset(frame, task) for split, frame in frames.items()}
    data = TaskData(task, built.get("train"), built.get("dev"), built.get("test"), decided)
    logger.info("%s", data.report())
    return data


def _in_words(of_splits: Mapping[str, str]) -> str:
    return ", ".join(f"{split}: {each}" for split, each in of_splits.items())


def _known(task: Schema, table: Table, labels: Sequence[str] | None, of_model: Sequence[str] | None) -> Names | None:
    """The class names that are given before the cells are read: first come, first served."""
    if task.labels:
        return Names(task.labels, f"GLUE's {task.name}")
    if labels is not None:
        return Names(tuple(map(str, labels)), "--labels")
    if task.label in table.classes:
        return Names(tuple(table.classes[task.label]), "the source")
    if of_model is not None and len(of_model) > 1 and not unnamed(of_model):
        return Names(tuple(of_model), "the model")
    return None


def _of_classes(frames: Mapping[str, pd.DataFrame], task: Schema) -> dict[str, str]:
    """What is to be known of classes with hardly any rows."""
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


def _held_out(train: pd.DataFrame, task: Schema, seed: int, share: float, name: str) -> np.ndarray:
    """The positions of the rows that become dev: class by class, and never the last row of one."""
    order = _spread(train, task, seed, start=0.5)
    if task.labels:
        labels = pd.Series(_groups(train, task).to_numpy()[order])
        by_class = labels.groupby(labels)
        order = order[(by_class.cumcount() < by_class.transform("size") - 1).to_numpy()]
    else:
        order = order[: len(train) - 1]
    if not len(order):
        few = " with no class twice" if task.labels else ""
        raise UserError(
            f"{name}: expected rows enough to hold some out, got {len(train)}{few}; pass --dev FILE, or --dev-share 0"
        )
    return order[: max(1, round(len(train) * share))]


def _unlabelled(
    path: Path,
    task: Schema,
    glue: Schema | None,
    encoding: str,
    delimiter: str | None,
    notes: list[str],
    told: list[str],
) -> pd.DataFrame:
    if split_name(path)[1] in LINES:
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
        table = read_split(path, glue, encoding, delimiter)
        told.extend(table.notes)
    rows = checked_rows(table, task, "unlabelled", benchmark=glue is not None, notes=notes)
    if task.kind == "multilabel":
        rows["label"] = [[math.nan] * len(task.labels) for _ in range(len(rows))]
    else:
        rows["label"] = UNLABELLED if task.labels else math.nan
    return rows


def _groups(frame: pd.DataFrame, task: Schema) -> "pd.Series[Any]":
    """The class of each row by which rows are divided: of several labels, the rarest."""
    if task.kind != "multilabel":
        return frame["label"]
    return pd.Series(rarest(frame["label"].tolist()), index=frame.index)


def _spread(frame: pd.DataFrame, task: Schema, seed: int, start: float) -> np.ndarray:
    """Row positions in a seeded order, every beginning of which holds the classes in proportion.

    Row j of a class of n stands at (j + start) / n. With start 0 every class comes once before any comes twice; with
    0.5 the first half never takes the last row of a class.
    """
    shuffled = np.random.default_rng(seed).permutation(len(frame))
    if not task.labels:
        return shuffled
    labels = _groups(frame, task).to_numpy()[shuffled]
    by_class = pd.Series(labels).groupby(labels)
    place = (by_class.cumcount() + start) / by_class.transform("size")
    return shuffled[np.argsort(place.to_numpy(), kind="stable")]


def _dataset(frame: pd.DataFrame, task: Schema) -> Dataset:
    columns = {"example_id": "string", "text": "string"} | ({"text_pair": "string"} if task.text_pair else {})
    types = columns | {"label": "int64" if task.labels else "float64"}
    features = datasets.Features({column: datasets.Value(dtype) for column, dtype in types.items()})
    if task.kind == "multilabel":
        features["label"] = datasets.List(datasets.Value("float32"))
    return Dataset.from_dict({column: frame[column].tolist() for column in features}, features=features)
