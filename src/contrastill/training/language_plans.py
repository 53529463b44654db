"""Plans of runs on language models: from the settings to models, rows and method."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel, set_seed
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.data.prompt_batches import EncodedPrompts, encode_prompts, end_ids
from contrastill.data.prompts import PromptData, load_prompts
from contrastill.errors import UserError
from contrastill.loading import Length, input_length, load_tokenizer, positions
from contrastill.methods import METHODS, SFT, method_class, read_settings
from contrastill.settings import LanguageDistillation, LanguageFinetuning
from contrastill.shapes import AS_IS
from contrastill.tasks import Language
from contrastill.teachers import FrozenLM, cache_root, make_cache_folder
from contrastill.training.as_is import reads_alike
from contrastill.training.card import Origin
from contrastill.training.language import LanguagePlan
from contrastill.training.language_models import load_exact_model
from contrastill.training.language_start import start_language_model, with_start
from contrastill.training.language_vocabulary import trim_language_models
from contrastill.training.plan import autocast_dtype

__all__ = ["plan_language_distillation", "plan_language_finetuning"]

WINDOW = 512  # tokens of prompt and answer, where neither the user nor a run says how many


def plan_language_finetuning(settings: LanguageFinetuning) -> LanguagePlan:
    tokenizer, model = load_tokenizer(settings.model), load_exact_model(settings.model)
    settings, data, splits, length, task = read(settings, settings.model, tokenizer, model)
    set_seed(settings.seed)
    origin = Origin("finetune", "model", settings.model, settings.seed, method="sft")
    return LanguagePlan(settings, data, splits, tokenizer, SFT(model, None, task), length, origin)


def plan_language_distillation(settings: LanguageDistillation) -> LanguagePlan:
    made, given = method_class(settings.method), read_settings(settings.method, settings.set)
    if not made.serves(Language):
        known = ", ".join(name for name, cls in METHODS.items() if cls.serves(Language))
        raise UserError(f"expected a method for language models ({known}), got {settings.method!r}")
    if settings.cache not in (None, "none"):
        make_cache_folder(cache_root(settings.cache))  # that it can't be had is an error before all work
    tokenizer, teacher = load_tokenizer(settings.teacher), load_exact_model(settings.teacher)
    if settings.student == AS_IS and not reads_alike(tokenizer, load_tokenizer(str(settings.start))):
        raise UserError(
            f"expected student and teacher with one tokenizer, got those of {settings.start} and {settings.teacher}, "
            "which differ: a token of one is no token of the other. Choose models of one family, or make the student "
            "of the teacher (--student 8L)"
        )
    settings = with_start(settings, teacher)
    settings, data, splits, length, task = read(settings, settings.teacher, tokenizer, teacher)
    set_seed(settings.seed)
    student, trimmed = start_language_model(settings, teacher, splits["train"].rows, task.pad), None
    if settings.vocabulary != "all":
        dtype = autocast_dtype(settings)
        tokenizer, splits, trimmed = trim_language_models(settings, data, splits, tokenizer, teacher, student, dtype)
        task = language_task(settings, splits, tokenizer, teacher)
    frozen = FrozenLM(teacher)
    method: Any = made(student, frozen if made.uses_teacher else None, task, **given)
    if settings.stages:
        method.with_shares(settings.stages)
    return LanguagePlan(settings, data, splits, tokenizer, method, length, origin_of(settings), frozen, trimmed)


def origin_of(settings: LanguageDistillation) -> Origin:
    shape = str(settings.start) if settings.student == AS_IS else settings.student
    return Origin("distill", "student", shape, settings.seed, settings.teacher, settings.method)


def read(
    settings: Any, name: str, tokenizer: Tokenizer, model: PreTrainedModel
) -> tuple[Any, PromptData, dict[str, EncodedPrompts], Length, Language]:
    """The rows of a run, as its models read them."""
    data = load_prompts(settings.data, **settings.reading())
    length = input_length(settings.max_length, name, tokenizer, model.config, WINDOW)
    settings = replace(settings, max_length=length.tokens)
    splits = {
        split: encode_prompts(rows, tokenizer, length.tokens, chat=settings.chat) for split, rows in data.splits.items()
    }
    task = language_task(settings, splits, tokenizer, model)
    check_window(task, length, model)
    return settings, data, splits, length, task


def language_task(
    settings: Any, splits: Mapping[str, EncodedPrompts], tokenizer: Tokenizer, model: PreTrainedModel
) -> Language:
    """The task of writing the answers of these rows. settings: with the length of a row in tokens."""
    return Language(
        tuple(dict.fromkeys((*splits["train"].ends, *end_ids(tokenizer, model)))),
        pad_of(tokenizer),
        max(int(one.prompt_lengths.max()) for one in splits.values()),
        settings.new_tokens or int(splits["train"].answer_lengths.max()),
        settings.seed,
    )


def pad_of(tokenizer: Tokenizer) -> int:
    pad: Any = tokenizer.pad_token_id  # `load_tokenizer` has seen to it that there is one
    return int(pad)


def check_window(task: Language, length: Length, model: PreTrainedModel) -> None:
    """Raises a UserError where the longest prompt and a new answer together are more than the model can read."""
    room, need = positions(model.config), task.longest_prompt + task.new_tokens
    if room is not None and need > room:
        raise UserError(
            f"expected prompts and new answers of {room} tokens together, as the model has positions, got "
            f"{task.longest_prompt} + {task.new_tokens}; lower --new-tokens, or shorten the longest prompts"
        )
