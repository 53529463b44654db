"""The order of training examples: a function of seed and epoch alone, so that a resumed run continues in it."""

import itertools
import operator
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Sampler

from contrastill.errors import UserError

__all__ = ["GroupedByLength", "NoSharedTexts", "Order"]

POOL = 32  # batches whose texts are sorted together: enough to pad little, few enough to mix well
PASSES = 3  # over the rows, in an epoch whose first pass comes to too few batches


class Order(Sampler[int]):
    """An order of rows that changes with the epoch."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


class GroupedByLength(Order):
    """A random order in which the examples of a batch are of about equal length, so that little is padding.

    Examples are shuffled and cut into pools of `POOL` batches; each pool is sorted by length, cut into batches, and
    its batches are shuffled. The first batch holds the longest text of the epoch's whole batches, so that memory
    runs out early if it does.

    batch_size: examples a step, over all processes and all parts of an accumulated batch.
    whole: leave out the incomplete batch. The sampler must: a loader of smaller parts would keep some of it.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray, batch_size: int, seed: int, whole: bool = False) -> None:
        self.lengths, self.batch_size, self.seed, self.whole = np.asarray(lengths), batch_size, seed, whole

    def __len__(self) -> int:
        rows = len(self.lengths)
        return rows - rows % self.batch_size if self.whole else rows

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(len(self.lengths))
        batches: list[np.ndarray] = []
        rest = len(order) % self.batch_size  # an incomplete batch comes last, where the loader drops or keeps it
        whole, tail = order[: len(order) - rest], order[len(order) - rest :]
        size = self.batch_size
        for start in range(0, len(whole), POOL * size):
            pool = whole[start : start + POOL * size]
            pool = pool[np.argsort(-self.lengths[pool], kind="stable")]
            batches += [pool[n : n + size] for n in range(0, len(pool), size)]
        random.shuffle(batches)
        if batches:
            longest = max(range(len(batches)), key=lambda n: int(self.lengths[batches[n]].max()))
            batches[0], batches[longest] = batches[longest], batches[0]
        return iter(np.concatenate([*batches, *([] if self.whole else [tail])]).tolist())


class NoSharedTexts(Order):
    """A random order of rows in which no two rows of a batch have a text in common.

    Rows are shuffled; each batch takes, from the front, rows whose texts it does not have yet, and leaves the others to
    the batches after it. Incomplete batches are left out. If an epoch comes to fewer than `len` batches, rows are
    shuffled again, twice at most, and some come a second time. (These are the batches of sentence-transformers'
    NoDuplicatesBatchSampler.)

    texts: (rows, columns) the numbers of each row's texts; a text may stand in several columns of one row.
    batch_size: rows a step, over all processes.

    Raises:
        UserError: while iterating, if there is no whole batch in an epoch.
    """

    def __init__(self, texts: np.ndarray, batch_size: int, seed: int) -> None:
        self.texts, self.batch_size, self.seed = texts.tolist(), batch_size, seed

    def __len__(self) -> int:
        return len(self.texts) - len(self.texts) % self.batch_size

    def __iter__(self) -> Iterator[int]:
        random, wanted, found = torch.Generator().manual_seed(self.seed + self.epoch), len(self), 0
        for _ in range(PASSES):
            for batch in self.batches(random):
                if len(batch) < self.batch_size:
                    continue
                yield from batch
                found += len(batch)
                if found >= wanted:
                    return
            if not found:
                raise UserError(
                    f"expected {self.batch_size} rows without a text in common in every epoch, found none in epoch "
                    f"{self.epoch + 1}; lower --batch-size"
                )

    def first(self) -> list[int]:
        """The rows of the first batch, which may be incomplete."""
        return next(self.batches(torch.Generator().manual_seed(self.seed)))

    def batches(self, random: torch.Generator) -> Iterator[list[int]]:
        """All rows once, in batches, as long as there are enough for another one; some may be incomplete."""
        ahead = iter(torch.randperm(len(self.texts), generator=random, dtype=torch.int32).tolist())
        passed: list[int] = []
        while len(passed) + operator.length_hint(ahead) >= self.batch_size:
            waiting, batch, again, seen = iter(passed), list[int](), list[int](), set[int]()
            for row in itertools.chain(waiting, ahead):
                if not seen.isdisjoint(self.texts[row]):
                    again.append(row)
                    continue
                batch.append(row)
                seen.update(self.texts[row])
                if len(batch) == self.batch_size:
                    break
            passed = [*again, *waiting]
            yield batch
