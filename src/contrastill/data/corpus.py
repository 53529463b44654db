"""A corpus of texts without labels, as token ids: a few bytes a token, however many texts there are."""

import copy
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.alignment import places
from contrastill.data.both import TEACHER
from contrastill.data.collate import Known, content_key, flat, known_tokens
from contrastill.data.delimited import DELIMITED, check_delimiter
from contrastill.data.files import split_name
from contrastill.data.stream import has_columns, stream_texts
from contrastill.errors import UserError

__all__ = [
    "Corpus",
    "TextTokens",
    "keys_of_ids",
    "read_corpus",
    "read_for_teacher",
    "several_texts",
    "silent",
    "teacher_rows",
]

logger = logging.getLogger(__name__)

CHUNK = 16_384  # texts held as Python strings at a time


class TextTokens:
    """N texts as one tokenizer reads them: tokens (all tokens,) int32, one text after the other; lengths (N,); places
    (all tokens, 2) int32, what each token shows of its text (`alignment`); None: nobody asks for them."""

    def __init__(
        self, tokenizer: Tokenizer, tokens: np.ndarray, lengths: np.ndarray, places: np.ndarray | None = None
    ) -> None:
        self.tokenizer, self.tokens, self.places = tokenizer, tokens, places
        self.ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.ends)

    def of(self, text: int) -> np.ndarray:
        return self.tokens[self.ends[text] : self.ends[text + 1]]

    def batch(self, at: np.ndarray) -> dict[str, Tensor]:
        """Texts by their numbers: input_ids, attention_mask (B, L) and, where they are known, places (B, L, 2)."""
        starts, lengths = self.ends[at], self.ends[at + 1] - self.ends[at]
        place = np.arange(int(lengths.max()))
        left = self.tokenizer.padding_side == "left"
        shift = lengths.max() - lengths if left else np.zeros_like(lengths)
        inside = place[None] - shift[:, None]  # (B, L), the token's number in its text
        real = (inside >= 0) & (inside < lengths[:, None])
        tokens = np.where(real, starts[:, None] + inside, 0)
        found = {
            "input_ids": np.where(real, self.tokens[tokens], self.tokenizer.pad_token_id).astype(np.int64),
            "attention_mask": real.astype(np.int64),
        }
        if self.places is not None:
            found["places"] = np.where(real[:, :, None], self.places[tokens], 0)
        return {name: torch.from_numpy(value) for name, value in found.items()}


class Corpus(Dataset[dict[str, Tensor]]):
    """N texts, read by one tokenizer; and for each the keys under which T teachers' outputs are stored.

    content (N, T, 16) uint8. beside: the texts as a teacher reads them by another tokenizer, whose tokens stand in the
    batches too. cut: how many texts the length limit cuts. duplicates: how many were left out because they came before.
    known: how much of the texts the tokenizer knows, and after it each teacher's that is another.

    It is read batch by batch: `__getitems__` gives one padded batch, so that nothing is done row by row.
    """

    def __init__(
        self,
        own: TextTokens,
        beside: TextTokens | None = None,
        *,
        content: np.ndarray,
        cut: int = 0,
        duplicates: int = 0,
        known: Sequence[Known] = (),
    ) -> None:
        self.own, self.beside, self.content = own, beside, content
        self.cut, self.duplicates, self.known = cut, duplicates, known
        self.rows = np.arange(len(content))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> np.ndarray:
        return self.own.lengths[self.rows]

    def keys(self, teacher: int = 0) -> np.ndarray:
        """(N, 16) uint8"""
        return np.ascontiguousarray(self.content[self.rows, teacher])

    def part(self, rows: np.ndarray) -> "Corpus":
        """The corpus of these rows alone; nothing is copied but their numbers."""
        some = copy.copy(self)
        some.rows = self.rows[rows]
        return some

    def texts(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """The texts of these rows, decoded by the tokenizer: to name one in an error, or to fit a start."""
        found: Any = [self.own.of(n) for n in self.rows[rows]]
        return self.own.tokenizer.batch_decode(found, skip_special_tokens=True)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return self.batch([row])

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Tensor]]:
        return [self.batch(rows)]

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """B rows, L tokens: input_ids, attention_mask (B, L); text_key (B,); content (B, 2), or (B, T, 2).

        With a reading beside: its input_ids and attention_mask under `TEACHER`, and, where tokens are compared, places
        (B, L, 2) of both.
        """
        at = self.rows[np.asarray(rows)]
        content = torch.from_numpy(self.content[at]).contiguous().view(torch.int64)  # (B, T, 2)
        theirs = {} if self.beside is None else self.beside.batch(at)
        return {
            **self.own.batch(at),
            **{TEACHER + name: value for name, value in theirs.items()},
            "text_key": content[:, 0, 0].clone(),
            "content": content.squeeze(1),
        }


def several_texts(
    sources: Iterable[str],
    *,
    text: str | None = None,
    encoding: str = "utf-8",
    delimiter: str | None = None,
    limit: int | None = None,
    say: Callable[[str], object] = logger.info,
) -> Iterator[list[str]]:
    """The texts of all sources, one after the other, `CHUNK` at a time.

    text, delimiter: of those sources that have columns, or fields between delimiters. say: told what was decided and
    what was left out.

    Raises:
        UserError: `text` or `delimiter` is given and no source has such; and whatever `stream_texts` raises.
    """
    sources = list(sources)
    if delimiter is not None:
        check_delimiter(delimiter, sources)
    some_have_columns = any(map(has_columns, sources))

    def texts(source: str) -> Iterator[str]:
        column = text if has_columns(source) or not some_have_columns else None
        between = delimiter if split_name(Path(source))[1] in DELIMITED else None
        return stream_texts(source, text=column, encoding=encoding, delimiter=between, say=say)

    some = itertools.islice(itertools.chain.from_iterable(map(texts, sources)), limit)
    while chunk := list(itertools.islice(some, CHUNK)):
        yield chunk


def silent(note: str) -> None:
    """A `say` without output, for texts that are read again."""


def read_corpus(
    chunks: Iterable[list[str]],
    tokenizer: Tokenizer,
    max_length: int,
    teachers: Sequence[tuple[Tokenizer, str]] = (),
    say: Any = lambda texts: None,
    prompt: str = "",
    *,
    beside: bool = False,
    placed: bool = False,
) -> Corpus:
    """Reads texts for a student's tokenizer, `prompt` before each. A text seen before is left out.

    teachers: each one's tokenizer, and what it puts before a text; without any, the student's own makes the keys.
    beside: whether the tokens of the first teacher, which reads by another tokenizer, stand in the batches too; placed:
    and the places of both (fast tokenizers, no prompts). say: told how many texts were read, for a progress bar.

    Raises:
        UserError: there are fewer than two different texts.
    """
    readers, of_teacher = [(tokenizer, prompt)], []  # a teacher that reads as the student does is no reader of its own
    for other, before in teachers or [(tokenizer, prompt)]:
        alike = other is tokenizer and before == prompt
        of_teacher.append(0 if alike else len(readers))
        if not alike:
            readers.append((other, before))
    kept: list[list[tuple[np.ndarray, ...]]] = [[] for _ in readers[: 1 + beside]]  # tokens, lengths and places
    contents, cut = [], 0
    known = [Known()] * len(readers)
    for texts in chunks:
        read = [read_for_teacher(reader, before, texts, max_length) for reader, before in readers]
        keys = [keys_of_ids(encoded) for encoded in read]
        contents.append(np.stack([keys[n] for n in of_teacher], 1))
        ids = [flat(encoded["input_ids"]) for encoded in read]
        for some, encoded, of_each in zip(kept, read, ids, strict=False):
            some.append((*of_each, *([places_of(encoded, texts)] if placed else [])))
        known = [known[n] + known_tokens(*ids[n], reader) for n, (reader, _) in enumerate(readers)]
        full = ids[0][1] == max_length
        if full.any():
            longer = [prompt + text for text, at_limit in zip(texts, full, strict=True) if at_limit]
            cut += sum(len(each) > max_length for each in tokenizer(longer, verbose=False)["input_ids"])
        say(len(texts))
    if not contents:
        raise UserError("expected texts to learn from, got none")
    content = np.concatenate(contents)
    _, first = np.unique(content[:, 0].copy().view([("a", "<u8"), ("b", "<u8")]).ravel(), return_index=True)
    if len(first) < 2:
        raise UserError(f"expected at least two different texts to learn from, got {len(first)} of {len(content)}")
    made = [
        TextTokens(reader, *map(np.concatenate, zip(*some, strict=True)))
        for (reader, _), some in zip(readers, kept, strict=False)
    ]
    corpus = Corpus(*made, content=content, cut=cut, duplicates=len(content) - len(first), known=known)
    corpus.rows = np.sort(first)
    return corpus


def places_of(encoded: Any, texts: Sequence[str]) -> np.ndarray:
    """(all tokens, 2) int32: the place (`alignment`) of each token of these texts."""
    return np.concatenate(
        [places(each.offsets, each.sequence_ids, [text]) for each, text in zip(encoded.encodings, texts, strict=True)]
    )


def read_for_teacher(tokenizer: Tokenizer, prompt: str, texts: Sequence[str], max_length: int) -> Any:
    """Texts tokenised as a teacher reads them, `prompt` before each: its outputs are stored under these ids' keys."""
    before = [prompt + text for text in texts] if prompt else list(texts)
    return tokenizer(before, truncation=True, max_length=max_length, return_attention_mask=False)


def teacher_rows(texts: Sequence[str], tokenizer: Tokenizer, max_length: int, prompt: str = "") -> list[dict[str, Any]]:
    """Texts as a teacher reads them, `prompt` before each, with the keys its outputs are stored under."""
    encoded = read_for_teacher(tokenizer, prompt, texts, max_length)
    types = encoded.get("token_type_ids")
    return [
        {
            "input_ids": ids,
            **({"token_type_ids": types[n]} if types else {}),
            "content": content_key(ids, types[n] if types else ()),
            "text": text,
            "labels": -100,
            "text_key": 0,
            "index": n,
        }
        for n, (text, ids) in enumerate(zip(texts, encoded["input_ids"], strict=True))
    ]


def keys_of_ids(encoded: Any) -> np.ndarray:
    """(texts, 16) uint8"""
    types = encoded.get("token_type_ids") or itertools.repeat(())
    keys = b"".join(content_key(ids, kinds) for ids, kinds in zip(encoded["input_ids"], types, strict=False))
    return np.frombuffer(keys, np.uint8).reshape(-1, 16)
