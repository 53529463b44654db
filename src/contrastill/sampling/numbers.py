"""Random numbers by place: a hash of counters, so that no order of calls matters."""

import torch
from torch import Tensor

__all__ = ["uniform"]


def uniform(seed: int, step: int, keys: Tensor, places: int, stream: int = 0) -> Tensor:
    """Random numbers in [0, 1), float32 (B, places), each a hash of (seed, step, its row's key, place, stream) alone.

    keys: (B,) int64. seed, step, stream: of 64 bits, signed.
    """
    state = keys.new_zeros(())
    for part in (seed, step, stream):
        state = scrambled(state ^ part)
    state = scrambled(scrambled(state ^ keys.unsqueeze(1)) ^ torch.arange(places, device=keys.device))
    return shifted(state, 40).float() * 2.0**-24


def scrambled(state: Tensor) -> Tensor:
    """SplitMix64's step of each int64 (Steele et al. 2014), whose arithmetic wraps at 64 bits."""
    state = state + (0x9E3779B97F4A7C15 - 2**64)
    state = (state ^ shifted(state, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    state = (state ^ shifted(state, 27)) * (0x94D049BB133111EB - 2**64)
    return state ^ shifted(state, 31)


def shifted(state: Tensor, bits: int) -> Tensor:
    """int64 shifted right as if it had no sign."""
    return (state >> bits) & (2 ** (64 - bits) - 1)
