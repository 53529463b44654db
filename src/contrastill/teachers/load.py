"""Opens a teacher by its name."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.loading import load_classifier, load_embedder, load_encoder, load_tokenizer, locate
from contrastill.teachers.base import LiveTeacher
from contrastill.teachers.embedder import FrozenEmbedder
from contrastill.teachers.live import FrozenEncoder

__all__ = ["load_teacher"]


def load_teacher(name: str, fields: Sequence[str] = ()) -> tuple[LiveTeacher, Tokenizer]:
    """Loads a teacher: a sentence embedder if modules.json exists, else a classifier, else an encoder.

    fields: what it must give (names of fields); without any, what it was trained to give.
    """
    place = locate(name)
    if place.embeds and (not fields or "vector" in fields):
        model = load_embedder(name)
        return FrozenEmbedder(model), model.tokenizer
    if place.classifies or "logits" in fields:
        return FrozenEncoder(load_classifier(name)), load_tokenizer(name)
    return FrozenEncoder(load_encoder(name)), load_tokenizer(name)
