"""A teacher with a tokenizer of its own, as its student's tokens see it.

Shapes: B batch, S student's tokens, T teacher's, D width, C classes.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from contrastill.alignment import carried, carried_pairs, overlaps
from contrastill.data.both import TEACHER
from contrastill.encoder import MIXTURE, Batch, Encoding
from contrastill.teachers.base import Teacher

__all__ = ["AlignedTeacher"]


class AlignedTeacher:
    """Answers a batch of `data.both` by what `teacher`, a live or a stored one, answers to its own tokens.

    Where the batch has places, layers, and their queries, keys and values, come in the student's tokens: each is the
    mean of the teacher's tokens that show the same characters, and the mask is true where there are some; attention is
    the mean over the pairs of such tokens. Without places, layers and mask are the teacher's own: for methods that
    compare one vector a text. Of a tagger, logits stand at the student's token of the same word.
    """

    def __init__(self, teacher: Teacher) -> None:
        self.teacher, self.answers = teacher, teacher.answers
        self.width, self.depth, self.heads = teacher.width, teacher.depth, teacher.heads
        self.gives = teacher.gives

    @property
    def fingerprint(self) -> str:
        return self.teacher.fingerprint

    @torch.no_grad()
    def __call__(self, batch: Batch, needs: Collection[str]) -> Encoding:
        theirs = {name.removeprefix(TEACHER): value for name, value in batch.items() if name.startswith(TEACHER)}
        seen = self.teacher({**theirs, **{name: batch[name] for name in MIXTURE if name in batch}}, needs)
        if seen.logits is not None and self.answers == "tokens":
            seen = replace(seen, logits=at_partners(seen.logits, batch["partners"], theirs["attention_mask"]))
        if "places" not in batch:
            return seen
        overlap = overlaps(batch["places"], theirs["places"])
        found: dict[str, Any] = {"mask": overlap.any(2)}
        for name, carry in (("hidden", carried), ("attention", carried_pairs), ("qkv", carried)):
            if (layers := getattr(seen, name)) is not None:
                found[name] = tuple(layer if layer is None else carry(layer, overlap) for layer in layers)
        return replace(seen, **found)


def at_partners(logits: Tensor, partners: Tensor, mask: Tensor) -> Tensor:
    """(B, T, C), (B, S), (B, T) -> (B, S, C): each token's partner's, zeros without one. Padding may be on the left."""
    place = partners.clamp(min=0) + mask.int().argmax(1, keepdim=True)
    found = logits.gather(1, place.unsqueeze(2).expand(-1, -1, logits.shape[2]))
    return found.where((partners >= 0).unsqueeze(2), 0.0)
