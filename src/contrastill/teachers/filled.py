"""Outputs of a teacher in stores, one for each field: found by content, and computed once where they are missing."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
from torch import Tensor

from contrastill.processes import processes
from contrastill.teachers.fields import Field
from contrastill.teachers.fill import Options, Rows, fill, missing
from contrastill.teachers.folder import make_cache_folder
from contrastill.teachers.overlap import Outputs
from contrastill.teachers.store import Store

__all__ = ["Filled"]


class Filled:
    """Stores that are filled by a teacher's pass. root: the folder of all caches.

    forwards: texts on which this process has run the teacher.
    """

    def __init__(self, root: Path, stores: dict[Field, Store]) -> None:
        self.root, self.stores, self.forwards = root, stores, 0

    def refresh(self) -> None:
        """Reads the stores anew: other processes may have added to them."""
        for store in self.stores.values():
            store.refresh()

    def space_needed(self, lengths: Sequence[int] | np.ndarray) -> tuple[int, int]:
        """Bytes that texts of these lengths take at most, and bytes free where the cache is."""
        place = next(p for p in (self.root, *self.root.absolute().parents) if p.exists())
        n = np.asarray(lengths, np.int64)
        need = sum(int(field.rows(n).sum()) * store.facts.bytes_per_row for field, store in self.stores.items())
        return need, shutil.disk_usage(place).free

    def missing(self, keys: np.ndarray) -> np.ndarray:
        """(N, 16) -> positions of the texts that some field lacks, each text once."""
        return missing(self.stores, keys)

    def fill_by(
        self,
        run: Callable[[Mapping[str, Tensor]], Outputs],
        chunks: Iterable[Rows],
        collate: Callable[[Rows], dict[str, Tensor]],
        **options: Unpack[Options],
    ) -> int:
        """Calls `run` on what is missing of the rows, and stores it; all processes share the work.

        Arguments: see `fill` of `teachers/fill.py`. Returns how many texts this process ran on.

        Raises:
            UserError: an output is not finite (its text is named), or the cache cannot be written to.
        """
        make_cache_folder(self.root)
        world = processes()
        share = world.process_index, world.num_processes
        fresh = fill(run, self.stores, chunks, collate, share=share, **options)
        self.forwards += fresh
        world.wait_for_everyone()
        if world.num_processes > 1:
            self.refresh()  # what the others have stored
        return fresh
