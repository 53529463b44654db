"""The commands that train, and `evaluate`: from settings to a run's folder."""

from functools import partial
from typing import Any

from contrastill.methods import method_class, method_name
from contrastill.settings import (
    Contrast,
    Distillation,
    EmbeddingDistillation,
    Evaluation,
    LanguageDistillation,
    LanguageFinetuning,
    Pretraining,
    finetuning,
)
from contrastill.tasks import Embedding, Language, task_name, trained_class
from contrastill.training.baseline import with_baseline
from contrastill.training.embeddings import plan_embedding
from contrastill.training.encoder import plan_pretraining
from contrastill.training.examples import score_model
from contrastill.training.folder import RunFolder
from contrastill.training.labelled_plans import plan_distillation, plan_finetuning
from contrastill.training.language_plans import plan_language_distillation, plan_language_finetuning
from contrastill.training.pairs import check_checkpoint, check_settings, plan_pairs
from contrastill.training.run import Run, finished, saving, train
from contrastill.training.teacher_run import as_teacher

__all__ = ["contrast", "distill", "distillation", "evaluate", "finetune", "pretrain"]


def finetune(*, resume: bool = False, **settings: Any) -> Run:
    """Trains a model on labels, or with task "language" on answers. Settings: see `Finetuning`, `LanguageFinetuning`.

    Raises:
        UserError: bad settings, data or model; before training where it can be known.
        Interrupted: stopped by Ctrl-C or SIGTERM, and saved; call again with `resume=True`.
    """
    settings = named(settings)
    kind = finetuning(settings.get("task"))
    asked: Any = kind.given(settings)
    if asked.task is not None:
        trained_class(asked.task)
    plan: Any = plan_language_finetuning if kind is LanguageFinetuning else plan_finetuning
    with RunFolder("finetune", asked, resume) as folder, saving(folder):
        return finished(folder, "model") or train(folder, partial(plan, folder.decided(asked)), resume)


def distill(*, resume: bool = False, **settings: Any) -> Run:
    """Distils a teacher of a task (or, with such a method, of sentence embeddings or of language) into a small student.

    method, task: a name of `METHODS` or `TASKS`, "package.module:Class", or a class of your own.

    Settings: see `Distillation`, `EmbeddingDistillation` and `LanguageDistillation`. Raises as `finetune` does.
    """
    settings, taken = named(settings), dict[str, Any]()
    kind = distillation(settings.get("method"))
    asked: Any = kind.given(settings)
    plan: Any = plan_language_distillation if kind is LanguageDistillation else plan_embedding
    if kind is Distillation:
        asked, taken = as_teacher(asked)
        plan = plan_distillation
    with RunFolder("distill", asked, resume) as folder, saving(folder):
        if taken:
            folder.note(as_teacher=taken)
        done = finished(folder, "student") or train(folder, partial(plan, folder.decided(asked)), resume)
        return with_baseline(done, folder, asked) if getattr(asked, "with_baseline", False) else done


def distillation(
    method: str | None,
) -> type[Distillation] | type[EmbeddingDistillation] | type[LanguageDistillation]:
    """The settings that a method's runs have."""
    made = None if method is None else method_class(method)
    if made is not None and made.serves(Language):
        return LanguageDistillation
    return EmbeddingDistillation if made is not None and made.serves(Embedding) else Distillation


def pretrain(*, resume: bool = False, **settings: Any) -> Run:
    """Distils an encoder into a general student. Settings: see `Pretraining`. Raises as `finetune` does."""
    asked = Pretraining.given(settings)
    with RunFolder("pretrain", asked, resume) as folder, saving(folder):
        return finished(folder, "student") or train(folder, partial(plan_pretraining, asked), resume)


def contrast(*, resume: bool = False, **settings: Any) -> Run:
    """Trains a sentence-embedding model on texts that belong together. Settings: see `Contrast`.

    The method is `SimCSE` or `DistillCSE`. No text occurs in two rows of a batch: one row's negative must not be
    another's positive. Raises as `finetune` does.
    """
    asked = Contrast.given(settings)
    check_settings(asked)
    with RunFolder("contrast", asked, resume) as folder, saving(folder):
        if done := finished(folder, "model"):
            return done
        if resume:
            check_checkpoint(folder)
        return train(folder, partial(plan_pairs, asked), resume)


def evaluate(**settings: Any) -> dict[str, Any]:
    """Scores a model on one split. Settings: see `Evaluation`. Returns metrics, interval and counts."""
    return score_model(Evaluation.given(named(settings))).to_json()


def named(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with the names of classes that were passed as method or task."""
    names = {"method": method_name, "task": task_name}
    return {key: names[key](value) if key in names else value for key, value in settings.items()}
