"""Distillation losses: pure functions of tensors, student before teacher. They know no model, state or settings."""

from contrastill.losses.attention import attention_mse
from contrastill.losses.contrast import cos_nce, negatives_of, unit_mean
from contrastill.losses.hidden import hidden_mse, normalised_mse
from contrastill.losses.soft import hard_cross_entropy, hard_mse, kd, soft_kl, soft_mse

__all__ = [
    "attention_mse",
    "cos_nce",
    "hard_cross_entropy",
    "hard_mse",
    "hidden_mse",
    "kd",
    "negatives_of",
    "normalised_mse",
    "soft_kl",
    "soft_mse",
    "unit_mean",
]
