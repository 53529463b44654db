"""A language model's likeliest words for the given answers of a run: stored before its first step, or not, and why."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.data.prompt_batches import EncodedPrompts
from contrastill.errors import UserError
from contrastill.methods import LanguageMethod
from contrastill.processes import processes
from contrastill.settings import LanguageDistillation
from contrastill.teachers import CachedLM, answer_keys, cache_root, make_cache_folder

__all__ = ["store_words"]

logger = logging.getLogger(__name__)


def store_words(
    settings: LanguageDistillation,
    method: LanguageMethod,
    splits: Sequence[EncodedPrompts],
    tokenizer: Tokenizer,
    dtype: torch.dtype | None,
) -> tuple[CachedLM | None, str]:
    """Runs the method's teacher on the rows that are not stored yet: the stored teacher, None where it is to run in
    every step; and which of both, in words.

    splits: those that are learnt from or scored by the method's loss, the training rows first. dtype: of autocast.

    Raises:
        UserError: the folder cannot be written to or has no room, and was asked for (unasked, the teacher is run live,
            and a log line says why).
    """
    if why := needless(settings, method):
        return live(why)
    try:
        make_cache_folder(cache_root(settings.cache))
    except UserError as error:
        if settings.cache is not None:
            raise
        return live(str(error), logging.WARNING)
    stored = CachedLM(
        method.teacher,
        int(method.student.model.config.vocab_size),
        cache_root(settings.cache),
        k=settings.top_k,
        stored=settings.cache_dtype,
        computed="bfloat16" if dtype is torch.bfloat16 else "float32",
        name=settings.teacher,
    )
    lengths = np.concatenate([split.answer_lengths for split in splits])
    new = lengths[stored.missing(np.concatenate([answer_keys(split.rows) for split in splits]))]
    need, free = stored.space_needed(new)
    processes().wait_for_everyone()  # all decide by the same cache
    if need > free * (0.95 if settings.cache else 0.5):
        why = (
            f"its likeliest words for {new.sum():,} answer tokens take {need / 1e9:.2f} GB, of {free / 1e9:.2f} GB "
            f"free at {stored.root}; a lower --top-k takes less"
        )
        if settings.cache is not None:
            raise UserError(f"no room for the teacher: {why}; or pass --cache none")
        return live(why, logging.WARNING)
    logger.info(
        "teacher outputs: %s, %d bytes a token, %.1f MB for %s answer tokens that are not stored yet (of %s), at %s "
        "(%.0f GB free)",
        words_of(stored),
        stored.field.width,
        need / 1e6,
        f"{new.sum():,}",
        f"{lengths.sum():,}",
        stored.root,
        free / 1e9,
    )
    for split in splits:
        stored.fill_rows(split.rows, int(tokenizer.pad_token_id), say=lambda row: repr(tokenizer.decode(row["prompt"])))
    outside = f"{stored.outside(splits[0].rows):.2%} of the teacher's mass lies outside"
    logger.info("teacher outputs: %s", outside)
    return stored, f"{words_of(stored)} stored for each answer token; {outside}"


def needless(settings: LanguageDistillation, method: LanguageMethod) -> str:
    """The reason for which nothing is to be stored; empty: there is none."""
    if settings.cache == "none":
        return "--cache none"
    if method.writes or method.asks_live:
        return f"{method.name!r}, with these settings, asks it what no cache holds"
    if settings.cache is None and settings.epochs <= 1:
        return "no answer is learnt from twice (--cache DIR stores its words all the same, for other runs)"
    return ""


def live(why: str, level: int = logging.INFO) -> tuple[None, str]:
    logger.log(level, "the teacher runs in every step: %s", why)
    return None, f"run in every step: {why}"


def words_of(stored: CachedLM) -> str:
    named, words = stored.field.named, stored.field.words
    return f"all {words:,} words" if named == words else f"the {named:,} likeliest of {words:,} words"
