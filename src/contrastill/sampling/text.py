"""Answers, and one model's.

Shapes: B prompts, P tokens of a prompt, R places of an answer; b rows not yet at an end.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from contrastill.errors import UserError, quoted_each
from contrastill.sampling.cache import Reader, extended, left_padded, packed
from contrastill.sampling.decoding import Decoding

__all__ = ["Text", "among", "begun", "evaluated", "sample"]


@dataclass(frozen=True)
class Text:
    """Answers of up to R tokens.

    ids: (B, R) int64, `pad` after an answer's end. mask: (B, R) bool, True up to and including the first end token.
    accepted: (B,) int64, tokens of the answer that the student drafted. drafted: (B,) int64, tokens that the student
    drafted in all, those after a refused one included. Both are 0 in the text of one model.
    """

    ids: Tensor
    mask: Tensor
    accepted: Tensor
    drafted: Tensor


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    prompt: Tensor,
    mask: Tensor,
    u: Tensor,
    ends: Collection[int],
    pad: int,
    decoding: Decoding,
    vocabulary: int | None = None,
) -> Text:
    """One model's answers to prompts (B, P), padded on the left by mask (B, P), by the numbers u (B, R).

    ends: tokens that end an answer. vocabulary: draws from the first so many tokens, where the head is padded; None:
    from all.

    Raises:
        UserError: an empty prompt, padding on the right, or a model without a key-value cache.
    """
    text, rows = begun(prompt, mask, u, pad)
    seen, fed = mask[rows].bool(), prompt[rows]
    with evaluated(model):
        reader = Reader(model)
        for place in range(u.shape[1]):
            if not len(rows):
                break
            tokens = decoding.choose(reader.read(fed, seen, 1)[:, -1, :vocabulary], u[rows, place])
            text.ids[rows, place] = tokens
            text.mask[rows, place] = True
            going = ~among(tokens, ends)
            rows, fed = rows[going], tokens[going].unsqueeze(1)
            seen = extended(packed([reader], seen, going))
    return text


def begun(prompt: Tensor, mask: Tensor, u: Tensor, pad: int) -> tuple[Text, Tensor]:
    """Answers of no tokens yet to prompts (B, P), with places for numbers u (B, R), and the rows (b,) to be answered.

    Raises:
        UserError: an empty prompt, or padding on the right.
    """
    if prompt.shape != mask.shape or prompt.dim() != 2 or u.shape[:-1] != prompt.shape[:1]:
        shapes = ", ".join(str(tuple(x.shape)) for x in (prompt, mask, u))
        raise ValueError(f"expected prompts (B, P), their mask (B, P) and numbers (B, R), got {shapes}")
    empty = (~mask.bool().any(1)).nonzero().flatten().tolist()
    if empty:
        raise UserError(f"expected at least one token in each prompt, got none in rows {quoted_each(empty)}")
    if not left_padded(mask.bool()):
        raise UserError("expected prompts padded on the left, got padding behind a token; set padding_side='left'")
    none = torch.zeros(len(u), dtype=torch.long, device=u.device)
    ids = torch.full_like(u, pad, dtype=torch.long)
    text = Text(ids, torch.zeros_like(ids, dtype=torch.bool), none, none.clone())
    return text, torch.arange(len(u) if u.shape[1] else 0, device=u.device)


def among(tokens: Tensor, ends: Collection[int]) -> Tensor:
    """Which of the tokens end an answer."""
    return torch.isin(tokens, tokens.new_tensor(list(ends)))


@contextmanager
def evaluated(*models: PreTrainedModel) -> Iterator[None]:
    """The models without dropout; afterwards each of their modules in the mode it was in."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
