"""The settings of `contrastill augment`."""

from dataclasses import MISSING, dataclass

from contrastill.settings.base import BATCH, SEED, option
from contrastill.settings.data import Columns, PlaceOfTeacher

__all__ = ["Augmentation"]


@dataclass(frozen=True, kw_only=True)
class Augmentation(Columns, PlaceOfTeacher):
    """Make further texts of training texts, by other words in place of some."""

    model: str = option(
        MISSING,
        "Hub name or folder of the model that proposes the words: the teacher, a masked language model, any encoder",
        "Words",
        path=True,
    )
    by: str | None = option(
        None,
        "'masked-lm' (the likeliest words in the context) or 'nearest' (the words with the nearest vectors in the "
        "model's table) [default: masked-lm if the model has a head for it]",
        "Words",
        choices=("masked-lm", "nearest"),
    )
    copies: int = option(20, "further texts of each row", "Words", at_least=1, at_most=1000)
    probability: float = option(0.4, "probability with which a word is replaced", "Words", above=0, at_most=1)
    candidates: int = option(15, "words of which one takes a word's place", "Words", at_least=1, at_most=1000)
    common: float = option(
        0.3,
        "leave the commonest words as they are, as many as make up this share of all words of the texts, and take none "
        "of them for a near word; 0: any word is replaced",
        "Words",
        at_least=0,
        below=1,
    )
    seed: int = option(0, "seed of the words that are replaced, and by which", "Words", **SEED)
    batch_size: int = option(64, "masked texts computed at a time", "Words", **BATCH)
    out: str = option(
        MISSING, "file of the texts: .csv or .jsonl; the same call goes on where one ended", "Output", path=True
    )
    overwrite: bool = option(False, "delete the texts in the output file, and begin anew", "Output")
