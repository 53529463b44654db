"""A parquet file, plain or packed."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contrastill.data.files import DAMAGED, PACKED, open_bytes, torn
from contrastill.errors import UserError, first_line, quoted_each

__all__ = ["BATCH", "parquet"]

BATCH = 8_192  # rows at a time


@contextmanager
def parquet(path: Path) -> Iterator[Any]:
    """A parquet file, opened; a packed one is unpacked to disk, for it is read from its end."""
    try:
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise UserError(f"{path}: a .parquet file needs pyarrow ({error}); pip install pyarrow") from None
    try:
        with open_bytes(path) as file, tempfile.TemporaryFile() as whole:
            packed = path.suffix.lower() in PACKED
            if packed:
                shutil.copyfileobj(file, whole)
            found = pq.ParquetFile(whole if packed else file)
            names = found.schema_arrow.names
            if twice := sorted({each for each in names if names.count(each) > 1}):
                raise UserError(f"{path}: expected different column names, got [{quoted_each(twice)}] more than once")
            yield found
    except UserError:
        raise
    except Exception as error:  # what pyarrow and datasets raise on damaged files is of many kinds
        if path.suffix.lower() in PACKED and isinstance(error, DAMAGED):
            raise torn(path, error) from error
        raise UserError(
            f"{path}: expected a parquet file, got something else ({first_line(error)}); write it again"
        ) from error
