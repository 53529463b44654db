"""Doubts about the result of a run on texts without labels, or on pairs of texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from contrastill.training.doubts import Curve, Remedies, ended_at, losses, near_chance, noise_of, still_rises

if TYPE_CHECKING:
    from contrastill.training.embeddings import EmbeddingPlan
    from contrastill.training.pairs import PairsPlan

__all__ = ["of_distillation", "of_pairs"]

Log = Sequence[Mapping[str, Any]]

HIGH = 0.9  # agreement with the teacher that leaves little to gain


def of_distillation(run: EmbeddingPlan, history: Log, remedies: Remedies) -> list[str]:
    """Of methods other than `disco` no loss at chance is known: their targets are no single text."""
    among = candidates(run.method, run.batch_size, remedies.steps)
    if nothing := contrast_near_chance(history, "ckd", among, remedies.first):
        return nothing
    curve = Curve.of(history, run.metric)
    if not curve.values:
        return []
    best, rows = max(curve.values), len(run.held) if run.scored is None else len(run.scored.scores)
    noise = noise_of(best, rows, correlation=run.scored is not None)
    found = not_above_start(best, run.untrained, noise, remedies.first)
    return found or still_rises(curve, noise, remedies.longer)


def of_pairs(run: PairsPlan, history: Log, remedies: Remedies) -> list[str]:
    among = candidates(run.method, run.together, remedies.steps, columns=run.examples.numbers.shape[1] - 1)
    nothing = contrast_near_chance(history, "contrast", among, remedies.first)
    pairs, before, after = run.scores.dev, run.before.get("dev"), run.after.get("dev")
    if fewer := run.scores.found_less():
        shares = "{:.1%} of the first texts of held-out pairs found their second text before, and {:.1%} do now"
        return [f"{shares.format(*fewer)}: the start was better; {remedies.slower}"]
    if pairs is None or before is None or after is None:
        return nothing
    noise = 100 * noise_of(after / 100, len(pairs.scores), correlation=True)
    if before - after > noise or (before > after and run.scores.differ()):
        return [f"the dev score fell from {before:.2f} to {after:.2f}: the start was better; {remedies.slower}"]
    return nothing or still_rises(Curve.of(history, run.metric), noise, remedies.longer)


def candidates(method: Any, rows: int, steps: int, columns: int = 1) -> int:
    """The number of texts among which an anchor has to find its positive at the end: batch and queue."""
    return int(rows * columns + min(method.queue.size, steps * rows))


def contrast_near_chance(history: Log, term: str, candidates: int, remedy: str) -> list[str]:
    """Doubts a contrastive loss near log(candidates): all candidates look the same to the model."""
    chance = math.log(candidates) if candidates > 1 else None
    ignorant = f"cannot tell {candidates:,} texts apart"
    return near_chance(ended_at(losses(history, term)), chance, f"loss {term!r}", ignorant, remedy)


def not_above_start(best: float, untrained: float | None, noise: float, remedy: str) -> list[str]:
    """Doubts an agreement with the teacher that is no better than before training, where it could rise."""
    if untrained is None or untrained > HIGH or best > untrained + noise:
        return []
    return [f"agreement with the teacher is {best:.3g}, {untrained:.3g} before training (noise {noise:.2g}); {remedy}"]
