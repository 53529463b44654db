"""Scores of a language model on prompts with answers: of the given answers, and of those that it writes.

Rows are scored one by one, so that intervals resample them: a mean over tokens is one sum divided by another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from contrastill.evaluation.scores import percentiles

__all__ = ["WRITTEN", "AnswerScores"]

Array = np.ndarray
RESAMPLES = 2000
WRITTEN = ("exact_match", "rouge_l", "own_nats", "distinct_2")
"""Metrics of the answers that a model writes."""


@dataclass(frozen=True)
class AnswerScores:
    """What a model says of each row's given answer, and how its own compare. None: not scored.

    tokens, nats: (rows,) tokens of the given answer, and the sum of their -log q. kl: (rows,) sum of KL(p_T || p_S)
    over them. right: (rows,) bool, whether the model's own answer is the given one. rouge_l: (rows,) of its own answer.
    own: (rows, 2) the sum of -log p_T over the tokens of its own answer, and their number. distinct_2: of all its own
    answers together; it has no interval, as rows that are drawn twice repeat their bigrams.
    """

    tokens: Array
    nats: Array
    kl: Array | None = None
    right: Array | None = None
    rouge_l: Array | None = None
    own: Array | None = None
    distinct_2: float | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """Each metric that there is: "kl" and "own_nats" in nats a token, the others as their names say."""
        found = {name: float(self.of(name, np.ones((1, len(self.tokens))))[0]) for name in self.names}
        return found if self.distinct_2 is None else found | {"distinct_2": self.distinct_2}

    @property
    def names(self) -> list[str]:
        """The metrics that have an interval."""
        return list(self.parts)

    @property
    def parts(self) -> dict[str, tuple[Array, Array]]:
        """Metric -> (rows,) each row's part above and below: it is the quotient of their sums, perplexity its
        exponential."""
        one, own = np.ones(len(self.tokens)), self.own
        known: dict[str, tuple[Array | None, Array]] = {
            "kl": (self.kl, self.tokens),
            "perplexity": (self.nats, self.tokens),
            "exact_match": (self.right, one),
            "rouge_l": (self.rouge_l, one),
            "own_nats": (None, one) if own is None else (own[:, 0], own[:, 1]),
        }
        return {name: (above, below) for name, (above, below) in known.items() if above is not None}

    def interval(self, metric: str, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
        """Percentile interval of a metric over resampled rows."""
        rows = len(self.tokens)
        drawn = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=RESAMPLES)
        return percentiles(self.of(metric, drawn), level)

    def by_row(self, metric: str) -> Array:
        """What each row adds to a metric: (rows,) of exact match and ROUGE-L; else (rows, 2), nats and tokens, whose
        sums' quotient is kl and own_nats, and its exponential perplexity."""
        above, below = self.parts[metric]
        return above.astype(np.float64) if metric in ("exact_match", "rouge_l") else np.stack([above, below], 1)

    def of(self, metric: str, weights: Array) -> Array:
        """A metric of S weightings of the rows: (S, rows) -> (S,)."""
        above, below = self.parts[metric]
        mean = weights @ above / np.maximum(weights @ below, 1)
        return np.exp(mean) if metric == "perplexity" else mean
