"""Plans of runs on labelled rows, from their settings: a model that is fine-tuned, a student that is distilled."""

import logging
from dataclasses import replace
from typing import Any

from transformers import set_seed

from contrastill.data.labels import align_labels
from contrastill.data.load import TaskData
from contrastill.errors import UserError
from contrastill.loading import input_length, load_classifier, load_tokenizer, writes
from contrastill.methods import Finetune, Method, method_class, method_settings, read_settings
from contrastill.methods.perturbed import Perturbed
from contrastill.settings import LANGUAGE_METHODS, Distillation, Finetuning
from contrastill.shapes import AS_IS
from contrastill.students import parse_shape, start_student
from contrastill.tasks import Embedding, check_task, class_names, load_rows, task_given, task_of
from contrastill.teachers import AlignedTeacher, FrozenEncoder, cache_root, make_cache_folder
from contrastill.training.as_is import check_tokens, own_start, reads_alike
from contrastill.training.card import Origin
from contrastill.training.class_weights import weigh_classes
from contrastill.training.labelled import CacheChoice, LabelledPlan
from contrastill.training.method_choice import with_method
from contrastill.training.outputs import plan_outputs
from contrastill.training.plan import shorten_queue
from contrastill.training.probe import head_is_new
from contrastill.training.teacher_run import as_teacher

logger = logging.getLogger(__name__)

__all__ = ["plan_distillation", "plan_finetuning"]


def plan_finetuning(settings: Finetuning) -> LabelledPlan:
    data, tokenizer = load_rows(settings.data, **settings.reading()), load_tokenizer(settings.model)
    set_seed(settings.seed)
    task = task_of(data.schema, settings.task)
    weigh_classes(task, data, settings.class_weights)
    model = load_classifier(settings.model, tags=task.per == "token", **task.head())
    length, said = input_length(settings.max_length, settings.model, tokenizer, model.config), None
    if data.train is not None and head_is_new(model):
        tokenizer, said = task.fit_tokenizer(tokenizer, data.train, length.tokens)
    origin = Origin("finetune", "model", settings.model, settings.seed)
    plan = LabelledPlan.of(settings, data, tokenizer, Finetune(model, None, task), length, origin)
    if said is not None:
        plan.decided["tokenizer"] = said
        logger.info("tokenizer: %s", said)
    return plan


def plan_distillation(settings: Distillation) -> LabelledPlan:
    settings, _ = as_teacher(settings)
    if settings.teacher is None:
        return plan_outputs(settings)
    source, own, cache = settings.teacher, settings.student == AS_IS, cache_choice(settings)
    if cache is not None and cache.asked:
        make_cache_folder(cache.root)  # a folder that was asked for and can't be had is an error, before all work
    check_classifies(source)
    if settings.method is not None:
        check_task_method(settings)
    tokenizer = reader = load_tokenizer(source)
    settings, decided = with_method(settings)
    made, given = check_task_method(settings)
    teacher = load_classifier(source)
    if not own:
        parse_shape(settings.student, teacher.config)  # before the data are read
    settings = replace(settings, task=task_given(settings.task, teacher.config))
    data = load_rows(settings.data or "", **settings.reading(), unlabelled=settings.unlabelled)
    data = align_labels(data, class_names(teacher.config))
    task = task_of(data.schema, settings.task)
    check_task(task, source, teacher.config)
    task = task.like(teacher.config)
    weigh_classes(task, data, settings.class_weights)
    check_student(settings, data)
    set_seed(settings.seed)
    if own:
        start = own_start(settings, task, data.train, (source, teacher.config, tokenizer))
        student, tokenizer, length, decided = start.student, start.tokenizer, start.length, decided | start.decided
    else:
        texts = data.train["text"] if data.train is not None else None
        root = None if cache is None else cache.root
        student = start_student(teacher, tokenizer, settings.student, settings.start, settings.seed, texts, root)
        length = input_length(settings.max_length, source, tokenizer, teacher.config)
    apart = not reads_alike(tokenizer, reader)
    given = shorten_queue(method_settings(str(settings.method)) | given, len(data.train or ()))
    method = made(student, AlignedTeacher(FrozenEncoder(teacher)) if apart else teacher, task, **given)
    if apart:
        check_tokens(method, tokenizer, reader)
    if settings.stages:
        method.with_shares(settings.stages)
    plan = LabelledPlan.of(
        settings,
        data,
        tokenizer,
        method,
        length,
        Origin(
            "distill",
            "student",
            settings.start if own else settings.student,
            settings.seed,
            source,
            str(settings.method),
        ),
        teacher=teacher,
        model=Perturbed(method, settings.perturb, settings.epsilon) if settings.perturb else None,
        cache=cache,
        reader=reader if apart else None,
    )
    plan.decided = decided | plan.decided
    return plan


def check_task_method(settings: Distillation) -> tuple[type[Method], dict[str, Any]]:
    """The class of a method that learns a task with labels, and its settings.

    Raises:
        UserError: it learns something else; a setting that it does not have.
    """
    name = str(settings.method)
    made, given = method_class(name), read_settings(name, settings.set)
    if made.serves(Embedding):
        raise UserError(f"{name!r} distils sentence embeddings: it takes --texts, and no --data")
    if made.guesses_words:
        raise UserError(f"{name!r} learns masked words, without labels: contrastill pretrain takes it, on --texts")
    if made.per_group:
        raise UserError(f"{name!r} learns texts that belong together: contrastill contrast trains it, on --pairs")
    return made, given


def check_classifies(teacher: str) -> None:
    """Raises a UserError where a teacher is a language model, by its config."""
    if writes(teacher):
        raise UserError(
            f"{teacher} is a language model; methods for those are {', '.join(LANGUAGE_METHODS)}: --method gkd"
        )


def check_student(settings: Distillation, data: TaskData) -> None:
    """Raises a UserError where a student without layers is to read pairs of texts."""
    if settings.student.strip().startswith("static") and data.schema.text_pair:
        raise UserError(
            f"expected a student with layers for pairs of texts, got {settings.student}: it takes the mean of all "
            "words, and cannot tell whose they are; choose a shape with layers, such as 4L-312+e128+shared"
        )


def cache_choice(settings: Distillation) -> CacheChoice | None:
    if settings.cache == "none":
        return None
    return CacheChoice(cache_root(settings.cache), settings.cache_dtype, asked=settings.cache is not None)
