"""The class in a language model's answer: from the probabilities of its tokens, or from its text. Pure functions."""

import math
import re
import string
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from contrastill.data.cells import loose

__all__ = ["Answer", "Token", "code_masses", "combined", "named_class", "without_thoughts"]

AROUND = string.punctuation + string.whitespace + "“”„‘’«»…。、Ġ▁Ċ"  # the last three: spaces and line ends of pieces
THOUGHT = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
DIGITS = 6


class Token(NamedTuple):
    """A token of an answer, its log-probability, and those of the likeliest tokens in its place."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Answer:
    """One answer to a question.

    label: the class that it names; None: none. probabilities: class -> probability, at most 1 in all, if known.
    said: the answer in the model's words. counted: whether the endpoint counted tokens.
    cut: whether the answer ended at its limit, or the server read a part of the text alone.
    """

    label: str | None
    said: str
    probabilities: Mapping[str, float] | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    counted: bool = True
    cut: bool = False


def plain(text: str) -> str:
    return text.strip(AROUND)


def code_masses(tokens: Sequence[Token], codes: Mapping[str, str]) -> tuple[str | None, dict[str, float]]:
    """The class whose code was answered, and class -> probability of its code.

    A code may be one token or several; spellings with spaces, marks and in either case count together. Where it is
    several, classes whose codes begin otherwise than the answer are not known, and are missing in the result.

    codes: code -> class; no code begins another.
    """
    found: dict[str, float] = defaultdict(float)
    path, before = 1.0, ""
    for token in tokens:
        top = dict(token.top) | {token.text: token.logprob}
        for text, logprob in top.items():
            if (code := before + plain(text).upper()) in codes:
                found[codes[code]] += path * math.exp(min(logprob, 0.0))
        before += plain(token.text).upper()
        if before in codes:
            total = max(sum(found.values()), 1.0)
            return codes[before], {name: mass / total for name, mass in found.items()}
        if not any(code.startswith(before) for code in codes):
            break
        path *= math.exp(min(token.logprob, 0.0))
    return None, dict(found)


def without_thoughts(said: str) -> str:
    return THOUGHT.sub("", said, count=1).strip()


def named_class(said: str, classes: Sequence[str]) -> str | None:
    """The class that an answer names; None: none, or not clearly one.

    Tried in turn: the same name, the same but for case, the same without the marks around it, the same without regard
    to spaces, hyphens and underscores. Thoughts in <think> before it are left out.
    """
    said = without_thoughts(said)
    for read in (str.strip, str.casefold, lambda name: plain(name).casefold(), lambda name: loose(plain(name))):
        found = [name for name in classes if read(name) == read(said)]
        if found and read(said):
            return found[0] if len(found) == 1 else None
    return None


def combined(answers: Sequence[Answer], classes: Collection[str] = ()) -> dict[str, Any] | None:
    """The answers to one text as a row's cells; None: none of them names a class.

    Probabilities are the mean of the answers', or the share of several answers that name each class. If all classes
    have one, they are divided by their sum: what it lacks to 1 belongs to answers that name no class.
    """
    good = [answer for answer in answers if answer.label is not None]
    if not good:
        return None
    shares: dict[str, float] = defaultdict(float)
    for answer in good:
        for name, mass in (answer.probabilities or {str(answer.label): 1.0}).items():
            shares[name] += mass / len(good)
    whole = sum(shares.values()) if classes and shares.keys() >= set(classes) else 1.0
    ranked = sorted(shares, key=lambda name: -shares[name])
    known = len(answers) > 1 or good[0].probabilities is not None
    found: dict[str, Any] = {}
    if known:
        shown = ((name, round(min(shares[name] / whole, 1.0), DIGITS)) for name in ranked)
        found["probabilities"] = {name: mass for name, mass in shown if mass > 0}
    found["label"] = ranked[0]
    if len(good) < len(answers):
        found["no_label"] = [answer.said for answer in answers if answer.label is None]
    return found
