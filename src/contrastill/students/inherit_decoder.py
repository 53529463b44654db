"""The start `inherit` of autoregressive decoders: the teacher's weights reduced to the student's shape, untrained.

For layers with RMSNorm, rotary positions, grouped queries and a gated feed-forward (Llama and its like). The student's
stream approximates the teacher's times P, a PCA basis of it, scaled by √(W/D) so that a token's root mean square stays:
an RMSNorm whose gain is folded into the linear maps behind it commutes with that (SliceGPT, arXiv 2401.15024). Heads
are kept whole, query heads with their key and value, because rotary positions turn pairs of a head's numbers. From the
bottom up, the outputs of attention and feed-forward are corrected by ridge regression on a few hundred texts that both
models read. At the teacher's own shape this is exact. Gemma 2 and 3 norm what a branch writes: its length is then not
the student's to choose, and the gain of that norm is fitted with it.

Shapes: T tokens, D teacher width, W student width, H query heads, K key/value heads, d width of a head, F neurons,
V words, P (D, W) the basis.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from contrastill.errors import UserError
from contrastill.mapping import uniform
from contrastill.students.families import Point
from contrastill.students.regression import RIDGE, SHRINK, directions, regress, write
from contrastill.students.sample import Sample, cpu, record

__all__ = ["DECODERS", "fit_decoder", "inherit_decoder"]

DECODERS = (
    *("llama", "mistral", "ministral", "qwen2", "qwen3", "smollm3", "seed_oss", "granite"),
    *("gemma", "gemma2", "gemma3_text"),
)
"""Families (model_type) whose layers are known."""


def inherit_decoder(student: PreTrainedModel, teacher: PreTrainedModel, sample: Sample) -> None:
    """Sets the student's weights to the teacher's, reduced to its shape; see the head of this file.

    The student is of the teacher's class, at most as large in every size, with heads of the same width.
    """
    mine: Any = student.base_model
    base: Any = teacher.base_model
    pairs = uniform(len(mine.layers), len(base.layers))
    seen = record(teacher, sample, points_of(base, pairs))
    P = decoder_basis(seen, gain_of(base.norm), mine.embed_tokens.embedding_dim)
    mine.embed_tokens.weight.copy_(cpu(base.embed_tokens.weight) @ P * (scale_of(base) / scale_of(mine)))
    ids = torch.cat([ids[mask.bool()] for ids, mask in sample])
    calls, stream = attention_calls(mine, sample), mine.embed_tokens(ids) * getattr(mine, "embedding_multiplier", 1.0)
    for i, j in pairs:
        s, t = mine.layers[i - 1], base.layers[j - 1]
        (before, after, between, last), (before_t, after_t, between_t, last_t) = norms_of(s), norms_of(t)
        x, back = reading(before, stream, before_t, seen[f"stream {i}"], P)
        inherit_heads(s.self_attn, t.self_attn, back, writing(after_t, P), seen[f"heads {i}"].mean(0))
        features, goal = attended(s.self_attn, x, calls[i - 1], sample), seen[f"middle {i}"] @ P
        stream = corrected(s.self_attn.o_proj, features, stream, goal, after, share_of(s))
        x, back = reading(between, stream, between_t, seen[f"middle {i}"], P)
        inherit_gated(s.mlp, t.mlp, back, writing(last_t, P), seen[f"neurons {i}"].mean(0))
        features, goal = inputs_of(s.mlp.down_proj, partial(s.mlp, x)), seen[f"output {i}"] @ P
        stream = corrected(s.mlp.down_proj, features, stream, goal, last, share_of(s))
    inherit_head(student, teacher, stream, seen["top"], P)


def fit_decoder(config: PreTrainedConfig, teacher: PreTrainedConfig, said: str) -> None:
    """Gives the student's config heads as wide as the teacher's, and as many keys as its query heads can share.

    Args:
        said: the student's shape as the user wrote it.

    Raises:
        UserError: a family whose layers are not known, or a shape to which the teacher cannot be reduced.
    """
    if teacher.model_type not in DECODERS:
        raise UserError(
            f"--start inherit: expected a teacher whose layers are known ({', '.join(DECODERS)}), got a "
            f"{teacher.model_type}; take whole layers of it (--student 4L --start copy), or --start random"
        )
    for name in ("hidden_size", "intermediate_size", "num_attention_heads"):
        if getattr(config, name) > getattr(teacher, name):
            raise UserError(
                f"--student {said} --start inherit: expected {name} of at most {getattr(teacher, name)}, as the "
                f"teacher has, got {getattr(config, name)}; make it smaller, or --start random"
            )
    width, heads = head_width(teacher), config.num_attention_heads
    if hasattr(teacher, "head_dim"):
        config.head_dim = width
    elif config.hidden_size != width * heads:
        raise UserError(
            f"--student {said} --start inherit: expected heads of {width} numbers, as the teacher's, which positions "
            f"turn in pairs: {config.hidden_size} wide means {config.hidden_size / width:g} heads, got {heads}; choose "
            f"a width of {width} times the heads, or --start random"
        )
    config.num_key_value_heads = key_heads(teacher, heads)
    if not config.num_key_value_heads:
        possible = [str(n) for n in range(1, teacher.num_attention_heads + 1) if key_heads(teacher, n)]
        raise UserError(
            f"--student {said} --start inherit: expected {', '.join(possible)} heads, which can share keys and values "
            f"as the teacher's do, got {heads}; choose one of these, or --start random"
        )


def head_width(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def key_heads(teacher: Any, heads: int) -> int:
    """The most key/value heads of so many query heads, in groups no larger than the teacher's; 0: there are none."""
    largest = teacher.num_attention_heads // teacher.num_key_value_heads
    fitting = (k for k in range(teacher.num_key_value_heads, 0, -1) if heads % k == 0 and heads // k <= largest)
    return next(fitting, 0)


def points_of(base: Any, pairs: list[tuple[int, int]]) -> dict[str, Point]:
    """What is recorded of the teacher: three streams of each kept layer, and the energy of its heads and neurons."""
    points = {"words": Point(base.embed_tokens, "output"), "top": Point(base.norm, "input")}
    for i, j in pairs:
        t = base.layers[j - 1]
        points |= {f"stream {i}": Point(t.input_layernorm, "input"), f"output {i}": Point(t, "output")}
        points |= {f"middle {i}": Point(norms_of(t)[2], "input")}
        points |= {f"heads {i}": Point(t.self_attn.o_proj, "energy"), f"neurons {i}": Point(t.mlp.down_proj, "energy")}
    return points


def norms_of(layer: Any) -> tuple[Any, Any, Any, Any]:
    """The norms before and behind attention, and before and behind the feed-forward; None: there is none."""
    if hasattr(layer, "pre_feedforward_layernorm"):
        between, last = layer.pre_feedforward_layernorm, layer.post_feedforward_layernorm
        return layer.input_layernorm, layer.post_attention_layernorm, between, last
    return layer.input_layernorm, None, layer.post_attention_layernorm, None


def share_of(layer: Any) -> float:
    """By what a layer multiplies what its branches write (Granite)."""
    return float(getattr(layer, "residual_multiplier", 1.0))


def scale_of(base: Any) -> float:
    """By what a table of words multiplies its rows (Gemma)."""
    return float(getattr(base.embed_tokens, "scalar_embed_scale", 1.0))


def gain_of(norm: Any) -> Tensor:
    """The gain (D,) of an RMSNorm, which is its weight, or 1 more than that (Gemma)."""
    return cpu(norm.weight) + beyond(norm)


def set_gain(norm: Any, gain: Tensor) -> None:
    norm.weight.copy_(gain - beyond(norm))


def beyond(norm: Any) -> float:
    """What the gain of an RMSNorm has beyond its weight: 0 or 1. A text of ones passes the norm as its gain."""
    return float((norm(torch.ones_like(norm.weight)) - norm.weight).float().mean().round())


def writing(norm: Any, P: Tensor) -> Tensor:
    """P (D, W) for the maps that write into the stream, with the gain of a norm behind them folded into it."""
    D, W = P.shape
    return P if norm is None or W == D else gain_of(norm)[:, None] * P


def decoder_basis(seen: dict[str, Tensor], gain: Tensor, width: int) -> Tensor:
    """P (D, W): the main directions of the teacher's streams, in which the final norm's gain (D,) is diagonal.

    A tied head has no weights of its own to fold that gain into; with these coordinates the student's own gain does.
    """
    D = len(gain)
    if width == D:
        return torch.eye(D)
    found = directions(
        [h for name, h in seen.items() if name.split()[0] in ("words", "stream", "output")], width, False
    )
    turned: Tensor = found @ torch.linalg.eigh(found.T @ (gain[:, None] * found)).eigenvectors
    return turned * (width / D) ** 0.5


def reading(norm: Any, stream: Tensor, norm_t: Any, stream_t: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
    """x (T, W), the student's stream behind its norm, and A (D, W) so that x Aᵀ ~ the teacher's behind its own.

    The norm's gain becomes 1, or where P keeps all coordinates the teacher's.
    """
    D, W = P.shape
    gain = gain_of(norm_t)
    set_gain(norm, gain if W == D else torch.ones(W))
    x, x_t = norm(stream), norm_t(stream_t.to(norm_t.weight)).float().cpu()
    prior = torch.eye(D) if W == D else gain[:, None] * P * (D / W)
    return x, prior + regress(x, x_t - x @ prior.T, False)[0]


def inherit_heads(s: Any, t: Any, back: Tensor, P: Tensor, energy: Tensor) -> None:
    """The teacher's heads that write most into its stream. energy (H d,): of what its output map reads."""
    config, own, d = t.config, s.config, t.head_dim
    power = (energy * cpu(t.o_proj.weight).square().sum(0)).view(config.num_attention_heads, d).sum(1)
    groups, heads = choose(power, config.num_key_value_heads, own.num_key_value_heads, own.num_attention_heads)
    queries, keys = ((each[:, None] * d + torch.arange(d)).flatten() for each in (heads, groups))
    for name, rows in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
        take_rows(getattr(s, name), getattr(t, name), rows, back)
    for name in ("q_norm", "k_norm"):
        if hasattr(s, name):
            getattr(s, name).weight.copy_(getattr(t, name).weight)
    take_columns(s.o_proj, t.o_proj, queries, P)


def choose(power: Tensor, groups: int, kept_groups: int, kept_heads: int) -> tuple[Tensor, Tensor]:
    """Key/value heads and query heads that are kept, in order: of each group the strongest, of groups the strongest."""
    of_group = power.view(groups, -1).topk(kept_heads // kept_groups, dim=1)
    best = of_group.values.sum(1).topk(kept_groups).indices.sort().values
    heads = best[:, None] * (len(power) // groups) + of_group.indices[best].sort(1).values
    return best, heads.flatten()


def inherit_gated(s: Any, t: Any, back: Tensor, P: Tensor, energy: Tensor) -> None:
    """The neurons that write most into the teacher's stream. energy (F,): of the gated products."""
    strength = energy * cpu(t.down_proj.weight).square().sum(0)
    kept = strength.topk(s.down_proj.in_features).indices.sort().values
    take_rows(s.gate_proj, t.gate_proj, kept, back)
    take_rows(s.up_proj, t.up_proj, kept, back)
    take_columns(s.down_proj, t.down_proj, kept, P)


def take_rows(linear: Any, source: Any, rows: Tensor, back: Tensor) -> None:
    write(linear, cpu(source.weight)[rows] @ back, cpu(source.bias).expand(source.out_features)[rows])


def take_columns(linear: Any, source: Any, columns: Tensor, P: Tensor) -> None:
    write(linear, P.T @ cpu(source.weight)[:, columns], cpu(source.bias).expand(source.out_features) @ P)


def corrected(
    linear: Any, features: Tensor, stream: Tensor, goal: Tensor, norm: Any = None, share: float = 1.0
) -> Tensor:
    """The stream (T, W) behind a branch, whose output map is corrected so that it comes near its goal.

    Every token counts the same, whatever its length: the next norm divides by that.

    Args:
        norm: of what the branch writes; None: there is none. share: by what that is multiplied.
    """
    scale = 1 / goal.norm(dim=1, keepdim=True).clamp_min(1e-6)
    wanted = (goal - stream) / share
    if norm is None:
        gap = wanted - linear(features)
        linear.weight.add_(regress(features * scale, gap * scale, False, SHRINK)[0])
        return stream + share * linear(features)
    fit_gain(norm, linear(features), wanted, scale)
    written, gain = linear(features), gain_of(norm)
    length = written.square().mean(1, keepdim=True).sqrt().clamp_min(1e-6)
    back = gain / (gain.square() + 0.01 * gain.square().mean())  # a number that the norm takes away is not corrected
    gap = (wanted - norm(written)) * back * length
    linear.weight.add_(regress(features * scale / length, gap * scale / length, False, SHRINK)[0])
    fit_gain(norm, linear(features), wanted, scale)
    return stream + share * norm(linear(features))


def fit_gain(norm: Any, x: Tensor, wanted: Tensor, scale: Tensor) -> None:
    """The gain with which the norm of x (T, W) comes nearest to what is wanted; scale (T, 1): of each token."""
    set_gain(norm, torch.ones(x.shape[1]))
    x, wanted = norm(x) * scale, wanted * scale
    set_gain(norm, (x * wanted).sum(0) / x.square().sum(0).clamp_min(1e-12))


def inputs_of(module: nn.Module, run: Callable[[], Any]) -> Tensor:
    """What the module reads while something runs that calls it once."""
    read: list[Tensor] = []
    with_hook = module.register_forward_pre_hook(lambda _, args: read.append(args[0]))
    try:
        run()
    finally:
        with_hook.remove()
    return read[0]


def attention_calls(base: Any, sample: Sample) -> list[list[dict[str, Any]]]:
    """By layer and batch the keywords of attention, but for its hidden states: masks and positions."""
    calls: list[list[dict[str, Any]]] = [[] for _ in base.layers]

    def keep(kept: list[dict[str, Any]]) -> Any:
        return lambda _, args, keywords: kept.append({k: v for k, v in keywords.items() if k != "hidden_states"})

    hooks = [
        layer.self_attn.register_forward_pre_hook(keep(kept), with_kwargs=True)
        for layer, kept in zip(base.layers, calls, strict=True)
    ]
    try:
        for ids, mask in sample:
            base(input_ids=ids, attention_mask=mask, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def attended(attention: Any, x: Tensor, calls: list[dict[str, Any]], sample: Sample) -> Tensor:
    """What the output map of attention reads (T, H d), over the real tokens x (T, W) of the sample."""
    found: list[Tensor] = []
    parts = x.split([int(mask.sum()) for _, mask in sample])
    for (_, mask), part, call in zip(sample, parts, calls, strict=True):
        real = mask.bool()
        hidden = x.new_zeros(*mask.shape, x.shape[1])
        hidden[real] = part
        features = inputs_of(attention.o_proj, partial(attention, hidden_states=hidden, **call))
        found.append(features[real])
    return torch.cat(found)


def inherit_head(student: PreTrainedModel, teacher: PreTrainedModel, stream: Tensor, top: Tensor, P: Tensor) -> None:
    """The final norm and the head, so that the logits come near the teacher's.

    An own head reads what predicts the teacher's states. A tied one is the table of words: the gain is fitted.
    """
    mine: Any = student.base_model
    base: Any = teacher.base_model
    head: Any = student.get_output_embeddings()
    head_t: Any = teacher.get_output_embeddings()
    words = cpu(head_t.weight)
    if head.weight is not mine.embed_tokens.weight:
        _, back = reading(mine.norm, stream, base.norm, top, P)
        write(head, words @ back, cpu(head_t.bias))
        return
    D, W = P.shape
    set_gain(mine.norm, torch.ones(W))
    prior = (P.square() * gain_of(base.norm)[:, None]).sum(0) * (D / W) ** 2  # in these coordinates it is diagonal
    prior *= scale_of(mine) / scale_of(base)
    states = base.norm(top.to(base.norm.weight)).float().cpu()
    set_gain(mine.norm, head_gain(mine.norm(stream), cpu(head.weight), states, words, prior))


def head_gain(x: Tensor, small: Tensor, states: Tensor, words: Tensor, prior: Tensor) -> Tensor:
    """The gain g (W,) for which the logits of g x (T, W), small (V, W), come nearest to those of states (T, D), words
    (V, D); shrunk a little towards `prior`, for a sample too small to tell."""
    gram = product(x, x) * product(small, small)
    gap = (x * (states.double() @ product(words, small))).sum(0) - gram @ prior.double()
    gram.diagonal().add_(RIDGE * gram.diagonal().mean() + 1e-12)
    return prior + torch.linalg.solve(gram, gap).float()


def product(a: Tensor, b: Tensor) -> Tensor:
    """aᵀ b in float64, of tables too long to be copied to it."""
    slices = zip(a.split(8192), b.split(8192), strict=True)
    return torch.stack([one.double().T @ two.double() for one, two in slices]).sum(0)
