"""Checks of weights that have been loaded: whole, finite, of the sizes that config.json says, and not constant."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.errors import UserError, first_line

__all__ = [
    "FITS",
    "check_ids",
    "check_reads",
    "check_values",
    "check_whole_weights",
    "highest_id",
    "misfit",
    "refuse_misfits",
    "rows_of",
]

FITS = "tokenizer fits the models"

WRAPPERS = {
    "module.": "torch's DataParallel: save model.module",
    "_orig_mod.": "torch.compile: save the model that was compiled",
    "model.": "a trainer's own module, as Lightning's: save the model inside it",
}
BELOW = re.compile(r"(.*?)\.(\d+)\.")  # a layer's number in the name of a weight


def check_whole_weights(
    name: str, model: PreTrainedModel, report: Mapping[str, Any], *, new_head: bool, head: bool
) -> None:
    """Checks what transformers reports of a load: every weight of the encoder must have come from the file.

    new_head: whether a head (and pooler) that is missing, or made for other classes, is made new. head: whether there
    is one; where there is none nothing but a pooler, which no answer of an encoder is made of, may be missing.

    Raises:
        UserError: weights are missing, or have other sizes than config.json says.
    """
    base = f"{model.base_model_prefix}." if model is not model.base_model else ""

    def may_be_new(key: str) -> bool:
        above = not key.startswith(base) if base else False
        pooler = key.removeprefix(base).startswith("pooler.")
        return (above or pooler) if new_head else (pooler and not head)

    shapes = {key: (list(ours), list(theirs)) for key, ours, theirs in report["mismatched_keys"]}
    if wrong := sorted(key for key in shapes if not may_be_new(key)):
        found, expected = shapes[wrong[0]]
        raise UserError(
            f"the weights of {name!r} do not fit its config.json: {wrong[0]} is {found}, config.json expects "
            f"{expected}{f', and {len(wrong) - 1} more' if len(wrong) > 1 else ''}; "
            "give the config.json they were saved with"
        )
    if missing := sorted(key for key in report["missing_keys"] if not may_be_new(key)):
        raise UserError(
            f"the weights of {name!r} lack {len(missing)} tensors that the model needs ({', '.join(missing[:3])}"
            f"{', …' if len(missing) > 3 else ''}){cause(missing, report['unexpected_keys'], model, base)}"
        )


def cause(missing: Collection[str], unexpected: Collection[str], model: PreTrainedModel, base: str) -> str:
    """The likely reason of the missing weights, and what to do."""
    for key in unexpected:
        for lost in missing:
            for tail in (lost, lost.removeprefix(base)):
                if key != lost and key.endswith(f".{tail}"):
                    prefix = key.removesuffix(tail).removesuffix(base)
                    known = next((what for start, what in WRAPPERS.items() if prefix.startswith(start)), None)
                    what = known or "the model was saved inside another: save the inner one"
                    return f": in the file their names begin with {prefix[:80]!r} ({what} with save_pretrained)"
    if base and all(not key.startswith(base) for key in missing):
        return "; give a whole fine-tuned classifier (contrastill finetune makes one of a bare encoder)"
    layers: dict[str, set[int]] = {}
    for key in model.state_dict():
        if match := BELOW.match(key):
            layers.setdefault(match[1], set()).add(int(match[2]))
    stack = max(layers, key=lambda one: len(layers[one]), default="")
    absent = {int(match[2]) for key in missing if (match := BELOW.match(key)) and match[1] == stack}
    whole = {
        number for number in absent
        if all(key in missing for key, _ in model.named_parameters() if key.startswith(f"{stack}.{number}."))
    }  # fmt: skip
    if whole:
        return (
            f": config.json has {len(layers[stack])} layers, the file {len(layers[stack]) - len(whole)}; give the "
            "config.json they were saved with, or the whole weights"
        )
    return "; save the whole model with save_pretrained"


def check_values(name: str, model: nn.Module) -> None:
    """Raises a UserError, which names the weight, unless every weight is a number and not all are 0."""
    matrices = nonzero = 0
    for key, value in model.named_parameters():
        if not value.isfinite().all():
            raise UserError(f"the weights of {name!r} are not finite (NaN or infinity in {key}); train it again")
        if value.dim() > 1:
            matrices += 1
            nonzero += bool(value.any())
    if matrices and not nonzero:
        raise UserError(
            f"the weights of {name!r} are all 0: it gives every text the same answer; train it, or save it again"
        )


def check_reads(name: str, model: nn.Module, answers: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Raises a UserError where a model cannot read two short texts, of tokens from all over its vocabulary, or answers
    them alike. answers: (1, L) token ids and their mask -> the model's answer."""
    rows = rows_of(model) or 0
    ids = torch.linspace(rows * 0.05, rows - 1, 16).long().view(8, 2).T
    training = model.training
    try:
        model.eval()
        with torch.no_grad():
            first, second = (answers(one[None], torch.ones_like(one[None])) for one in ids)
    except Exception as error:  # of any architecture, in whichever of its layers
        raise UserError(f"{name!r} cannot read a text: {type(error).__name__}: {first_line(error)}") from None
    finally:
        model.train(training)
    if torch.equal(first, second):
        raise UserError(
            f"{name!r} gives every text the same answer: layers or a head of its weights are 0; train it, or save it "
            "again"
        )


# ---- tokens that a model has no embedding of


def encoder_inside(model: Any) -> PreTrainedModel | None:
    """The transformer that a model is, or that a sentence-embedding model holds; None: it has none."""
    encoder = model if isinstance(model, PreTrainedModel) else getattr(model[0], "auto_model", None)
    return encoder if isinstance(encoder, PreTrainedModel) else None


def rows_of(model: Any) -> int | None:
    """The tokens that a model, or the encoder inside a sentence-embedding model, has embeddings of; None: any."""
    encoder = encoder_inside(model)
    if encoder is None:
        return None
    table: Any = encoder.get_input_embeddings()
    return len(table.weight)


def highest_id(tokenizer: Tokenizer, rows: int | None, texts: Iterable[Sequence[str]]) -> int:
    """The highest token id of texts, some at a time; 0, and they are not read, where every token has an embedding."""
    if rows is None or max(tokenizer.get_vocab().values(), default=0) < rows:
        return 0
    read = (ids for some in texts if some for ids in tokenizer(list(some), verbose=False)["input_ids"])
    return max((max(ids) for ids in read if ids), default=0)


def misfit(highest: int, rows: int | None) -> str | None:
    """The error for a text with a token that the model has no embedding of; None: no error."""
    if rows is None or highest < rows:
        return None
    return f"highest token id {highest}, smallest vocabulary {rows}; the tokenizer belongs to another model"


def check_ids(highest: int, rows: int | None) -> None:
    """Raises a UserError unless a model with embeddings of `rows` tokens has one of the highest that occurs."""
    if wrong := misfit(highest, rows):
        raise UserError(f"{FITS}: {wrong}")


def refuse_misfits(model: Any) -> None:
    """Lets a sentence-embedding model refuse, with the words of `check_ids`, a text that it has no embeddings of."""
    encoder = encoder_inside(model)
    if encoder is not None:
        encoder.get_input_embeddings().register_forward_pre_hook(
            lambda module, args: check_ids(int(args[0].max()), len(module.weight)) if args else None
        )
