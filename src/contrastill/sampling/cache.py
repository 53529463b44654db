"""Key-value caches whose rows need not agree. Shapes: b rows, C columns of a cache, n tokens, V outcomes.

A mask (b, C) names the columns that later tokens may see; the others are padding, or tokens that were taken back.
"""

import inspect
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from contrastill.errors import UserError

__all__ = ["Reader", "extended", "left_padded", "packed"]


class Reader:
    """A model and the cache of the tokens that it has read."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model, self.cache = model, DynamicCache()  # without a config: sliding layers keep all columns too
        self.inputs = inspect.signature(model.forward).parameters

    def read(self, tokens: Tensor, seen: Tensor, last: int) -> Tensor:
        """Logits (b, last, V) of the last of tokens (b, n), which follow the cached ones; seen: (b, C + n) bool.

        Raises:
            UserError: a model that does not fill the cache.
        """
        cache = "cache" if "cache" in self.inputs else "past_key_values"  # its name before transformers 5.24
        output = self.model(
            input_ids=tokens,
            attention_mask=seen.long(),
            position_ids=(seen.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :],
            use_cache=True,
            **{cache: self.cache},
            **({"logits_to_keep": last} if "logits_to_keep" in self.inputs else {}),
        )
        if self.cache.get_seq_length() != seen.shape[1]:
            raise UserError(
                "expected a causal language model with attention, and a key-value cache, in every layer, got "
                f"{type(self.model).__name__}; choose another model"
            )
        return output.logits[:, -last:]

    def keep(self, rows: Tensor, columns: Tensor) -> None:
        """Cuts the cache to some rows, (b,) bool, and to the columns (b', C') of each, in their order."""
        index = columns[:, None, :, None]
        for layer in self.cache.layers:
            for name in ("keys", "values"):
                states = getattr(layer, name, None)
                if states is not None:  # else the layer borrows another's
                    states = states[rows]
                    setattr(layer, name, states.gather(2, index.expand(-1, states.shape[1], -1, states.shape[3])))


def packed(readers: Sequence[Reader], seen: Tensor, going: Tensor) -> Tensor:
    """Drops ended rows, and moves each row's unseen columns to its left, cut to the width of the longest row.

    A token's position is in its key, so no answer changes; a sliding window counts columns, and so counts tokens alone.
    seen: (b, C) bool, going: (b,) bool -> the new mask (b', C').
    """
    ongoing = seen[going]
    if not len(ongoing) or (len(ongoing) == len(seen) and left_padded(ongoing)):
        return ongoing
    width = int(ongoing.sum(1).max())
    columns = ongoing.int().argsort(stable=True, dim=1)[:, ongoing.shape[1] - width :]
    for reader in readers:
        reader.keep(going, columns)
    return ongoing.gather(1, columns)


def extended(seen: Tensor) -> Tensor:
    """A mask (b, C) with one seen column more."""
    return F.pad(seen, (0, 1), value=True)


def left_padded(mask: Tensor) -> bool:
    """Whether no row of a mask (B, C) bool is False behind a True."""
    return bool((mask[:, 1:] >= mask[:, :-1]).all())
