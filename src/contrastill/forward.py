"""The trained model's forward pass at less cost: weights cast once a pass, and dropout with cheap random numbers."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

__all__ = ["CheapDropout", "Switched", "autocasting", "cheap", "head_alone", "output_of"]


@contextmanager
def cheap(model: nn.Module, embeddings: nn.Module | None) -> Iterator[None]:
    """While it lasts, the model's training pass costs less: under bfloat16 autocast it is in bfloat16 from the
    embeddings on; on a CPU its dropout takes cheap random numbers.

    Autocast alone keeps the stream between the layers in float32 and casts to and fro around each product. The
    gradients of the weights, which autocast casts once a step, come back as float32: the parameters, the optimiser and
    the checkpoints are what they would be without. Autocast stays on for what meets a float32 tensor.

    embeddings: the module whose output is cast; None: none is.
    """
    kind = next(model.parameters()).device.type
    lowered = model.training and torch.is_grad_enabled() and autocasting(kind)
    # its hook comes after all that were there before (gradient perturbation)
    cast = output_of(embeddings, Tensor.bfloat16) if lowered and embeddings is not None else nullcontext()
    with CheapDropout(enabled=model.training and kind == "cpu"), cast:
        yield


def autocasting(kind: str) -> bool:
    """Whether products on devices of this kind are computed in bfloat16 just now."""
    return (
        torch.amp.is_autocast_available(kind)
        and torch.is_autocast_enabled(kind)
        and torch.get_autocast_dtype(kind) is torch.bfloat16
    )


@contextmanager
def output_of(module: nn.Module, change: Callable[[Any], Any]) -> Iterator[None]:
    """While it lasts, the module's output passes through `change`."""
    handle = module.register_forward_hook(lambda _module, _inputs, output: change(output))
    try:
        yield
    finally:
        handle.remove()


@dataclass
class GivenStates(BaseModelOutputWithPastAndCrossAttentions):
    router_logits: Any = None
    """Of mixtures of experts: their loss is not computed."""


class Given(nn.Module):
    """Stands where a model's layers were: the last layer's states are its inputs."""

    @property
    def decoder(self) -> nn.Module:
        """Itself: OPT asks for its layers by this name."""
        return self

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> GivenStates:
        return GivenStates(last_hidden_state=inputs_embeds)


def head_alone(model: PreTrainedModel) -> Any:
    """A view of a language model without its layers: it takes the last layer's states as `inputs_embeds`, and gives the
    logits that the model's own head gives. The weights are the model's; the model is left as it is."""
    alone: Any = copy.copy(model)
    alone._modules = {**model._modules, model.base_model_prefix: Given()}
    return alone


class Switched(TorchFunctionMode):
    """A mode over torch's functions that may be off, so that a `with` need not be written twice."""

    def __init__(self, enabled: bool = True) -> None:
        super().__init__()
        self.enabled = enabled

    def __enter__(self) -> Self:
        return super().__enter__() if self.enabled else self

    def __exit__(self, *exc: Any) -> None:
        if self.enabled:
            super().__exit__(*exc)


class CheapDropout(Switched):
    """Dropout at a sixth of its cost on a CPU, where it is a third of a small model's training step.

    Each element takes 15 random bits instead of a double, and is cleared by integer operations on its bits. `p` is
    rounded to 1 / 32768. The numbers come from torch's global generator, so that checkpoints and `fork_rng` hold.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return cheap_dropout(*args, **(kwargs or {})) if func is F.dropout else func(*args, **(kwargs or {}))


def cheap_dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """As `torch.nn.functional.dropout`; never in place."""
    if not training or round(p * 2**15) == 0 or x.dtype not in INTEGERS:
        return F.dropout(x, p, training)
    return Dropped.apply(x, round(p * 2**15))


INTEGERS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}


class Dropped(torch.autograd.Function):
    """Clears the elements whose 15 random bits are below `dropped`, and scales the others up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int) -> Tensor:
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = draws.view(torch.int16)[: x.numel()].view(x.shape).bitwise_and_(2**15 - 1)
        kept = bits.neg_().add_(dropped - 1).bitwise_right_shift_(15)  # all ones where bits >= dropped, else nought
        ctx.save_for_backward(kept)
        ctx.scale = 2**15 / max(1, 2**15 - dropped)
        return cleared(x, kept).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return cleared(gradients[0], *ctx.saved_tensors).mul_(ctx.scale), None


def cleared(x: Tensor, kept: Tensor) -> Tensor:
    """x where `kept` is -1, 0 where it is 0."""
    integers = INTEGERS[x.dtype]
    return (x.contiguous().view(integers) & kept.to(integers)).view(x.dtype)
