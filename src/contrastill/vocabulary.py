"""A smaller vocabulary for a tokenizer and its model: the pieces that some texts use, and all single characters."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from contrastill.errors import UserError
from contrastill.loading import check_ids, rows_of

__all__ = ["Cut", "Trimming", "check_trims", "cut_model", "smaller_tokenizer", "trim"]

CHUNK = 1024  # texts read at once
BYTE = re.compile("<0x[0-9A-F]{2}>")
FIRST = 256
"""Up to this place all pieces before a Unigram's unknown one stay, as some tokenizers of transformers know it by its
number."""

NAMING = ("bad_words_ids", "begin_suppress_tokens", "force_words_ids", "sequence_bias", "suppress_tokens")
"""Entries of a generation config that name tokens and are not renumbered."""

State = dict[str, Any]  # a tokenizer.json


@dataclass(frozen=True)
class Cut:
    """The pieces left out."""

    before: int
    after: int
    parameters_saved: int

    @property
    def told(self) -> str:
        saved = f"{self.parameters_saved / 1e6:.1f} M parameters ({self.parameters_saved * 4 / 1e6:.1f} MB)"
        return f"vocabulary: {self.after:,} of {self.before:,} pieces kept, {saved} saved"


@dataclass(frozen=True)
class Trimming(Cut):
    """The pieces left out, and the effect on other texts."""

    texts: int
    """Other texts that were looked at."""
    unknown_before: float
    """Share of unknown tokens in the other texts, with the whole vocabulary."""
    unknown_after: float
    split_otherwise: float
    """Share of the other texts that are read as other tokens than before."""
    longer: float
    """Tokens of the other texts, in proportion to before."""

    def __str__(self) -> str:
        return self.of("texts not in the corpus")

    def of(self, others: str) -> str:
        """In words, where the other texts are called so."""
        if not self.texts:
            return self.told
        return (
            f"{self.told}; of {others} {self.split_otherwise:.1%} are split otherwise, {self.longer:.3f} x as long; "
            f"unknown tokens {self.unknown_after:.3%} (before: {self.unknown_before:.3%})"
        )


def trim(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], others: Sequence[str]
) -> tuple[PreTrainedTokenizerBase, Trimming]:
    """Leaves a model the embeddings of the pieces that `texts` need; the tokenizer that has these pieces alone, and
    what that costs `others`.

    The texts are read as before, if under other numbers. Single characters stay, so that a new word is spelt rather
    than unknown.

    Raises:
        UserError: a tokenizer of another kind than WordPiece, Unigram or BPE, one that does not always give a text
            the same tokens, or one of another model.
    """
    smaller, ids = smaller_tokenizer([model], tokenizer, texts)
    old, saved = bare(tokenizer), cut_model(model, ids)
    return smaller, Trimming(len(old.get_vocab()), len(ids), saved, len(others), *cost(old, bare(smaller), ids, others))


def check_trims(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises the UserErrors of `trim` before there is work to lose."""
    smaller_tokenizer([model], tokenizer, [])


def smaller_tokenizer(
    models: Sequence[PreTrainedModel], tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]
) -> tuple[PreTrainedTokenizerBase, list[int]]:
    """The tokenizer with the pieces alone that the texts and the models need; and the old number of each, for
    `cut_model` of each model.

    Raises:
        UserError: as `trim`.
    """
    if not tokenizer.is_fast:
        raise UserError(
            "expected a fast tokenizer (tokenizer.json) to trim its vocabulary, got a slow one; save it as a fast one"
        )
    old = bare(tokenizer)
    state = json.loads(tokenizer._tokenizer.to_str())
    check_kind(state)
    known = old.get_vocab(with_added_tokens=True)
    for model in models:
        check_model(model, known)
    ids = sorted(kept_ids(old, state, texts).union(*map(ids_of, models)) & {*known.values()})
    place = {before: after for after, before in enumerate(ids)}
    smaller = copy.deepcopy(tokenizer)
    backend: Any = Tokenizer.from_str(json.dumps(renumbered(state, place)))
    backend.encode_special_tokens = tokenizer._tokenizer.encode_special_tokens
    if backend.get_vocab(with_added_tokens=True) != {piece: place[n] for piece, n in known.items() if n in place}:
        raise UserError(
            "the vocabulary cannot be trimmed: pieces of this tokenizer are in no order that its library keeps; "
            "keep the whole vocabulary"
        )
    smaller._tokenizer = backend
    smaller.vocab_file = None  # of the whole vocabulary: not to be copied beside the new tokenizer.json
    return smaller, ids


def check_model(model: PreTrainedModel, known: Mapping[str, int]) -> None:
    """Raises a UserError where a model's tokens are not those of the tokenizer, or are named where they are not
    renumbered."""
    pad = padding_of(model)
    check_ids(max(known.values()), rows_of(model))
    if pad is not None and pad not in known.values():
        raise UserError(
            f"expected a tokenizer with the token {pad}, with which the model pads, to trim its vocabulary, got one "
            "without; keep the whole vocabulary"
        )
    if named := [name for name in NAMING if getattr(generation_config(model), name, None)]:
        raise UserError(
            f"expected a model whose generation_config.json names no tokens in {', '.join(NAMING)} to trim its "
            f"vocabulary, got {', '.join(named)}; keep the whole vocabulary, or remove them from the file"
        )


def bare(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The tokenizer without padding and truncation."""
    made = Tokenizer.from_str(tokenizer._tokenizer.to_str())
    made.encode_special_tokens = tokenizer._tokenizer.encode_special_tokens
    made.no_padding()
    made.no_truncation()
    return made


def check_kind(state: State) -> None:
    """Raises a UserError where pieces cannot be left out without other tokens for the texts that use none of them."""
    kind = state["model"]["type"]
    if kind not in KEPT:
        raise UserError(
            f"expected a tokenizer of the kind {', '.join(KEPT)} to trim its vocabulary, got {kind}, which cannot "
            "spell a word that it lacks; keep the whole vocabulary"
        )
    if state["model"].get("dropout"):
        raise UserError(
            "expected a tokenizer that always gives a text the same tokens to trim its vocabulary, got one with "
            f"dropout {state['model']['dropout']:g}; set it to null in tokenizer.json"
        )


def cost(old: Tokenizer, new: Tokenizer, ids: Sequence[int], texts: Sequence[str]) -> tuple[float, float, float, float]:
    """ids: the old number of each new one."""
    unknown, otherwise = unknown_id(json.loads(old.to_str())), 0
    tokens, strange = [0, 0], [0, 0]
    for some in chunks(texts):
        read = (
            [one.ids for one in old.encode_batch(some)],
            [[ids[n] for n in one.ids] for one in new.encode_batch(some)],
        )
        for side, rows in enumerate(read):
            tokens[side] += sum(map(len, rows))
            strange[side] += sum(n == unknown for row in rows for n in row)
        otherwise += sum(a != b for a, b in zip(*read, strict=True))
    count = max(1, len(texts))
    return (
        strange[0] / max(1, tokens[0]), strange[1] / max(1, tokens[1]), otherwise / count, tokens[1] / max(1, tokens[0])
    )  # fmt: skip


def chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    some: list[str] = []
    for text in texts:
        some.append(text)
        if len(some) == CHUNK:
            yield some
            some = []
    if some:
        yield some


# ---- what a tokenizer needs


def kept_ids(tokenizer: Tokenizer, state: State, texts: Iterable[str]) -> set[int]:
    """The numbers of the pieces without which one of the texts would be read otherwise; and of single characters."""
    model, used = state["model"], set[int]()
    unknown, lost = unknown_id(state), dict[str, None]()
    for some in chunks(texts):
        for text, read in zip(some, tokenizer.encode_batch(some), strict=True):
            used.update(read.ids)
            if unknown in read.ids:
                lost.update(
                    (text[slice(*at)], None) for n, at in zip(read.ids, read.offsets, strict=True) if n == unknown
                )
    marks = [model.get(name) or "" for name in ("continuing_subword_prefix", "end_of_word_suffix")]
    known = dict(pieces_of(model))
    base = {
        n
        for piece, n in known.items()
        if len(piece.removeprefix(marks[0]).removesuffix(marks[1])) == 1 or len(piece) == 1 or BYTE.fullmatch(piece)
    }
    fixed = (
        {one["id"] for one in state["added_tokens"]} | {*ids_in(state)} | ({unknown} if unknown is not None else set())
    )
    return fixed | base | KEPT[model["type"]](tokenizer, model, known, used - base, lost) | used


def unknown_id(state: State) -> int | None:
    """The number of the piece for what the tokenizer does not know; None: it has none."""
    model = state["model"]
    if model["type"] == "Unigram":
        number: int | None = model["unk_id"]
        return number
    return dict(pieces_of(model)).get(model["unk_token"]) if model["unk_token"] is not None else None


def pieces_of(model: State) -> Iterable[tuple[str, int]]:
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        return vocabulary.items()
    return ((piece, n) for n, (piece, _) in enumerate(vocabulary))


def kept_of_wordpiece(
    tokenizer: Tokenizer, model: State, known: Mapping[str, int], used: set[int], lost: Iterable[str]
) -> set[int]:
    """WordPiece takes the longest piece that fits, so that those taken are enough. Only in a word that is unknown in
    the end, those taken up to there do not show: without them another way through the word might be found."""
    kept, prefix, longest = set[int](), model["continuing_subword_prefix"], model["max_input_chars_per_word"]
    for text in lost:
        whole = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
        words = tokenizer.pre_tokenizer.pre_tokenize_str(whole) if tokenizer.pre_tokenizer else [(whole, None)]
        for word, _ in words:
            start = 0
            while start < len(word) <= longest:
                ends = range(len(word), start, -1)
                end = next((end for end in ends if (prefix if start else "") + word[start:end] in known), None)
                if end is None:
                    break
                kept.add(known[(prefix if start else "") + word[start:end]])
                start = end
    return kept


def kept_of_unigram(
    tokenizer: Tokenizer, model: State, known: Mapping[str, int], used: set[int], lost: Iterable[str]
) -> set[int]:
    """Unigram takes the way through a text with the best sum of scores, of equal ones that whose last piece is longest:
    it stays the best when pieces of other ways are left out. The score of an unknown character is that of the
    worst piece less 10, so that one stays."""
    scores = [score for _, score in model["vocab"]]
    unknown = model["unk_id"] or 0
    return {min(range(len(scores)), key=scores.__getitem__), *(range(unknown) if unknown < FIRST else ())}


def kept_of_bpe(
    tokenizer: Tokenizer, model: State, known: Mapping[str, int], used: set[int], lost: Iterable[str]
) -> set[int]:
    """BPE joins, of all pairs side by side, the one of the earliest merge, until there is none: what is joined stays
    the same when merges that were not applied are left out. No merge reaches over the ends of a token that is left in
    the end, so that those inside it are the ones that make it of its characters alone."""
    rank = {pair: n for n, pair in enumerate(merges_of(model))}
    makers = defaultdict[str, list[tuple[str, str]]](list)
    for pair in rank:
        makers[joined(pair, model)].append(pair)
    names = {n: piece for piece, n in known.items()}
    kept = set[str]()
    for n in used & names.keys():
        ways = [
            way for start in beginnings(names[n], model) if (way := applied(start, names[n], rank, model)) is not None
        ]
        for pair in (pair for way in ways for pair in way):
            kept.update(pair)
        if not ways:  # of bytes, or in the vocabulary although no merges make it: all that may lead to it
            waiting, seen = [names[n]], set[str]()
            while waiting:
                parts = {part for pair in makers[waiting.pop()] for part in pair} - seen
                seen |= parts
                waiting += parts
            kept |= seen
    return {known[piece] for piece in kept}


KEPT: dict[str, Callable[..., set[int]]] = {
    "WordPiece": kept_of_wordpiece, "Unigram": kept_of_unigram, "BPE": kept_of_bpe
}  # fmt: skip
"""Kind of tokenizer -> the pieces that the texts need beside those they are split into."""


def merges_of(model: State) -> Iterator[tuple[str, str]]:
    for merge in model["merges"]:
        first, second = merge.split(" ") if isinstance(merge, str) else merge
        yield first, second


def joined(pair: tuple[str, str], model: State) -> str:
    return pair[0] + pair[1][len(model["continuing_subword_prefix"] or "") :]


def beginnings(piece: str, model: State) -> list[list[str]]:
    """The characters, with their marks, that a piece is made of: at the start of a word and within, at its end or
    before."""
    prefix, suffix = model["continuing_subword_prefix"] or "", model["end_of_word_suffix"] or ""
    found = []
    for within in {False, bool(prefix) and piece.startswith(prefix)}:
        for last in {False, bool(suffix) and piece.endswith(suffix)}:
            body = piece[len(prefix) if within else 0 : len(piece) - (len(suffix) if last else 0)]
            marked = [(prefix if n or within else "") + character for n, character in enumerate(body)]
            if marked:
                found.append([*marked[:-1], marked[-1] + (suffix if last else "")])
    return found


def applied(
    parts: list[str], piece: str, rank: Mapping[tuple[str, str], int], model: State
) -> list[tuple[str, str]] | None:
    """The merges that make a piece of its parts, in their order; None: they do not make it."""
    done = []
    while len(parts) > 1:
        pairs = list(itertools.pairwise(parts))
        best, at = min((rank.get(pair, len(rank)), n) for n, pair in enumerate(pairs))
        if best == len(rank):
            return None
        done.append(pairs[at])
        parts = [*parts[:at], joined(pairs[at], model), *parts[at + 2 :]]
    return done if parts == [piece] else None


# ---- numbers


def processors(state: State | None) -> Iterator[State]:
    """The steps of a post-processor, one after the other."""
    if state is None:
        return
    if "processors" in state:
        for step in state["processors"]:
            yield from processors(step)
    else:
        yield state


def ids_in(state: State) -> Iterator[int]:
    """The numbers in a tokenizer.json outside its vocabulary and its added tokens."""
    if state["padding"]:
        yield state["padding"]["pad_id"]
    for step in processors(state["post_processor"]):
        for part in ("sep", "cls"):
            if part in step:
                yield step[part][1]
        for token in step.get("special_tokens", {}).values():
            yield from token["ids"]


def renumbered(state: State, place: Mapping[int, int]) -> State:
    """A tokenizer.json with the pieces in `place` alone, and their new numbers wherever it holds one."""
    model = state["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {piece: place[n] for piece, n in model["vocab"].items() if n in place}
    else:
        model["vocab"] = [one for n, one in enumerate(model["vocab"]) if n in place]
    if model.get("unk_id") is not None:
        model["unk_id"] = place[model["unk_id"]]
    if "merges" in model:
        there = model["vocab"]
        model["merges"] = [
            pair for pair in merges_of(model) if {*pair} <= there.keys() and joined(pair, model) in there
        ]
    state["added_tokens"] = [one | {"id": place[one["id"]]} for one in state["added_tokens"]]
    if state["padding"]:
        state["padding"]["pad_id"] = place.get(state["padding"]["pad_id"], 0)
    for step in processors(state["post_processor"]):
        for part in ("sep", "cls"):  # BertProcessing, RobertaProcessing
            if part in step:
                step[part][1] = place[step[part][1]]
        for token in step.get("special_tokens", {}).values():  # TemplateProcessing
            token["ids"] = [place[n] for n in token["ids"]]
    return state


def padding_of(model: PreTrainedModel) -> int | None:
    table: Any = model.get_input_embeddings()
    number: int | None = getattr(table, "padding_idx", None)
    return number


def ids_of(model: PreTrainedModel) -> set[int]:
    """The numbers of tokens that a model knows by themselves.

    Where its positions begin behind the padding token, all up to that one are among them, so that it keeps its place.
    """
    table = model.get_input_embeddings()
    others = (module for module in model.modules() if isinstance(module, nn.Embedding) and module is not table)
    behind = max((module.padding_idx for module in others if module.padding_idx is not None), default=-1)
    named = {n for config in configs_of(model) for _, some in config_ids(config) for n in some}
    pad = padding_of(model)
    return named | {*range(behind + 1)} | ({pad} if pad is not None else set())


def generation_config(model: PreTrainedModel) -> Any:
    """None: the model writes no text."""
    return getattr(model, "generation_config", None)


def configs_of(model: PreTrainedModel) -> list[Any]:
    return [config for config in (model.config, generation_config(model)) if config is not None]


def config_ids(config: Any) -> Iterator[tuple[str, list[int]]]:
    """The entries of a config that name tokens, as lists."""
    for name in config.to_dict():
        value = getattr(config, name, None)
        if name.endswith("_token_id") and value is not None:
            yield name, value if isinstance(value, list) else [value]


def cut_model(model: PreTrainedModel, ids: Sequence[int]) -> int:
    """Leaves a model the embeddings of these tokens, under their new numbers; how many parameters are saved.

    A config's number of a token that is left out becomes None, lest it name another one; one that the table never had
    stays, as it names none (ModernBERT's decoder has such by default, and refuses None).
    """
    place = {before: after for after, before in enumerate(ids)}
    before = sum(parameter.numel() for parameter in model.parameters())
    table: Any = model.get_input_embeddings()
    known = range(len(table.weight))
    head: Any = model.get_output_embeddings()
    rows = torch.tensor(ids, device=table.weight.device)
    whole = [table.weight]
    if head is not None and len(head.weight) == len(table.weight):
        whole += [head.weight, *([head.bias] if getattr(head, "bias", None) is not None else [])]
        head.out_features = len(ids)
    pad = padding_of(model)
    for old in {id(one): one for one in whole}.values():
        replace_parameter(model, old, nn.Parameter(old.detach()[rows].clone(), requires_grad=old.requires_grad))
    if pad is not None:
        for module in model.modules():
            other = isinstance(module, nn.Embedding) and module is not table
            if not other and getattr(module, "padding_idx", None) == pad:
                vars(module)["padding_idx"] = place[pad]
    for config in configs_of(model):
        for name, named in config_ids(config):
            new = [place.get(n, n) for n in named if n in place or n not in known]
            setattr(config, name, new if isinstance(getattr(config, name), list) else next(iter(new), None))
    model.config.vocab_size = len(ids)
    return before - sum(parameter.numel() for parameter in model.parameters())


def replace_parameter(model: nn.Module, old: Tensor, new: nn.Parameter) -> None:
    """Wherever a model has it: a table may be its output layer's as well."""
    for module in model.modules():
        for name, one in list(module.named_parameters(recurse=False)):
            if one is old:
                setattr(module, name, new)
                if isinstance(module, nn.Embedding):
                    module.num_embeddings = len(new)
