"""Scoring any embedding model on a suite of tasks."""

from typing import Any

from contrastill.errors import UserError
from contrastill.evaluation.sts import load_sts, sts_correlations, sts_intervals, sts_similarities
from contrastill.evaluation.suite import mteb_scores
from contrastill.settings import SuiteEvaluation
from contrastill.training.build import load_embedder

__all__ = ["evaluate_suite"]

SUITES = ("sts", "mteb")


def evaluate_suite(settings: SuiteEvaluation) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """The score of each task and their mean; and, of the sts suite, 95 % bootstrap intervals over the pairs.

    Any model that sentence-transformers loads will do; a bare encoder is taken with the mean of its tokens.
    """
    if settings.suite not in SUITES:
        raise UserError(f"expected a suite of {', '.join(SUITES)}, got {settings.suite!r}")
    tasks = settings.tasks or []
    if (settings.suite == "mteb") != bool(tasks):
        raise UserError("expected --tasks with --suite mteb, and only there: the names of its tasks, once for each")
    if settings.suite == "mteb" and settings.data:
        raise UserError("expected no --data with --suite mteb, which fetches its tasks from the Hub")
    sets = load_sts(settings.data) if settings.suite == "sts" else {}
    model: Any = load_embedder(settings.model)
    if settings.max_length is not None:
        model.max_seq_length = settings.max_length
    if settings.suite == "mteb":
        return mteb_scores(model, tasks, batch_size=settings.batch_size), {}
    similarities = sts_similarities(model, sets, settings.batch_size)
    return sts_correlations(similarities, sets), sts_intervals(similarities, sets)
