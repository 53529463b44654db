"""Contrastill: make a slow text encoder small and fast by contrastive knowledge distillation."""

import os
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime from 1.29 on reports its use; read when it is loaded

__version__ = "0.1.0.dev0"

__all__ = [
    "METHODS",
    "Augmentation",
    "Bench",
    "CacheBuild",
    "CachedTeacher",
    "Contrast",
    "Distillation",
    "EmbeddingDistillation",
    "Encoder",
    "Encoding",
    "Evaluation",
    "Export",
    "Finetuning",
    "FrozenEncoder",
    "Interrupted",
    "Labelling",
    "LanguageDistillation",
    "LanguageFinetuning",
    "Method",
    "Perturbed",
    "Prediction",
    "Pretraining",
    "Run",
    "Serving",
    "Stage",
    "Study",
    "SuiteEvaluation",
    "UserError",
    "Verification",
    "augment",
    "bench",
    "build_cache",
    "compare",
    "contrast",
    "distill",
    "evaluate",
    "export",
    "finetune",
    "label",
    "load_task",
    "make_student",
    "predict",
    "pretrain",
    "serve",
    "verify",
]

_HOMES = {
    **dict.fromkeys(
        (
            *("augment", "bench", "build_cache", "compare", "contrast", "distill", "evaluate"),
            *("export", "finetune", "label", "predict", "pretrain", "serve", "verify"),
        ),
        "api",
    ),
    "METHODS": "methods",
    "Method": "methods",
    "Perturbed": "methods",
    "Stage": "methods",
    "Study": "studies",
    "CachedTeacher": "teachers",
    "Encoder": "encoder",
    "Encoding": "encoder",
    "FrozenEncoder": "teachers",
    "UserError": "errors",
    "CacheBuild": "settings",
    "Contrast": "settings",
    "Distillation": "settings",
    "EmbeddingDistillation": "settings",
    "Pretraining": "settings",
    "Evaluation": "settings",
    "Finetuning": "settings",
    "load_task": "data.load",
    "make_student": "students",
    "Augmentation": "settings",
    "Bench": "settings",
    "Export": "settings",
    "Labelling": "settings",
    "LanguageDistillation": "settings",
    "LanguageFinetuning": "settings",
    "Prediction": "settings",
    "Serving": "settings",
    "Verification": "settings",
    "SuiteEvaluation": "settings",
}


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that `contrastill --help` need not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    from contrastill.errors import lacking

    try:
        return getattr(import_module(f"contrastill.{_HOMES.get(name, 'training')}"), name)
    except ModuleNotFoundError as error:
        if (found := lacking(error)) is None:
            raise
        raise ModuleNotFoundError(f"contrastill.{name}: {found}", name=error.name) from None


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
