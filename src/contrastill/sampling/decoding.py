"""The choice of a token from a model's logits. Shapes: B rows, V tokens of the vocabulary."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from contrastill.errors import UserError

__all__ = ["Decoding"]


@dataclass(frozen=True)
class Decoding:
    """The distribution that a token is drawn from.

    temperature: divides the logits; 0 takes the most likely token. top_p: the nucleus (Holtzman et al. 2020,
    arXiv:1904.09751): the fewest most likely tokens of a tempered mass of at least top_p; 1 leaves all.

    Raises:
        UserError: a temperature below 0 or infinite, or top_p outside (0, 1].
    """

    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise UserError(
                f"expected a temperature of at least 0, got {self.temperature}; 1 draws from the model's "
                "probabilities, 0 takes the most likely token"
            )
        if not 0 < self.top_p <= 1:
            raise UserError(f"expected top_p above 0 and at most 1, got {self.top_p}; 1 draws from all tokens")

    def choose(self, logits: Tensor, u: Tensor) -> Tensor:
        """Tokens (B,) of raw logits (B, V): where the cumulated mass, in the order of ids, exceeds u (B,) in [0, 1).

        Of logits that are no numbers some token: a diverged model is told of by its loss.
        """
        if self.temperature == 0:
            return logits.argmax(-1)
        chances = (logits.float() / self.temperature).softmax(-1)
        if self.top_p < 1:
            chances = nucleus(chances, self.top_p)
        mass = chances.cumsum(-1, dtype=torch.float64)
        place = torch.searchsorted(mass, u.unsqueeze(1) * mass[:, -1:], right=True).squeeze(1)
        return place.clamp(max=logits.shape[-1] - 1)


def nucleus(chances: Tensor, top_p: float) -> Tensor:
    """Probabilities (B, V) with 0 outside the fewest most likely tokens of a mass of at least top_p; ties by id."""
    ordered, ids = chances.sort(stable=True, dim=-1, descending=True)
    before = ordered.cumsum(-1, dtype=torch.float64) - ordered
    return torch.zeros_like(chances).scatter(-1, ids, ordered.masked_fill(before >= top_p, 0.0))
