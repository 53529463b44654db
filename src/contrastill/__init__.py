"""Contrastill: make a slow text encoder small and fast by contrastive knowledge distillation."""

import os
from typing import TYPE_CHECKING, Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime from 1.29 on reports its use; read when it is loaded

__version__ = "0.1.0.dev0"

__all__ = [
    "METHODS",
    "CacheBuild",
    "CachedTeacher",
    "Contrast",
    "Distillation",
    "EmbeddingDistillation",
    "Encoder",
    "Encoding",
    "Evaluation",
    "Finetuning",
    "FrozenEncoder",
    "Interrupted",
    "Method",
    "Perturbed",
    "Pretraining",
    "Run",
    "Stage",
    "UserError",
    "build_cache",
    "contrast",
    "distill",
    "evaluate",
    "finetune",
    "load_task",
    "make_student",
    "pretrain",
]

_HOMES = {
    "METHODS": "methods",
    "Method": "methods",
    "Perturbed": "methods",
    "Stage": "methods",
    "CachedTeacher": "cache",
    "Encoder": "encoder",
    "Encoding": "encoder",
    "FrozenEncoder": "encoder",
    "UserError": "errors",
    "CacheBuild": "settings",
    "Contrast": "settings",
    "Distillation": "settings",
    "EmbeddingDistillation": "settings",
    "Pretraining": "settings",
    "Evaluation": "settings",
    "Finetuning": "settings",
    "load_task": "data",
    "make_student": "students",
}

if TYPE_CHECKING:
    from contrastill.cache import CachedTeacher
    from contrastill.data import load_task
    from contrastill.encoder import Encoder, Encoding, FrozenEncoder
    from contrastill.errors import UserError
    from contrastill.methods import METHODS, Method, Perturbed, Stage
    from contrastill.settings import (
        CacheBuild,
        Contrast,
        Distillation,
        EmbeddingDistillation,
        Evaluation,
        Finetuning,
        Pretraining,
    )
    from contrastill.students import make_student
    from contrastill.training import Interrupted, Run
    from contrastill.training.build import build_cache
    from contrastill.training.commands import contrast, distill, evaluate, finetune, pretrain


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that `contrastill --help` need not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"contrastill.{_HOMES.get(name, 'training')}"), name)
