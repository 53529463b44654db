"""From a text's tokens to its entities: words, windows of long texts, tags repaired, spans of characters.

tokenizers and numpy alone: a bundle, a server and `predict` use it without torch; training reads texts in the same way.

A *unit* is the smallest run of whole words (`WORD`) that a run of whole tokens covers: of most texts a word, of a
tokenizer that joins words more. The tag of a unit is read at its first token. Offsets are characters (code points) of
the caller's own text, ends exclusive.

Shapes: U units, C tags.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Encoding, Regex, pre_tokenizers

__all__ = [
    "OUTSIDE",
    "Reading",
    "Scheme",
    "Span",
    "Tagged",
    "Window",
    "decode",
    "merged",
    "read",
    "stacked",
    "tagged",
    "types_in",
]

OUTSIDE = "O"
OVERLAP = 0.25
"""Of a window, that the next one repeats."""
MARKS = r"[\p{M}\x{200C}\x{200D}\x{FE0E}\x{FE0F}\x{1F3FB}-\x{1F3FF}]"
"""What belongs to the character before it: accents, joiners, variation selectors, skin tones."""
NO_SPACES = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
"""Scripts without spaces between words: each character is a word."""
WORD = (
    rf"{NO_SPACES}{MARKS}*|(?:(?!{NO_SPACES})[\p{{L}}\p{{N}}]{MARKS}*)+"
    rf"|[\x{{1F1E6}}-\x{{1F1FF}}]{{2}}|\S{MARKS}*(?:(?<=\x{{200D}})\S{MARKS}*)*"
)
SPLIT = pre_tokenizers.Split(Regex(WORD), "isolated")
START, INSIDE, END, SINGLE = "start", "inside", "end", "single"
PREFIXES = {"B": START, "I": INSIDE, "M": INSIDE, "E": END, "L": END, "S": SINGLE, "U": SINGLE}
"""Letter before a tag's type -> its place in an entity: BIO, IOB1, BIOES, BILOU, BMES."""

Array = np.ndarray[Any, Any]


class Span(NamedTuple):
    """An entity: text[start:end] is of this type."""

    start: int
    end: int
    type: str
    score: float = 1.0


class Scheme:
    """The tags that are a tagger's outputs, in order: "O", and "B-LOC" and such, or types alone.

    types: of the entities, in the order in which the tags name them.
    """

    def __init__(self, tags: Sequence[str]) -> None:
        self.tags = tuple(tags)
        parts = [tag_parts(tag) for tag in self.tags]
        self.types: tuple[str, ...] = tuple(dict.fromkeys(kind for _, kind in parts if kind is not None))
        self.places = tuple(place for place, _ in parts)
        number = {kind: n for n, kind in enumerate(self.types)}
        self.kinds = np.array([-1 if kind is None else number[kind] for _, kind in parts])
        """(C,) the number of each tag's type; -1: outside."""

    @classmethod
    def bio(cls, types: Sequence[str]) -> Scheme:
        return cls([OUTSIDE, *(f"{letter}-{kind}" for kind in types for letter in "BI")])

    @property
    def outside(self) -> int:
        return int(np.flatnonzero(self.kinds < 0)[0])

    @cached_property
    def members(self) -> Array:
        """(C, types) of 0 and 1: the tags of each type."""
        return (self.kinds[:, None] == np.arange(len(self.types))).astype(np.float64)

    def tag(self, kind: int, first: bool, last: bool) -> int:
        """The tag of a unit of an entity of this type."""
        there = {self.places[n]: n for n in np.flatnonzero(self.kinds == kind)}
        wanted = (SINGLE, START, INSIDE) if first and last else (START, INSIDE) if first else (INSIDE, START)
        wanted = (END, *wanted) if last and not first else wanted
        return int(next(there[place] for place in (*wanted, *there) if place in there))

    def encode(self, spans: Iterable[tuple[int, int, int]], starts: Array, ends: Array) -> Array:
        """(U,) the tags of units, of spans (start, end, type's number) in the order of their starts."""
        tags = np.full(len(starts), self.outside, np.int64)
        taken = 0
        for start, end, kind in spans:
            first = max(taken, int(np.searchsorted(ends, start, side="right")))
            last = int(np.searchsorted(starts, end, side="left"))
            for place in range(first, last):
                tags[place] = self.tag(kind, place == first, place == last - 1)
            taken = max(taken, last)
        return tags


def tag_parts(tag: str) -> tuple[str, str | None]:
    """(place in an entity, type): "B-LOC" -> (start, LOC), "LOC" -> (inside, LOC), "O" -> (inside, None)."""
    letter, dash, kind = tag.partition("-")
    if tag == OUTSIDE:
        return INSIDE, None
    return (PREFIXES[letter], kind) if dash and kind and letter in PREFIXES else (INSIDE, tag)


def is_scheme(tags: Sequence[str]) -> bool:
    """Whether these can be a tagger's outputs: "O" is among them, and a type."""
    return OUTSIDE in tags and len(set(tags)) == len(tags) > 1


# ---- texts as they are read


class Window(NamedTuple):
    """A part of a text that a model reads at once: its tokens, of each of its units the number and the place, and of
    each token the characters (tokens, 2); -1 of special ones."""

    ids: list[int]
    types: list[int]
    units: Array
    places: Array
    offsets: Array


@dataclass(frozen=True, eq=False)
class Reading:
    """A text as a tagger reads it. starts, ends: (U,) characters of its units. owners: (U,) the window in which each
    unit has the most context."""

    text: str
    starts: Array
    ends: Array
    owners: Array
    windows: tuple[Window, ...]

    @property
    def long(self) -> bool:
        return len(self.windows) > 1


def words_of(text: str) -> Array:
    """(N, 2) start and end of each word; white space belongs to none."""
    pieces = SPLIT.pre_tokenize_str(text) if text else []
    found = [span for piece, span in pieces if not piece.isspace()]
    return np.array(found, np.int64).reshape(-1, 2)


def read(encoding: Encoding, text: str, max_length: int) -> Reading:
    """Reads a text: its units, and windows of at most `max_length` tokens that repeat a quarter of each other.

    encoding: of the whole text, neither cut nor padded.
    """
    special = np.asarray(encoding.special_tokens_mask, bool)
    content = np.flatnonzero(~special)
    first, end = (int(content[0]), int(content[-1]) + 1) if len(content) else (len(special), len(special))
    offsets = np.asarray(encoding.offsets, np.int64).reshape(-1, 2)[first:end]
    shown = np.full((len(special), 2), -1, np.int64)
    shown[first:end] = offsets
    heads, starts, ends = units_of(words_of(text), offsets)
    parts = cut(heads, end - first, max(1, max_length - (len(special) - (end - first))))
    windows, depth, owners = [], np.full(len(heads), -1, np.int64), np.zeros(len(heads), np.int64)
    for number, (low, high) in enumerate(parts):
        mine = np.flatnonzero((heads >= low) & (heads < high))
        before = heads[mine] - low if low else np.full(len(mine), high)
        behind = high - heads[mine] if high < end - first else np.full(len(mine), high)
        context = np.minimum(before, behind)
        better = mine[context > depth[mine]]
        depth[mine] = np.maximum(depth[mine], context)
        owners[better] = number
        kept = [*range(first), *range(first + low, first + high), *range(end, len(special))]
        ids, types = ([values[n] for n in kept] for values in (encoding.ids, encoding.type_ids))
        windows.append(Window(ids, types, mine, heads[mine] - low + first, shown[kept]))
    return Reading(text, starts, ends, owners, tuple(windows))


def units_of(words: Array, offsets: Array) -> tuple[Array, Array, Array]:
    """Units of a text with these words (W, 2), read as tokens with these offsets (N, 2): the first token of each, its
    start and its end. Tokens without a character of a word (a blank's mark) belong to none."""
    if not len(words) or not len(offsets):
        nothing = np.zeros(0, np.int64)
        return nothing, nothing, nothing
    low = np.searchsorted(words[:, 1], offsets[:, 0], side="right")  # the first word that ends behind its start
    high = np.searchsorted(words[:, 0], offsets[:, 1], side="left") - 1  # the last that starts before its end
    heads: list[int] = []
    spans: list[list[int]] = []
    for token in np.flatnonzero((low <= high) & (offsets[:, 0] < offsets[:, 1])):
        if heads and low[token] <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], int(high[token]))
        else:
            heads.append(int(token))
            spans.append([int(low[token]), int(high[token])])
    found = np.array(spans, np.int64).reshape(-1, 2)
    return np.array(heads, np.int64), words[found[:, 0], 0], words[found[:, 1], 1]


def cut(heads: Array, tokens: int, room: int) -> list[tuple[int, int]]:
    """Parts (start, end) of at most `room` tokens, which begin and end between units where these fit."""
    parts, low = [], 0
    while tokens - low > room:
        high = last_of(heads, low + 1, low + room) or low + room
        parts.append((low, high))
        low = last_of(heads, low + 1, high - round(OVERLAP * room)) or high
    return [*parts, (low, tokens)]


def last_of(heads: Array, low: int, high: int) -> int | None:
    """The last first token of a unit from `low` to `high`."""
    place = int(np.searchsorted(heads, high, side="right")) - 1
    return int(heads[place]) if place >= 0 and heads[place] >= low else None


# ---- tags to spans


@dataclass(frozen=True, eq=False)
class Tagged:
    """The answer to a text: starts, ends (U,) of its units, and of each the numbers of its tags, values (U, C).

    windows: how many parts the text was read in.
    """

    text: str
    starts: Array
    ends: Array
    values: Array
    windows: int = 1

    def spans(self, scheme: Scheme) -> list[Span]:
        """Of probabilities."""
        return decode(scheme, self.values, self.starts, self.ends)


def merged(reading: Reading, values: Sequence[Array]) -> Tagged:
    """One answer of the windows' answers (its units, C) each: of a unit in several, that of its owner."""
    width = values[0].shape[-1] if len(values) else 0
    found = np.zeros((len(reading.starts), width), values[0].dtype if len(values) else np.float32)
    for number, (window, part) in enumerate(zip(reading.windows, values, strict=True)):
        mine = reading.owners[window.units] == number
        found[window.units[mine]] = part[mine]
    return Tagged(reading.text, reading.starts, reading.ends, found, len(reading.windows))


def tagged(readings: Sequence[Reading], answers: Iterable[Array]) -> Array:
    """(N,) `Tagged` of texts. answers: (L, C) of each window's tokens, window by window, text by text; what pads them
    behind is not read."""
    found, rest = np.empty(len(readings), object), iter(answers)
    for n, reading in enumerate(readings):
        found[n] = merged(reading, [next(rest)[window.places] for window in reading.windows])
    return found


def types_in(answers: Iterable[Tagged], scheme: Scheme) -> Array:
    """(N, types) bool: the types of entities that each answer names."""
    said = [{span.type for span in one.spans(scheme)} for one in answers]
    return np.array([[kind in kinds for kind in scheme.types] for kinds in said], bool).reshape(-1, len(scheme.types))


def decode(scheme: Scheme, values: Array, starts: Array, ends: Array) -> list[Span]:
    """Spans of the likeliest tags, broken sequences repaired as conlleval does: an entity begins at a start, at another
    type, and after an end; it goes on while its type does.

    values: (U, C) probabilities. A span's score is the mean probability of its type.
    """
    if not len(values):
        return []
    tags = values.argmax(1)
    kinds = scheme.kinds[tags]
    found: list[list[int]] = []
    open_kind = -1
    for unit in np.flatnonzero(kinds >= 0):
        kind, place = int(kinds[unit]), scheme.places[tags[unit]]
        goes_on = found and found[-1][1] == unit and open_kind == kind and place not in (START, SINGLE)
        if goes_on:
            found[-1][1] = int(unit) + 1
        else:
            found.append([int(unit), int(unit) + 1, kind])
        open_kind = -1 if place in (END, SINGLE) else kind
    return [
        Span(
            int(starts[first]),
            int(ends[last - 1]),
            scheme.types[kind],
            float(min(1.0, (values[first:last] @ scheme.members[:, kind]).mean())),
        )
        for first, last, kind in found
    ]


def stacked(answers: Array) -> Array:
    """(N, width) answers as they are; of N `Tagged` all units' numbers, one below the other."""
    if answers.dtype != object:
        return answers
    parts = [one.values for one in answers if len(one.values)]
    return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)
