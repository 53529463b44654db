"""Students whose structure the teacher's own architecture has not: with narrow tables, shared layers, or no layers.

* Narrow tables and shared layers: an ALBERT. With as many groups as layers it is BERT with a linear map between tables
  and layers; with one group, all layers have the same weights. Positions are absolute, norms stand behind the sums.
* No layers: a EuroBERT of 0 layers. Its word vectors are made equally long, and the head reads their mean.

Both load with transformers alone, and read what the teacher's tokenizer gives.
"""

import re
from dataclasses import replace
from typing import Any

import torch
import transformers
from transformers import AlbertConfig, PreTrainedConfig, PreTrainedModel

from contrastill.errors import UserError
from contrastill.loading import positions
from contrastill.shapes import Shape
from contrastill.students.shape import resized

__all__ = ["RELATIVE", "class_for", "student_config"]

AS_ALBERT = (
    "albert", "bert", "camembert", "data2vec-text", "distilbert", "electra", "ernie", "mpnet", "roberta", "xlm-roberta",
)  # fmt: skip
RELATIVE = ("mpnet",)
"""Of these, the families with relative positions too, which an ALBERT has not."""
LABELS = ("id2label", "label2id", "problem_type", "thresholds")
TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")


def student_config(teacher: PreTrainedConfig, shape: Shape) -> PreTrainedConfig:
    """The config of a student of this shape.

    Raises:
        UserError: a structure for which the teacher's family has no counterpart.
    """
    if not shape.layers:
        return static(teacher, shape)
    narrow, kind = shape.embedding is not None, teacher.model_type
    if kind == "albert" or not (narrow or shape.shared) or (kind == "electra" and not shape.shared):
        return resized(teacher, shape)
    if kind not in AS_ALBERT:
        raise UserError(
            f"expected a teacher of one of the families {', '.join(AS_ALBERT)} for a student with narrower tables (+e) "
            f"or shared layers (+shared), got {kind}: such students are ALBERTs, which compute their layers otherwise; "
            f"leave the option out: {replace(shape, embedding=None, shared=False)}"
        )
    return albert(teacher, shape)


def class_for(teacher: PreTrainedModel, config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class of a student with this config, with a head like the teacher's.

    Raises:
        UserError: there is none.
    """
    kind = type(teacher).__name__
    if not config.num_hidden_layers and kind.endswith("ForTokenClassification"):
        raise UserError(
            "expected a student with layers for a tagger: a static student reads each word without its context; "
            "choose a shape with layers, such as 4L-312, or 4L-312+e128+shared for a small one"
        )
    if isinstance(config, type(teacher.config)):
        return type(teacher)
    match = re.search(r"(Model|ForSequenceClassification|ForTokenClassification)$", kind)
    name = type(config).__name__.removesuffix("Config")
    if not match:
        raise UserError(f"expected a teacher without a head, or one that classifies texts or tokens, got a {kind}")
    found: type[PreTrainedModel] = getattr(transformers, name + match[1])
    return found


def taken(teacher: PreTrainedConfig) -> dict[str, Any]:
    """Vocabulary, special tokens (None: not the other family's own) and labels."""
    labels = {name: value for name in LABELS if (value := getattr(teacher, name, None)) is not None}
    return {"vocab_size": teacher.vocab_size, **{name: getattr(teacher, name, None) for name in TOKENS}, **labels}


def first_of(config: PreTrainedConfig, *names: str, default: Any) -> Any:
    return next((value for name in names if (value := getattr(config, name, None)) is not None), default)


def albert(teacher: PreTrainedConfig, shape: Shape) -> PreTrainedConfig:
    config = AlbertConfig(
        **taken(teacher),
        embedding_size=shape.embedding or shape.hidden,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_hidden_groups=1 if shape.shared else shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.ffn,
        hidden_act=first_of(teacher, "hidden_act", "activation", default="gelu"),
        hidden_dropout_prob=first_of(teacher, "hidden_dropout_prob", "dropout", default=0.1),
        attention_probs_dropout_prob=first_of(
            teacher, "attention_probs_dropout_prob", "attention_dropout", default=0.1
        ),
        classifier_dropout_prob=first_of(
            teacher, "classifier_dropout", "seq_classif_dropout", "hidden_dropout_prob", default=0.1
        ),
        max_position_embeddings=positions(teacher) or 512,
        type_vocab_size=max(1, first_of(teacher, "type_vocab_size", default=2)),
        initializer_range=first_of(teacher, "initializer_range", default=0.02),
        layer_norm_eps=first_of(teacher, "layer_norm_eps", default=1e-12),
    )
    config.dtype = torch.float32
    return config


def static(teacher: PreTrainedConfig, shape: Shape) -> PreTrainedConfig:
    kind = getattr(transformers, "EuroBertConfig", None)
    if kind is None:
        raise UserError(
            f"a static student is a EuroBERT without layers, which transformers {transformers.__version__} has not; "
            "pip install --upgrade transformers"
        )
    config: PreTrainedConfig = kind(
        **taken(teacher),
        mask_token_id=first_of(teacher, "mask_token_id", "pad_token_id", default=0),
        hidden_size=shape.hidden,
        num_hidden_layers=0,
        num_attention_heads=1,
        head_dim=2,
        intermediate_size=shape.hidden,
        initializer_range=first_of(teacher, "initializer_range", default=0.02),
        classifier_pooling="mean",
    )
    config.dtype = torch.float32
    return config
