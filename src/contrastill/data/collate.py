"""From texts to batches: token ids once, padding per batch."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, List
from transformers import PreTrainedTokenizerBase

from contrastill.alignment import places
from contrastill.data.load import text_key
from contrastill.errors import UserError

__all__ = ["Collate", "Known", "content_key", "flat", "known_tokens", "tokenise", "truncated_share"]

NUMBERS = {"int64": pa.int64(), "float64": pa.float32()}  # of a label, by its type in the rows
CHUNK = 10_000  # texts tokenised at once: bounds the tokenizer's own, fat, encodings


def tokenise(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, *, placed: bool = False) -> Dataset:
    """Token ids of every row, in memory, unpadded; of a pair, the longer text is cut first.

    Columns: input_ids, token_type_ids (if the tokenizer makes them), labels, text_key, content (16 bytes, a hash of
    what a model reads of the row: its token and type ids), index (the row number); `placed`, of a fast tokenizer:
    places, start and end of each token's place (`alignment`) in turn.
    The plain Python rows it yields are the quickest to collate: formatting as numpy or torch costs four times as much.
    """
    room = max_length - tokenizer.num_special_tokens_to_add(pair="text_pair" in dataset.column_names)
    if room < 1:
        raise UserError(f"expected a max_length with room for text, got {max_length}, all special tokens; try 128")
    if max_length > tokenizer.model_max_length:
        raise UserError(
            f"expected a max_length of at most {tokenizer.model_max_length} (the tokenizer's limit), got {max_length}"
        )
    feature = dataset.features["label"]
    label = pa.list_(pa.float32()) if isinstance(feature, List) else NUMBERS[feature.dtype]
    parts = []
    for rows in _chunks(dataset):
        encoded = _encode(rows, tokenizer, truncation=True, max_length=max_length)
        columns = {"input_ids": pa.array(encoded["input_ids"], pa.list_(pa.int32()))}
        if "token_type_ids" in encoded:
            columns["token_type_ids"] = pa.array(encoded["token_type_ids"], pa.list_(pa.int8()))
        pairs = rows.get("text_pair", [None] * len(rows["text"]))
        keys = [text_key(text, pair) for text, pair in zip(rows["text"], pairs, strict=True)]
        types = encoded.get("token_type_ids", [()] * len(keys))
        content = [content_key(ids, kinds) for ids, kinds in zip(encoded["input_ids"], types, strict=True)]
        columns["labels"] = pa.array(rows["label"], label)
        columns["text_key"] = pa.array(keys, pa.int64())
        columns["content"] = pa.array(content, pa.binary(16))
        if placed:
            texts = zip(*(rows[name] for name in ("text", "text_pair") if name in rows), strict=True)
            found = [
                places(each.offsets, each.sequence_ids, text).ravel()
                for each, text in zip(encoded.encodings, texts, strict=True)
            ]
            columns["places"] = pa.array(found, pa.list_(pa.int32()))
        parts.append(pa.table(columns))
    table = pa.concat_tables(parts)
    return Dataset(table.append_column("index", pa.array(np.arange(len(dataset)))).combine_chunks())


@dataclass(frozen=True)
class Known:
    """The share of some texts that a tokenizer knows.

    tokens: those of the texts, without the special ones around them. lost: texts that have no known token.
    """

    tokens: int = 0
    unknown: int = 0
    texts: int = 0
    lost: int = 0

    def __add__(self, other: "Known") -> "Known":
        return Known(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    @property
    def share(self) -> float:
        """The share of unknown tokens."""
        return self.unknown / max(1, self.tokens)

    @property
    def worse(self) -> float:
        """The larger of the shares of unknown tokens and of texts without a known one."""
        return max(self.share, self.lost / max(1, self.texts))

    def __str__(self) -> str:
        lost = f", {self.lost:,} of {self.texts:,} texts have none that it knows" if self.lost else ""
        return f"{self.share:.1%} of the tokens are unknown to the tokenizer{lost}"


def known_tokens(ids: np.ndarray, lengths: np.ndarray, tokenizer: PreTrainedTokenizerBase) -> Known:
    """Counts what a tokenizer knew of texts: `ids` of all, one text after the other, `lengths` of each.

    A tokenizer that falls back to bytes, or whose unknown token has another use too, knows everything.
    """
    unknown = tokenizer.unk_token_id
    others = [getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "sep", "pad", "cls", "mask")]
    if unknown in others:
        unknown = None
    real = ~np.isin(ids, [each for each in tokenizer.all_special_ids if each != unknown])
    known = real if unknown is None else real & (ids != unknown)
    ends = np.cumsum(lengths)
    before = np.concatenate([[0], np.cumsum(known)])
    lost = before[ends] == before[ends - lengths]
    return Known(int(real.sum()), int(real.sum() - known.sum()), len(lengths), int(lost.sum()))


def flat(ids: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of all texts, one after the other, and the length of each."""
    lengths = np.array([len(each) for each in ids], np.int32)
    return np.fromiter(itertools.chain.from_iterable(ids), np.int32, int(lengths.sum())), lengths


def content_key(input_ids: Sequence[int], token_type_ids: Sequence[int] = ()) -> bytes:
    """16 bytes that stand for what a model reads: equal for equal ids, whatever text or length limit made them."""
    parts = np.asarray(input_ids, np.int32).tobytes(), np.asarray(token_type_ids, np.int8).tobytes()
    return hashlib.blake2b(b"".join(parts), digest_size=16, salt=len(parts[0]).to_bytes(8, "little")).digest()


def truncated_share(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> float:
    """The share of rows that `max_length` cuts."""
    cut = 0
    for rows in _chunks(dataset):
        encoded = _encode(rows, tokenizer, truncation=False, verbose=False)
        cut += sum(len(ids) > max_length for ids in encoded["input_ids"])
    return cut / len(dataset)


def _chunks(dataset: Dataset) -> Iterator[dict[str, list[Any]]]:
    for start in range(0, len(dataset), CHUNK):
        yield dataset[start : start + CHUNK]


def _encode(rows: Mapping[str, list[Any]], tokenizer: PreTrainedTokenizerBase, **options: Any) -> Any:
    return tokenizer(rows["text"], rows.get("text_pair"), padding=False, return_attention_mask=False, **options)


class Collate:
    """Rows of `tokenise` -> a batch of tensors, padded to its longest row.

    B rows, L tokens: input_ids, attention_mask and token_type_ids (B, L); labels (B,) or (B, C), of `label_dtype`;
    text_key and index (B,); content (B, 2), its 16 bytes. Of rows with a label a token: labels (B, L), -100 at padding,
    and answered (B, L) bool, the tokens whose answers count. Of rows read by two tokenizers: places (B, L, 2), and of
    those with a label a token partners (B, L), -1 for none; see `data.both`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, label_dtype: torch.dtype = torch.int64) -> None:
        if tokenizer.pad_token_id is None:
            raise UserError("expected a tokenizer with a padding token, got one without; set tokenizer.pad_token")
        self.pads = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
        self.left = tokenizer.padding_side == "left"
        self.label_dtype = label_dtype

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        lengths = np.array([len(row["input_ids"]) for row in rows])
        width = int(lengths.max())
        place = np.arange(width)
        real = place >= width - lengths[:, None] if self.left else place < lengths[:, None]  # (B, L)
        batch = {"attention_mask": torch.from_numpy(real.astype(np.int64))}
        for name, pad in self.pads.items():
            if name in rows[0]:
                batch[name] = torch.from_numpy(padded(rows, name, real, pad, lengths))
        if "answered" in rows[0]:
            batch["labels"] = torch.from_numpy(padded(rows, "labels", real, -100, lengths))
            batch["answered"] = torch.from_numpy(padded(rows, "answered", real, 0, lengths) == 1)
        else:
            batch["labels"] = torch.tensor([row["labels"] for row in rows], dtype=self.label_dtype)
        if "places" in rows[0]:
            twice = np.repeat(real, 2, 1)
            batch["places"] = torch.from_numpy(padded(rows, "places", twice, 0, 2 * lengths).reshape(*real.shape, 2))
        if "partners" in rows[0]:
            batch["partners"] = torch.from_numpy(padded(rows, "partners", real, -1, lengths))
        for name in ("text_key", "index"):
            batch[name] = torch.tensor([row[name] for row in rows], dtype=torch.int64)
        content = np.frombuffer(b"".join(row["content"] for row in rows), np.int64)
        batch["content"] = torch.from_numpy(content.reshape(-1, 2).copy())
        return batch


def padded(rows: Sequence[Mapping[str, Any]], name: str, real: np.ndarray, pad: int, lengths: np.ndarray) -> np.ndarray:
    """A column with a number a token, (B, L) int64; real: (B, L), where they go."""
    values = np.full(real.shape, pad, np.int64)
    # All rows end to end, laid into the real places row by row: quicker than a copy per row.
    tokens = itertools.chain.from_iterable(row[name] for row in rows)
    values[real] = np.fromiter(tokens, np.int64, int(lengths.sum()))
    return values
