"""A yardstick for pairs: a linear fit on the frozen encoder's vectors of the two texts, each read by itself.

A model that reads both texts at once has to learn to compare them. An encoder of sentence embeddings knows which texts
are alike before any training, so where labelled pairs are few this fit can be far ahead (decision 11).

Shapes: N pairs, D the encoder's width, C outputs.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.evaluation.inference import inference, model_inputs
from contrastill.screen import progress
from contrastill.tasks import LabelledTask
from contrastill.training.probe import Array, by_strength, fit

__all__ = ["PAIRS", "fit_vectors"]

PAIRS = 5_000
"""Labelled training pairs below which the fit is made."""
BATCH = 64


def fit_vectors(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    task: LabelledTask,
    train: Dataset,
    splits: Mapping[str, Dataset],
    max_length: int,
    dtype: torch.dtype | None = None,
    seed: int = 0,
) -> dict[str, Array] | None:
    """Logits (N, C) for the pairs of each split. None: the task has no linear fit, or the pairs are too few.

    Fitted to `train`, of which every row has a label, on the vectors' cosine alone, or also on their absolute
    difference and product, whichever has the lower loss on a fifth of the rows.
    """
    labels = np.asarray(train["label"])
    features = alike(model, tokenizer, train, max_length, dtype)
    judged = {columns: by_strength(task, features[:, :columns], labels, seed) for columns in (1, features.shape[1])}
    found = [(fits[0].loss, fits[0].strength, columns) for columns, fits in judged.items() if fits is not None]
    if not found:
        return None
    _, strength, columns = min(found)
    fitted = fit(task, features[:, :columns].numpy(), labels, strength)
    assert fitted is not None
    weights, biases = fitted
    return {
        split: (alike(model, tokenizer, rows, max_length, dtype)[:, :columns].numpy() @ weights.T + biases)
        for split, rows in splits.items()
    }


def alike(
    model: PreTrainedModel, tokenizer: Tokenizer, rows: Dataset, max_length: int, dtype: torch.dtype | None
) -> Tensor:
    """(N, 1 + 2 D): the cosine of the two texts' vectors u and v, |u - v|, and u * v."""
    one, other = list(rows["text"]), list(rows["text_pair"])
    known = vectors(model, tokenizer, list(dict.fromkeys([*one, *other])), max_length, dtype)
    u, v = (torch.stack([known[text] for text in texts]) for texts in (one, other))
    return torch.cat([(u * v).sum(1, keepdim=True), (u - v).abs(), u * v], 1)


def vectors(
    model: PreTrainedModel, tokenizer: Tokenizer, texts: Sequence[str], max_length: int, dtype: torch.dtype | None
) -> dict[str, Tensor]:
    """The mean of each text's tokens, (D,) of length 1, float32, on the CPU."""
    found: dict[str, Tensor] = {}
    ordered = sorted(texts, key=len)
    with inference(model, dtype), progress(len(ordered), "texts of pairs, to fit a yardstick") as advance:
        for n in range(0, len(ordered), BATCH):
            some = ordered[n : n + BATCH]
            batch = tokenizer(some, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
            inputs = model_inputs(batch, model.device)
            hidden = model.base_model(**inputs).last_hidden_state.float()
            mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            means = F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).cpu()
            found |= zip(some, means, strict=True)
            advance(len(some))
    return found
