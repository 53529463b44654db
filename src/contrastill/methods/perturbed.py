"""Gradient perturbation at the embeddings, around any method."""

import torch
from torch import Tensor, nn

from contrastill.errors import UserError
from contrastill.forward import output_of
from contrastill.methods.base import Method

__all__ = ["NORMS", "Perturbed"]

NORMS = ("none", "l2-per-token")


class Perturbed(nn.Module):
    """Trains `method` at `emb + step`, step along the gradient of its loss at `emb` (LRC-BERT, section 3.4).

    `emb` is the student's embedding output (B, L, D), or one for each group of texts that it reads together. The first
    pass yields that gradient and nothing else: one set of parameter gradients, one optimiser step, one push to any
    queue, one teacher pass. Both passes draw the same random numbers (dropout masks, negatives), so the gradient is
    that of the very network that is then trained.

    norm: "none": `epsilon * gradient`, as the paper writes it (with the mean over a batch in the loss, a very small
        step); "l2-per-token": `epsilon * gradient / |gradient|` for each token. A token's embedding is 2 to 9 long, and
        steps of 1 left students of CoLA nothing to learn (docs/evidence.md#ablations-of-lrc-bert).
    """

    def __init__(self, method: Method, norm: str = "l2-per-token", epsilon: float = 0.1) -> None:
        super().__init__()
        if norm not in NORMS:
            raise UserError(f"expected a perturbation norm of {NORMS}, got {norm!r}")
        if not epsilon > 0:
            raise UserError(f"expected a perturbation epsilon above 0, got {epsilon}")
        self.method, self.norm, self.epsilon = method, norm, epsilon

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        method = self.method
        batch = method.prepare(batch)
        teacher = method.run_teacher(batch)

        def losses() -> dict[str, Tensor]:
            return method.weighted_sum(method.losses(method.student(batch, method.needs), teacher, batch))

        device = batch["input_ids"].device
        seen: list[Tensor] = []

        def keep(emb: Tensor) -> Tensor:
            seen.append(emb)
            return emb

        with (
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            output_of(method.student.embeddings, keep),
        ):
            loss = losses()["loss"]
        steps = iter([self.step(gradient) for gradient in torch.autograd.grad(loss, seen)])
        with output_of(method.student.embeddings, lambda emb: emb + next(steps)):
            result = losses()
        method.after_step(teacher, batch)
        return result

    def step(self, gradient: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)"""
        if self.norm == "l2-per-token":
            gradient = gradient / gradient.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return self.epsilon * gradient
