"""Runs a model for a measurement: eval mode, no gradients, optional autocast; its state is restored after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["inference", "model_inputs"]

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def model_inputs(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The tensors a text encoder reads, on its device. Labels, text keys and row numbers stay behind."""
    return {name: batch[name].to(device) for name in INPUTS if name in batch}


@contextmanager
def inference(model: nn.Module, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Eval mode and `inference_mode`, under autocast if `dtype` is given. Every module's mode is put back.

    Autocast keeps its cast copy only of weights that require a gradient: a frozen teacher would be recast in every call
    and look slower than it is. So weights require one in here, where no gradient is ever made.
    """
    kind = next((p.device.type for p in model.parameters()), "cpu")
    modes = [(module, module.training) for module in model.modules()]
    frozen = (
        [p for p in model.parameters() if p.is_floating_point() and not p.requires_grad] if dtype is not None else []
    )
    try:
        model.eval()
        for parameter in frozen:
            parameter.requires_grad_(True)
        with torch.inference_mode(), torch.autocast(kind, dtype=dtype, enabled=dtype is not None):
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
        for module, training in modes:
            module.training = training
