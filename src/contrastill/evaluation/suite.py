"""Suites that other packages define and run: MTEB's tasks, on request."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from contrastill.errors import UserError, first_line
from contrastill.hub import hub_answers

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["mteb_scores"]


def mteb_scores(model: SentenceTransformer, tasks: Sequence[str], batch_size: int = 64) -> dict[str, float]:
    """Each task's main score x 100, and under "mean" their plain mean, to two decimals.

    The main score is the task's own: nDCG@10 of a retrieval task, Spearman of an STS task (Muennighoff et al., 2023).
    The `mteb` package fetches the data and computes it. Its store of results is not used: it knows a model by its
    name, and a folder trained again keeps its name.
    """
    try:
        import mteb
    except ImportError as error:
        raise UserError(
            f"expected the mteb package for --suite mteb, got {error}; run pip install 'contrastill[mteb]'"
        ) from error
    if not tasks:
        raise UserError("expected the names of mteb tasks, got none; pass for example --tasks NFCorpus")
    chosen = []
    for name in dict.fromkeys(tasks):
        try:
            chosen.append(mteb.get_task(name))
        except KeyError as error:
            raise UserError(f"expected an mteb task, got {name!r}; {_near(name)}") from error
    hub_answers()
    options = {"batch_size": batch_size, "show_progress_bar": False}
    try:
        results = mteb.evaluate(model, chosen, cache=None, encode_kwargs=options, show_progress_bar=False)
    except OSError as error:  # offline, unknown or gated data set
        raise UserError(
            f"expected to fetch the data of {', '.join(tasks)}, got {type(error).__name__}: {first_line(error)}; check "
            "the network"
        ) from error
    scores = {result.task_name: 100 * result.get_score() for result in results.task_results}
    scores["mean"] = np.mean(list(scores.values()))
    return {name: round(float(score), 2) for name, score in scores.items()}


def _near(name: str) -> str:
    from mteb.get_tasks import TASK_LIST

    known = {task.metadata.name.lower(): task.metadata.name for task in TASK_LIST}
    close = [known[match] for match in difflib.get_close_matches(name.lower(), known, n=5)]
    return f"near it: {', '.join(close)}" if close else "mteb.get_tasks() lists them"
