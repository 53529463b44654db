"""A student's shape: what a teacher allows, and the teacher's config in that shape."""

import copy
import math
from dataclasses import replace
from typing import Any

import torch
from transformers import PreTrainedConfig

from contrastill.errors import UserError
from contrastill.mapping import uniform
from contrastill.shapes import PRESETS, Shape, read_shape

__all__ = [
    "check_shape",
    "fitted",
    "fitting_shape",
    "keep_layers",
    "parse_shape",
    "resized",
    "shape_of",
    "shared_keys",
]

WIDTHS = ("pooler_hidden_size", "embedding_size", "input_embedding_size", "d_embed")  # where they are the model's own
HEAD_WIDTHS = ("attention_head_size", "head_dim", "d_kv")
FFN_NAMES = ("intermediate_size", "hidden_dim", "d_ff")
BY_LAYER = ("layer_types", "no_rope_layers", "mlp_layer_types", "attention_layers", "attention_window")
"""Lists of what differs from layer to layer: which see the whole text (ModernBERT, Gemma 3, GPT-Neo), which have no
rotary positions (SmolLM3) or are mixtures of experts, how far they see (Longformer)."""
FACTORISED = ("albert", "electra")
"""Families that have a linear map between their tables and their layers."""


def parse_shape(text: str, teacher_config: PreTrainedConfig) -> Shape:
    """A preset, "<n>L" (n layers at the teacher's width), "layers/hidden/heads/ffn", or "static-<width>".

    A shape with layers may end in "+e<width>" (narrower tables) and "+shared" (one layer's weights for all). Of a
    teacher whose tables are narrower than its layers, the student's are as narrow.

    Raises:
        UserError: another text, or a shape that this teacher cannot have.
    """
    base, options = read_shape(text)
    shape = replace(shape_of(teacher_config), layers=base) if isinstance(base, int) else base
    if not shape.layers and not text.strip().startswith("static"):
        raise refusal("at least 1 layer (a student without layers is static-256)", text, shape_of(teacher_config))
    shape = replace(shape, **options)
    check_shape(shape, teacher_config)
    return fitted(shape, teacher_config)


def fitting_shape(wanted: str, teacher_config: PreTrainedConfig) -> str:
    """This shape if it fits the teacher, else half the teacher's layers at its width."""
    try:
        parse_shape(wanted, teacher_config)
    except UserError:
        return f"{max(1, shape_of(teacher_config).layers // 2)}L"
    return wanted


def shape_of(config: PreTrainedConfig) -> Shape:
    layers, hidden = config.num_hidden_layers, config.hidden_size
    if not layers:
        return Shape(0, hidden, 0, 0)
    ffn = next((getattr(config, name) for name in FFN_NAMES if hasattr(config, name)), 4 * hidden)
    tables = config.embedding_size if getattr(config, "model_type", "") in FACTORISED else hidden
    shared = layers > 1 and getattr(config, "num_hidden_groups", layers) == 1
    return Shape(layers, hidden, config.num_attention_heads, ffn, None if tables == hidden else tables, shared)


def fitted(shape: Shape, teacher_config: PreTrainedConfig) -> Shape:
    """The shape with the width of the teacher's tables, where those are narrower than its layers and none is given."""
    tables = shape_of(teacher_config).embedding
    if tables is None or shape.embedding is not None or not shape.layers or tables == shape.hidden:
        return shape
    return replace(shape, embedding=tables)


def check_shape(shape: Shape, teacher_config: PreTrainedConfig) -> None:
    """Raises a UserError unless this teacher can have a student of this shape."""
    teacher = shape_of(teacher_config)
    problem = problem_of_static(shape, teacher) if not shape.layers else problem_of(shape, teacher, teacher_config)
    if problem:
        raise refusal(problem, str(shape), teacher)


def refusal(problem: str, got: str, teacher: Shape) -> UserError:
    return UserError(
        f"expected {problem} in a student of this teacher ({teacher}), got {got} (layers/hidden/heads/ffn); "
        f"try --student {max(1, teacher.layers // 2)}L (half its layers, at its width), or your own numbers as in "
        f"{PRESETS['4L-312']} (4L-312)"
    )


def problem_of_static(shape: Shape, teacher: Shape) -> str | None:
    if shape.hidden < 4:
        return "word vectors of 4 numbers or more"
    if shape.hidden > teacher.hidden:
        return f"word vectors of at most the teacher's width, {teacher.hidden},"
    return None


def problem_of(shape: Shape, teacher: Shape, config: PreTrainedConfig) -> str | None:
    """What would have to be otherwise for this shape to be had; None: nothing."""
    widest, words = max(teacher.ffn, 4 * shape.hidden), int(getattr(config, "vocab_size", 0) or 0)
    if min(shape.layers, shape.hidden, shape.heads, shape.ffn) < 1:
        return "four numbers of at least 1"
    if shape.layers > teacher.layers:
        return f"at most the teacher's {teacher.layers} layers"
    if shape.hidden > teacher.hidden:
        return f"at most the teacher's width of {teacher.hidden}"
    if shape.hidden % shape.heads:
        return f"a number of heads that divides the width {shape.hidden}"
    if hasattr(config, "rope_parameters") and shape.hidden // shape.heads % 2:
        return f"an even width per head (rotary positions), which {shape.hidden} / {shape.heads} is not"
    if shape.ffn > widest:
        return f"at most {widest} feed-forward neurons"
    if shape.shared and shape.layers == 1:
        return "2 layers or more to share their weights (+shared)"
    if shape.embedding in (None, teacher.embedding):
        return None
    if shape.embedding < 2:
        return "tables of at least 2 numbers a word (+e2)"
    if teacher.embedding is not None and shape.embedding > teacher.embedding:
        return f"tables of at most the teacher's {teacher.embedding} numbers a word (+e{teacher.embedding})"
    worth = -(-words * shape.hidden // (words + shape.hidden)) - 1
    if shape.embedding > worth:
        return (
            f"tables of at most {worth} numbers a word (+e{worth}; wider ones and their map to {shape.hidden} are no "
            f"smaller than tables of {shape.hidden})"
        )
    return None


def resized(teacher_config: PreTrainedConfig, shape: Shape) -> PreTrainedConfig:
    """The teacher's config in a shape that its own architecture can have."""
    config, own = copy.deepcopy(teacher_config), shape_of(teacher_config)
    keep_layers(config, shape.layers)
    config.hidden_size, config.num_attention_heads = shape.hidden, shape.heads
    if config.model_type in FACTORISED:
        config.embedding_size = shape.embedding or shape.hidden
    if hasattr(config, "num_hidden_groups"):
        config.num_hidden_groups = 1 if shape.shared else shape.layers
    for name in FFN_NAMES:
        if hasattr(config, name):
            setattr(config, name, shape.ffn)
    for name in WIDTHS:
        if getattr(teacher_config, name, None) == own.hidden and config.model_type not in FACTORISED:
            setattr(config, name, shape.hidden)
    for name in HEAD_WIDTHS:
        if getattr(config, name, None) is not None:
            setattr(config, name, shape.hidden // shape.heads)
    if getattr(config, "num_key_value_heads", None) is not None:
        config.num_key_value_heads = shared_keys(shape.heads, teacher_config)
    config.dtype = torch.float32
    return config


def keep_layers(config: Any, layers: int) -> None:
    """Leaves a config so many layers, and what it says of each layer for those that `uniform` keeps."""
    depth = config.num_hidden_layers
    for name in BY_LAYER:
        if isinstance(each := vars(config).get(name), list):  # some derive it from other settings
            setattr(config, name, [each[j - 1] for _, j in uniform(layers, depth)])
    config.num_hidden_layers = layers


def shared_keys(heads: int, teacher_config: Any) -> int:
    """The number of keys and values of so many heads, several of which share one as the teacher's do."""
    own, shared = teacher_config.num_attention_heads, teacher_config.num_key_value_heads
    return math.gcd(heads, max(1, heads * shared // own))
