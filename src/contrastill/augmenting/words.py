"""The words of texts and of vocabularies: which may be replaced, and which may take their place."""

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Self

import numpy as np
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.errors import UserError
from contrastill.spans import words_of

__all__ = ["WholeWords", "commonest", "dressed", "folded", "is_word", "replaceable", "script"]

APOSTROPHES = "'\u2019\u02bc"
ALONE = {"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR"}
"""Scripts in which one character may be a word."""


def is_word(text: str) -> bool:
    """Whether a text is letters, and marks upon them, alone."""
    return bool(text) and text[0].isalpha() and all(unicodedata.category(letter)[0] in "LM" for letter in text)


def long_enough(word: str) -> bool:
    return len(word) > 1 or script(word) in ALONE


@cache
def folded(word: str) -> str:
    """A word without case and accents: words that are equal so are the same word."""
    parts = unicodedata.normalize("NFD", word.casefold())
    return unicodedata.normalize("NFC", "".join(letter for letter in parts if not unicodedata.combining(letter)))


@cache
def script(letter: str) -> str:
    """The script of a letter: "LATIN", "CYRILLIC"."""
    return unicodedata.name(letter, "").partition(" ")[0]


def dressed(word: str, like: str) -> str:
    """A word with the capitals of another: none, the first letter, or all."""
    if len(like) > 1 and like.isupper():
        return word.upper()
    first = like[:1].isupper() and not any(letter.isupper() for letter in like[1:])
    return word[:1].upper() + word[1:] if first else word


def replaceable(text: str) -> list[tuple[int, int]]:
    """Start and end of the words of a text that may be replaced: of letters alone, more than one (one in scripts in
    which it may be a word), and without an apostrophe."""

    def joined(mark: int, beyond: int) -> bool:
        inside = 0 <= mark < len(text) and 0 <= beyond < len(text)
        return inside and text[mark] in APOSTROPHES and text[beyond].isalpha()

    spans = ((int(start), int(end)) for start, end in words_of(text))
    return [
        (start, end)
        for start, end in spans
        if is_word(text[start:end])
        and long_enough(text[start:end])
        and not joined(end, end + 1)
        and not joined(start - 1, start - 2)
    ]


def commonest(texts: Iterable[str], share: float) -> set[str]:
    """The most frequent words of texts, folded: as many as together are at most `share` of all words."""
    counts = Counter(folded(text[start:end]) for text in texts for start, end in replaceable(text))
    left, found = share * counts.total(), set()
    for word, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
        left -= count
        if left < 0:
            break
        found.add(word)
    return found


@dataclass(frozen=True, eq=False)
class WholeWords:
    """The W pieces of a vocabulary that are whole words of letters: no continuations, special tokens or numbers.

    ids: (W,) of the pieces; words: how they are written; scripts: (W,) the number of each one's script in `known`.
    """

    ids: np.ndarray[Any, Any]
    words: list[str]
    scripts: np.ndarray[Any, Any]
    known: dict[str, int]

    @classmethod
    def of(cls, tokenizer: Tokenizer, rows: int) -> Self:
        """rows: tokens that the model has embeddings of.

        Raises:
            UserError: a slow tokenizer.
        """
        if not tokenizer.is_fast:
            raise UserError(
                "expected a model with a fast tokenizer (tokenizer.json) to find its words, got a slow one; save it "
                "as a fast one"
            )
        special = set(tokenizer.all_special_ids)
        pieces = {n: piece for piece, n in tokenizer.get_vocab().items() if n < rows and n not in special}
        begins, continues = marks(tokenizer, pieces.values())
        ids = [n for n, piece in sorted(pieces.items()) if not (continues and piece.startswith(continues))]
        written = tokenizer._tokenizer.decode_batch([[n] for n in ids], skip_special_tokens=False)
        found = [
            (n, word)
            for n, word in zip(ids, map(str.strip, written), strict=True)
            if is_word(word)
            and long_enough(word)
            and (not begins or pieces[n].startswith(begins) or script(word[0]) in ALONE)
        ]
        words = [word for _, word in found]
        known: dict[str, int] = {}
        scripts = [known.setdefault(script(word[0]), len(known)) for word in words]
        return cls(np.array([n for n, _ in found], np.int64), words, np.array(scripts, np.int64), known)

    def without(self, left: Collection[str]) -> Self:
        """The pieces but for some words, folded."""
        kept = [n for n, word in enumerate(self.words) if folded(word) not in left]
        return replace(self, ids=self.ids[kept], words=[self.words[n] for n in kept], scripts=self.scripts[kept])

    def script_of(self, word: str) -> int:
        """The number of a word's script; -1: no whole word is of it."""
        return self.known.get(script(word[0]), -1)


def marks(tokenizer: Tokenizer, pieces: Iterable[str]) -> tuple[str, str]:
    """What a piece that begins a word begins with, and what one that continues it does; "": nothing."""
    backend = tokenizer._tokenizer
    kind = type(backend.model).__name__
    if kind == "WordPiece":
        return "", str(backend.model.continuing_subword_prefix)
    if kind == "WordLevel":
        return "", ""
    if "ByteLevel" in str(backend.pre_tokenizer):
        return "\u0120", ""
    return ("\u2581" if any(piece.startswith("\u2581") for piece in pieces) else ""), ""
