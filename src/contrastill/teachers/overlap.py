"""A teacher's pass in which an accelerator computes while the processor reads the next texts and writes the last ones.

Shapes: B batch, N rows of all its texts, D width.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from contrastill.teachers.fields import Field

__all__ = ["Outputs", "accelerated", "read_ahead"]

Chunk = TypeVar("Chunk")


def accelerated() -> bool:
    """Whether the teacher's pass runs on another device than the rest of the work."""
    return torch.cuda.is_available()


def read_ahead(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Yields the chunks while a thread makes the next one."""
    rest = iter(chunks)
    with ThreadPoolExecutor(1, "read-ahead") as thread:
        following = thread.submit(next, rest, None)
        while (chunk := following.result()) is not None:
            following = thread.submit(next, rest, None)
            yield chunk


class Outputs:
    """A batch's outputs on their way to the processor; `values` waits for them.

    fields: (N, D) each, the rows of one text after those of the one before. counts: (B,) of each field, rows of each
    text.
    """

    def __init__(self, fields: Mapping[Field, Tensor], counts: Mapping[Field, np.ndarray]) -> None:
        self.counts = counts
        finite = torch.stack([values.isfinite().all() for values in fields.values()])
        # Copies that are not waited for land in pinned memory, behind the pass and before the next batch's.
        self.found = {field: values.to("cpu", non_blocking=True) for field, values in fields.items()}
        self.finite = finite.to("cpu", non_blocking=True)
        self.copied = torch.cuda.Event() if finite.is_cuda else None
        if self.copied is not None:
            self.copied.record(torch.cuda.current_stream(finite.device))

    def values(self) -> dict[Field, Tensor]:
        """Each field's rows (N, D)."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.found

    def broken(self) -> tuple[Field, int] | None:
        """The first field with a value that is not finite, and the number of the text; asked for after `values`."""
        for (field, values), finite in zip(self.found.items(), self.finite.tolist(), strict=True):
            if not finite:
                row = int((~values.isfinite()).any(1).nonzero()[0])
                return field, int(np.searchsorted(np.cumsum(self.counts[field]), row, side="right"))
        return None
