"""Vectors of texts that belong together."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from contrastill.evaluation import paired_bootstrap, spearman
from contrastill.evaluation import sts as similarity
from contrastill.report.evidence import of_pairs
from contrastill.report.neighbours import HELD_OUT_PAIRS, of_ranks, ranked, ranks_of
from contrastill.report.paired import by_row
from contrastill.tasks.embedding import Embedding

__all__ = ["PairScores", "Pairs"]


class Pairs(Embedding):
    """Vectors by which texts that belong together are found: an anchor, its positive and, perhaps, a hard negative.

    columns: the texts of a row, 2 or 3. A batch of B rows is one of `columns` B texts: all anchors, then all positives,
    then all hard negatives.
    """

    name = "pairs"
    per = "group"
    metrics = ("spearman",)

    def __init__(self, columns: int = 2) -> None:
        self.columns = columns


class PairScores:
    """The sets that a model is scored on; called with one it gives {"dev": Spearman x 100, "sts": a table, …}.

    dev: scored pairs. sets: the STS sets, by name. rows: (first, second) texts that belong together, for "retrieval":
    the share x 100 of first texts whose second text is, of all second texts, the nearest. held_out: how many of these
    rows are not learnt from: all or none. kept: cosines of the dev pairs, by the name they were scored under. ranks: of
    the rows, by that name too.
    """

    def __init__(
        self,
        dev: Any = None,
        sets: dict[str, Any] | None = None,
        rows: tuple[Sequence[str], Sequence[str]] | None = None,
        held_out: int = 0,
    ) -> None:
        self.dev, self.sets, self.rows, self.held_out = dev, sets, rows, held_out
        self.kept: dict[str, np.ndarray] = {}
        self.ranks: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def __call__(self, model: Any, keep: str) -> dict[str, Any]:
        """keep: the name of the dev pairs' cosines in `kept`, or of the rows' ranks in `ranks`."""
        found: dict[str, Any] = {}
        if self.dev is not None:
            found["dev"] = self.on_dev(model, keep)
        if self.rows is not None:
            found["retrieval"] = self.on_rows(model, keep)
        if self.sets is not None:
            found["sts"] = similarity.sts_scores(model, self.sets)
        return found

    def on_dev(self, model: Any, keep: str | None = None) -> float:
        """Spearman x 100."""
        cosines = similarity.sts_similarities(model, {"dev": self.dev})["dev"]
        if keep is not None:
            self.kept[keep] = cosines
        return round(100 * spearman(cosines, self.dev.scores), 4)

    def on_rows(self, model: Any, keep: str) -> float:
        """The share x 100 of first texts that find their second."""
        assert self.rows is not None
        self.ranks[keep] = ranks(model, *self.rows)
        return round(100 * float(np.mean(self.ranks[keep][0] == 1)), 2)

    @property
    def figures(self) -> dict[str, int]:
        return {"held_out": self.held_out} if self.held_out else {}

    @property
    def yardsticks(self) -> dict[str, float]:
        """chance: the share of held-out first texts whose second text is found by lot."""
        return {"chance": 1 / len(set(self.rows[1]))} if self.held_out and self.rows is not None else {}

    def found_less(self) -> tuple[float, float] | None:
        """The shares of held-out first texts whose second text was the nearest before, and is now, if the second share
        is smaller by more than other pairs could make it (95 %)."""
        if not self.held_out:
            return None
        before, after = (self.ranks[name][0] == 1 for name in ("before", "after"))
        lost = before.astype(float) - after
        if lost.mean() <= 1.96 * lost.std() / math.sqrt(len(lost)):
            return None
        return float(before.mean()), float(after.mean())

    def differ(self, samples: int = 500) -> bool:
        """Whether the dev score before and that after differ by more than other pairs could make them (95 %)."""
        before, after = (self.kept[name][:, None] for name in ("before", "after"))
        low, high = paired_bootstrap(after, before, np.asarray(self.dev.scores), "spearman", samples)[1:]
        return low > 0 or high < 0

    def known(self, scores: dict[str, Any]) -> bool:
        """Whether these, of a record, are all scores."""
        kinds = {"dev": (self.dev, float), "retrieval": (self.rows, float), "sts": (self.sets, dict)}
        return all(asked is None or isinstance(scores.get(name), kind) for name, (asked, kind) in kinds.items())

    @property
    def texts(self) -> list[Sequence[str]]:
        """Those of the scored pairs, and of the rows."""
        every = [*([self.dev] if self.dev is not None else []), *(self.sets or {}).values()]
        return [*(side for pairs in every for side in (pairs.first, pairs.second)), *(self.rows or ())]

    def evidence(self) -> dict[str, Any] | None:
        """The dev pairs before and after, or the rows' ranks, for the run's page."""
        if self.dev is None:
            return None if self.rows is None or "after" not in self.ranks else self.evidence_of_ranks(*self.rows)
        pairs, before, after = self.dev, self.kept.get("before"), self.kept["after"]

        def texts(numbers: np.ndarray) -> list[list[str]]:
            return [[pairs.first[n], pairs.second[n]] for n in numbers]

        every = zip(pairs.first, pairs.second, strict=True)
        return {
            **of_pairs(pairs.scores, after, before, texts),
            "ranked": ranked(after, np.asarray(pairs.scores), texts),
            "by_row": {"dev": by_row("spearman", every, np.asarray(pairs.scores), after, before)},
        }

    def evidence_of_ranks(self, firsts: Sequence[str], seconds: Sequence[str]) -> dict[str, Any]:
        def texts(numbers: np.ndarray) -> list[list[str]]:
            return [[firsts[n], seconds[n]] for n in numbers]

        after, before = self.ranks["after"], self.ranks.get("before")
        if not self.held_out:
            return of_ranks(after, before, texts, "training pairs")
        ours, theirs = after[0] == 1, None if before is None else before[0] == 1
        kept = by_row("retrieval", zip(firsts, seconds, strict=True), None, ours, theirs)
        return {**of_ranks(after, before, texts, HELD_OUT_PAIRS), "by_row": {HELD_OUT_PAIRS: kept}}


def ranks(model: Any, firsts: Sequence[str], seconds: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The rank of each first text's second text among all second texts by the model's vectors, and which is first."""
    a, b = (
        np.asarray(model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False))
        for texts in (firsts, seconds)
    )
    return ranks_of(a, b, (firsts, seconds))
