"""Contrastill: make a slow text encoder small and fast by contrastive knowledge distillation."""

import os
from typing import TYPE_CHECKING, Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime from 1.29 on reports its use; read when it is loaded

__version__ = "0.1.0.dev0"

__all__ = [
    "METHODS",
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
    "bench",
    "build_cache",
    "compare",
    "contrast",
    "distill",
    "evaluate",
    "export",
    "finetune",
    "load_task",
    "make_student",
    "predict",
    "pretrain",
    "serve",
    "verify",
]

_HOMES = {
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
    "bench": "timing",
    "compare": "report",
    "export": "exporting",
    "verify": "exporting",
    "predict": "prediction",
    "serve": "serving",
    "Bench": "settings",
    "Export": "settings",
    "Prediction": "settings",
    "Serving": "settings",
    "Verification": "settings",
    "SuiteEvaluation": "settings",
}

if TYPE_CHECKING:
    from contrastill.data.load import load_task
    from contrastill.encoder import Encoder, Encoding
    from contrastill.errors import UserError
    from contrastill.exporting import export
    from contrastill.exporting.verify import verify
    from contrastill.methods import METHODS, Method, Perturbed, Stage
    from contrastill.prediction import predict
    from contrastill.report import compare
    from contrastill.serving import serve
    from contrastill.settings import (
        Bench,
        CacheBuild,
        Contrast,
        Distillation,
        EmbeddingDistillation,
        Evaluation,
        Export,
        Finetuning,
        Prediction,
        Pretraining,
        Serving,
        SuiteEvaluation,
        Verification,
    )
    from contrastill.students import make_student
    from contrastill.studies import Study
    from contrastill.teachers import CachedTeacher, FrozenEncoder
    from contrastill.timing import bench
    from contrastill.training import Interrupted, Run
    from contrastill.training.cache_build import build_cache
    from contrastill.training.commands import contrast, distill, evaluate, finetune, pretrain


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that `contrastill --help` need not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"contrastill.{_HOMES.get(name, 'training')}"), name)
