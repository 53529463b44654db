"""The only loader of models and tokenizers: every command opens them here, with the same errors."""

from contrastill.loading.length import SCORED, TRAINED, Length, input_length, positions
from contrastill.loading.models import (
    attend,
    default_prompt,
    load_causal_model,
    load_classifier,
    load_config,
    load_embedder,
    load_encoder,
    load_language_model,
    load_like,
    load_tokenizer,
    new_weights,
    writes,
)
from contrastill.loading.place import locate, model_folder
from contrastill.loading.weights import FITS, check_ids, encoder_inside, highest_id, misfit, refuse_misfits, rows_of
from contrastill.loading.words import split_words

__all__ = [
    "FITS",
    "SCORED",
    "TRAINED",
    "Length",
    "attend",
    "check_ids",
    "default_prompt",
    "encoder_inside",
    "highest_id",
    "input_length",
    "load_causal_model",
    "load_classifier",
    "load_config",
    "load_embedder",
    "load_encoder",
    "load_language_model",
    "load_like",
    "load_tokenizer",
    "locate",
    "misfit",
    "model_folder",
    "new_weights",
    "positions",
    "refuse_misfits",
    "rows_of",
    "split_words",
    "writes",
]
