"""A tokenizer from a file, with bounds on the work that a text can make in it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Regex, Tokenizer, normalizers

from contrastill.errors import UserError

__all__ = ["encode", "read_tokenizer"]

LARGEST = 256 * 2**20
"""Bytes of a tokenizer.json: ten times those of a vocabulary of 250,000 pieces."""
STEPS = 64
"""Steps of a normalizer, a pre-tokenizer or a post-processor."""
GROWTH = 256
"""How many times longer all steps together may make a text. Those in use stay below 40: NFKC alone may give 18
characters for one, and a replaced blank two."""
LONGEST_WORD = 1000
"""Characters of a word that WordPiece looks for pieces in: its time grows with their square."""
PRIVATE = "\ue000"  # a character that patterns do not name
LARGER = {"ByteLevel": 4, "Precompiled": 18, "BertNormalizer": 3}
"""Step -> the most characters that it makes of one."""
BETWEEN = ("(?=", "(?!", "(?<", "^", "$", "\\b", "\\B", "\\A", "\\Z", "\\z", "\\G", "\\K")
"""Parts of a pattern that match between two characters, beside some others only."""


def read_tokenizer(file: Path, max_length: int, pairs: bool) -> tuple[int | None, int | None, Tokenizer]:
    """Opens a tokenizer.json: where it cuts and what it pads with by itself (None: it does not), and the tokenizer,
    made to cut at `max_length` and to pad nothing.

    Raises:
        UserError: no tokenizer, one that could make too much of a short text, or one that has no room for a text.
    """
    try:
        size = file.stat().st_size
        if size > LARGEST:
            raise UserError(f"{file}: expected at most {LARGEST:,} bytes, got {size:,}; export again")
        tokenizer = Tokenizer.from_file(str(file))
    except UserError:
        raise
    except Exception as error:  # whatever the library raises, a bare Exception among it
        raise UserError(f"{file}: no tokenizer could be read ({str(error)[:200]}); export again") from None
    check_bounds(tokenizer, file)
    cut, pad = tokenizer.truncation or {}, tokenizer.padding or {}
    marks = tokenizer.num_special_tokens_to_add(is_pair=pairs)
    if max_length <= marks:
        raise UserError(
            f"{file}: expected a max_length above the tokenizer's {marks} special tokens, got {max_length}; "
            "export again"
        )
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length, direction=cut.get("direction", "right"))
    return cut.get("max_length"), pad.get("pad_id"), tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[Any]) -> list[Encoding]:
    """Encodes texts or pairs.

    Raises:
        UserError: the tokenizer gave one up, as a pattern of it took too many tries.
    """
    try:
        return tokenizer.encode_batch(texts)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # pyo3's: not an Exception, and under no public name
            raise
        raise UserError(f"the tokenizer gave up on a text ({str(error)[:200]}); export the model again") from None


def check_bounds(tokenizer: Tokenizer, file: Path) -> None:
    """Raises a UserError where a short text may become a very long one, or take very long to read."""
    parts = {name: list(steps(getattr(tokenizer, name))) for name in ("normalizer", "pre_tokenizer", "post_processor")}
    for name, found in parts.items():
        if len(found) > STEPS:
            raise UserError(f"{file}: expected at most {STEPS} steps in the {name}, got {len(found):,}; export again")
    growth = math.prod(growth_of(step) for found in parts.values() for step in found)
    if growth > GROWTH:
        raise UserError(
            f"{file}: expected a tokenizer that makes a text at most {GROWTH} times longer, got one that may make it "
            f"{growth:.3g} times longer before it is cut; export again"
        )
    longest = getattr(tokenizer.model, "max_input_chars_per_word", 0)
    if longest > LONGEST_WORD:
        raise UserError(
            f"{file}: expected max_input_chars_per_word up to {LONGEST_WORD}, got {longest}; set it, and export again"
        )
    if getattr(tokenizer.model, "dropout", None):
        raise UserError(
            f"{file}: expected a tokenizer that always gives a text the same tokens, got dropout; export again"
        )


def steps(part: Any) -> Iterator[dict[str, Any]]:
    """The steps of a part of a tokenizer, one after the other, those of sequences among them."""
    waiting = [] if part is None else [json.loads(part.__getstate__())]
    while waiting:
        step = waiting.pop(0)
        inner = next((step[name] for name in ("normalizers", "pretokenizers", "processors") if name in step), None)
        if inner is None:
            yield step
        else:
            waiting = [*inner, *waiting]


def growth_of(step: dict[str, Any]) -> float:
    """The most that a step lengthens a text by."""
    kind = step["type"]
    if kind == "Replace":
        (how, pattern), new = next(iter(step["pattern"].items())), len(step["content"])
        if how == "String":
            return max(1.0, new / len(pattern)) if pattern else 1.0 + new
        empty = any(sign in pattern for sign in BETWEEN) or matches_nothing(pattern)
        return 1.0 + new if empty else max(1.0, new)
    if kind == "Prepend":
        return 1.0 + len(step["prepend"])
    if kind == "TemplateProcessing":
        ids = [piece["Sequence"]["id"] for piece in step["single"] if "Sequence" in piece]
        pair = [piece["Sequence"]["id"] for piece in step["pair"] if "Sequence" in piece]
        return float(max([1, *(some.count(one) for some in (ids, pair) for one in "AB")]))
    return float(LARGER.get(kind, 1))


def matches_nothing(pattern: str) -> bool:
    """Whether a pattern matches between any two characters, as `x*` does."""
    return normalizers.Replace(Regex(pattern), "+").normalize_str(PRIVATE) != PRIVATE
