"""Texts and their vectors in a file: of an embeddings API, or of a model that is not at hand.

Shapes: D numbers of a vector.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from contrastill.data.answers import Fault
from contrastill.data.cells import at, is_text
from contrastill.data.columns import chosen, lacks
from contrastill.data.corpus import silent
from contrastill.data.files import SUFFIXES, look_up, split_name, unknown
from contrastill.data.load import text_key
from contrastill.data.read import read_columns
from contrastill.errors import UserError, quoted, quoted_each
from contrastill.memory import Held, check_held

__all__ = ["VECTOR", "VectorFile"]

logger = logging.getLogger(__name__)

VECTOR = ("vector", "embedding")
"""Names of the column of the vectors."""
ALIKE = 0.999  # cosine of two vectors of one text: an API's differ in their last digits
Array = np.ndarray[Any, Any]


class VectorFile:
    """A .jsonl, .json, .parquet, .csv or .tsv file (.gz, .xz), or rows in memory; read row by row, more than once.

    text: the column of the texts, if the file has it; else "text". width: D, of the first vector; 0: there is none,
    which `check` says.

    Raises:
        UserError: no such file or column.
    """

    def __init__(self, source: str, text: str | None, encoding: str, delimiter: str | None = None) -> None:
        check_held(source)
        self.source, self.text, self.encoding, self.delimiter = source, text, encoding, delimiter
        self.name = str(source)
        self.unit, self.width = self.cells(logger.info)[0], 0
        self.width = next((len(vector) for _, _, vector in self.rows({})), 0)

    @cached_property
    def fingerprint(self) -> str:
        """A sha256 of the file as it is, or of the rows."""
        if isinstance(self.source, Held):
            return hashlib.sha256(self.name.encode()).hexdigest()
        with Path(self.source).expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def cells(self, say: Callable[[str], object] = silent) -> tuple[str, Iterator[tuple[int, tuple[Any, ...]]]]:
        """The unit of the rows, and the number, text and vector of each, as found. say: told what was decided."""
        if isinstance(self.source, Held):
            columns = self.source.only.cells
            return "row", enumerate(zip(*(columns[key] for key in self.choose(list(columns))), strict=True), 1)
        path, kind = look_up(self.source)
        if kind != "file" or split_name(path)[1] not in SUFFIXES:
            raise unknown(path, f"a file of texts and vectors ({', '.join(SUFFIXES)}, each also as .gz or .xz)")
        return read_columns(path, self.choose, self.encoding, delimiter=self.delimiter, say=say)

    def choose(self, names: Sequence[str]) -> list[str]:
        text = chosen(self.name, names, self.text if self.text in names else None)
        found = [name for name in names if name.strip().lower() in VECTOR and name != text]
        if len(found) != 1:
            raise UserError(
                f"{self.name}: expected one column of vectors, called {' or '.join(VECTOR)}, got {quoted_each(names)}"
                f"{lacks(VECTOR[0], names) if not found else ''}; name it so (docs/teacher-outputs.md)"
            )
        return [text, *found]

    def check(self) -> int:
        """Reads every row; the number of different texts.

        Raises:
            UserError: rows without a text or a vector; two different vectors of one text. It names all rows like the
                first.
        """
        faults: dict[str, list[tuple[int, Fault]]] = {}
        seen, again = set[int](), dict[int, list[tuple[int, Array]]]()
        for number, text, vector in self.rows(faults):
            if (key := text_key(text)) in seen:
                again.setdefault(key, []).append((number, vector))
            seen.add(key)
        for number, text, vector in self.rows({}) if again else ():
            for later, other in again.pop(text_key(text), ()):
                cosine = float(vector @ other / np.linalg.norm(vector) / np.linalg.norm(other))
                if cosine < ALIKE:
                    wanted = f"one vector a text (of its copies, a cosine of at least {ALIKE})"
                    got = f"cosine {cosine:.3f} of {quoted(text)}, row {number}, with a later row,"
                    faults.setdefault(wanted, []).append((later, Fault(wanted, got, "keep one of them")))
        for wanted, found in faults.items():
            first, rows = found[0][1], at([number for number, _ in found], self.unit)
            raise UserError(f"{self.name}: expected {wanted}, got {first.got} in {rows}; {first.repair}")
        return len(seen)

    def batches(self, size: int) -> Iterator[tuple[list[str], Array]]:
        """The texts, each once, and their vectors (n, D) float32; rows that `check` refuses are left out."""
        seen, texts, vectors = set[int](), list[str](), list[Array]()
        for _, text, vector in self.rows({}):
            if (key := text_key(text)) in seen:
                continue
            seen.add(key)
            texts.append(text)
            vectors.append(vector)
            if len(texts) == size:
                yield texts, np.stack(vectors)
                texts, vectors = [], []
        if texts:
            yield texts, np.stack(vectors)

    def rows(self, faults: dict[str, list[tuple[int, Fault]]]) -> Iterator[tuple[int, str, Array]]:
        """The number, text (without white space around it) and vector of each row that has both; the others go to
        `faults`."""
        for number, (text, cell) in self.cells()[1]:
            try:
                if not is_text(text):
                    raise Fault("a text in every row", quoted(text), "fill it in, or remove those rows")
                yield number, text.strip(), vector_of(cell, self.width)
            except Fault as fault:
                faults.setdefault(fault.what, []).append((number, fault))


def vector_of(cell: Any, width: int) -> Array:
    """(D,) float32. width: D; 0: not known yet.

    Raises:
        Fault: the cell is none.
    """
    if isinstance(cell, str):
        with contextlib.suppress(ValueError, RecursionError):
            cell = json.loads(cell)
    try:
        found = np.asarray(cell)
    except ValueError:  # lists of several lengths
        found = np.asarray(None)
    if found.ndim != 1 or not found.size or found.dtype.kind not in "fiu":
        raise Fault("a list of numbers as a vector", quoted(cell), "write it as a JSON list, or remove those rows")
    with np.errstate(over="ignore"):
        found = found.astype(np.float32)
    if not np.isfinite(found).all():
        raise Fault("finite numbers in a vector", quoted(cell), "correct or remove those rows")
    if not found.any():
        raise Fault("a vector with a direction", "one of zeros alone", "remove those rows")
    if width and len(found) != width:
        raise Fault(
            f"{width} numbers a vector, as the first row has",
            f"{len(found)} of them",
            "keep the rows of one model, with one setting of its dimensions",
        )
    return found
