"""Scoring any embedding model on a suite of tasks."""

import logging
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from contrastill.bundle import is_bundle, open_bundle, refuse_length
from contrastill.errors import UserError
from contrastill.evaluation.sts import load_sts, sts_correlations, sts_intervals, sts_similarities
from contrastill.evaluation.suite import mteb_scores
from contrastill.loading import SCORED, encoder_inside, input_length, load_embedder, refuse_misfits
from contrastill.settings import SuiteEvaluation

__all__ = ["evaluate_suite"]

logger = logging.getLogger(__name__)


def evaluate_suite(settings: SuiteEvaluation) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """The score of each task and their mean; and, of the sts suite, 95 % bootstrap intervals over the pairs.

    Any model that sentence-transformers loads will do; a bare encoder is taken with the mean of its tokens.
    """
    tasks = settings.tasks or []
    if (settings.suite == "mteb") != bool(tasks):
        raise UserError("expected --tasks with --suite mteb, and only there: the names of its tasks, once for each")
    if settings.suite == "mteb" and settings.data:
        raise UserError("expected no --data with --suite mteb, which fetches its tasks from the Hub")
    sets = load_sts(settings.data) if settings.suite == "sts" else {}
    bundle = is_bundle(settings.model)
    if bundle:
        refuse_length(settings.max_length)
        if settings.suite == "mteb":
            raise UserError("--suite mteb: expected a model, got a bundle; score it with --suite sts")
    model: Any = Embedding(settings.model) if bundle else load_embedder(settings.model)
    if not bundle:
        refuse_misfits(model)
        set_length(model, settings, [text for pairs in sets.values() for text in (*pairs.first, *pairs.second)])
    if settings.suite == "mteb":
        return mteb_scores(model, tasks, batch_size=settings.batch_size), {}
    similarities = sts_similarities(model, sets, settings.batch_size)
    return sts_correlations(similarities, sets), sts_intervals(similarities, sets)


def set_length(model: Any, settings: SuiteEvaluation, texts: Sequence[str]) -> None:
    """Sets the length at which texts are cut, and logs it and the share of texts cut."""
    tokenizer = model.tokenizer
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return
    config = getattr(encoder_inside(model), "config", None)
    length = input_length(settings.max_length, settings.model, tokenizer, config, SCORED)
    model.max_seq_length = length.tokens
    lengths = (
        [len(ids) for ids in tokenizer(list(texts), verbose=False, truncation=False)["input_ids"]] if texts else []
    )
    cut = sum(n > length.tokens for n in lengths) / len(lengths) if lengths else None
    logger.info("length: %s", length if cut is None else length.cutting(cut))


class Embedding:
    """Adapter of a bundle to a suite: the one function that it calls."""

    def __init__(self, folder: str) -> None:
        self.bundle = open_bundle(folder)
        if not self.bundle.answer.vector:
            raise UserError(
                f"{folder}: expected a bundle of sentence embeddings, got one of {self.bundle.answer.words}"
            )

    def encode(self, texts: list[str], batch_size: int = 64, **options: Any) -> Any:
        return self.bundle.run(texts, batch_size)
