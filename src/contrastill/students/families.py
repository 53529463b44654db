"""Names of the parts that a student inherits, by model family."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from contrastill.encoder import projection_of

__all__ = [
    "FAMILIES",
    "Family",
    "Layer",
    "Point",
    "embedding_norm",
    "first_stream",
    "head_linears",
    "head_weights",
    "projection_of",
    "top_of",
]


@dataclass(frozen=True)
class Family:
    """Where an architecture keeps its parts: below the base model, or (query to ffn_norm) below one layer."""

    layers: str
    query: str
    key: str
    value: str
    out: str
    attention_norm: str
    up: str
    down: str
    ffn_norm: str
    position_scores: str = ""  # a table for all layers, with a column per head
    final_norm: str = ""  # where there is one, norms stand before their branches and positions are rotary
    inside: str = ""  # of a layer in its place among the layers
    activation: str = "tanh"  # of the head's dense layer


BERT = Family(
    "encoder.layer", "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
    "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm",
)  # fmt: skip
FAMILIES = {
    "albert": Family(
        "encoder.albert_layer_groups", "attention.query", "attention.key", "attention.value", "attention.dense",
        "attention.LayerNorm", "ffn", "ffn_output", "full_layer_layer_norm", inside=".albert_layers.0",
    ),
    "bert": BERT,
    "camembert": BERT,
    "data2vec-text": BERT,
    "electra": replace(BERT, activation="gelu"),
    "ernie": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
    "distilbert": Family(
        "transformer.layer", "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin",
        "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm", activation="relu",
    ),
    "mpnet": Family(
        "encoder.layer", "attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o",
        "attention.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm",
        position_scores="encoder.relative_attention_bias",
    ),
    "modernbert": Family(
        "layers", "attn.Wqkv", "attn.Wqkv", "attn.Wqkv", "attn.Wo", "attn_norm", "mlp.Wi", "mlp.Wo", "mlp_norm",
        final_norm="final_norm", activation="gelu",
    ),
}  # fmt: skip


class Point(NamedTuple):
    """A place where activations are recorded.

    what: "input", "output", or "energy" (the mean square of the input). call: which call of the module in a pass; the
    module of a layer that shares its weights is called several times.
    """

    module: Any
    what: str
    call: int = 0


@dataclass(frozen=True)
class Affine:
    """A linear map whose weight and bias are views of another module's."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Layer:
    """One layer of any family, its parts by role."""

    def __init__(self, model: PreTrainedModel, family: Family, number: int) -> None:
        path, self.call = place_of(model, family, number)
        part: Any = model.base_model.get_submodule(path).get_submodule
        self.reader, self.out, self.up, self.down = map(part, (family.query, family.out, family.up, family.down))
        self.attention_norm, self.ffn_norm = part(family.attention_norm), part(family.ffn_norm)
        self.heads, self.pre_norm = model.config.num_attention_heads, bool(family.final_norm)
        self.qkv: list[Any] = [part(family.query), part(family.key), part(family.value)]
        if family.query == family.key:  # one fused matrix: views of its thirds
            weights = self.reader.weight.chunk(3)
            biases = (None,) * 3 if self.reader.bias is None else self.reader.bias.chunk(3)
            self.qkv = [Affine(w, b) for w, b in zip(weights, biases, strict=True)]
        self.stream = self.at(part(""), "output")
        self.norms: tuple[Any, Any] = (self.attention_norm, self.ffn_norm)
        self.sums = self.at(self.attention_norm, "input"), self.at(self.ffn_norm, "input")
        self.middle = self.at(self.attention_norm, "output")  # the stream between attention and feed-forward
        if self.pre_norm:  # no norm stands behind a sum
            self.middle = self.at(self.ffn_norm, "input")
            self.norms, self.sums = (None, None), (self.middle, self.stream)

    def at(self, module: Any, what: str) -> Point:
        """A point at a module of this layer, when the layer is called by its number."""
        return Point(module, what, self.call)


def place_of(model: PreTrainedModel, family: Family, number: int) -> tuple[str, int]:
    """The path of the layer with this number, and which of the module's calls in a pass is that layer's."""
    depth = model.config.num_hidden_layers
    groups = getattr(model.config, "num_hidden_groups", depth)  # ALBERT's, of layers that share their weights
    group = (number - 1) * groups // depth
    first = -(-group * depth // groups)
    return f"{family.layers}.{group}{family.inside}", number - 1 - first


def embedding_norm(base: Any) -> Any:
    return next(m for m in base.embeddings.modules() if isinstance(m, nn.LayerNorm))


def first_stream(base: Any) -> Point:
    return Point(projection_of(base) or embedding_norm(base), "output")


def top_of(model: PreTrainedModel, family: Family) -> Point:
    """The module whose output the head reads."""
    if family.final_norm:
        return Point(model.base_model.get_submodule(family.final_norm), "output")
    path, call = place_of(model, family, model.config.num_hidden_layers)
    return Point(model.base_model.get_submodule(path), "output", call)


def head_weights(model: PreTrainedModel) -> list[str]:
    """Names of the weights above the layers: pooler and head."""
    body = {id(p) for name, p in model.base_model.named_parameters() if not name.startswith("pooler.")}
    return [name for name, p in model.named_parameters(remove_duplicate=False) if id(p) not in body]


def head_linears(model: PreTrainedModel) -> tuple[Any, Any]:
    """The head's dense layer (or the pooler's) and the layer that gives the logits, None where it has none."""
    above = head_weights(model)
    found = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and f"{name}.weight" in above]
    if model.get_output_embeddings() is not None or len(found) > 2:  # a language model: its head stays as it is
        return None, None
    last = None if model is model.base_model or not found else found.pop()
    return (found[0] if found else None), last
