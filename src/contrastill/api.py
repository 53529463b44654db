"""The public functions: light to import, so that an editor completes them at once; each loads what it runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from contrastill.settings import (
    Augmentation,
    Bench,
    CacheBuild,
    Contrast,
    Distillation,
    EmbeddingDistillation,
    Evaluation,
    Export,
    Finetuning,
    Labelling,
    LanguageDistillation,
    LanguageFinetuning,
    Prediction,
    Pretraining,
    Serving,
    Verification,
)
from contrastill.settings.signatures import takes

if TYPE_CHECKING:
    from contrastill.augmenting import Augmented
    from contrastill.exporting.run import Exported
    from contrastill.exporting.verify import Verified
    from contrastill.labelling import Labelled
    from contrastill.prediction import Predictions
    from contrastill.training import Run
    from contrastill.training.cache_build import Built

__all__ = [
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
    "predict",
    "pretrain",
    "serve",
    "verify",
]


@takes(Finetuning, LanguageFinetuning)
def finetune(*, resume: bool = False, **settings: Any) -> "Run":
    """Trains a model on labels, or a language model on answers. resume: goes on with the interrupted run in `out`.

    Raises:
        UserError: bad settings, data or model; before training where it can be known.
        Interrupted: stopped by Ctrl-C or SIGTERM, and saved; call again with `resume=True`.
    """
    from contrastill.training import commands

    return commands.finetune(resume=resume, **settings)


@takes(Distillation, EmbeddingDistillation, LanguageDistillation)
def distill(*, resume: bool = False, **settings: Any) -> "Run":
    """Distils a teacher of a task (or, with such a method, of sentence embeddings or a language model) into a student.

    resume: continues the interrupted run in `out`. Raises as `finetune` does.
    """
    from contrastill.training import commands

    return commands.distill(resume=resume, **settings)


@takes(Pretraining)
def pretrain(*, resume: bool = False, **settings: Any) -> "Run":
    """Makes a general student of an encoder. resume: goes on with the interrupted run in `out`.

    Raises as `finetune` does.
    """
    from contrastill.training import commands

    return commands.pretrain(resume=resume, **settings)


@takes(Contrast)
def contrast(*, resume: bool = False, **settings: Any) -> "Run":
    """Trains a sentence-embedding model on texts that belong together; the method is `SimCSE` or `DistillCSE`.

    resume: continues the interrupted run in `out`. Raises as `finetune` does.
    """
    from contrastill.training import commands

    return commands.contrast(resume=resume, **settings)


@takes(Evaluation)
def evaluate(**settings: Any) -> dict[str, Any]:
    """Scores a model or a bundle on one split. Returns metrics, interval and counts."""
    from contrastill.training import commands

    return commands.evaluate(**settings)


@takes(CacheBuild)
def build_cache(**settings: Any) -> "Built":
    """Stores a teacher's outputs for every text of a corpus; outputs stored already are not computed again."""
    from contrastill.training import cache_build

    return cache_build.build_cache(**settings)


@takes(Export)
def export(**settings: Any) -> "Exported":
    """Exports a model as a deployable bundle.

    Raises:
        UserError: bad settings, model or data; no room on the disk.
        CheckFailed: more of the metric was lost than `max_drop` allows. Nothing is left behind.
    """
    from contrastill.exporting import run

    return run.export(**settings)


@takes(Verification)
def verify(**settings: Any) -> "Verified":
    """Checks a bundle's files, its answers to the stored texts and, given data, its metric.

    Returns what was found; "problems" is empty where all is well.
    """
    from contrastill.exporting import verify as checks

    return checks.verify(**settings)


@takes(Prediction)
def predict(*, stream: "IO[str] | None" = None, **settings: Any) -> "Predictions":
    """Answers texts with a bundle or a model, in the order of the rows.

    stream: the target of the answers if `out` is not given; by default stdout. For rows passed as objects, without
    `out`, the answers are in `.answers` of the result.
    """
    from contrastill.prediction import run

    return run.predict(stream=stream, **settings)


@takes(Labelling)
def label(**settings: Any) -> "Labelled":
    """Asks a language model behind an HTTP API for the class of each text, and stores each answer as it comes.

    Texts that are in `out` are not asked again.

    Raises:
        UserError: bad settings, texts or key; the endpoint refuses; the answers in `out` were made with other settings.
    """
    from contrastill import labelling

    return labelling.label(**settings)


@takes(Augmentation)
def augment(**settings: Any) -> "Augmented":
    """Makes further texts of training texts, by other words in place of some, for `distill(unlabelled=…)`.

    They have no labels. Texts that are in `out` are not made again.

    Raises:
        UserError: bad settings, data or model; the texts in `out` were made with other settings.
    """
    from contrastill import augmenting

    return augmenting.augment(**settings)


@takes(Serving)
def serve(**settings: Any) -> int:
    """Serves a bundle over HTTP until a signal. Returns the exit code: 1 if requests were cut off."""
    from contrastill import serving

    return serving.serve(**settings)


@takes(Bench)
def bench(**settings: Any) -> dict[str, Any]:
    """Times models in turns. Returns the content of `out`."""
    from contrastill import timing

    return timing.bench(**settings)


def compare(runs: Sequence[str | Path], out: str | Path = "comparison.html", to: str | Path | None = None) -> Path:
    """Writes one page of several runs' folders, side by side (of a single run: its report), and returns its path.

    to: the run to which the differences of the others are given, by default the first.
    """
    from contrastill import report

    return report.compare(runs, out, to)
