"""The different texts of a file."""

import logging
from dataclasses import dataclass

from contrastill.data.records import Records
from contrastill.errors import UserError, quoted_each
from contrastill.labelling.question import Texts
from contrastill.settings import Labelling

__all__ = ["Found", "texts_of"]

logger = logging.getLogger(__name__)

OWN = {"probabilities", "label", "no_label", "reason", "said", "tokens_in", "tokens_out"}
"""Columns of the answers' file beside those of the texts."""


@dataclass(frozen=True)
class Found:
    """The different texts of a file."""

    texts: list[Texts]
    columns: tuple[str, ...]
    skipped: int
    too_long: int


def texts_of(asked: Labelling) -> Found:
    """The different texts, in the order of the file.

    Raises:
        UserError: a broken row, unless they are skipped; no text; a column with a name of the answers.
    """
    records = Records.of(
        asked.data, text=asked.text, text_pair=asked.text_pair, keep=[], encoding=asked.encoding,
        delimiter=asked.delimiter,
    )  # fmt: skip
    for note in records.notes:
        logger.info("%s", note)
    columns = tuple(name for name in (records.text or "text", records.text_pair) if name is not None)
    if both := [name for name in columns if name in OWN]:
        raise UserError(
            f"--text: expected other columns than those of the answers, got {quoted_each(both)}; rename them in "
            "the file"
        )
    broken: list[UserError] = []
    texts, rows, long = dict[Texts, None](), 0, list[int]()
    for record in records.rows(broken.append if asked.skip_broken else None):
        rows += 1
        size = len(record.texts) if isinstance(record.texts, str) else sum(map(len, record.texts))
        if asked.max_characters is not None and size > asked.max_characters:
            long.append(record.number)
            continue
        texts[record.texts] = None
        if len(texts) == asked.limit:
            break
    if broken:
        logger.warning("%d broken rows are left out, the first: %s", len(broken), broken[0])
    if long:
        logger.warning(
            "%d texts of more than %d characters are left out, the first in %s %d", len(long), asked.max_characters,
            records.unit, long[0],
        )  # fmt: skip
    if not texts:
        raise UserError(f"{asked.data}: expected rows with a text, got none")
    logger.info("texts: %d rows, %d different texts", rows - len(long), len(texts))
    return Found([*texts], columns, len(broken), len(long))
