"""The likeliest words of a language model at the tokens of an answer, as bytes on disk.

Shapes: n tokens, k words named, V words in all.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from contrastill.errors import UserError
from contrastill.losses import SparseLogits
from contrastill.teachers.fields import Field

__all__ = ["Likeliest"]

TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class Likeliest(Field):
    """For each token of an answer: logarithms of the probabilities of `named` words and of all others together, then
    the words' ids.

    words: V. stored: the type of the logarithms; those below its range are stored as its lowest number.
    """

    named: int
    words: int
    stored: str

    @classmethod
    def of(cls, k: int, words: int, stored: str) -> "Likeliest":
        """k: 0 or at least V for all words.

        Raises:
            UserError: a type that is none of those.
        """
        if stored not in TYPES:
            raise UserError(f"expected a cache dtype of {', '.join(TYPES)} for a language model, got {stored!r}")
        named = min(k or words, words)
        width = (named + 1) * TYPES[stored].itemsize + named * ids_of(words).itemsize
        return cls("likeliest", 0, "tokens", width, named, words, stored)

    @property
    def name(self) -> str:
        """likeliest-64-of-49152-float16"""
        return f"likeliest-{self.named}-of-{self.words}-{self.stored}"

    def pack(self, found: SparseLogits) -> Tensor:
        """(n, width) uint8."""
        values = torch.cat([found.log_probs, found.tail.unsqueeze(1)], 1)
        kind = TYPES[self.stored]
        values = values.clamp(min=torch.finfo(kind).min).where(values > -torch.inf, values)
        parts = values.to(kind).contiguous(), found.ids.to(ids_of(self.words)).contiguous()
        return torch.cat([part.view(torch.uint8) for part in parts], 1)

    def unpack(self, rows: Tensor) -> SparseLogits:
        """(n, width) uint8 -> what was packed; logarithms in the stored type."""
        border = (self.named + 1) * TYPES[self.stored].itemsize
        values = aligned(rows[:, :border]).view(TYPES[self.stored])
        ids = aligned(rows[:, border:]).view(ids_of(self.words))
        return SparseLogits(ids.long() & (1 << 8 * ids.itemsize) - 1, values[:, :-1], values[:, -1])


def ids_of(words: int) -> torch.dtype:
    """The smaller of two types whose bits hold the ids of so many words; the sign is one of them, as kernels for
    unsigned types are few."""
    return torch.int16 if words <= 1 << 16 else torch.int32


def aligned(part: Tensor) -> Tensor:
    """A copy that can be seen as numbers of several bytes."""
    return part.clone(memory_format=torch.contiguous_format)
