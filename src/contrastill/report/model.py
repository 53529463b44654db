"""A model that a run measured, and its score in words."""

from dataclasses import dataclass

from contrastill import results
from contrastill.report.figures import PERCENT, WORDS, shown

__all__ = ["Model", "Score", "alike", "ratio_of"]


@dataclass(frozen=True)
class Score(results.Score):
    """A score in words: value, metric and rows as metrics.json has them, and how they are written."""

    @property
    def factor(self) -> float:
        """The factor from the stored value to the displayed one."""
        return 100.0 if self.metric in PERCENT and not self.hundred else 1.0

    @property
    def text(self) -> str:
        return shown(self.value, self.metric, self.hundred)

    @property
    def interval(self) -> str | None:
        if self.low is None or self.high is None:
            return None
        places = 1 if self.factor == 100 else 2 if self.hundred else 3
        return f"{self.low * self.factor:.{places}f} to {self.high * self.factor:.{places}f}"

    @property
    def words(self) -> str:
        """The metric by its name."""
        return WORDS.get(self.metric, self.metric)


@dataclass(frozen=True)
class Model:
    """A row of the table of results."""

    name: str
    kind: str  # "teacher", "before", "yardstick", "trained" or "bundle"
    score: Score | None = None  # on the rows of the headline
    checked: Score | None = None  # on the rows of the exports' gates, if the run was scored there too
    kept: float | None = None
    parameters: float | None = None
    size_mb: float | None = None
    latency_ms: float | None = None
    timed: str | None = None  # where the latency comes from
    ratio: float | None = None  # x faster than `than`
    ratio_interval: str | None = None
    than: str | None = None
    doubt: str | None = None  # the reason not to quote the ratio
    note: str = ""
    beside: tuple[Score, ...] = ()  # on the same rows, by other metrics that have intervals

    def by(self, metric: str | None) -> Score | None:
        """The score by a metric; None: the main one."""
        return self.score if metric is None else next((s for s in self.scores if s.metric == metric), None)

    @property
    def scores(self) -> tuple[Score, ...]:
        return (*([self.score] if self.score else []), *self.beside)


def alike(a: Score, b: Score) -> bool:
    """Whether both scores have the same metric and rows, so that they are comparable."""
    return (a.metric, a.where) == (b.metric, b.where)


def ratio_of(score: Score | None, reference: Score | None) -> float | None:
    if score is None or reference is None or not alike(score, reference):
        return None
    return score.value / reference.value if reference.value > 0 and score.metric not in results.LESS_IS_BETTER else None
