"""A teacher with a tokenizer of its own, as its student's tokens see it.

Shapes: B batch, S student's tokens, T teacher's, D width, C classes.
"""

from collections.abc import Collection

import torch
from torch import Tensor

from contrastill.alignment import carried, overlaps
from contrastill.data.both import TEACHER
from contrastill.encoder import MIXTURE, Batch, Encoding
from contrastill.teachers.base import Teacher

__all__ = ["AlignedTeacher"]


class AlignedTeacher:
    """Answers a batch of `data.both` by what `teacher`, a live or a stored one, answers to its own tokens.

    Where the batch has places, layers come in the student's tokens: each is the mean of the teacher's tokens that show
    the same characters, and the mask is true where there are some. Without places, layers and mask are the teacher's
    own: for methods that compare one vector a text. Of a tagger, logits stand at the student's token of the same word.
    Attention is never given.
    """

    def __init__(self, teacher: Teacher) -> None:
        self.teacher, self.answers = teacher, teacher.answers
        self.width, self.depth, self.heads = teacher.width, teacher.depth, teacher.heads
        self.gives = {name: width for name, width in teacher.gives.items() if name not in ("attention", "qkv")}

    @property
    def fingerprint(self) -> str:
        return self.teacher.fingerprint

    @torch.no_grad()
    def __call__(self, batch: Batch, needs: Collection[str]) -> Encoding:
        theirs = {name.removeprefix(TEACHER): value for name, value in batch.items() if name.startswith(TEACHER)}
        seen = self.teacher({**theirs, **{name: batch[name] for name in MIXTURE if name in batch}}, needs)
        mask, hidden, logits = seen.mask, seen.hidden, seen.logits
        if "places" in batch:
            overlap = overlaps(batch["places"], theirs["places"])
            mask = overlap.any(2)
            if hidden is not None:
                hidden = tuple(layer if layer is None else carried(layer, overlap) for layer in hidden)
        if logits is not None and self.answers == "tokens":
            logits = at_partners(logits, batch["partners"], theirs["attention_mask"])
        return Encoding(mask, logits, hidden, pooled=seen.pooled)


def at_partners(logits: Tensor, partners: Tensor, mask: Tensor) -> Tensor:
    """(B, T, C), (B, S), (B, T) -> (B, S, C): each token's partner's, zeros without one. Padding may be on the left."""
    place = partners.clamp(min=0) + mask.int().argmax(1, keepdim=True)
    found = logits.gather(1, place.unsqueeze(2).expand(-1, -1, logits.shape[2]))
    return found.where((partners >= 0).unsqueeze(2), 0.0)
