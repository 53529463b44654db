"""Tagged texts as training rows: token ids of windows, and the tag of each unit at its first token."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from contrastill.data.collate import content_key
from contrastill.data.load import text_key
from contrastill.errors import UserError
from contrastill.spans import Reading, Scheme, read

__all__ = ["NO_LABEL", "Encoded", "inexact_share", "read_texts", "triplets", "windows_of"]

NO_LABEL = -100
CHUNK = 10_000  # texts read at once


@dataclass(frozen=True, eq=False)
class Encoded:
    """Texts as a model reads them. rows: one an input of the model, as `data.tokenise` gives them. readings: of each
    text, where it may be several inputs, its windows; None: each row is a text."""

    rows: Dataset
    readings: Sequence[Reading] | None = None


def read_texts(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Iterator[Reading]:
    """Each text as it is read.

    Raises:
        UserError: a tokenizer without offsets, or a length without room for text.
    """
    if not tokenizer.is_fast:
        raise UserError("tagging needs a fast tokenizer (tokenizer.json), got a slow one; save it again as a fast one")
    if max_length > tokenizer.model_max_length:
        raise UserError(
            f"expected a max_length of at most {tokenizer.model_max_length} (the tokenizer's limit), got {max_length}"
        )
    if max_length <= tokenizer.num_special_tokens_to_add():
        raise UserError(f"expected a max_length with room for text, got {max_length}, all special tokens; try 128")
    for first in range(0, len(texts), CHUNK):
        some = list(texts[first : first + CHUNK])
        encodings = tokenizer(some, truncation=False, padding=False, verbose=False).encodings
        for text, encoding in zip(some, encodings, strict=True):
            yield read(encoding, text, max_length)


def windows_of(rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, scheme: Scheme) -> Encoded:
    """The windows of tagged texts, a row each (labels: flat triplets of start, end and type's number; [-100]:
    unlabelled); beside the columns of `data.tokenise`: `answered`, 1 at each unit's first token, and `text_number`.

    An entity that a window shows in part, and another one whole, has no label in the former.
    """
    readings: list[Reading] = []
    columns: dict[str, list[Any]] = {
        name: [] for name in ("input_ids", "token_type_ids", "labels", "answered", "text_key", "content", "text_number")
    }
    typed = "token_type_ids" in tokenizer.model_input_names
    labels = rows["label"][:]
    for number, reading in enumerate(read_texts(rows["text"][:], tokenizer, max_length)):
        tags = unit_tags(scheme, labels[number], reading)
        key = text_key(reading.text)
        for window, own in zip(reading.windows, shown(reading, tags, labels[number]), strict=True):
            size = len(window.ids)
            marks, answered = np.full(size, NO_LABEL, np.int32), np.zeros(size, np.int8)
            marks[window.places], answered[window.places] = own, 1
            columns["input_ids"].append(window.ids)
            columns["token_type_ids"].append(window.types)
            columns["labels"].append(marks)
            columns["answered"].append(answered)
            columns["text_key"].append(key)
            columns["content"].append(content_key(window.ids, window.types if typed else ()))
            columns["text_number"].append(number)
        readings.append(reading)
    types = {
        "input_ids": pa.list_(pa.int32()),
        "token_type_ids": pa.list_(pa.int8()),
        "labels": pa.list_(pa.int32()),
        "answered": pa.list_(pa.int8()),
        "text_key": pa.int64(),
        "content": pa.binary(16),
        "text_number": pa.int64(),
    }
    if not typed:
        del types["token_type_ids"]
    table = pa.table({name: pa.array(columns[name], kind) for name, kind in types.items()})
    table = table.append_column("index", pa.array(np.arange(len(table))))
    return Encoded(Dataset(table.combine_chunks()), readings)


def inexact_share(rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> float:
    """The share of entities that begin or end inside a unit: no answer can give them exactly."""
    inexact = entities = 0
    for reading, label in zip(read_texts(rows["text"][:], tokenizer, max_length), rows["label"][:], strict=True):
        starts, ends = set(reading.starts.tolist()), set(reading.ends.tolist())
        for start, end, _ in triplets(label):
            entities += 1
            inexact += not (start in starts and end in ends)
    return inexact / max(1, entities)


def unit_tags(scheme: Scheme, label: Sequence[int], reading: Reading) -> np.ndarray:
    """(U,) the tag of each unit; `NO_LABEL` of an unlabelled text."""
    if len(label) == 1:
        return np.full(len(reading.starts), NO_LABEL, np.int64)
    return scheme.encode(triplets(label), reading.starts, reading.ends)


def triplets(label: Sequence[int]) -> list[tuple[int, int, int]]:
    """A flat label as (start, end, type's number) of each entity."""
    return [(label[n], label[n + 1], label[n + 2]) for n in range(0, len(label) - 2, 3)]


def shown(reading: Reading, tags: np.ndarray, label: Sequence[int]) -> list[np.ndarray]:
    """The tags of each window's units, without those of entities that it cuts and another window has whole."""
    found = [tags[window.units].copy() for window in reading.windows]
    if not reading.long or len(label) == 1:
        return found
    for start, end, _ in triplets(label):
        units = np.flatnonzero((reading.ends > start) & (reading.starts < end))
        inside = [np.isin(window.units, units) for window in reading.windows]
        if any(mine.sum() == len(units) for mine in inside):
            for own, mine in zip(found, inside, strict=True):
                if 0 < mine.sum() < len(units):
                    own[mine] = NO_LABEL
    return found
