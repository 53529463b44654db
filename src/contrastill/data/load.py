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

from contrastill.data.classes import Names, encode_labels, judge_labels, unnamed
from contrastill.data.conll import looks_tagged
from contrastill.data.delimited import check_delimiter
from contrastill.data.division import check_train, divide
from contrastill.data.entity_types import counted, encode_spans, judge_types, known_types
from contrastill.data.files import LINES, open_text, split_name
from contrastill.data.multilabel import (
    encode_sets,
    gathered,
    judge_sets,
    label_columns,
    lists,
    sets_of_labels,
)
from contrastill.data.read import Table, held_table, read_lines
from contrastill.data.rows import checked_rows, columns_of, hides_labels
from contrastill.data.schema import METRICS, Schema
from contrastill.data.sources import Found, find_tables, read_split
from contrastill.data.tagged import evidence, tag_columns, texts_alone, with_spans
from contrastill.errors import UserError
from contrastill.memory import Held, Rows, held
from contrastill.ranges import suggestion

logger = logging.getLogger(__name__)

__all__ = ["UNLABELLED", "TaskData", "check_options", "keys_of", "load_task", "split_tables", "text_key"]

LABELS = "labels of the columns"  # a table's column of what several label columns say
UNLABELLED = -100  # the class of a row without one, as in torch's cross_entropy; a regression row has NaN


@dataclass(frozen=True)
class TaskData:
    """The rows of a task. Each split has example_id, text, text_pair (pairs only) and label.

    A label is a class id, a number, a list of 0 and 1 (multilabel), or the entities of a text (tagging): start, end and
    type id of each in turn, in characters, the end exclusive. Unlabelled rows stand at the end of `train`, with label
    -100, NaN, a list of NaN, or [-100].
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
        """The decisions, a line each."""
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
                if self.schema.kind == "tagging":
                    counts = counted(labelled)
                    continue
                counts = Counter(n for x in labelled for n in ([x] if not isinstance(x, list) else positives(x)))
            else:
                rows[name]["also_in_train"] = sum(key in train_keys for key in keys)
        about: dict[str, Any] = {"task": self.schema.name, "kind": self.schema.kind, "splits": rows}
        if self.schema.labels:
            per_class = [counts[i] for i in range(len(self.schema.labels))]
            about |= {"classes": len(per_class), "class_count_min": min(per_class), "class_count_max": max(per_class)}
            if self.schema.kind == "tagging":
                about["entities"] = dict(zip(self.schema.labels, per_class, strict=True))
        return about | {"decisions": dict(self.decisions)}


def known_label(label: Any) -> bool:
    """Whether a row has a label: a class, a score, yes and no to each of several, or entities, be there none."""
    if isinstance(label, list) and not label:
        return True
    first = label[0] if isinstance(label, list) else label
    return not math.isnan(first) and first != UNLABELLED


def positives(labels: Sequence[float]) -> list[int]:
    return [n for n, there in enumerate(labels) if there]


def text_key(text: str, text_pair: str | None = None) -> int:
    """A stable 63-bit hash of a text or pair: equal for equal texts, on every machine and in every run."""
    content = text if text_pair is None else f"{len(text)}:{text}{text_pair}"
    person = b"text" if text_pair is None else b"pair"
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8, person=person).digest(), "big") >> 1


def keys_of(rows: Dataset) -> np.ndarray:
    """(N,) the key of each row's text or pair."""
    columns = [rows[name][:] for name in ("text", "text_pair") if name in rows.column_names]
    return np.array([text_key(*texts) for texts in zip(*columns, strict=True)], np.int64)


def load_task(
    source: str | Path | Rows,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | Sequence[str] | None = None,
    kind: str | None = None,
    labels: Sequence[str] | None = None,
    dev: str | Path | Rows | None = None,
    test: str | Path | Rows | None = None,
    dev_share: float | None = None,
    unlabelled: str | Path | Rows | None = None,
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
            one file of training rows; or rows as objects: a DataFrame, a Dataset or DatasetDict, a list of dicts, a
            dict of columns, or (texts, labels).
        text, text_pair, label: columns of your own data; guessed only where the names leave no doubt. With kind
            "multilabel", `label` may name several columns of yes and no ("a,b", or a list).
        kind: "classification", "regression", "multilabel" or "tagging" (entities in texts); without it, numbers that
            are not all whole mean regression, lists of labels "multilabel", spans or tags of tokens "tagging", and
            cells that speak for several are refused.
        separator: the character between the labels of a cell, with kind "multilabel" ("|").
        labels: class names, or types of entities, in the order of their ids. Without it: the order the source gives
            (not of types), else numbers by value, else names by alphabet. A split may hold ids in place of names if no
            name has a digit.
        dev, test: further files, in place of those the source has.
        dev_share: the share of train that becomes dev if there is none, class by class; 0 for no dev. Default: a tenth;
            of fewer than 1,000 rows up to a quarter, so that there are 100.
        unlabelled: rows without labels for train: .txt (one text a line), or a file with the text columns.
        limit: keep so many of the labelled train rows: one of every class, then in proportion.
        encoding, delimiter: of the text files, where they are not UTF-8, and not what a file's name and header tell.
        seed: picks the rows of the dev share and of `limit`.
        metric: the metric that selects checkpoints.
        of_model: the class names (types of entities) of the model that is to read the data, in the order of its ids, or
            any one name if it gives scores: for data that do not name their classes themselves.
    """
    check_options(kind, separator, dev_share, limit)
    kind = "multilabel" if separator is not None else kind
    own = any(option is not None for option in (text, text_pair, label, kind, labels))
    rows: Any = held(source, "source")
    tagged = kind == "tagging"
    found = find_tables(rows, own=own, encoding=encoding, delimiter=delimiter, tagged=tagged)
    decided: dict[str, str] = {}
    given = {"dev": held(dev, "dev"), "test": held(test, "test")}
    tables, files = split_tables(found, given, encoding, delimiter, tagged, decided)
    told = [note for table in tables.values() for note in table.notes]
    first = next(iter(tables.values()))  # train, where there is one
    if kind == "multilabel" and (columns := label_columns(label, list(map(str, first.frame.columns)))):
        tables = {split: gathered(table, columns, into=LABELS) for split, table in tables.items()}
        first, label, labels = next(iter(tables.values())), LABELS, labels or columns
    why = "as --task says"
    if kind is None and found.glue is None and (shown := evidence(first, label)):
        kind, why = "tagging", shown
    if kind != "tagging" and (of_tokens := [table.name for table in tables.values() if table.tokens]):
        raise UserError(
            f"{of_tokens[0]}: expected labels of whole texts (--task {kind}), got a token and its tag a line; "
            "pass --task tagging"
        )
    if kind == "tagging":
        task = tag_columns(found.name, first, text, text_pair, label, decided)
    elif found.glue is None:
        task = columns_of(found.name, first, text, text_pair, label, decided)
    else:
        task = found.glue
        decided["kind"] = f"{task.kind}: GLUE's {task.name}"
    notes: list[str] = []
    if "test" in tables and found.public and test is None and hides_labels(tables["test"], task.label):
        notes.append(f"{tables.pop('test').name} has no labels and was left out")
        del files["test"]
        decided["files"] = _in_words(files)
    if kind is None and found.glue is None and task.label in first.frame and lists(first.frame[task.label]):
        kind, why = "multilabel", f"the cells of {task.label!r} are lists"
    if kind == "tagging":
        tables = with_spans(tables, task, text, label if isinstance(label, str) else None, labels, decided)
    sets = kind in ("multilabel", "tagging")
    frames = {
        split: checked_rows(table, task, split, benchmark=found.glue is not None, notes=notes, sets=sets)
        for split, table in tables.items()
    }
    known = known_types(labels, of_model) if kind == "tagging" else _known(task, first, labels, of_model)
    if kind == "tagging":
        task = judge_types(task, tables, known, why, decided)
    elif kind == "multilabel":
        for split, frame in frames.items():
            frame["label"] = sets_of_labels(frame["label"], tables[split], task.label, separator, known)
        task = judge_sets(task, first, frames[next(iter(frames))]["label"], known, why, decided)
    elif found.glue is None:
        kind = "regression" if kind is None and labels is None and of_model and len(of_model) == 1 else kind
        if "train" not in frames and known is None and kind != "regression":
            raise UserError(f"{rows}: expected training rows, got {', '.join(frames)} only; add them, or pass --labels")
        task = judge_labels(task, first, frames[next(iter(frames))]["label"], kind, known, decided)
    task = _selected(task, metric)
    _encode(frames, task, tables, known, decided)
    if "train" in frames:
        check_train(frames["train"], task, first.name, one_class=known is not None and known.loosely)
        divide(frames, task, first.name, dev_share=dev_share, limit=limit, seed=seed, decided=decided)
    if unlabelled is not None:
        rest = _unlabelled(held(unlabelled, "unlabelled"), task, found.glue, encoding, delimiter, text, notes, told)
        frames["train"] = pd.concat([frames["train"], rest]) if "train" in frames else rest
        decided["files"] = _in_words({**files, "unlabelled": str(held(unlabelled, "unlabelled"))})
    decided |= {name: "; ".join(said) for name, said in (("reading", told), ("rows left out", notes)) if said}
    built = {split: _dataset(frame, task) for split, frame in frames.items()}
    data = TaskData(task, built.get("train"), built.get("dev"), built.get("test"), decided)
    logger.info("%s", data.report())
    return data


def check_options(kind: str | None, separator: str | None, dev_share: float | None, limit: int | None) -> None:
    """Raises UserError: an option that cannot be, whatever the rows."""
    if dev_share is not None and not 0 <= dev_share <= 0.5:
        raise UserError(f"expected a dev share from 0 to 0.5, got {dev_share}; try 0.1")
    if limit is not None and limit < 1:
        raise UserError(f"expected a limit of at least one row, got {limit}; leave it out to keep all rows")
    if kind not in (None, *METRICS):
        raise UserError(f"expected kind {', '.join(METRICS)}, got {kind!r}")
    if separator is not None and kind not in (None, "multilabel"):
        raise UserError(f"expected --separator with --task multilabel alone, got --task {kind}")


def split_tables(
    found: Found,
    given: Mapping[str, str | Path | None],
    encoding: str,
    delimiter: str | None,
    tagged: bool,
    decided: dict[str, str],
) -> tuple[dict[str, Table], dict[str, str]]:
    """The tables of the source, with the files given for some splits in their place; and the splits' files."""
    tables, files, left = dict(found.tables), dict(found.files), [found.left] if found.left else []
    for split, file in given.items():
        if file is not None:
            if split in files:
                left.append(f"{files[split]} (--{split} is in its place)")
            tables[split], files[split] = read_split(file, found.glue, encoding, delimiter, tagged), str(file)
    decided["files"] = _in_words(files)
    if left:
        decided["files left aside"] = "; ".join(left)
    if delimiter is not None:
        check_delimiter(delimiter, [table.name for table in tables.values()])
    return tables, files


def _selected(task: Schema, metric: str | None) -> Schema:
    """The schema with this metric first."""
    if metric is None:
        return task
    if metric not in METRICS[task.kind]:
        raise UserError(
            f"expected a metric for {task.kind} ({', '.join(METRICS[task.kind])}), got {metric!r}"
            + suggestion(metric, METRICS[task.kind])
        )
    return replace(task, metrics=(metric, *(m for m in task.metrics if m != metric)))


def _encode(
    frames: Mapping[str, pd.DataFrame],
    task: Schema,
    tables: Mapping[str, Table],
    known: Names | None,
    decided: dict[str, str],
) -> None:
    """Converts the labels of every split to ids, numbers, 0 and 1 for each, or spans with ids."""
    read_as = {}
    for split, frame in frames.items():
        if task.kind == "tagging":
            frame["label"] = encode_spans(frame["label"], task, tables[split], known)
        elif task.kind == "multilabel":
            frame["label"] = encode_sets(frame["label"], task, tables[split], known)
        else:
            frame["label"], read_as[split] = encode_labels(frame["label"], task, tables[split], known)
    if read_as and task.labels:
        decided["label cells"] = _in_words(read_as)


def _in_words(of_splits: Mapping[str, str]) -> str:
    return ", ".join(f"{split}: {each}" for split, each in of_splits.items())


def _known(task: Schema, table: Table, labels: Sequence[str] | None, of_model: Sequence[str] | None) -> Names | None:
    """The class names given before the cells are read, from the first source that has them."""
    if task.labels:
        return Names(task.labels, f"GLUE's {task.name}")
    if labels is not None:
        return Names(tuple(map(str, labels)), "--labels")
    if task.label in table.classes:
        return Names(tuple(table.classes[task.label]), "the source")
    if of_model is not None and len(of_model) > 1 and not unnamed(of_model):
        return Names(tuple(of_model), "the model")
    return None


def _unlabelled(
    source: str | Path,
    task: Schema,
    glue: Schema | None,
    encoding: str,
    delimiter: str | None,
    text: str | None,
    notes: list[str],
    told: list[str],
) -> pd.DataFrame:
    path, tagging = Path(source), task.kind == "tagging"
    if isinstance(source, Held):
        table = held_table(source)
        if source.plain:
            table = replace(table, frame=table.frame.rename(columns={"text": task.text}))
    elif split_name(path)[1] in LINES and not (tagging and looks_tagged(open_text(path, encoding))):
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
        table = read_split(source, glue, encoding, delimiter, tagging)
        told.extend(table.notes)
    if tagging:
        table = texts_alone(table, task, text)
    rows = checked_rows(table, task, "unlabelled", benchmark=glue is not None, notes=notes)
    if tagging:
        rows["label"] = [[UNLABELLED] for _ in range(len(rows))]
    elif task.kind == "multilabel":
        rows["label"] = [[math.nan] * len(task.labels) for _ in range(len(rows))]
    else:
        rows["label"] = UNLABELLED if task.labels else math.nan
    return rows


def _dataset(frame: pd.DataFrame, task: Schema) -> Dataset:
    columns = {"example_id": "string", "text": "string"} | ({"text_pair": "string"} if task.text_pair else {})
    types = columns | {"label": "int64" if task.labels else "float64"}
    features = datasets.Features({column: datasets.Value(dtype) for column, dtype in types.items()})
    if task.kind == "multilabel":
        features["label"] = datasets.List(datasets.Value("float32"))
    if task.kind == "tagging":
        features["label"] = datasets.List(datasets.Value("int32"))
    return Dataset.from_dict({column: frame[column].tolist() for column in features}, features=features)
