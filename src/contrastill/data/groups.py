"""Rows of texts that belong together, as numbers of texts: each text is read once."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset as Table
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.data.corpus import CHUNK, Corpus, read_corpus

__all__ = ["Groups", "in_chunks", "numbered", "read_groups", "rows_fingerprint"]

Numbers = np.ndarray[Any, np.dtype[np.int64]]


class Groups(Dataset[dict[str, Tensor]]):
    """N rows of C texts each.

    numbers: (N, C) of each row's texts. read: numbers (n,) -> a batch of those texts, with `text_key` (n,).

    It is read batch by batch, column by column: of B rows all anchors, then all positives, then all hard negatives.
    """

    def __init__(self, numbers: Numbers, read: Callable[[Numbers], dict[str, Tensor]]) -> None:
        self.numbers, self.read = numbers, read

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return self.batch([row])

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Tensor]]:
        return [self.batch(rows)]

    def batch(self, rows: Sequence[int] | Numbers) -> dict[str, Tensor]:
        """B rows: a batch of C B texts."""
        return self.read(self.numbers[np.asarray(rows)].T.ravel())


def numbered(rows: Table) -> tuple[Numbers, list[str]]:
    """The numbers (N, C) of the texts of rows, and the texts, each once."""
    numbers: dict[str, int] = {}
    columns = [[numbers.setdefault(text, len(numbers)) for text in rows[name][:]] for name in rows.column_names]
    return np.array(columns, np.int64).T, list(numbers)


def rows_fingerprint(rows: Table) -> str:
    """A sha256 of every row."""
    digest = hashlib.sha256(json.dumps(rows.column_names).encode())
    for batch in rows.iter(1024):
        digest.update(json.dumps(batch).encode())
    return digest.hexdigest()


def in_chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    """So many texts at a time as a tokenizer should read."""
    return (list(texts[n : n + CHUNK]) for n in range(0, len(texts), CHUNK))


def read_groups(
    texts: Sequence[str],
    tokenizer: Tokenizer,
    max_length: int,
    teachers: Sequence[tuple[Tokenizer, str]] = (),
    prompt: str = "",
) -> tuple[Corpus, Callable[[Numbers], dict[str, Tensor]]]:
    """Reads texts, each of them once and all of them kept; and how a batch is made of their numbers."""
    corpus = read_corpus(in_chunks(texts), tokenizer, max_length, teachers, prompt=prompt)
    corpus.rows = np.arange(len(texts))  # texts that the tokenizer reads alike are two texts here

    def read(numbers: Numbers) -> dict[str, Tensor]:
        return {**corpus.batch(numbers), "text_key": torch.from_numpy(numbers.copy())}

    return corpus, read
