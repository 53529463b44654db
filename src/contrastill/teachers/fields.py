"""The stored outputs of a teacher: fields, and their names on disk."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contrastill.encoder import GRANULARITIES, Wanted
from contrastill.errors import UserError
from contrastill.teachers.base import Teacher

__all__ = ["Field", "fields_of", "outputs_named"]

OUTPUTS = {"logits": "logits", "vector": "pooled", "layer": "hidden", "attention": "attention", "qkv": "qkv"}
"""Kind of field -> output of a teacher."""
POWERS = {"tokens": 1, "pairs": 2}  # rows of a text of n tokens: n to that power, else 1
LAYER = re.compile(rf"layer-(\d+)-({'|'.join(GRANULARITIES)})")


@dataclass(frozen=True)
class Field:
    """Rows of `width` numbers for each text.

    kind: "logits" (of a tagger of each token), "vector" (of a sentence-embedding model), "layer" (a hidden state) or
    "attention" (scores before softmax) or "qkv" (queries, keys and values). layer: its number, of the last three; 0 is
    the embedding output. per: what has a
    row: the "text", its "cls" or "mean", each of its "tokens", or each of their "pairs".
    """

    kind: str
    layer: int
    per: str
    width: int

    @property
    def name(self) -> str:
        """logits, logits-tokens, vector, layer-3-tokens, layer-3-cls, layer-3-mean, attention-3, qkv-3."""
        per = f"-{self.per}" if self.kind == "layer" or (self.kind, self.per) == ("logits", "tokens") else ""
        return f"{self.kind}-{self.layer}{per}" if self.kind in ("layer", "attention", "qkv") else f"{self.kind}{per}"

    def rows(self, lengths: np.ndarray) -> np.ndarray:
        """The number of rows of a text of each length."""
        return lengths ** POWERS.get(self.per, 0)


def fields_of(wanted: Wanted, teacher: Teacher) -> tuple[Field, ...]:
    """The fields that hold the wanted outputs of a teacher.

    Raises:
        UserError: the teacher does not give it.
    """
    asked = [
        *([("logits", 0, teacher.answers)] if wanted.logits else []),
        *([("vector", 0, "text")] if wanted.pooled else []),
        *(("layer", j, wanted.granularity) for j in wanted.layers),
        *(("attention", j, "pairs") for j in wanted.attention),
        *(("qkv", j, "tokens") for j in wanted.qkv),
    ]
    gives = teacher.gives
    if lacking := sorted({kind for kind, _, _ in asked if OUTPUTS[kind] not in gives}):
        raise UserError(f"expected a teacher that gives {' and '.join(lacking)}, got one of {', '.join(sorted(gives))}")
    return tuple(Field(kind, layer, per, gives[OUTPUTS[kind]]) for kind, layer, per in asked)


def outputs_named(names: Sequence[str], teacher: Teacher) -> Wanted:
    """The outputs of a teacher in the fields with these names.

    Raises:
        UserError: there is no such field, the teacher does not give it, or layers are of more than one granularity.
    """
    layers, granularities = set(), set()
    for name in names:
        found = LAYER.fullmatch(name)
        if found and int(found[1]) <= teacher.depth and "hidden" in teacher.gives:
            layers.add(int(found[1]))
            granularities.add(found[2])
        elif found:
            raise UserError(f"expected a layer from 0 to {teacher.depth}, got {name!r}")
        elif name not in ("logits", "vector"):
            raise UserError(f"expected fields vector, logits or layer-N-{{{','.join(GRANULARITIES)}}}, got {name!r}")
    if len(granularities) > 1:
        raise UserError(f"expected layers of one granularity, got {sorted(granularities)}; build them one by one")
    if "logits" in names and "logits" not in teacher.gives:
        raise UserError("expected a classifier for logits, got another model; name fields that it has (layer-N-mean)")
    if "vector" in names and "pooled" not in teacher.gives:
        raise UserError("expected a sentence-embedding model (sentence-transformers) for vectors, got another model")
    return Wanted(
        logits="logits" in names,
        layers=tuple(sorted(layers)),
        granularity=granularities.pop() if granularities else "tokens",
        pooled="vector" in names,
    )
