"""Probes: texts that a bundle keeps with their answers, so that any machine can compare its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastill.bundle import METADATA, Bundle, open_bundle
from contrastill.errors import UserError
from contrastill.spans import stacked

if TYPE_CHECKING:
    from contrastill.exporting.source import Exportable, Texts

__all__ = ["NotFinite", "Probes", "answered", "chosen", "compared", "made_up"]

Array = np.ndarray[Any, Any]
FEWEST, MOST, NUMBERS = 8, 64, 20_000
"""Probes at least; at most; and the numbers that all their answers may take, for the file's sake."""
LONGEST = 1000
"""Characters of a text above which another one is preferred."""
TRIED = 256
"""Made-up texts among which those of as many classes as possible are chosen."""
ALIKE = 0.95
"""The least likeness of the answers of two machines: other instructions round otherwise, above all in int8."""


class NotFinite(UserError):
    """An exported graph answers NaN or infinity."""


@dataclass(frozen=True)
class Probes:
    """Texts to keep, and where they come from."""

    texts: Texts
    origin: str


def chosen(source: Exportable, texts: Texts, answers: Array, origin: str) -> Probes:
    """For each class the text with its highest probability, while there is room; then others, spread over the texts.

    Args:
        answers: (N, width) of the model in torch.
        origin: named in the bundle, such as "banking77 dev".
    """
    short = [row for row, text in enumerate(texts) if len(str(text)) <= LONGEST] or [*range(len(texts))]
    numbers = stacked(answers).size / max(1, len(answers))
    room = min(MOST, max(FEWEST, int(NUMBERS // max(1, numbers))))
    rows: list[int] = []
    marks, strength = source.answer.marks(answers[short]), source.answer.strength(answers)
    if marks is not None:
        for label in np.flatnonzero(marks.any(0))[:room]:
            of_class = [short[n] for n in np.flatnonzero(marks[:, label])]
            rows.append(max(of_class, key=lambda row: strength[row, label]))
    left = [row for row in short if row not in set(rows)]
    more = max(0, min(FEWEST - len(rows), len(left)))
    rows += [left[int(n)] for n in np.linspace(0, len(left) - 1, more)]
    return Probes([texts[row] for row in rows], origin)


def made_up(source: Exportable) -> Probes:
    """Texts of words drawn from the vocabulary."""
    if source.labels is None:
        return Probes(source.random_texts(FEWEST), "made-up texts")
    texts = source.random_texts(TRIED)
    return chosen(source, texts, source.run(texts), "made-up texts")


def answered(folder: Path, probes: Probes) -> dict[str, Any]:
    """The entry of bundle.json: the texts, and the answers of the bundle in the folder.

    Raises:
        NotFinite: it answers NaN or infinity.
    """
    bundle = open_bundle(folder, threads=1, check=False)
    answers = bundle.run(probes.texts, batch_size=1)
    if not (finite := bundle.answer.finite(answers)).all():
        row = int(finite.argmin())
        raise NotFinite(
            f"the exported file answers NaN or infinity, to {str(probes.texts[row])[:80]!r} at first; try another "
            "--precision"
        )
    return {
        "from": probes.origin,
        "texts": list(probes.texts),
        "answers": bundle.answer.stored(answers),
        "labels": bundle.answer.named(answers),
    }


def compared(bundle: Bundle) -> tuple[dict[str, Any], list[str]]:
    """Runs a bundle on its probes: the result, and a sentence for each problem.

    Raises:
        UserError: it has no probes, or they are damaged.
    """
    entry, texts, stored = read(bundle)
    here = bundle.run(texts, batch_size=1)
    problems = []
    least = bundle.answer.likeness(stored, here)
    found: dict[str, Any] = {"rows": len(texts), "from": entry.get("from"), "likeness_min": least}
    if not least >= ALIKE:
        problems.append(
            f"the answers to the stored texts differ here (similarity {least:.4f}, expected {ALIKE}): "
            "another runtime version or processor; export on this kind of machine"
        )
    named = bundle.answer.named(here)
    if named is not None:
        found["classes"] = len(set(map(str, entry["labels"])))
        for text, before, now, answer in zip(texts, entry["labels"], named, here, strict=True):
            if bundle.answer.contradicts(answer, before):
                problems.append(
                    f"the stored text {str(text)[:80]!r} was given {str(before)[:80]!r} when it was exported, here "
                    f"{str(now)[:80]!r}: changed labels, or another machine"
                )
                break
    return found, problems


def read(bundle: Bundle) -> tuple[dict[str, Any], list[Any], Array]:
    """The entry, its texts, and the answers that they had: (N, width)."""
    entry = bundle.metadata.get("probes")
    if not entry:
        raise UserError(
            f"{bundle.folder / METADATA}: expected stored texts with their answers (probes), found none: nothing tells "
            "whether it answers as it did; export it again"
        )
    try:
        texts = [text if bundle.texts == 1 else tuple(text) for text in entry["texts"]]
        answers, labels = bundle.answer.restored(entry["answers"], len(texts)), entry["labels"]
        good = len(texts) > 0
        if bundle.labels is None:
            good = good and labels is None
        else:
            good = good and len(labels) == len(texts) and all(map(bundle.answer.may_be_named, labels))
    except (KeyError, TypeError, ValueError):
        answers, good = None, False
    if answers is None or not good:
        raise UserError(f"{bundle.folder / METADATA}: the stored answers (probes) are damaged; export it again")
    return entry, texts, answers
