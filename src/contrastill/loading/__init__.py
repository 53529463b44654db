"""The one door for models and tokenizers: each command opens what it needs here, and refuses it in the same words."""

from contrastill.loading.length import SCORED, TRAINED, Length, check_length, input_length, positions
from contrastill.loading.models import (
    first_line,
    load_classifier,
    load_config,
    load_embedder,
    load_encoder,
    load_like,
    load_tokenizer,
)
from contrastill.loading.place import Place, locate, model_folder, run_settings
from contrastill.loading.weights import FITS, check_ids, encoder_inside, highest_id, misfit, refuse_misfits, rows_of

__all__ = [
    "FITS",
    "SCORED",
    "TRAINED",
    "Length",
    "Place",
    "check_ids",
    "check_length",
    "encoder_inside",
    "first_line",
    "highest_id",
    "input_length",
    "load_classifier",
    "load_config",
    "load_embedder",
    "load_encoder",
    "load_like",
    "load_tokenizer",
    "locate",
    "misfit",
    "model_folder",
    "positions",
    "refuse_misfits",
    "rows_of",
    "run_settings",
]
