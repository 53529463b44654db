"""The words that may take a word's place, by a masked language model or by the nearest vectors.

Shapes: B masked texts, L tokens, D words asked about, W whole words of the vocabulary, H width of the embeddings.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.augmenting.words import WholeWords, dressed, folded

__all__ = ["Candidates", "Masked", "chosen"]

AT_ONCE = 512  # words whose nearest ones are looked for together
SPELLINGS = 4  # of a word in a vocabulary: dog, Dog, DOG, dög


class Masked(NamedTuple):
    """A word in its text: the tokens, with the mask in its place, the segments if the model reads them, the place."""

    word: str
    ids: list[int]
    types: list[int] | None
    place: int


def chosen(scores: Tensor, words: Sequence[str], known: WholeWords, count: int) -> list[tuple[str, ...]]:
    """The `count` whole words of the highest scores for each word, best first.

    They are of its script, and other words: neither it nor each other but for case and accents. They take its capitals.

    scores: (D, W).
    """
    asked = torch.tensor([known.script_of(word) for word in words], device=scores.device)
    there = torch.from_numpy(known.scripts).to(scores.device)
    scores = scores.masked_fill(asked[:, None] != there[None], -torch.inf)
    best = scores.topk(min(SPELLINGS * (count + 1), scores.shape[1]), 1)
    found = []
    for word, numbers, values in zip(words, best.indices.tolist(), best.values.tolist(), strict=True):
        kept: dict[str, str] = {}
        for number, value in zip(numbers, values, strict=True):
            key = folded(known.words[number])
            if value > -torch.inf and key != folded(word):
                kept.setdefault(key, dressed(known.words[number], word))
        found.append(tuple(kept.values())[:count])
    return found


@dataclass(eq=False)
class Candidates:
    """A model's candidates. model: with a head, or None where the nearest words alone are asked for.

    table: (rows, H) the model's input embeddings. count: of candidates for a word. left: words, folded, that are no
    near words: vectors of function words are near to many. near: the nearest words found so far.
    """

    tokenizer: Tokenizer
    table: Tensor
    model: PreTrainedModel | None
    count: int
    batch_size: int
    left: Collection[str] = ()
    near: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.known = WholeWords.of(self.tokenizer, len(self.table))
        self.others = self.known.without(self.left)
        self.ids = torch.from_numpy(self.known.ids).to(self.table.device)
        self.directions = normalize(self.table[torch.from_numpy(self.others.ids).to(self.table.device)].float(), dim=1)
        if self.model is not None:
            self.places = torch.zeros(0, dtype=torch.long, device=self.table.device)
            head: nn.Module | None = self.model.get_output_embeddings()
            if head is not None:  # the vocabulary's scores are computed for the masked tokens alone
                head.register_forward_pre_hook(self.at_places)

    def at_places(self, module: nn.Module, args: tuple[Any, ...]) -> Any:
        """(B, L, H') -> (B, 1, H')"""
        return (args[0][torch.arange(len(self.places)), self.places][:, None], *args[1:])

    # ---- nearest

    def nearest(self, words: Sequence[str]) -> list[tuple[str, ...]]:
        """The whole words whose embeddings have the highest cosines with each word's: the mean of its pieces'."""
        new = [word for word in dict.fromkeys(words) if word not in self.near]
        for start in range(0, len(new), AT_ONCE):
            some = new[start : start + AT_ONCE]
            pieces = [self.pieces(word) for word in some]
            spelt = [n for n, each in enumerate(pieces) if each]
            self.near |= dict.fromkeys(some, ())
            if spelt and self.others.words:
                means = torch.stack([self.table[pieces[n]].float().mean(0) for n in spelt])
                asked = [some[n] for n in spelt]
                found = chosen(normalize(means, dim=1) @ self.directions.T, asked, self.others, self.count)
                self.near |= dict(zip(asked, found, strict=True))
        return [self.near[word] for word in words]

    def pieces(self, word: str) -> list[int]:
        """The token ids of a word inside a text; none where the vocabulary cannot spell it."""
        ids = self.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
        if self.tokenizer.unk_token_id in ids:
            return []
        return [n for n in ids if self.tokenizer.convert_ids_to_tokens(n) not in ("\u2581", "\u0120")]

    # ---- by a masked language model

    def in_context(self, masked: Sequence[Masked]) -> list[tuple[str, ...]]:
        """The likeliest whole words in each masked place."""
        found: list[tuple[str, ...]] = [()] * len(masked)
        if not self.known.words:
            return found
        order = np.argsort([len(one.ids) for one in masked], kind="stable")
        for start in range(0, len(order), self.batch_size):
            numbers = order[start : start + self.batch_size].tolist()
            some = [masked[n] for n in numbers]
            words = chosen(self.scores(some), [one.word for one in some], self.known, self.count)
            for n, each in zip(numbers, words, strict=True):
                found[n] = each
        return found

    @torch.no_grad()
    def scores(self, masked: Sequence[Masked]) -> Tensor:
        """(B, W) the model's scores of the whole words in the masked places."""
        assert self.model is not None
        device = self.table.device
        self.places = torch.tensor([one.place for one in masked], device=device)
        rows = [torch.tensor(one.ids) for one in masked]
        batch = {
            "input_ids": pad_sequence(rows, True, float(self.tokenizer.pad_token_id or 0)).to(device),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in rows], True).to(device),
        }
        if masked[0].types is not None:
            batch["token_type_ids"] = pad_sequence([torch.tensor(one.types) for one in masked], True).to(device)
        logits: Tensor = self.model(**batch).logits
        if logits.shape[1] > 1:  # a head that the hook does not see
            logits = logits[torch.arange(len(masked)), self.places][:, None]
        return logits[:, 0].index_select(1, self.ids).float()
