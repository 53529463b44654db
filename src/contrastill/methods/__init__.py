"""Distillation methods, one paper a file. `METHODS` is the registry: name -> class."""

import inspect
from typing import Any

from contrastill.errors import UserError, quoted
from contrastill.methods.atkd import ATKD
from contrastill.methods.base import Method, Stage
from contrastill.methods.chunked import Chunked
from contrastill.methods.comparative import Comparative
from contrastill.methods.congen import ConGen
from contrastill.methods.disco import DisCo
from contrastill.methods.dist import DIST
from contrastill.methods.distilbert import DistilBERT
from contrastill.methods.distillcse import DistillCSE
from contrastill.methods.distillm import DistiLLM
from contrastill.methods.embedding import EmbeddingMethod
from contrastill.methods.finetune import Finetune
from contrastill.methods.gkd import GKD
from contrastill.methods.kd import KD
from contrastill.methods.language import LanguageMethod
from contrastill.methods.leaf import LEAF
from contrastill.methods.lrc_bert import LRCBert
from contrastill.methods.measured import Measured, measured, teacher_runs
from contrastill.methods.minilm import MiniLM
from contrastill.methods.mixkd import MixKD
from contrastill.methods.mse_kd import MSEKD
from contrastill.methods.okd import OKD
from contrastill.methods.pea_kd import PeaKD
from contrastill.methods.perturbed import Perturbed
from contrastill.methods.pkd import PKD
from contrastill.methods.rrd import RRD
from contrastill.methods.rrd_task import RRDTask
from contrastill.methods.settings import settings_of
from contrastill.methods.sft import SFT
from contrastill.methods.simcse import SimCSE
from contrastill.methods.skd import SKD
from contrastill.methods.tinybert import TinyBERT
from contrastill.ranges import Range, parsed, suggestion, typed
from contrastill.registry import class_of, name_of

__all__ = [
    "ATKD",
    "DIST",
    "GKD",
    "KD",
    "LEAF",
    "METHODS",
    "MSEKD",
    "OKD",
    "PKD",
    "RRD",
    "SFT",
    "SKD",
    "Chunked",
    "Comparative",
    "ConGen",
    "DisCo",
    "DistiLLM",
    "DistilBERT",
    "DistillCSE",
    "EmbeddingMethod",
    "Finetune",
    "LRCBert",
    "LanguageMethod",
    "Measured",
    "Method",
    "MiniLM",
    "MixKD",
    "PeaKD",
    "Perturbed",
    "RRDTask",
    "SimCSE",
    "Stage",
    "TinyBERT",
    "measured",
    "method_class",
    "method_name",
    "method_ranges",
    "method_settings",
    "read_settings",
    "teacher_runs",
]

METHODS: dict[str, type[Method]] = {
    cls.name: cls
    for cls in (
        *(LRCBert, KD, Finetune, PKD, TinyBERT, MiniLM, DIST, Comparative, MixKD, PeaKD, RRDTask),
        *(DistilBERT, DisCo, MSEKD, ConGen, RRD, LEAF, SimCSE, DistillCSE),
        *(SFT, GKD, SKD, DistiLLM, ATKD, OKD),
    )
}


def method_class(name: str | type[Method]) -> type[Method]:
    """The method of that name: of the registry, or a user's own, "package.module:Class".

    Raises:
        UserError: there is none.
    """
    found: type[Method] = class_of(name, METHODS, Method, "method")
    return found


def method_name(method: Any) -> Any:
    """The name of a method's class; of a name, itself."""
    return name_of(method, METHODS)


def method_settings(name: str) -> dict[str, Any]:
    """The settings of a method and their defaults, read off its constructor."""
    return {p.name: p.default for p in parameters(name).values()}


def method_ranges(name: str) -> dict[str, Range]:
    """The range of each setting of a method, read off its constructor."""
    kinds = {key: typed(parameter.annotation) for key, parameter in parameters(name).items()}
    return {key: Range(choices=("true", "false")) if kind is bool else own for key, (kind, own, _) in kinds.items()}


def parameters(name: str) -> dict[str, inspect.Parameter]:
    return settings_of(method_class(name).__init__)


def read_settings(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Checks settings given as text or values (`{"temperature": "2"}`) and converts them to their types.

    Raises:
        UserError: no such method or setting, another type, a value outside the setting's range.
    """
    known = parameters(name)
    for key in given:
        if key not in known:
            has = f"it has {sorted(known) or 'none'}{suggestion(key, known)}"
            raise UserError(f"method {name!r} has no setting {quoted(key)}; {has}")
    return {
        key: parsed(value, known[key].annotation, name=f"setting {key!r} of {name!r}") for key, value in given.items()
    }
