"""Two language models without the pieces of words that a run's texts lack, cut before the first step.

Shapes: N answer tokens, V words of the whole teacher, W words that are kept.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.data.prompt_batches import EncodedPrompts, collate_prompts, encode_prompts, texts_of_prompts
from contrastill.data.prompts import PromptData
from contrastill.errors import UserError
from contrastill.evaluation import size
from contrastill.evaluation.inference import inference
from contrastill.language import CausalLM, answer_tokens, token_slices
from contrastill.processes import processes
from contrastill.settings import LanguageDistillation
from contrastill.vocabulary import Cut, cut_model, smaller_tokenizer

__all__ = ["LanguageTrimming", "lost_mass", "trim_language_models"]

logger = logging.getLogger(__name__)

MEASURED = 256  # training rows by which the lost mass is measured
TOGETHER = 16  # of them at once
TOLERANCE = 1e-3  # of the largest logit


@dataclass(frozen=True)
class LanguageTrimming(Cut):
    """The pieces left out of teacher and student, and the teacher's mass on them."""

    rows: int
    """Training rows by which the lost mass was measured."""
    lost_mass: float
    """Share of the whole teacher's probability on words left out: the mean over the answer tokens of these rows."""
    teacher_size: Mapping[str, float]
    """Parameters and megabytes of the whole teacher."""

    def __str__(self) -> str:
        return (
            f"{self.told}; {self.lost_mass:.3%} of the teacher's mass lay on the others (a mean over the answer tokens "
            f"of {self.rows} training rows); from here on its distribution is over the pieces kept"
        )


def trim_language_models(
    settings: LanguageDistillation,
    data: PromptData,
    splits: Mapping[str, EncodedPrompts],
    tokenizer: Tokenizer,
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    dtype: torch.dtype | None,
) -> tuple[Tokenizer, dict[str, EncodedPrompts], LanguageTrimming]:
    """Leaves both models the rows of the pieces that the texts need; the tokenizer that has these alone, the rows as it
    reads them, and what was left out.

    settings: with the length of a row in tokens. splits: `data`, as `tokenizer` reads it. dtype: of autocast.

    Raises:
        UserError: a tokenizer or a model whose vocabulary cannot be cut.
    """
    texts = (text for rows in data.splits.values() for text in texts_of_prompts(rows, tokenizer, chat=settings.chat))
    try:
        smaller, ids = smaller_tokenizer([teacher, student], tokenizer, texts)
        again = read_again(settings, data, splits, smaller, ids)
        some = sampled(splits["train"])
        lost, whole = lost_mass(teacher, some, ids, dtype), size(teacher)
        first = [split["train"].rows[:1] for split in (splits, again)]
        for model in (teacher, student):
            saved = cut_checked(model, ids, *first)
    except UserError as error:
        raise UserError(f"--vocabulary {settings.vocabulary}: {error} (--vocabulary all)") from None
    told = LanguageTrimming(len(tokenizer), len(ids), saved, len(some), lost, whole)
    logger.info("%s", told)
    return smaller, again, told


def read_again(
    settings: LanguageDistillation,
    data: PromptData,
    splits: Mapping[str, EncodedPrompts],
    smaller: Tokenizer,
    ids: Sequence[int],
) -> dict[str, EncodedPrompts]:
    """The rows by the smaller tokenizer. ids: the old number of each new one.

    Raises:
        UserError: a text is read as other tokens than before.
    """
    length, chat, old = int(settings.max_length or 0), settings.chat, np.asarray(ids)
    found = {split: encode_prompts(rows, smaller, length, chat=chat) for split, rows in data.splits.items()}
    for split, read in found.items():
        before = splits[split].rows
        same = np.array_equal(read.rows.ends, before.ends) and np.array_equal(old[read.rows.tokens], before.tokens)
        if not same:
            raise UserError(
                f"expected a tokenizer that reads the texts of {split} as the same tokens without the pieces that none "
                "of them has, got one that does not; keep the whole vocabulary"
            )
    return found


def sampled(encoded: EncodedPrompts) -> list[Mapping[str, Any]]:
    """At most `MEASURED` of the rows, evenly spaced."""
    return list(encoded.rows[:: 1 + (len(encoded.rows) - 1) // MEASURED])


def lost_mass(
    teacher: PreTrainedModel, rows: Sequence[Mapping[str, Any]], ids: Sequence[int], dtype: torch.dtype | None = None
) -> float:
    """The share of a model's probability on the words outside `ids`: the mean over the rows' answer tokens.

    rows: of `encode_prompts`. ids: (W,) words. dtype: of autocast.
    """
    lm, total, tokens = CausalLM(teacher).to(processes().device), 0.0, 0
    with inference(lm, dtype):
        for batch in batches(rows, teacher.device):
            target, states = answer_tokens(batch), lm.states(batch)
            for some in token_slices(len(target), int(teacher.config.vocab_size)):
                mass = lm.head(states[some]).float().softmax(1)
                mass[:, ids] = 0
                total += float(mass.sum(1).double().sum())
            tokens += len(target)
    return total / max(1, tokens)


def batches(rows: Sequence[Mapping[str, Any]], device: torch.device) -> Iterable[dict[str, Tensor]]:
    for n in range(0, len(rows), TOGETHER):
        batch = collate_prompts(rows[n : n + TOGETHER], pad=0)  # by place: the id is not read
        yield {name: value.to(device) for name, value in batch.items()}


def cut_checked(
    model: PreTrainedModel,
    ids: Sequence[int],
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
) -> int:
    """Cuts a model down to these words; how many parameters are saved. before, after: rows under both numbers.

    Raises:
        UserError: it then says something else of the rows, as one with further tables of words does.
    """
    expected = answer_logits(model, before)[:, ids]
    saved = cut_model(model, ids)
    found = answer_logits(model, after)
    if found.shape != expected.shape or (found - expected).abs().max() > TOLERANCE * (1 + expected.abs().max()):
        raise UserError(
            f"expected a model with one table of words and one head to trim its vocabulary, got a "
            f"{model.config.model_type} that gives other logits after; keep the whole vocabulary"
        )
    return saved


def answer_logits(model: PreTrainedModel, rows: Sequence[Mapping[str, Any]]) -> Tensor:
    """The logits of the rows' answer tokens: (N, V)."""
    lm = CausalLM(model)
    with inference(lm):
        return torch.cat([lm(batch).float() for batch in batches(rows, model.device)])
