"""From prompts and answers to batches: token ids once, padding per batch, masks by place.

Shapes: B rows, P tokens of the longest prompt, R of the longest answer.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset, List
from torch import Tensor
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.data.chat import Template
from contrastill.data.collate import flat, padded
from contrastill.data.prompts import row_key
from contrastill.errors import UserError

__all__ = ["EncodedPrompts", "EncodedRows", "collate_prompts", "encode_prompts", "end_ids", "texts_of_prompts"]

CHUNK = 10_000  # rows tokenised at once
Pair = tuple[list[int], list[int]]  # the ids of a prompt and of its answer


class EncodedRows(Sequence[Any]):
    """N rows: prompt and answer (lists of token ids, the end token last unless the answer is cut) and key.

    tokens (all tokens,) int32, each prompt followed by its answer; ends (2N + 1,) their borders; keys (N,) int64.
    """

    def __init__(self, tokens: np.ndarray, ends: np.ndarray, keys: np.ndarray) -> None:
        self.tokens, self.ends, self.keys = tokens, ends, keys

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, at: Any) -> Any:
        """The row as a dict; of a slice, a list of them."""
        if isinstance(at, slice):
            return [self[n] for n in range(*at.indices(len(self)))]
        n = range(len(self))[at]
        start, middle, end = self.ends[2 * n : 2 * n + 3]
        return {
            "prompt": self.tokens[start:middle].tolist(),
            "answer": self.tokens[middle:end].tolist(),
            "key": int(self.keys[n]),
        }


@dataclass(frozen=True)
class EncodedPrompts:
    """Prompts and answers as a model reads them.

    cut: the share of rows whose answer is cut. ends: ids that end an answer, the tokenizer's own first.
    """

    rows: EncodedRows
    cut: float
    ends: tuple[int, ...]

    @property
    def prompt_lengths(self) -> np.ndarray:
        """(N,) tokens of each prompt."""
        return np.diff(self.rows.ends)[::2]

    @property
    def answer_lengths(self) -> np.ndarray:
        """(N,) tokens of each answer, its end token among them."""
        return np.diff(self.rows.ends)[1::2]

    @property
    def lengths(self) -> np.ndarray:
        """(N,) tokens of each row, prompt and answer."""
        return self.prompt_lengths + self.answer_lengths

    def describe(self) -> dict[str, Any]:
        return {
            "rows": len(self.rows),
            "prompt_tokens": int(self.prompt_lengths.sum()),
            "answer_tokens": int(self.answer_lengths.sum()),
            "longest_prompt": int(self.prompt_lengths.max()),
            "longest_answer": int(self.answer_lengths.max()),
            "cut": self.cut,
        }


def end_ids(tokenizer: Tokenizer, model: PreTrainedModel | None = None) -> tuple[int, ...]:
    """Ids that end an answer: the tokenizer's end token, then those of the model's generation config, each once.

    Raises:
        UserError: there is none.
    """
    of_model = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    others = of_model if isinstance(of_model, (list, tuple)) else [of_model]
    found = tuple(dict.fromkeys(int(each) for each in (tokenizer.eos_token_id, *others) if each is not None))
    if not found:
        raise UserError("expected a tokenizer with an end token, got one without; set tokenizer.eos_token")
    return found


def encode_prompts(rows: Dataset, tokenizer: Tokenizer, length: int, *, chat: bool = False) -> EncodedPrompts:
    """Token ids of every row's prompt and answer, in memory, unpadded.

    A text prompt has the tokenizer's beginning tokens before it and no end token behind it. Its answer is tokenised by
    itself, without special tokens, and ended by the tokenizer's end token: so the row is split where a model that
    writes after the prompt splits it, which may not be where one text of both would be. A conversation, and with `chat`
    any row, is written by the tokenizer's chat template, and ended by the template's own end of a turn if it has one.

    Args:
        rows: a split of `PromptData`. length: tokens of prompt and answer together. An answer that does not fit is cut
            at its end, and has no end token then.
        chat: write a text prompt and its answer by the template, as a message of the user's and one of the assistant's.

    Raises:
        UserError: a prompt without tokens or without room for an answer behind it, a tokenizer without an end token, a
            template that is missing or does not continue its own prompt.
    """
    if length < 2:
        raise UserError(f"expected a max_length of at least 2 (a token of a prompt, one of its answer), got {length}")
    if length > tokenizer.model_max_length:
        raise UserError(
            f"expected a max_length of at most {tokenizer.model_max_length} (the tokenizer's limit), got {length}"
        )
    chat = chat or isinstance(rows.features["prompt"], List)
    ends = end_ids(tokenizer)
    read = templated(rows, tokenizer, ends) if chat else continued(rows, tokenizer, ends)
    parts: list[np.ndarray] = []
    counts: list[np.ndarray] = []
    closed: dict[int, None] = dict.fromkeys(ends)
    cut = 0
    for pairs in read:
        closed |= dict.fromkeys(answer[-1] for _, answer in pairs)
        room = [length - len(prompt) for prompt, _ in pairs]
        cut += sum(len(answer) > left for (_, answer), left in zip(pairs, room, strict=True))
        fitting = [(prompt, answer[: max(0, n)]) for (prompt, answer), n in zip(pairs, room, strict=True)]
        tokens, lengths = flat([ids for pair in fitting for ids in pair])
        parts.append(tokens)
        counts.append(lengths)
    lengths = np.concatenate(counts)
    check_prompts(lengths[::2], length)
    keys = [row_key(prompt, answer) for prompt, answer in zip(rows["prompt"][:], rows["answer"][:], strict=True)]
    borders = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    encoded = EncodedRows(np.concatenate(parts), borders, np.array(keys, np.int64))
    return EncodedPrompts(encoded, cut / len(keys), tuple(closed))


def texts_of_prompts(rows: Dataset, tokenizer: Tokenizer, *, chat: bool = False) -> Iterator[str]:
    """Every text that `encode_prompts` gives the tokenizer, uncut: each prompt with its answer, or by the chat template
    the prompt and the whole conversation.

    Raises:
        UserError: as `encode_prompts`, of the template.
    """
    chat = chat or isinstance(rows.features["prompt"], List)
    template = Template(tokenizer, end_ids(tokenizer)) if chat else None
    for part in chunks(rows):
        for row in zip(part["example_id"], part["prompt"], part["answer"], strict=True):
            yield from template.texts(*row) if template else row[1:]


def check_prompts(lengths: np.ndarray, length: int) -> None:
    """Checks that every prompt has tokens and leaves room for one of its answer. lengths: (N,) tokens of each."""
    if long := int((lengths >= length).sum()):
        raise UserError(
            f"expected prompts of at most {length - 1:,} tokens (--max-length {length}, less one for the answer), got "
            f"{long:,} of {len(lengths):,} that are longer, up to {lengths.max():,}; raise --max-length, or shorten or "
            "remove those rows: a prompt is never cut"
        )
    if empty := int((lengths == 0).sum()):
        raise UserError(
            f"expected at least one token of each prompt, got {empty:,} of {len(lengths):,} prompts without, before "
            "which the tokenizer sets no beginning token; fill them in, or write them by a chat template (--chat)"
        )


def continued(rows: Dataset, tokenizer: Tokenizer, ends: tuple[int, ...]) -> Iterator[list[Pair]]:
    """Text prompts and their answers, one after the other, `CHUNK` rows at a time."""
    lead: list[int] | None = None
    for part in chunks(rows):
        prompts, answers = bare(tokenizer, part["prompt"]), bare(tokenizer, part["answer"])
        if lead is None:
            lead = beginning(tokenizer, zip((*part["prompt"], *part["answer"]), (*prompts, *answers), strict=True))
        closed = [ids if ids and ids[-1] in ends else [*ids, ends[0]] for ids in answers]
        yield [([*lead, *prompt], answer) for prompt, answer in zip(prompts, closed, strict=True)]


def templated(rows: Dataset, tokenizer: Tokenizer, ends: tuple[int, ...]) -> Iterator[list[Pair]]:
    """Conversations by the tokenizer's chat template, `CHUNK` rows at a time."""
    template = Template(tokenizer, ends)
    for part in chunks(rows):
        told = [template.texts(*row) for row in zip(part["example_id"], part["prompt"], part["answer"], strict=True)]
        prompts, wholes = (bare(tokenizer, texts) for texts in zip(*told, strict=True))
        found = zip(part["example_id"], prompts, wholes, strict=True)
        yield [(prompt, template.answer(row, prompt, whole)) for row, prompt, whole in found]


def chunks(rows: Dataset) -> Iterator[dict[str, list[Any]]]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


def bare(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The ids of texts, no special token added."""
    read = tokenizer(list(texts), add_special_tokens=False, padding=False, return_attention_mask=False, verbose=False)
    found: list[list[int]] = read["input_ids"]
    return found


def beginning(tokenizer: Tokenizer, read: Iterable[tuple[str, list[int]]]) -> list[int]:
    """The ids that the tokenizer sets before a text. read: texts and their bare ids, of which one is tried."""
    for text, ids in read:
        if ids:
            whole: list[int] = tokenizer(text, padding=False, verbose=False)["input_ids"]
            starts = (n for n in range(len(whole) - len(ids) + 1) if whole[n : n + len(ids)] == ids)
            return whole[: next(starts, 0)]
    return []


def collate_prompts(rows: Sequence[Mapping[str, Any]], pad: int) -> dict[str, Tensor]:
    """Rows of `encode_prompts` -> a batch, prompts padded on the left and answers on the right with the id `pad`.

    prompt (B, P), answer (B, R) int64; prompt_mask, answer_mask bool, by place: `pad` may be the id of a real token;
    key (B,) int64, of the row's text.
    """
    batch: dict[str, Tensor] = {}
    for name in ("prompt", "answer"):
        lengths = np.array([len(row[name]) for row in rows])
        width = int(lengths.max())
        place = np.arange(width)
        real = place >= width - lengths[:, None] if name == "prompt" else place < lengths[:, None]
        batch[name] = torch.from_numpy(padded(rows, name, real, pad, lengths))
        batch[f"{name}_mask"] = torch.from_numpy(real)
    batch["key"] = torch.tensor([row["key"] for row in rows], dtype=torch.int64)
    return batch
