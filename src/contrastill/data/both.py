"""Rows that a student and its teacher read by two tokenizers: the teacher's tokens beside the student's.

A row has the columns of the student's reading, and with `TEACHER` before their names those of the teacher's: input_ids,
token_type_ids, content and, where tokens are compared, places. Of a task with an answer a token, partners gives for
each of the student's tokens the number of the teacher's token with the answer to the same word; -1: there is none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from contrastill.alignment import places
from contrastill.data.collate import Collate, content_key
from contrastill.data.windows import Encoded
from contrastill.spans import Reading, Window, read

__all__ = ["TEACHER", "CollateBoth", "as_teacher_reads", "beside", "windows_beside"]

TEACHER = "teacher_"
READ = ("input_ids", "token_type_ids", "content", "places")
CHUNK = 10_000  # texts read at once


def beside(student: Dataset, teacher: Dataset) -> Dataset:
    """The student's rows, with the same rows as the teacher reads them."""
    table = student.data.table
    for name in READ:
        if name in teacher.column_names:
            table = table.append_column(TEACHER + name, teacher.data.table.column(name))
    return Dataset(table.combine_chunks())


def as_teacher_reads(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of both as one of the teacher alone; its labels are those of no token or text."""
    own = {name.removeprefix(TEACHER): value for name, value in row.items() if name.startswith(TEACHER)}
    return {**own, "labels": 0, "text_key": row["text_key"], "index": row["index"]}


class CollateBoth:
    """Rows of both -> the student's batch, with the teacher's input_ids, attention_mask, token_type_ids (B, T), content
    (B, 2) and places (B, T, 2) under `TEACHER`."""

    def __init__(self, student: Collate, teacher: Collate) -> None:
        self.student, self.teacher = student, teacher

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        theirs = self.teacher([as_teacher_reads(row) for row in rows])
        read = {TEACHER + name: theirs[name] for name in ("attention_mask", *READ) if name in theirs}
        return {**self.student(rows), **read}


def windows_beside(encoded: Encoded, tokenizer: PreTrainedTokenizerBase, max_length: int, placed: bool) -> Dataset:
    """The student's windows, each with the part of its text as the teacher reads it, cut at `max_length`.

    `answered` stays 1 where the teacher reads the same word (its start and end) too. placed: whether tokens are
    compared.
    """
    assert encoded.readings is not None
    parts = [(reading, window, *part_of(reading, window)) for reading in encoded.readings for window in reading.windows]
    columns: dict[str, list[Any]] = {
        name: [] for name in ("input_ids", "token_type_ids", "content", "places", "partners", "answered", "own")
    }
    typed = "token_type_ids" in tokenizer.model_input_names
    for first in range(0, len(parts), CHUNK):
        some = parts[first : first + CHUNK]
        texts = [reading.text[start:end] for reading, _, start, end in some]
        encodings = tokenizer(texts, truncation=False, padding=False, verbose=False).encodings
        for (reading, window, start, _), text, encoding in zip(some, texts, encodings, strict=True):
            theirs = read(encoding, text, max_length)
            other = theirs.windows[0]
            shown = np.where(other.offsets < 0, -1, other.offsets + start)
            found = partners(reading, window, theirs, start)
            columns["input_ids"].append(other.ids)
            columns["token_type_ids"].append(other.types)
            columns["content"].append(content_key(other.ids, other.types if typed else ()))
            columns["partners"].append(found)
            columns["answered"].append((found >= 0).astype(np.int8))
            if placed:
                columns["own"].append(window_places(window.offsets, reading.text))
                columns["places"].append(window_places(shown, reading.text))
    made = {
        **{TEACHER + "input_ids": pa.array(columns["input_ids"], pa.list_(pa.int32()))},
        **({TEACHER + "token_type_ids": pa.array(columns["token_type_ids"], pa.list_(pa.int8()))} if typed else {}),
        **{TEACHER + "content": pa.array(columns["content"], pa.binary(16))},
        "partners": pa.array(columns["partners"], pa.list_(pa.int32())),
        "answered": pa.array(columns["answered"], pa.list_(pa.int8())),
    }
    if placed:
        made["places"] = pa.array(columns["own"], pa.list_(pa.int32()))
        made[TEACHER + "places"] = pa.array(columns["places"], pa.list_(pa.int32()))
    table = encoded.rows.data.table.drop_columns(["answered"])
    for name, column in made.items():
        table = table.append_column(name, column)
    return Dataset(table.combine_chunks())


def part_of(reading: Reading, window: Window) -> tuple[int, int]:
    """Start and end of the characters of a window; the first and the last one reach to the ends of the text."""
    if not len(window.units):
        return 0, len(reading.text)
    first, last = window is reading.windows[0], window is reading.windows[-1]
    start = 0 if first else int(reading.starts[window.units[0]])
    return start, len(reading.text) if last else int(reading.ends[window.units[-1]])


def partners(reading: Reading, window: Window, theirs: Reading, start: int) -> np.ndarray:
    """(tokens,) of a window's tokens the number of the teacher's first token of the same word; -1: of no such."""
    other = theirs.windows[0]
    spans = zip(theirs.starts[other.units] + start, theirs.ends[other.units] + start, strict=True)
    known = dict(zip(((int(low), int(high)) for low, high in spans), other.places.tolist(), strict=True))
    found = np.full(len(window.ids), -1, np.int32)
    for unit, place in zip(window.units, window.places, strict=True):
        found[place] = known.get((int(reading.starts[unit]), int(reading.ends[unit])), -1)
    return found


def window_places(offsets: np.ndarray, text: str) -> np.ndarray:
    """(2 tokens,) starts and ends of the places of a window's tokens, in turn."""
    shown = offsets.tolist()
    return places(shown, [None if start < 0 else 0 for start, _ in shown], [text]).ravel()
