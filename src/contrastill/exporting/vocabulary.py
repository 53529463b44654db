"""Export of a model with a smaller vocabulary."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

from contrastill.errors import UserError
from contrastill.exporting.source import Exportable, Texts
from contrastill.vocabulary import Trimming, trim

__all__ = ["trimmed"]


def trimmed(source: Exportable, corpus: Texts, others: Texts) -> tuple[Exportable, Trimming]:
    """The model with the vocabulary that `corpus` needs; `others` tell what that costs elsewhere.

    Raises:
        UserError: no corpus, or a tokenizer that cannot be trimmed.
    """
    if not corpus:
        raise UserError("--trim keeps the words that texts use, got no texts; give --texts")
    smaller = replace(source, module=copy.deepcopy(source.module))
    try:
        read = single(corpus, source.prompt), [*single(others, source.prompt)]
        tokenizer, report = trim(smaller.encoder, source.tokenizer, *read)
    except UserError as error:
        raise UserError(f"--trim: {error}") from None
    smaller = replace(smaller, tokenizer=tokenizer)
    smaller.module.requires_grad_(False)
    return smaller, report


def single(texts: Texts, prompt: str) -> Iterator[str]:
    """Each text, as the model gets it; those of a pair one after the other."""
    for text in texts:
        if isinstance(text, str):
            yield prompt + text
        else:
            yield from text
