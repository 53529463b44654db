"""A smaller table of word vectors: the pieces of words that a corpus uses, and all single characters."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn

from contrastill.errors import UserError
from contrastill.exporting.source import Exportable, Texts

__all__ = ["Trimming", "trimmed"]


@dataclass(frozen=True)
class Trimming:
    """The words left out, and the effect on other texts."""

    before: int
    after: int
    parameters_saved: int
    unknown_before: float
    """Share of unknown tokens ([UNK]) in the other texts, with the whole vocabulary."""
    unknown_after: float
    split_otherwise: float
    """Share of the other texts that are read as other tokens than before."""
    longer: float
    """Tokens of the other texts, in proportion to before."""

    def __str__(self) -> str:
        return (
            f"vocabulary: {self.after:,} of {self.before:,} pieces kept; of texts not in the corpus "
            f"{self.split_otherwise:.1%} are split otherwise, {self.longer:.3f} x as long; unknown tokens "
            f"{self.unknown_after:.3%} (before: {self.unknown_before:.3%})"
        )


def trimmed(source: Exportable, corpus: Texts, others: Texts) -> tuple[Exportable, Trimming]:
    """The model with the vocabulary that `corpus` needs; `others` tell what that costs elsewhere.

    Texts of the corpus are read as before: WordPiece takes the longest piece it has, and all that were taken are kept.
    Single characters stay, so that a new word is spelt rather than unknown.

    Raises:
        UserError: a tokenizer of another kind than WordPiece, or no corpus.
    """
    if not corpus:
        raise UserError("--trim keeps the words that texts use, got no texts; give --texts")
    old = backend(source)
    state = json.loads(old.to_str())
    if state["model"]["type"] != "WordPiece":
        raise UserError(
            f"--trim: expected a WordPiece tokenizer (BERT's, MPNet's), got {state['model']['type']}: removing pieces "
            "of it would change the tokens of every text; leave --trim out"
        )
    vocabulary = state["model"]["vocab"] | {one["content"]: one["id"] for one in state["added_tokens"]}
    kept = kept_pieces(old, state, corpus, source.prompt)
    place = {piece: new for new, piece in enumerate(sorted(kept, key=vocabulary.__getitem__))}
    pad = source.tokenizer.pad_token
    if place[pad] != vocabulary[pad]:
        raise UserError("--trim: the padding token is not among the first of this vocabulary; leave --trim out")
    renumber(state, place)
    tokenizer = copy.deepcopy(source.tokenizer)
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(state))
    module = copy.deepcopy(source.module)
    smaller = replace(source, module=module, tokenizer=tokenizer)
    encoder: Any = smaller.encoder
    table = encoder.get_input_embeddings()
    rows = torch.tensor([vocabulary[piece] for piece in place])
    encoder.set_input_embeddings(
        nn.Embedding.from_pretrained(table.weight[rows].clone(), freeze=True, padding_idx=table.padding_idx)
    )
    encoder.config.vocab_size = len(place)
    report = cost(old, backend(smaller), others, state["model"]["unk_token"])
    saved = source.parameters - smaller.parameters
    return smaller, Trimming(len(vocabulary), len(place), saved, *report)


def backend(source: Exportable) -> Tokenizer:
    """The tokenizer without padding and truncation."""
    tokenizer = Tokenizer.from_str(source.tokenizer._tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def kept_pieces(tokenizer: Tokenizer, state: dict[str, Any], corpus: Texts, prompt: str) -> set[str]:
    vocabulary, prefix = state["model"]["vocab"], state["model"]["continuing_subword_prefix"]
    kept = {one["content"] for one in state["added_tokens"]} | {state["model"]["unk_token"]}
    kept |= {piece for piece in vocabulary if len(piece.removeprefix(prefix)) == 1}
    for first in range(0, len(corpus), 1024):
        some = [prompt + text if isinstance(text, str) else text for text in corpus[first : first + 1024]]
        for one in tokenizer.encode_batch(some):
            kept.update(one.tokens)
    return kept


def renumber(state: dict[str, Any], place: dict[str, int]) -> None:
    """New ids wherever a tokenizer.json holds one."""
    state["model"]["vocab"] = {piece: place[piece] for piece in state["model"]["vocab"] if piece in place}
    state["added_tokens"] = [one | {"id": place[one["content"]]} for one in state["added_tokens"]]
    after = state["post_processor"] or {}
    for part in ("sep", "cls"):  # BertProcessing, RobertaProcessing
        if part in after:
            after[part][1] = place[after[part][0]]
    for token in after.get("special_tokens", {}).values():  # TemplateProcessing
        token["ids"] = [place[piece] for piece in token["tokens"]]


def cost(old: Tokenizer, new: Tokenizer, texts: Texts, unknown: str) -> tuple[float, float, float, float]:
    before, after = (tokenizer.encode_batch(list(texts)) for tokenizer in (old, new))
    tokens = [sum(len(one) for one in some) for some in (before, after)]
    strange = [sum(one.tokens.count(unknown) for one in some) for some in (before, after)]
    otherwise = sum(a.tokens != b.tokens for a, b in zip(before, after, strict=True))
    count = max(1, len(texts))
    return (
        strange[0] / max(1, tokens[0]), strange[1] / max(1, tokens[1]), otherwise / count, tokens[1] / max(1, tokens[0])
    )  # fmt: skip
