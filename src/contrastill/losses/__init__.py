"""Distillation losses: pure functions of tensors, student before teacher. They know no model, state or settings."""

from contrastill.losses.attention import attention_mse, relation_kl
from contrastill.losses.contrast import (
    centred_cosine,
    contrast,
    cos_nce,
    group_shuffled,
    negatives_of,
    similarity_targets,
    unit_mean,
)
from contrastill.losses.hidden import hidden_mse, normalised_mse, unit_distance
from contrastill.losses.language import (
    SparseLogits,
    decoupled,
    forward_kl,
    jensen_shannon,
    outcomes,
    reverse_kl,
    same_outcomes,
    skew_kl,
    skew_reverse_kl,
    top_k,
)
from contrastill.losses.relations import difference_mse, inter_class, intra_class
from contrastill.losses.soft import (
    bucket_kl,
    hard_binary_cross_entropy,
    hard_cross_entropy,
    hard_mse,
    soft_binary_kl,
    soft_kl,
    soft_mse,
    token_cross_entropy,
    token_soft_kl,
)

__all__ = [
    "SparseLogits",
    "attention_mse",
    "bucket_kl",
    "centred_cosine",
    "contrast",
    "cos_nce",
    "decoupled",
    "difference_mse",
    "forward_kl",
    "group_shuffled",
    "hard_binary_cross_entropy",
    "hard_cross_entropy",
    "hard_mse",
    "hidden_mse",
    "inter_class",
    "intra_class",
    "jensen_shannon",
    "negatives_of",
    "normalised_mse",
    "outcomes",
    "relation_kl",
    "reverse_kl",
    "same_outcomes",
    "similarity_targets",
    "skew_kl",
    "skew_reverse_kl",
    "soft_binary_kl",
    "soft_kl",
    "soft_mse",
    "token_cross_entropy",
    "token_soft_kl",
    "top_k",
    "unit_distance",
    "unit_mean",
]
