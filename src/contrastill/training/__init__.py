"""Whole runs, from settings to a folder with a model in it."""

from contrastill.training.build import build_cache
from contrastill.training.contrast import contrast
from contrastill.training.distill import Run, distill, distillation, evaluate, finetune
from contrastill.training.perturbation import Perturbed
from contrastill.training.preflight import check_run
from contrastill.training.prepare import prepare_distillation
from contrastill.training.pretrain import pretrain
from contrastill.training.trainer import Interrupted

__all__ = [
    "Interrupted",
    "Perturbed",
    "Run",
    "build_cache",
    "check_run",
    "contrast",
    "distill",
    "distillation",
    "evaluate",
    "finetune",
    "prepare_distillation",
    "pretrain",
]
