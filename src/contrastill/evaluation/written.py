"""Scores of answers that a model wrote: their overlap with the given ones, and how seldom they repeat themselves."""

import unicodedata
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

__all__ = ["distinct_2", "rouge_l"]


def rouge_l(written: Sequence[str], given: Sequence[str]) -> np.ndarray:
    """ROUGE-L of each written answer, from 0 to 1: (rows,). Lin, 2004, aclanthology.org/W04-1013.

    The F-measure of L / written words and L / given words, L the length of the longest common subsequence of words: of
    the whole answer, without stemming, precision and recall weighted alike. Where one of the two has no word: 1 if
    they are the same text, else 0.
    """
    return np.array([overlap(*pair) for pair in zip(written, given, strict=True)], dtype=np.float64)


def overlap(written: str, given: str) -> float:
    ours, theirs = words(written), words(given)
    if not ours or not theirs:
        return float(written == given)
    return 2 * longest_common(ours, theirs) / (len(ours) + len(theirs))


def words(text: str) -> list[str]:
    """Runs of letters, their marks and digits, in lower case; of ASCII text as rouge-score's default tokenizer."""
    return "".join(one if unicodedata.category(one)[0] in "LMN" else " " for one in text.lower()).split()


def longest_common(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """Length of the longest common subsequence, all of `ours` at a time as the bits of a number.

    Hyyrö, Bit-parallel LCS-length computation revisited, 2004: the zeros that are left are the length.
    """
    places, full = dict[str, int](), (1 << len(ours)) - 1
    for place, word in enumerate(ours):
        places[word] = places.get(word, 0) | 1 << place
    left = full
    for word in theirs:
        found = left & places.get(word, 0)
        left = (left + found | left - found) & full
    return len(ours) - left.bit_count()


def distinct_2(answers: Sequence[Sequence[int]]) -> float | None:
    """Distinct bigrams of tokens over all bigrams of these answers; None: no answer has two tokens. After distinct-2
    of Li et al., 2016, arXiv:1510.03055, which divides by the tokens."""
    bigrams = [pair for answer in answers for pair in pairwise(answer)]
    return len(set(bigrams)) / len(bigrams) if bigrams else None
