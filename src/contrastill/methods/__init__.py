"""Distillation methods, one paper a file. `METHODS` is the one registry: name -> class."""

import inspect
from typing import Any

from contrastill.errors import UserError
from contrastill.methods.base import Method, Stage
from contrastill.methods.congen import ConGen
from contrastill.methods.disco import DisCo
from contrastill.methods.embedding import EmbeddingMethod
from contrastill.methods.finetune import Finetune
from contrastill.methods.kd import KD
from contrastill.methods.leaf import LEAF
from contrastill.methods.lrc_bert import LRCBert
from contrastill.methods.mse_kd import MSEKD
from contrastill.methods.pkd import PKD
from contrastill.methods.rrd import RRD
from contrastill.methods.tinybert import TinyBERT

__all__ = [
    "KD",
    "LEAF",
    "METHODS",
    "MSEKD",
    "PKD",
    "RRD",
    "ConGen",
    "DisCo",
    "EmbeddingMethod",
    "Finetune",
    "LRCBert",
    "Method",
    "Stage",
    "TinyBERT",
    "method_settings",
    "read_settings",
]

METHODS: dict[str, type[Method]] = {
    cls.name: cls for cls in (LRCBert, KD, Finetune, PKD, TinyBERT, DisCo, MSEKD, ConGen, RRD, LEAF)
}


def method_settings(name: str) -> dict[str, Any]:
    """The settings of a method and their defaults, read off its constructor."""
    if name not in METHODS:
        raise UserError(f"expected a method of {', '.join(METHODS)}; got {name!r}")
    parameters = inspect.signature(METHODS[name].__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def read_settings(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Checks settings given as text or values (`{"temperature": "2"}`) and brings them to their defaults' types."""
    known = method_settings(name)
    result = {}
    for key, value in given.items():
        if key not in known:
            raise UserError(f"method {name!r} has no setting {key!r}; it has {sorted(known) or 'none'}")
        try:
            result[key] = type(known[key])(value)
            if not isinstance(value, str) and result[key] != value:  # 1.5 is no int
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            kind = type(known[key]).__name__
            raise UserError(f"setting {key!r} of {name!r}: expected {kind}, got {value!r}") from None
    return result
