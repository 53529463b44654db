"""The settings of each command, a dataclass each. Python keywords, command-line options and `run.json` come from it."""

from contrastill.settings.augmenting import Augmentation
from contrastill.settings.data import Corpus, DataSource
from contrastill.settings.deploy import (
    Bench,
    CacheBuild,
    Evaluation,
    Export,
    Prediction,
    Serving,
    SuiteEvaluation,
    Verification,
)
from contrastill.settings.labelling import Labelling
from contrastill.settings.language import (
    LANGUAGE_METHODS,
    LanguageDistillation,
    LanguageFinetuning,
    Prompts,
    finetuning,
)
from contrastill.settings.training import (
    EMBEDDING_METHODS,
    Contrast,
    Distillation,
    EmbeddingDistillation,
    Finetuning,
    Pretraining,
    Settings,
)

__all__ = [
    "EMBEDDING_METHODS",
    "LANGUAGE_METHODS",
    "Augmentation",
    "Bench",
    "CacheBuild",
    "Contrast",
    "Corpus",
    "DataSource",
    "Distillation",
    "EmbeddingDistillation",
    "Evaluation",
    "Export",
    "Finetuning",
    "Labelling",
    "LanguageDistillation",
    "LanguageFinetuning",
    "Prediction",
    "Pretraining",
    "Prompts",
    "Serving",
    "Settings",
    "SuiteEvaluation",
    "Verification",
    "finetuning",
]
