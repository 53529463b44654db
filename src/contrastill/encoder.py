"""A Hugging Face model seen as `batch -> Encoding`. Model families differ here and nowhere else.

Shapes: B batch, L tokens, D width, H heads, N layers, C classes.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from contrastill.errors import UserError
from contrastill.forward import Switched, cheap, output_of

__all__ = [
    "GRANULARITIES",
    "MIXTURE",
    "QKV",
    "Embedder",
    "Encoder",
    "Encoding",
    "Wanted",
    "pool_layer",
    "projection_of",
]

Batch = Mapping[str, Tensor]
GRANULARITIES = ("tokens", "cls", "mean")


@dataclass(frozen=True)
class Wanted:
    """The outputs that a method compares with its teacher: no others are computed, kept or stored."""

    logits: bool = False
    layers: tuple[int, ...] = ()
    granularity: str = "tokens"
    """Of the layers: each real token, or the text's one vector ("cls", "mean")."""
    attention: tuple[int, ...] = ()
    qkv: tuple[int, ...] = ()
    pooled: bool = False


NOT_ASKED: Any = None  # typed as the output is where it was asked for


@dataclass(frozen=True)
class Encoding:
    """The outputs of a model that a method sees; None for outputs that it did not request."""

    mask: Tensor  # (B, L) bool, True on real tokens
    logits: Tensor = NOT_ASKED
    """(B, C), or (B, L, C) of a task with an answer a token."""
    hidden: tuple[Tensor, ...] = NOT_ASKED
    """N + 1 of (B, L, D); hidden[0] is the embedding output, of a model without layers its word vectors."""
    attention: tuple[Tensor, ...] = NOT_ASKED
    """N of (B, H, L, L): scores *before* softmax, masked entries very negative."""
    qkv: tuple[Tensor, ...] = NOT_ASKED
    """N of (B, L, 3 D): each token's query, key and value, of all heads, before positions turn them."""
    pooled: Tensor = NOT_ASKED
    """(B, D): a sentence-embedding model's vectors."""
    answered: Tensor = NOT_ASKED
    """(B, L) bool: tokens whose logits count, where there are logits of each."""


def pool_layer(hidden: Tensor, mask: Tensor, granularity: str) -> tuple[Tensor, Tensor]:
    """The compared part of a layer: (B, L, D), (B, L) -> (B, L or 1, D), its mask; a single vector is unchanged."""
    if granularity == "tokens":
        return hidden, mask
    if granularity == "cls":
        first = mask.int().argmax(1)  # padding may stand on the left
        return hidden[torch.arange(len(hidden), device=hidden.device), first].unsqueeze(1), mask.any(1, keepdim=True)
    real = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * real).sum(1, keepdim=True) / real.sum(1, keepdim=True), mask.any(1, keepdim=True)


def projection_of(base: Any) -> nn.Module | None:
    """The linear layer between narrow embedding tables and the layers (ELECTRA's, ALBERT's); None: there is none."""
    encoder = getattr(base, "encoder", None)
    found = getattr(base, "embeddings_project", None) or getattr(encoder, "embedding_hidden_mapping_in", None)
    return found if isinstance(found, nn.Module) else None


class Encoder(nn.Module):
    """Wraps a model so that `encoder(batch, needs)` gives an `Encoding`.

    `needs` is a subset of {"logits", "hidden", "attention", "qkv", "pooled"}; "attention" forces the eager
    attention path; "pooled" is the `pooling` of the last layer.
    """

    model: PreTrainedModel

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.pooling = "mean"  # how a text's one vector is made of its tokens'; "cls": the first one's
        accepted = inspect.signature(model.forward).parameters
        self.inputs = [k for k in ("input_ids", "attention_mask", "token_type_ids") if k in accepted]

    @property
    def transformer(self) -> PreTrainedModel | None:
        """The transformer in it; None: there is none."""
        return self.model

    @property
    def depth(self) -> int:
        return int(self.model.config.num_hidden_layers)

    @property
    def width(self) -> int:
        return int(self.model.config.hidden_size)

    @property
    def heads(self) -> int:
        return int(self.model.config.num_attention_heads)

    @property
    def embeddings(self) -> nn.Module:
        """The module whose output is `hidden[0]`: where gradient perturbation adds its step."""
        base = self.model.base_model
        found = projection_of(base) or getattr(base, "embeddings", None)
        return found if isinstance(found, nn.Module) else self.model.get_input_embeddings()

    def forward(self, batch: Batch, needs: Collection[str]) -> Encoding:
        batch, words = mixed(batch, self.model.get_input_embeddings()) if "partner" in batch else (batch, nullcontext())
        inputs: dict[str, Any] = {key: batch[key] for key in self.inputs if key in batch}
        mask = batch["attention_mask"] if "attention_mask" in batch else torch.ones_like(batch["input_ids"])
        if "attention" in needs and self.model.config._attn_implementation != "eager":
            self.model.set_attn_implementation("eager")
        with (
            SoftmaxInputs(enabled="attention" in needs) as scores,
            cheap(self.model, self.embeddings),
            words,
            last_states(self.model.base_model, enabled="hidden" in needs and not self.depth) as last,
            queries_keys_values(self.model.base_model, enabled="qkv" in needs) as qkv,
        ):
            output: Any = self.model(**inputs, output_hidden_states="hidden" in needs and self.depth > 0)
        if "attention" in needs and len(scores.seen) != self.depth:
            raise RuntimeError(
                f"expected {self.depth} attention score tensors from {type(self.model).__name__}, "
                f"saw {len(scores.seen)}; this model cannot serve a method that compares attention"
            )
        if "qkv" in needs and [[part.shape[-1] for part in seen] for seen in qkv] != [[self.width] * self.depth] * 3:
            raise UserError(
                f"expected queries, keys and values of {self.width} numbers in {self.depth} layers of "
                f"{type(self.model).__name__}, found others; choose a method that does not compare them: lrc_bert, kd"
            )
        return Encoding(
            mask.bool(),
            output.get("logits"),
            tuple(last or output.hidden_states) if "hidden" in needs else NOT_ASKED,
            tuple(scores.seen) if "attention" in needs else NOT_ASKED,
            tuple(torch.cat(parts, -1) for parts in zip(*qkv, strict=True)) if "qkv" in needs else NOT_ASKED,
            self.pool(output.last_hidden_state, mask.bool()) if "pooled" in needs else NOT_ASKED,
            batch.get("answered", NOT_ASKED),
        )

    def pool(self, last: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D), (B, L) -> (B, D), in float32."""
        return pool_layer(last.float(), mask, self.pooling)[0][:, 0]


class Embedder(Encoder):
    """Wraps a whole sentence-embedding model, whose `pooled` is made by its own modules (pooling, a dense layer, …).

    model: a `SentenceTransformer`. inside: the transformer in it; None: it has none (a table of word vectors).

    On a CPU texts of about equal length run together, so that little is padding.
    """

    model: Any
    OURS = frozenset({"labels", "text_key", "index", "content"})
    """Of a batch: not for the model."""

    def __init__(self, model: Any, inside: PreTrainedModel | None) -> None:
        nn.Module.__init__(self)
        self.model = model
        self.inside = (inside,)  # in a tuple: a module under two names would be saved twice

    @property
    def transformer(self) -> PreTrainedModel | None:
        return self.inside[0]

    @property
    def width(self) -> int:
        return int(self.model.get_embedding_dimension())

    @property
    def embeddings(self) -> nn.Module:
        if self.transformer is None:
            raise UserError(
                f"expected a model with a transformer, got one of {type(self.model[0]).__name__}: it has no embeddings "
                "of tokens to perturb; leave --perturb out"
            )
        return Encoder(self.transformer).embeddings

    def forward(self, batch: Batch, needs: Collection[str]) -> Encoding:
        features = {name: value for name, value in batch.items() if name not in self.OURS}
        if self.transformer is None:  # of word vectors: a text may have no row of its own
            vectors = self.vectors(features)
            return Encoding(torch.ones(len(vectors), 1, dtype=torch.bool, device=vectors.device), pooled=vectors)
        mask = features["attention_mask"].bool()
        groups = by_length(mask)
        parts = [
            self.vectors({name: value[rows, :longest] for name, value in features.items()}) for rows, longest in groups
        ]
        place = torch.cat([rows for rows, _ in groups]).argsort()
        return Encoding(mask, pooled=torch.cat(parts)[place])

    def vectors(self, features: dict[str, Tensor]) -> Tensor:
        """(B, D), in float32; pooling too is in float32."""
        embeddings = self.embeddings if self.transformer is not None else None
        with cheap(self.model, embeddings), output_of(self.model[0], in_float32):
            return self.model(features)["sentence_embedding"].float()


def in_float32(output: dict[str, Any]) -> dict[str, Any]:
    """A transformer module's output, its token vectors in float32."""
    tokens = output.get("token_embeddings")
    return output if tokens is None else {**output, "token_embeddings": tokens.float()}


MIXTURE = ("partner", "share")
"""Of a batch whose texts are mixed: (B,) int, with which row, and (B,), the share of the text's own words."""


def mixed(batch: Batch, words: Any) -> tuple[Batch, AbstractContextManager[Any]]:
    """A batch of mixtures, and what mixes them: while it lasts, `words`, a model's table of word vectors, gives
    `share` of each text's and `1 - share` of its partner's, padding's as that of any token.

    A mixture is as long as the longer text, whose tokens beyond the other one's end tell the model where they stand.
    """
    partner, share = (batch[name] for name in MIXTURE)
    ids, real = batch["input_ids"], batch["attention_mask"].bool()
    inputs = ("input_ids", "token_type_ids")
    longer = {name: batch[name].where(real, batch[name][partner]) for name in inputs if name in batch}

    def mix(output: Tensor) -> Tensor:
        own = share.view(-1, 1, 1).to(output.dtype)
        return own * words.forward(ids) + (1 - own) * words.forward(ids[partner])

    together = (real | real[partner]).to(batch["attention_mask"].dtype)
    return {**batch, **longer, "attention_mask": together}, output_of(words, mix)


MOST_GROUPS, GROUP_COST = 4, 300  # a pass more costs about as much as so many tokens


def by_length(mask: Tensor) -> list[tuple[Tensor, int]]:
    """Rows (n,) of a batch that run together, and the length of the longest: what costs the fewest tokens, padding
    included. mask: (B, L), of real tokens.
    """
    rows = torch.arange(len(mask), device=mask.device)
    if mask.device.type != "cpu":  # elsewhere a small pass costs as much as a large one
        return [(rows, mask.shape[1])]
    lengths = (mask * torch.arange(1, mask.shape[1] + 1)).amax(1)  # of padding on the left too, so that positions stay
    whole = [(rows, int(lengths.max()))]
    order = lengths.argsort(descending=True, stable=True)
    cuts = [
        [(rows, int(lengths[rows[0]])) for rows in order.tensor_split(n)]
        for n in range(2, MOST_GROUPS + 1)
        if len(order) >= n
    ]
    return min([whole, *cuts], key=lambda groups: sum(len(rows) * longest + GROUP_COST for rows, longest in groups))


@contextmanager
def last_states(base: nn.Module, enabled: bool) -> Iterator[list[Tensor]]:
    """Gives the list to which a model without layers adds its last hidden state, which transformers does not count."""
    seen: list[Tensor] = []

    def keep(output: Any) -> Any:
        seen.append(output.last_hidden_state)
        return output

    with output_of(base, keep) if enabled else nullcontext():
        yield seen


QKV = (
    {"query", "q", "q_lin", "q_proj", "query_proj"},
    {"key", "k", "k_lin", "k_proj", "key_proj"},
    {"value", "v", "v_lin", "v_proj", "value_proj"},
)
"""Names of the linear layers that give queries, keys and values."""
FUSED = {"Wqkv"}  # of one that gives all three, side by side


@contextmanager
def queries_keys_values(base: nn.Module, enabled: bool) -> Iterator[tuple[list[Tensor], list[Tensor], list[Tensor]]]:
    """Gives the three lists to which each layer adds its queries, keys and values (B, L, D), in order of the layers."""
    seen: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])

    def keep(*places: list[Tensor]) -> Callable[[Any], Any]:
        def kept(output: Tensor) -> Tensor:
            for place, part in zip(places, output.chunk(len(places), -1), strict=True):
                place.append(part)
            return output

        return kept

    with ExitStack() as hooks:
        for path, module in base.named_modules() if enabled else ():
            name = path.rpartition(".")[2]
            if isinstance(module, nn.Linear) and name in FUSED:
                hooks.enter_context(output_of(module, keep(*seen)))
            for names, place in zip(QKV, seen, strict=True):
                if isinstance(module, nn.Linear) and name in names:
                    hooks.enter_context(output_of(module, keep(place)))
        yield seen


class SoftmaxInputs(Switched):
    """Records the 4-dimensional arguments of softmax: the attention scores of any eager attention, of any family."""

    def __init__(self, enabled: bool) -> None:
        super().__init__(enabled)
        self.seen: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (F.softmax, torch.softmax, Tensor.softmax) and args[0].dim() == 4:
            self.seen.append(args[0])
        return func(*args, **(kwargs or {}))
