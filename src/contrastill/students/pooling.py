"""A last layer whose first token is the mean of all tokens: for heads that read the first token alone."""

import copy
from typing import Any

import torch
from transformers import PreTrainedModel

from contrastill.students.families import FAMILIES, Layer

__all__ = ["GAIN", "add_mean_layer", "remove_last_layer", "takes_mean_layer"]

GAIN = 5.0
"""Times that the mean of the tokens counts beside the token itself, before the norm."""


def takes_mean_layer(model: PreTrainedModel) -> bool:
    """Whether the model's family is known, has its norms behind the sums, and weights of its own in each layer."""
    family, depth = FAMILIES.get(model.config.model_type), model.config.num_hidden_layers
    alone = getattr(model.config, "num_hidden_groups", depth) == depth
    return family is not None and not family.final_norm and alone


@torch.no_grad()
def add_mean_layer(model: PreTrainedModel) -> None:
    """Adds a layer of the model's own kind, which attends to all tokens alike and gives norm(GAIN * mean + token).

    The architecture stays as it is: config.json counts one layer more. (MPNet's attention keeps its preference for some
    positions, which all its layers share.)
    """
    family: Any = FAMILIES[model.config.model_type]
    depth = model.config.num_hidden_layers
    stack: Any = model.base_model.get_submodule(family.layers)
    stack.append(copy.deepcopy(stack[-1]))
    count_layers(model, depth + 1)
    layer = Layer(model, family, depth + 1)
    query, _, value = layer.qkv
    for linear, scale in ((query, 0.0), (value, 1.0), (layer.out, GAIN)):
        linear.weight.copy_(scale * torch.eye(len(linear.weight)))
        linear.bias.zero_()
    layer.down.weight.zero_()
    layer.down.bias.zero_()
    for norm in layer.norms:
        norm.weight.fill_(1.0)
        norm.bias.zero_()


def remove_last_layer(model: PreTrainedModel) -> None:
    """Takes the last layer away."""
    stack: Any = model.base_model.get_submodule(FAMILIES[model.config.model_type].layers)
    del stack[-1]
    count_layers(model, model.config.num_hidden_layers - 1)


def count_layers(model: PreTrainedModel, depth: int) -> None:
    model.config.num_hidden_layers = depth
    if hasattr(model.config, "num_hidden_groups"):
        model.config.num_hidden_groups = depth
