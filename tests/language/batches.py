"""Batches of prompts and answers."""

from collections.abc import Sequence

import torch
from torch import Tensor


def batch_of(rows: Sequence[tuple[list[int], list[int]]], pad: int = 12) -> dict[str, Tensor]:
    """Prompts padded on the left, answers on the right; keys are the rows' numbers."""
    prompts, answers = zip(*rows, strict=True)
    longest, wide = max(map(len, prompts)), max(map(len, answers))
    return {
        "prompt": torch.tensor([[pad] * (longest - len(p)) + p for p in prompts]),
        "prompt_mask": torch.tensor([[False] * (longest - len(p)) + [True] * len(p) for p in prompts]),
        "answer": torch.tensor([a + [pad] * (wide - len(a)) for a in answers]),
        "answer_mask": torch.tensor([[True] * len(a) + [False] * (wide - len(a)) for a in answers]),
        "key": torch.arange(len(rows)),
    }
