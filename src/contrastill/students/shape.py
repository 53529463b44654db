"""A student's shape: how it is written, what a teacher allows, and the teacher's config in that shape."""

import copy
import math
import re
from dataclasses import astuple, dataclass

import torch
from transformers import PreTrainedConfig

from contrastill.errors import UserError
from contrastill.mapping import uniform
from contrastill.ranges import suggestion

__all__ = ["PRESETS", "Shape", "check_shape", "fitting_shape", "parse_shape", "resized", "shape_of"]

WIDTHS = ("pooler_hidden_size", "embedding_size", "input_embedding_size", "d_embed")  # where they are the model's own
HEAD_WIDTHS = ("attention_head_size", "head_dim", "d_kv")
FFN_NAMES = ("intermediate_size", "hidden_dim", "d_ff")


@dataclass(frozen=True)
class Shape:
    layers: int
    hidden: int
    heads: int
    ffn: int

    def __str__(self) -> str:
        return "/".join(map(str, astuple(self)))


PRESETS = {"4L-312": Shape(4, 312, 12, 1200), "6L-768": Shape(6, 768, 12, 3072)}  # TinyBERT and LRC-BERT; DistilBERT


def parse_shape(text: str, teacher_config: PreTrainedConfig) -> Shape:
    """A preset, "<n>L" (n layers at the teacher's width), or "layers/hidden/heads/ffn"; no larger than the teacher."""
    text = text.strip()
    if text in PRESETS:
        shape = PRESETS[text]
    elif match := re.fullmatch(r"(\d+)L", text):
        own = shape_of(teacher_config)
        shape = Shape(int(match[1]), own.hidden, own.heads, own.ffn)
    elif match := re.fullmatch(r"(\d+)/(\d+)/(\d+)/(\d+)", text):
        shape = Shape(*map(int, match.groups()))
    else:
        raise UserError(
            f'expected a student shape: one of {", ".join(PRESETS)}, or "<n>L" for n layers at the teacher\'s width, '
            f'or "layers/hidden/heads/ffn" such as "4/312/12/1200"; got {text!r}' + suggestion(text, PRESETS)
        )
    check_shape(shape, teacher_config)
    return shape


def fitting_shape(wanted: str, teacher_config: PreTrainedConfig) -> str:
    """This shape if it fits the teacher, else half the teacher's layers at its width."""
    try:
        parse_shape(wanted, teacher_config)
    except UserError:
        return f"{max(1, shape_of(teacher_config).layers // 2)}L"
    return wanted


def shape_of(config: PreTrainedConfig) -> Shape:
    ffn = next((getattr(config, name) for name in FFN_NAMES if hasattr(config, name)), 4 * config.hidden_size)
    return Shape(config.num_hidden_layers, config.hidden_size, config.num_attention_heads, ffn)


def check_shape(shape: Shape, teacher_config: PreTrainedConfig) -> None:
    teacher = shape_of(teacher_config)
    widest = max(teacher.ffn, 4 * shape.hidden)
    problem = None
    if min(astuple(shape)) < 1:
        problem = "four numbers of at least 1"
    elif shape.layers > teacher.layers:
        problem = f"at most the teacher's {teacher.layers} layers"
    elif shape.hidden > teacher.hidden:
        problem = f"at most the teacher's width of {teacher.hidden}"
    elif shape.hidden % shape.heads:
        problem = f"a number of heads that divides the width {shape.hidden}"
    elif hasattr(teacher_config, "rope_parameters") and shape.hidden // shape.heads % 2:
        problem = f"an even width per head (rotary positions), which {shape.hidden} / {shape.heads} is not"
    elif shape.ffn > widest:
        problem = f"at most {widest} feed-forward neurons"
    if problem:
        raise UserError(
            f"expected {problem} in a student of this teacher ({teacher}), got {shape} (layers/hidden/heads/ffn); "
            f"try --student {max(1, teacher.layers // 2)}L (half its layers, at its width), or your own numbers as in "
            f"{PRESETS['4L-312']} (4L-312)"
        )


def resized(teacher_config: PreTrainedConfig, shape: Shape) -> PreTrainedConfig:
    config = copy.deepcopy(teacher_config)
    if getattr(config, "layer_types", None) is not None:  # ModernBERT: which layers see the whole text
        config.layer_types = [config.layer_types[j - 1] for _, j in uniform(shape.layers, config.num_hidden_layers)]
    own = shape_of(teacher_config)
    if isinstance(getattr(config, "attention_window", None), list):  # Longformer: one for each layer
        config.attention_window = [config.attention_window[j - 1] for _, j in uniform(shape.layers, own.layers)]
    config.num_hidden_layers, config.hidden_size, config.num_attention_heads = shape.layers, shape.hidden, shape.heads
    for name in FFN_NAMES:
        if hasattr(config, name):
            setattr(config, name, shape.ffn)
    for name in WIDTHS:
        if getattr(teacher_config, name, None) == own.hidden:
            setattr(config, name, shape.hidden)
    for name in HEAD_WIDTHS:
        if getattr(config, name, None) is not None:
            setattr(config, name, shape.hidden // shape.heads)
    shared = getattr(config, "num_key_value_heads", None)  # keys and values that several heads share
    if shared is not None:
        config.num_key_value_heads = math.gcd(shape.heads, max(1, shape.heads * shared // own.heads))
    config.dtype = torch.float32
    return config
