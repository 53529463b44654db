"""The order of training examples: a function of the seed and the epoch alone, so that a resumed run goes on in it."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

__all__ = ["GroupedByLength"]

POOL = 32  # batches whose texts are sorted together: enough to pad little, few enough to mix well


class GroupedByLength(Sampler[int]):
    """A random order in which the examples of a batch are of about equal length, so that little is padding.

    Examples are shuffled and cut into pools of `POOL` batches; each pool is sorted by length, cut into batches, and
    its batches are shuffled. The first batch holds the longest text of the epoch's whole batches, so that memory
    runs out early if it does.

    batch_size: examples a step, over all processes and all parts of an accumulated batch.
    whole: leave out the incomplete batch. The sampler must: a loader of smaller parts would keep some of it.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray, batch_size: int, seed: int, whole: bool = False) -> None:
        self.lengths, self.batch_size, self.seed, self.whole = np.asarray(lengths), batch_size, seed, whole
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

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
