"""Students that are no kin of their teacher: any encoder as it is, with a tokenizer of its own."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.alignment import overlaps
from contrastill.data.both import TEACHER
from contrastill.data.collate import truncated_share
from contrastill.data.windows import Encoded
from contrastill.errors import UserError
from contrastill.loading import (
    TRAINED,
    Length,
    input_length,
    load_classifier,
    load_config,
    load_tokenizer,
    locate,
    positions,
)
from contrastill.methods import Method
from contrastill.settings import Distillation, Pretraining
from contrastill.students.families import head_linears
from contrastill.tasks import LabelledTask, output_names
from contrastill.training.probe import head_is_new

__all__ = [
    "OwnStart",
    "check_tokens",
    "compares_tokens",
    "length_of",
    "own_start",
    "reads_alike",
    "told_of",
    "told_of_tokens",
]

logger = logging.getLogger(__name__)

NO_IDS = {"truncation", "padding", "version", "decoder"}
"""Parts of a tokenizer's file by which no text gets other ids."""
OF_TOKENS = {"attention", "qkv"}
"""Outputs that are of tokens whatever the granularity of layers."""


@dataclass(frozen=True)
class OwnStart:
    """An encoder with a head for the task, its tokenizer, the length at which texts are cut, and what was decided."""

    student: PreTrainedModel
    tokenizer: Tokenizer
    length: Length
    decided: dict[str, str] = field(default_factory=dict)


def reads_alike(one: Tokenizer, other: Tokenizer) -> bool:
    """Whether two tokenizers give the same ids for every text."""
    return one is other or (len(one) == len(other) and facts_of(one) == facts_of(other))


def facts_of(tokenizer: Tokenizer) -> Any:
    backend = json.loads(tokenizer.backend_tokenizer.to_str()) if tokenizer.is_fast else {"": id(tokenizer)}
    facts = {name: value for name, value in backend.items() if name not in NO_IDS}
    typed = "token_type_ids" in tokenizer.model_input_names
    return facts, typed, tokenizer.padding_side, tokenizer.pad_token_id


def compares_tokens(method: Method) -> bool:
    """Whether a method compares layers token by token, or tokens with each other."""
    layers = "hidden" in method.needs and method.granularity == "tokens"
    return method.uses_teacher and (layers or bool(OF_TOKENS & set(method.needs)))


def check_tokens(method: Method, *tokenizers: Tokenizer) -> None:
    """Raises a UserError if a method compares tokens, and a tokenizer does not tell which characters they show."""
    if compares_tokens(method) and not all(each.is_fast for each in tokenizers):
        other = (
            "choose lrc_bert with --set granularity=mean"
            if OF_TOKENS & set(method.needs)
            else "pass --set granularity=mean"
        )
        raise UserError(
            f"{method.name!r} compares token by token, which takes fast tokenizers (tokenizer.json) of student and "
            f"teacher, got a slow one; {other}, or save it again as a fast one"
        )


def own_start(
    settings: Distillation, task: LabelledTask, train: Dataset | None, teacher: tuple[str, Any, Tokenizer] | None
) -> OwnStart:
    """Opens the start of a student that is taken as it is. Its head is kept if it names the task's labels in their
    order, else made new. teacher: name, config and tokenizer; None: there is no model.

    Raises:
        UserError: no such model; a length that it, or the teacher, cannot read.
    """
    tokenizer = load_tokenizer(settings.start)
    place = locate(settings.start)
    config = load_config(place) if place.file("config.json") is not None else None  # an adapter has none
    fits = config is not None and task.fits(config) and (not task.names or output_names(config) == list(task.names))
    student = load_classifier(settings.start, tags=task.per == "token", **task.head())
    if not fits and not head_is_new(student):
        make_head_new(student)
    new = head_is_new(student)
    decided = {"head": "made new" if new else "the start's own: it has the labels of the task"}
    length = length_of(settings, tokenizer, student, teacher)
    if new and train is not None:
        tokenizer, said = task.fit_tokenizer(tokenizer, train, length.tokens)
        decided |= {} if said is None else {"tokenizer": said}
    for name, how in decided.items():
        logger.info("%s: %s", name, how)
    return OwnStart(student, tokenizer, length, decided)


@torch.no_grad()
def make_head_new(model: PreTrainedModel) -> None:
    """Gives the layer of the logits random weights, as if the file had had none."""
    last: Any = head_linears(model)[1]
    if last is None:
        return
    last.weight.normal_(0.0, getattr(model.config, "initializer_range", 0.02))
    if last.bias is not None:
        last.bias.zero_()
    names = {f"{name}.weight" for name, module in model.named_modules() if module is last}
    vars(model)["new_weights"] = {*vars(model).get("new_weights", ()), *names}


def length_of(
    settings: Distillation | Pretraining,
    tokenizer: Tokenizer,
    student: PreTrainedModel,
    teacher: tuple[str, Any, Tokenizer] | None,
) -> Length:
    """The length at which student and teacher cut their texts, each in tokens of its own, which both can read."""
    if teacher is None:
        return input_length(settings.max_length, settings.start, tokenizer, student.config)
    name, config, theirs = teacher
    length = input_length(settings.max_length, name, theirs, config, TRAINED, tokenizer)
    room = positions(student.config)
    if settings.max_length is None and room is not None and room < length.tokens:
        return Length(room, "the student's own limit")
    return length


def told_of(
    task: LabelledTask, rows: Dataset, encoded: Encoded, batch: Mapping[str, Tensor], reader: Tokenizer, limit: int
) -> str:
    """What is to be known of a teacher that reads training texts by its own tokenizer, `reader`, cut at `limit` tokens.

    batch: some of them as both read them.
    """
    said = ["reads the texts by its own tokenizer"]
    if encoded.readings is None:
        said.append(f"{truncated_share(rows, reader, limit):.1%} of them are cut for it")
    else:
        words = sum(len(window.units) for reading in encoded.readings for window in reading.windows)
        known = sum(map(sum, encoded.rows["answered"]))
        said.append(f"{1 - known / max(1, words):.1%} of the words are none for it, and have no soft label")
    if "places" in batch:
        said.append(told_of_tokens(batch))
    return "; ".join(said)


def told_of_tokens(batch: Mapping[str, Tensor]) -> str:
    """The share of the student's tokens that have a token of the teacher, in a batch with the places of both."""
    met = overlaps(batch["places"], batch[TEACHER + "places"])
    real = int(batch["attention_mask"].sum())
    alone = met & (met.sum(1, keepdim=True) == 1) & (met.sum(2, keepdim=True) == 1)
    return (
        f"{float(alone.sum()) / real:.1%} of the student's tokens have one of its tokens to themselves; "
        f"{1 - float(met.any(2).sum()) / real:.1%} show no character of its tokens, and are not compared"
    )
