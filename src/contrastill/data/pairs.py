"""Texts that belong together, with or without a hard negative: a file or Hub data set to checked rows."""

import itertools
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from contrastill.data.cells import is_missing, is_text, number
from contrastill.data.columns import lacks
from contrastill.data.delimited import check_delimiter
from contrastill.data.groups import Numbers, numbered
from contrastill.data.read import Table
from contrastill.data.sources import find_tables
from contrastill.data.stream import stream_texts
from contrastill.errors import UserError, quoted_each

__all__ = ["hold_out_pairs", "load_pairs"]

ROLES = ("anchor", "positive", "negative")
NAMES = (  # of the columns, first come; the third only where the file has it
    ("anchor", "positive", "negative"),
    ("sent0", "sent1", "hard_neg"),
    ("query", "positive", "negative"),
    ("query", "answer", "negative"),
    ("question", "answer", "negative"),
    ("premise", "entailment", "contradiction"),
    ("anchor", "entailment", "contradiction"),
    ("sentence1", "sentence2", None),
    ("question1", "question2", None),
    ("premise", "hypothesis", None),
)
JUDGED = ("label", "labels", "gold_label", "score", "similarity", "is_duplicate", "relatedness_score")
FEW = 0.05  # the largest share of broken rows that is left out with a note
LEAST, MOST = 32, 500  # pairs that are held out: fewer say little about a model, more are compared at length
SPARED = 5  # of so many rows one at most is held out to reach LEAST


def load_pairs(
    source: str,
    *,
    columns: Sequence[str] | None = None,
    limit: int | None = None,
    encoding: str = "utf-8",
    delimiter: str | None = None,
    unsupervised: bool = False,
) -> tuple[Dataset, list[str]]:
    """Rows of texts that belong together, and a note on rows left out.

    Args:
        source: a .csv, .tsv, .jsonl, .json or .parquet file (each also .gz or .xz), a folder with a train file, or
            `org/name` or `org/name:config` on the Hub (its train split); with `unsupervised` what `stream_texts` reads.
        columns: two or three, in the order anchor, positive, hard negative. Without them those of `NAMES`.
        limit: keep the first so many of the sound rows.
        unsupervised: a corpus of texts; each is its own positive (SimCSE: Gao et al. 2021, arXiv:2104.08821).

    Returns:
        A data set with the columns anchor, positive and, if there is one, negative: texts without white space around
        them, no two rows alike, never fewer than two rows.

    Raises:
        UserError: no such source or columns, columns without texts, more than 5 % broken rows, fewer than two sound
            ones.
    """
    if limit is not None and limit < 2:
        raise UserError(f"expected a limit of at least 2 rows, got {limit}; leave it out to keep all rows")
    if unsupervised:
        return own_positives(source, columns, limit, encoding, delimiter)
    table = find_tables(source, own=True, encoding=encoding, delimiter=delimiter).tables.get("train")
    if table is None:
        raise UserError(f"{source}: expected a train file, found none; name it train.csv, or pass the file")
    if delimiter is not None:
        check_delimiter(delimiter, [table.name])
    chosen = columns_of(table, columns)
    rows, left_out = sound_rows(table, chosen)
    notes = [*table.notes, *left_out]
    rows = rows if limit is None else rows[:limit]
    if len(rows) < 2:
        raise UserError(
            f"{table.name}: expected at least two rows that differ, got {len(rows)}: nothing to contrast with; add rows"
            + "".join(f" ({note})" for note in notes)
        )
    return Dataset.from_dict(rows.to_dict("list")), notes


def hold_out_pairs(rows: Dataset, share: float, seed: int = 0) -> tuple[Dataset, Dataset | None, str]:
    """Rows to train on, rows held out, and a sentence on how these were chosen.

    Rows with a text in common stay together, so that no text of a pair held out is learnt from; the hard negatives do
    not count. Where that would leave too few, those with a first text in common do (one answer to many questions).
    """
    fewest = SPARED * LEAST
    if not share or len(rows) < fewest:
        why = "--dev-share 0" if not share else f"{len(rows):,} pairs are too few, from {fewest} on some are"
        return rows, None, f"no pairs held out: {why}"
    wanted = min(MOST, max(LEAST, round(share * len(rows))))
    ends = numbered(rows.select_columns(list(ROLES[:2])))[0]
    for linked, which in ((ends, "text"), (ends[:, [0, 0]], "first text")):
        held = whole_groups(linked_rows(linked), wanted, seed)
        if held.sum() >= LEAST:
            said = (
                f"{held.sum():,} of {len(rows):,} pairs, held out; no {which} of theirs is a {which} of training pairs"
            )
            return rows.select(np.flatnonzero(~held)), rows.select(np.flatnonzero(held)), said
    return rows, None, "no pairs held out: too many have their first text in common"


def linked_rows(ends: Numbers) -> Numbers:
    """(N, 2) numbers of texts -> (N,) the group of each row; rows with a text in common are of one group."""
    texts = ends.max() + 1
    links = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (texts, texts))
    groups: Numbers = connected_components(links, directed=False)[1][ends[:, 0]].astype(np.int64)
    return groups


def whole_groups(groups: Numbers, wanted: int, seed: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(N,) the group of each row -> (N,) whether it is drawn: whole groups by lot, of `wanted` rows at most."""
    sizes = np.bincount(groups)
    drawn, left = [], wanted
    for group in np.random.default_rng((seed, 1)).permutation(np.flatnonzero(sizes)):
        if sizes[group] <= left:
            drawn.append(group)
            left -= sizes[group]
        if not left:
            break
    return np.isin(groups, drawn)


def own_positives(
    source: str, columns: Sequence[str] | None, limit: int | None, encoding: str, delimiter: str | None
) -> tuple[Dataset, list[str]]:
    if columns is not None and len(columns) != 1:
        raise UserError(
            f"expected one column of texts for an unsupervised run, got {list(columns)}; pass --columns once"
        )
    read, seen, notes = 0, dict[str, None](), list[str]()
    column = columns[0] if columns else None
    for text in stream_texts(source, text=column, encoding=encoding, delimiter=delimiter, say=notes.append):
        read += 1
        seen[text] = None
        if len(seen) == limit:
            break
    if len(seen) < 2:
        raise UserError(f"{source}: expected at least two different texts, got {len(seen)} of {read}; add texts")
    texts = list(seen)
    if read > len(seen):
        notes.append(f"{source}: {read - len(seen):,} duplicates were left out")
    return Dataset.from_dict({"anchor": texts, "positive": texts}), notes


def columns_of(table: Table, asked: Sequence[str] | None) -> list[str]:
    """The table's columns of anchor, positive and, if there is one, hard negative."""
    there = [str(column) for column in table.frame.columns]
    listing = f"{table.name} has the columns {quoted_each(there)}"
    if asked is not None:
        if len(asked) not in (2, 3) or len(set(asked)) < len(asked):
            raise UserError(
                f"expected two or three different columns (anchor, positive, hard negative), got {list(asked)}; "
                f"{listing}"
            )
        if absent := [column for column in asked if column not in there]:
            raise UserError(
                f"expected the columns {quoted_each(absent)} (--columns), but {listing}{lacks(absent[0], there)}"
            )
        return list(asked)
    lower = {column.lower(): column for column in there}
    for *pair, negative in NAMES:
        if set(pair) <= set(lower):
            judged = [lower[name] for name in JUDGED if name in lower]
            if judged and negative is None:
                raise UserError(
                    f"expected rows that all belong together, but {listing}, of which {judged[0]!r} says how well each "
                    f"row does; keep the rows that do (entailment, duplicates), then pass --columns {lower[pair[0]]} "
                    f"--columns {lower[pair[1]]}"
                )
            return [lower[name] for name in (*pair, negative) if name in lower]
    known = ", ".join("/".join(filter(None, names)) for names in NAMES)
    raise UserError(
        f"expected columns of texts that belong together ({known}), but {listing}; pass --columns for the anchor, the "
        "positive and, if there is one, the hard negative"
    )


def sound_rows(table: Table, columns: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """(rows, up to 3) of str: those fit to train on, and what was left out."""
    for column in columns:
        check_texts(table, column)
    rows = pd.DataFrame(
        {role: table.frame[column].map(text_of) for role, column in zip(ROLES, columns, strict=False)}, dtype=object
    )
    notes: list[str] = []

    def leave_out(bad: "pd.Series[bool]", what: str, repair: str, strict: bool = True) -> None:
        nonlocal rows
        count = int(bad.sum())
        if strict and count > FEW * len(table.frame):
            raise UserError(
                f"{table.name}: expected at most {FEW:.0%} of the rows with {what}, got {count:,} of "
                f"{len(table.frame):,}, the first on {table.unit} {bad.idxmax()}; {repair}"
            )
        if count:
            notes.append(
                f"{table.name}: {count:,} rows with {what} were left out, the first on {table.unit} {bad.idxmax()}"
            )
        rows = rows[~bad]

    spare = f", or pass --columns {columns[0]} --columns {columns[1]} to train without the negatives"
    three = len(columns) == 3
    leave_out((rows == "").any(axis=1), "an empty cell", "fill them in or remove them" + (spare if three else ""))
    if three:
        leave_out(rows["positive"] == rows["negative"], "a positive that is its negative too", "correct them" + spare)
    leave_out(rows["anchor"] == rows["positive"], "a positive that is the anchor itself", "", strict=False)
    leave_out(rows.duplicated(), "nothing new (exact duplicates)", "", strict=False)
    return rows, notes


def check_texts(table: Table, column: str) -> None:
    """Checks that a column holds texts: JSON's numbers, and a .csv's cells if all are numbers, are none."""
    cells = table.frame[column]
    for line, cell in cells.items():
        if not isinstance(cell, str) and not is_missing(cell):
            kind = "the number" if isinstance(cell, numbers.Number) else f"a {type(cell).__name__},"
            raise UserError(
                f"{table.name}: expected texts in column {column!r}, got {kind} {cell!r:.40} on {table.unit} {line}; "
                "choose another column (--columns)"
            )
    filled = (cell for cell in cells if isinstance(cell, str) and cell.strip())
    some = list(itertools.islice(filled, 1000))
    if len(some) > 1 and all(number(cell) is not None for cell in some):
        raise UserError(
            f"{table.name}: expected texts in column {column!r}, got numbers ({', '.join(some[:3])}…); choose another "
            "column (--columns)"
        )


def text_of(cell: Any) -> str:
    """The text without white space around it; "" if there is none."""
    return cell.strip() if is_text(cell) else ""
