"""Tokens of two tokenizers that show the same characters of a text.

A token's *place* is the run of characters that it shows, [start, end) in `PARTS` of a character: the tokens of one
character (its bytes, or what a normaliser made of it) share it in their order. White space around other characters
belongs to no place. The first special token before, between or behind the texts has the place of every tokenizer's
first one there, the second that of the second, and so on. Padding has an empty place.

Shapes: B batch, S student's tokens, T teacher's, D width, H heads.
"""

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contrastill.losses.attention import LEAST

__all__ = ["PARTS", "carried", "carried_pairs", "overlaps", "places"]

PARTS = 12
SLOTS = 64  # special tokens, at most, before, between or behind the texts

Array = np.ndarray[Any, Any]


def places(offsets: Sequence[Sequence[int]], owners: Sequence[int | None], texts: Sequence[str]) -> Array:
    """(N, 2) int32: the place of each token.

    offsets: characters that each token shows of its own text. owners: number of that text; None: a special token.
    """
    shown = [shown_by(offset, owner, texts) for offset, owner in zip(offsets, owners, strict=True)]
    found: list[tuple[int, int]] = []
    texts_seen = specials = 0
    for (owner, start, end), group in groupby(shown):
        count = len(list(group))
        if owner is None:
            first = texts_seen * SLOTS + specials + 1
            found += [(-n, 1 - n) for n in range(first, first + count)]
            specials += count
            continue
        texts_seen, specials = owner + 1, 0
        before = sum(len(text) + 1 for text in texts[:owner])
        ends = [PARTS * (before + start) + PARTS * (end - start) * n // count for n in range(count + 1)]
        found += pairwise(ends)
    return np.array(found, np.int32).reshape(-1, 2)


def shown_by(offset: Sequence[int], owner: int | None, texts: Sequence[str]) -> tuple[int | None, int, int]:
    """A token's text and its characters without white space around them; with it, where there are no others."""
    if owner is None:
        return None, 0, 0
    start, end = offset
    piece = texts[owner][start:end]
    if not piece.strip():
        return owner, start, end
    return owner, start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())


def overlaps(student: Tensor, teacher: Tensor) -> Tensor:
    """(B, S, 2), (B, T, 2) places -> (B, S, T) bool: whether two tokens show a character in common."""
    start = torch.maximum(student[:, :, None, 0], teacher[:, None, :, 0])
    end = torch.minimum(student[:, :, None, 1], teacher[:, None, :, 1])
    return start < end


def carried(hidden: Tensor, overlap: Tensor) -> Tensor:
    """(B, T, D), (B, S, T) -> (B, S, D) in float32: of each student token the mean of the teacher tokens that it
    overlaps; zeros where there are none."""
    count = overlap.sum(2, keepdim=True).clamp(min=1)
    with torch.autocast(hidden.device.type, enabled=False):  # which would round what is copied
        return (overlap.float() / count) @ hidden.float()


def carried_pairs(scores: Tensor, overlap: Tensor) -> Tensor:
    """(B, H, T, T), (B, S, T) -> (B, H, S, S) in float32: attention scores before softmax.

    Of each pair of student tokens the mean over those pairs of overlapped teacher tokens that may look at each other;
    masked where none may.
    """
    scores = scores.float()
    may = (scores > LEAST).any(1, keepdim=True)  # (B, 1, T, T)
    ours = overlap.float().unsqueeze(1)
    with torch.autocast(scores.device.type, enabled=False):
        total, count = (ours @ pairs @ ours.transpose(2, 3) for pairs in (scores.masked_fill(~may, 0.0), may.float()))
    return (total / count.clamp(min=1)).masked_fill(count == 0, LEAST)
