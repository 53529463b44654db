"""Teacher vectors of past batches, first in first out, saved with the run's checkpoints."""

import torch
from torch import Tensor, nn

__all__ = ["Queue"]


class Queue(nn.Module):
    """Holds the last `size` examples: vectors (size, layers, D) and text keys (size,). Size 0 holds nothing."""

    vectors: Tensor
    keys: Tensor
    pushed: Tensor

    def __init__(self, size: int, layers: int, width: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("vectors", torch.zeros(size, layers, width))
        self.register_buffer("keys", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))
        self.known: tuple[Tensor, int, int] | None = None

    @property
    def count(self) -> int:
        """The number of examples ever pushed: `pushed`, which on a GPU is read only when somebody else has changed it.

        Reading it there would wait for the step in hand, in every step.
        """
        tensor, version, count = self.known or (None, 0, 0)
        if tensor is self.pushed and version == self.pushed._version:
            return count
        return self.know(int(self.pushed))

    def know(self, count: int) -> int:
        self.known = self.pushed, self.pushed._version, count
        return count

    def with_batch(self, vectors: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The batch's (B, layers, D) and (B,), followed by the queue's content."""
        held = min(self.count, self.size) if self.size else 0
        if not held:
            return vectors, keys
        return torch.cat([vectors, self.vectors[:held]]), torch.cat([keys, self.keys[:held]])

    @torch.no_grad()
    def push(self, vectors: Tensor, keys: Tensor) -> None:
        """Adds a batch in place of the oldest; of a batch larger than the queue, its last rows."""
        vectors, keys = vectors[-self.size :], keys[-self.size :]
        count = self.count
        slots = (count + torch.arange(len(keys), device=keys.device)) % self.size
        self.vectors[slots] = vectors.to(self.vectors.dtype)
        self.keys[slots] = keys
        self.pushed += len(keys)
        self.know(count + len(keys))
