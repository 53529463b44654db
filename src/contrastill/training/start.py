"""The initial model of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.data.corpus import Corpus
from contrastill.errors import UserError
from contrastill.loading import attend
from contrastill.students import NoDirections, start_student
from contrastill.teachers.base import LiveTeacher

__all__ = ["attend_eagerly_on_cpu", "set_dropout", "start_encoder", "transformer_of"]

FITTED_TEXTS = 4096  # texts among which a start reads some


def start_encoder(
    settings: Any, teacher: PreTrainedModel, tokenizer: Tokenizer, corpus: Corpus, root: Path
) -> PreTrainedModel:
    """The student before training; what `inherit` is fitted on are texts of the corpus."""
    some = np.random.default_rng(settings.seed).permutation(len(corpus))[:FITTED_TEXTS]
    texts = corpus.texts(some)
    try:
        student = start_student(teacher, tokenizer, settings.student, settings.start, settings.seed, texts, root)
    except NoDirections:
        bad = first_not_finite(teacher, tokenizer, texts)
        if bad is None:
            raise
        raise UserError(f"the teacher's layers of {bad[:80]!r} are not finite; check the teacher's weights") from None
    attend_eagerly_on_cpu(student)
    return student


def attend_eagerly_on_cpu(model: PreTrainedModel) -> None:
    """Lets a model on a CPU compute attention as plain products, which is faster for small models on short texts."""
    if not torch.cuda.is_available():
        attend(model, "eager")


def first_not_finite(model: PreTrainedModel, tokenizer: Tokenizer, texts: Sequence[str]) -> str | None:
    """The first text for which the model's output is not finite."""
    for text in texts:
        batch = tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
        with torch.inference_mode():
            if not model(**batch).last_hidden_state.isfinite().all():
                return text
    return None


def transformer_of(teacher: LiveTeacher) -> PreTrainedModel:
    """The encoder inside a teacher.

    Raises:
        UserError: there is none (a table of word vectors): the student's shape can't be made of it.
    """
    found = teacher.transformer
    if found is None:
        raise UserError(
            f"the teacher ({type(teacher.model[0]).__name__}) has no transformer to make a student of; name an "
            "encoder with --student as-is --start MODEL"
        )
    return found


def set_dropout(model: nn.Module, share: float) -> None:
    """Sets every kind of dropout for training; the saved config keeps the model's own."""
    module: Any
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = share
        if isinstance(getattr(module, "dropout", None), float):  # T5 attention
            module.dropout = share
