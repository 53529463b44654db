"""The types of a task's entities: given or found, encoded, counted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from contrastill.data.cells import at, loose, some
from contrastill.data.classes import Names, matching, unnamed
from contrastill.data.conll import TAG
from contrastill.data.read import Table
from contrastill.data.schema import METRICS, Schema
from contrastill.errors import UserError, quoted

__all__ = ["counted", "encode_spans", "judge_types", "known_types", "rare_types", "rarest_type"]

MOST = 1000  # types of a task


def known_types(labels: Sequence[str] | None, of_model: Sequence[str] | None) -> Names | None:
    """The types that are given; from names of tags, those of the tags, in their order."""
    if labels is not None:
        return Names(types_of([str(name).strip() for name in labels]), "--labels")
    if of_model and not unnamed(of_model):
        return Names(tuple(of_model), "the model")
    return None


def types_of(names: Sequence[str]) -> tuple[str, ...]:
    """The types among names of tags, O among them, in their order; other names are types."""
    if "O" not in names:
        return tuple(names)
    tags = [name for name in names if name != "O"]
    prefixed = all(map(TAG.fullmatch, tags))
    return tuple(dict.fromkeys(tag[2:] if prefixed else tag for tag in tags))


def judge_types(
    task: Schema, tables: Mapping[str, Table], known: Names | None, why: str, decided: dict[str, str]
) -> Schema:
    """The schema with its types: those given, else those of all splits by name.

    Raises:
        UserError: none, or too many; one type in two spellings.
    """
    first = next(iter(tables.values()))
    decided["kind"] = f"tagging: {why}"
    if known is None:
        seen = {kind for table in tables.values() for row in table.frame[task.label] for _, _, kind in row}
        for table in tables.values():
            for names in table.items.values():
                if seen & set(types := types_of(names)):
                    seen |= set(types)
        names, order = tuple(sorted(seen)), "by alphabet"
        alike: dict[str, str] = {}
        for name in names:
            if (other := alike.setdefault(loose(name), name)) != name:
                raise UserError(
                    f"{first.name}: expected one spelling for a type, got {quoted(other)} and {quoted(name)}; write "
                    "them the same way, or pass --labels with every type if they are two"
                )
    else:
        names, order = known.names, f"in the order of {known.giver}"
    if not names:
        raise UserError(f"{first.name}: expected texts with entities in column {task.label!r}, got none; add some")
    if len(names) > MOST or len(set(names)) < len(names) or not all(name.strip() for name in names):
        raise UserError(
            f"{first.name}: expected 1 to {MOST:,} different types of entities in column {task.label!r}, got "
            f"{len(names):,} ({some(names)}); choose another column (--label), or correct "
            + (known.giver if known else "the rows")
        )
    decided["types"] = f"{len(names)}, {order}: {some(names)}"
    return replace(task, kind="tagging", labels=names, metrics=METRICS["tagging"])


def encode_spans(rows: "pd.Series[Any]", task: Schema, table: Table, known: Names | None) -> list[list[int]]:
    """Tuples of spans -> [start, end, type id, start, end, type id, …].

    Raises:
        UserError: a type that whoever gives the types does not know.
    """
    ids = {name: n for n, name in enumerate(task.labels)}
    seen = sorted({kind for row in rows for _, _, kind in row})
    if known is not None and known.loosely:
        ids |= matching(seen, task.labels)
    if unknown := [name for name in seen if name not in ids]:
        lines = [line for line, row in rows.items() if any(kind in unknown for _, _, kind in row)]
        giver = known.giver if known is not None else "the data"
        raise UserError(
            f"{table.name}: expected the types of {giver} ({some(task.labels)}), got {some([*map(repr, unknown)])} in "
            f"{at(lines, table.unit)}; correct or remove them"
            + (", or pass --labels with every type" if giver == "--labels" else "")
        )
    return [[number for start, end, kind in row for number in (start, end, ids[kind])] for row in rows]


def counted(labels: Sequence[Sequence[int]]) -> Counter[int]:
    """The entities of each type id, in labelled texts."""
    return Counter(kind for label in labels for kind in label[2::3])


def rarest_type(labels: Sequence[Sequence[int]]) -> list[int]:
    """The rarest type of each text, -1 where it has none: texts are divided by it, so that each part has every type."""
    texts = Counter(kind for label in labels for kind in set(label[2::3]))
    return [min(set(label[2::3]), key=lambda kind: (texts[kind], kind), default=-1) for label in labels]


def rare_types(frames: Mapping[str, pd.DataFrame], task: Schema) -> dict[str, str]:
    """Remarks on types with hardly any entities."""
    counts = {split: counted(frame["label"]) for split, frame in frames.items()}
    train, every = counts["train"], range(len(task.labels))
    groups = {
        "types of one training entity": [n for n in every if train[n] == 1],
        "types without training entities": [n for n in every if not train[n]],
    }
    for split, of_split in counts.items():
        if split != "train":
            groups[f"types in {split} but not in train"] = [n for n in every if of_split[n] and not train[n]]
            groups[f"types without {split} entities"] = [n for n in every if not of_split[n] and train[n]]
    return {what: f"{len(ns)} ({some([task.labels[n] for n in ns])})" for what, ns in groups.items() if ns}
