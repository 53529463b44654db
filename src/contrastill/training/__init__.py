"""Whole runs, from settings to a folder with a model in it."""

from contrastill.training.cache_build import build_cache
from contrastill.training.commands import contrast, distill, distillation, evaluate, finetune, pretrain
from contrastill.training.labelled_plans import plan_distillation
from contrastill.training.preflight import check_run, fit_student
from contrastill.training.run import Run
from contrastill.training.trainer import Interrupted

__all__ = [
    "Interrupted",
    "Run",
    "build_cache",
    "check_run",
    "contrast",
    "distill",
    "distillation",
    "evaluate",
    "finetune",
    "fit_student",
    "plan_distillation",
    "pretrain",
]
