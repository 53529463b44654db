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

    def with_batch(self, vectors: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The batch's (B, layers, D) and (B,), followed by what the queue holds."""
        held = min(int(self.pushed), self.size)
        if not held:
            return vectors, keys
        return torch.cat([vectors, self.vectors[:held]]), torch.cat([keys, self.keys[:held]])

    @torch.no_grad()
    def push(self, vectors: Tensor, keys: Tensor) -> None:
        """Adds a batch in place of the oldest; of a batch larger than the queue, its last rows."""
        vectors, keys = vectors[-self.size :], keys[-self.size :]
        slots = (int(self.pushed) + torch.arange(len(keys), device=keys.device)) % self.size
        self.vectors[slots] = vectors.to(self.vectors.dtype)
        self.keys[slots] = keys
        self.pushed += len(keys)
