"""Scores of a language model on prompts with answers: perplexity, distance to a teacher, exact match.

Rows are scored one by one, so that intervals resample them: a mean over tokens is one sum divided by another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from contrastill.evaluation.scores import percentiles

__all__ = ["AnswerScores"]

Array = np.ndarray
RESAMPLES = 2000


@dataclass(frozen=True)
class AnswerScores:
    """What a model says of each row's given answer, and whether its own is the same.

    tokens, nats: (rows,) tokens of the answer, and the sum of their -log q. kl: (rows,) sum of KL(p_T || p_S) over
    them; None: there is no teacher. right: (rows,) bool; None: no answers were written.
    """

    tokens: Array
    nats: Array
    kl: Array | None = None
    right: Array | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """Each metric that there is: "kl" in nats a token, "perplexity", "exact_match"."""
        return {name: float(self.of(name, np.ones((1, len(self.tokens))))[0]) for name in self.names}

    @property
    def names(self) -> list[str]:
        return [
            *(["kl"] if self.kl is not None else []),
            "perplexity",
            *(["exact_match"] if self.right is not None else []),
        ]

    def interval(self, metric: str, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
        """Percentile interval of a metric over resampled rows."""
        rows = len(self.tokens)
        drawn = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=RESAMPLES)
        return percentiles(self.of(metric, drawn), level)

    def by_row(self, metric: str) -> Array:
        """What each row adds to a metric: (rows,) of exact match; else (rows, 2), nats and tokens, whose sums' quotient
        is kl, and its exponential perplexity."""
        if metric == "exact_match":
            assert self.right is not None
            return self.right.astype(np.float64)
        values = self.kl if metric == "kl" else self.nats
        assert values is not None
        return np.stack([values, self.tokens], 1)

    def of(self, metric: str, weights: Array) -> Array:
        """A metric of S weightings of the rows: (S, rows) -> (S,)."""
        if metric == "exact_match":
            assert self.right is not None
            return weights @ self.right / weights.sum(1)
        values = self.kl if metric == "kl" else self.nats
        assert values is not None
        mean = weights @ values / np.maximum(weights @ self.tokens, 1)
        return np.exp(mean) if metric == "perplexity" else mean
