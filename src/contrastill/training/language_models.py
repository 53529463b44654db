"""Language models that a run can use: read in padded batches, by a cache, and with their head alone."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from contrastill.errors import UserError, first_line
from contrastill.evaluation.inference import inference
from contrastill.language import CausalLM
from contrastill.loading import load_causal_model
from contrastill.sampling import Reader

__all__ = ["check_exact", "load_exact_model"]

TOLERANCE = 1e-3  # of the largest logit


def load_exact_model(name: str) -> PreTrainedModel:
    """An autoregressive language model, in float32, whose every answer can be had in the ways of a run.

    Raises:
        UserError: as `load_causal_model`; or its answers differ, or it has no key-value cache.
    """
    model = load_causal_model(name)
    check_exact(name, model)
    return model


def check_exact(name: str, model: PreTrainedModel) -> None:
    """Checks on two short rows, one of them padded, that a model says the same by the states before its head, and by
    its cache, as where it reads each row by itself.

    Raises:
        UserError: it does not, or cannot; its kind is named.
    """
    ids = torch.arange(8).view(2, 4) % int(model.config.vocab_size)
    mask = torch.tensor([[True] * 4, [False] * 2 + [True] * 2])
    answer = torch.ones(2, 1, dtype=torch.bool)
    batch = {"prompt": ids, "prompt_mask": mask, "answer": ids[:, :1], "answer_mask": answer}
    try:
        with inference(model):
            whole = torch.cat(
                [model(input_ids=row[None, real]).logits[0, -1:] for row, real in zip(ids, mask, strict=True)]
            )
            found = [CausalLM(model)(batch), by_cache(model, ids, mask)]
    except UserError:
        wrong = "it fills no such cache"
    except Exception as error:  # of any architecture, in whichever of its layers
        wrong = f"{type(error).__name__}: {first_line(error)}"
    else:
        apart = max(float((each - whole).abs().max()) for each in found)
        if apart <= TOLERANCE * (1 + float(whole.abs().max())):
            return
        wrong = f"its logits are {apart:.2g} apart"
    raise UserError(
        f"{name}: expected a language model with attention, and a key-value cache, in every layer (Llama, Qwen, Gemma, "
        f"GPT-2 and their like), got a {type(model).__name__}, whose answers in a padded batch are not those of each "
        f"row by itself ({wrong}); choose another model"
    )


def by_cache(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    """The logits behind the last tokens of rows (B, n), read in two parts: (B, V)."""
    reader = Reader(model)
    reader.read(ids[:, :-1], mask[:, :-1], 1)
    return reader.read(ids[:, -1:], mask, 1)[:, 0]
