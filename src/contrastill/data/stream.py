"""Texts of a corpus, a few at a time: files larger than memory, plain or packed, and Hub data sets."""

import contextlib
import gzip
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contrastill.data.read import SUFFIXES, split_name
from contrastill.errors import UserError

__all__ = ["stream_texts"]

OPENERS = {".gz": gzip.open, ".xz": lzma.open}
LINES = (".txt", ".text", ".lines", "")


def stream_texts(source: str, *, text: str | None = None, encoding: str = "utf-8") -> Iterator[str]:
    """The texts of a file of lines, of a column of a .csv / .tsv / .jsonl / .parquet file, or of a Hub data set.

    source: a file (.gz and .xz are unpacked on the way), or `org/name` or `org/name:config` on the Hub (its train
        split, streamed). text: the column; not for a file of lines. White space around a text goes; empty ones are
        left out.

    Raises:
        UserError: no such file or column, another encoding, a packed file that is cut.
    """
    path = Path(source).expanduser()
    suffix = split_name(path)[1]
    if path.is_file() and suffix in LINES:
        yield from lines(path, encoding)
    elif path.is_file() and suffix in SUFFIXES:
        builder = {".tsv": "csv", ".jsonl": "json"}.get(suffix, suffix[1:])
        options: dict[str, Any] = {"sep": "\t"} if suffix == ".tsv" else {}
        yield from column(str(path), text, builder, data_files=str(path), **options)
    elif not path.exists() and source.count("/") == 1 and not suffix:
        name, _, config = source.partition(":")
        yield from column(source, text, name, *([config] if config else []))
    else:
        raise UserError(
            f"expected a file of texts (.txt, or {', '.join(SUFFIXES)}, each also as .gz or .xz) or a Hub data set, "
            f"got {source!r}; check the path"
        )


def lines(path: Path, encoding: str) -> Iterator[str]:
    read = 0
    try:
        with OPENERS.get(path.suffix.lower(), open)(path, "rt", encoding=encoding) as file:  # type: ignore[operator]
            for line in file:
                read += 1
                if line := line.strip().removeprefix("\ufeff"):
                    yield line
    except LookupError:
        raise UserError(f"expected the name of an encoding, got {encoding!r}; try utf-8 or latin-1") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: expected {encoding} text, got bytes that are not, near line {read + 1} ({error.reason}); pass "
            "--encoding"
        ) from None
    except (EOFError, OSError, lzma.LZMAError) as error:
        raise UserError(f"{path}: could not be read beyond line {read} ({error}); copy or pack it again") from None


def column(source: str, text: str | None, *where: str, **options: Any) -> Iterator[str]:
    from datasets import load_dataset

    try:
        rows = load_dataset(*where, split="train", streaming=True, **options)
        names = rows.column_names or list(next(iter(rows)))
    except Exception as error:  # the library raises many: offline, unknown name, gated, malformed
        first = (str(error).splitlines() or ["no reason given"])[0]
        raise UserError(f"expected to read {source}, got {type(error).__name__}: {first}") from error
    if text is None and "text" in names:
        text = "text"
    if text not in names:
        raise UserError(f"{source}: expected the column of the texts (--text) to be one of {names}, got {text!r}")
    with contextlib.closing(iter(rows)) as each:
        for row in each:
            if isinstance(row[text], str) and (found := row[text].strip()):
                yield found
