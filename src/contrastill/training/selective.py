"""When a scored model may answer alone: thresholds that reach a target, and texts of no class."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import logsumexp

from contrastill.answers import only_classes
from contrastill.data.load import TaskData, text_key
from contrastill.data.records import Records
from contrastill.errors import UserError, quoted
from contrastill.evaluation.selective import (
    LEVEL,
    auroc,
    auroc_interval,
    false_positive_rate,
    not_reached,
    target_in_words,
    threshold_for,
)
from contrastill.settings import Evaluation
from contrastill.tasks import Classification, LabelledTask

__all__ = ["Outside", "check_selective", "read_outside", "selective"]

logger = logging.getLogger(__name__)

Texts = list[str] | list[tuple[str, str]]
Outside = tuple[np.ndarray, np.ndarray | None]
"""Of texts that belong to no class: probabilities (M, C), and logits where the model gives them."""


def check_selective(asked: Evaluation, task: LabelledTask, words: str) -> None:
    """Checks that --target and --oos suit the task of the model, whose answers are `words`, before it is run.

    Raises:
        UserError: it answers otherwise than with one class of several.
    """
    for name in ("target", "oos"):
        if getattr(asked, name) is not None and not isinstance(task, Classification):
            raise UserError(only_classes(f"--{name}", words))


def read_outside(asked: Evaluation, data: TaskData, keys: np.ndarray) -> Texts:
    """The texts of --oos, in the columns of the data. keys: `text_key` of the rows that have a class.

    Raises:
        UserError: no texts, a broken row, or a text that has a class in the data too.
    """
    assert asked.oos is not None
    names = data.schema.text, data.schema.text_pair
    records = Records.of(asked.oos, encoding=asked.encoding, delimiter=asked.delimiter, usual=names)
    texts: Any = [record.texts for record in records]
    if not texts:
        raise UserError(f"--oos: expected texts that belong to no class, got none in {asked.oos}")
    known, both = set(keys.tolist()), 0
    first = None
    for text in texts:
        if text_key(*([text] if isinstance(text, str) else text)) in known:
            both, first = both + 1, first or text
    if both:
        raise UserError(
            f"--oos: expected texts that belong to no class, got {both:,} of {len(texts):,} that are among the scored "
            f"rows too and have one there, such as {quoted(first)}; leave them out of one of the files"
        )
    return texts


def selective(
    asked: Evaluation,
    confidence: np.ndarray,
    right: np.ndarray,
    logits: np.ndarray | None,
    outside: Callable[[], Outside] | None,
    threshold: float | None,
) -> dict[str, Any]:
    """The entries "target" and "out_of_scope" of a model's scores, where they were asked for.

    Args:
        confidence, right: (N,) the largest probability of each row, and whether its class is right.
        logits: (N, C), where the model gives them.
        outside: computes the answers to the texts of --oos.
        threshold: below which the model itself abstains.
    """
    found: dict[str, Any] = {}
    if asked.target is not None:
        chosen = threshold_for(confidence, right, asked.target)
        found["target"] = {"target": asked.target, "level": LEVEL, "reached": chosen is not None}
        if chosen is None:
            found["target"]["reason"] = not_reached(confidence, right, asked.target)
        else:
            threshold = chosen.threshold
            found["target"] |= chosen.to_json()
            logger.info("%s", target_in_words(asked.target, chosen))
    if outside is not None:
        probabilities, raw = outside()
        largest = probabilities.max(1)
        scores = {"probability": told_apart(confidence, largest)}
        if logits is not None and raw is not None:  # Liu et al. 2020, "Energy-based out-of-distribution detection"
            scores["energy"] = told_apart(logsumexp(logits, axis=1), logsumexp(raw, axis=1))
        found["out_of_scope"] = {"texts": len(largest), "scores": scores}
        if threshold is not None:
            found["out_of_scope"] |= {"threshold": threshold, "answered": float((largest >= threshold).mean())}
    return found


def told_apart(inside: np.ndarray, outside: np.ndarray) -> dict[str, Any]:
    """How well a score tells rows of a class (N,) from texts of none (M,)."""
    return {
        "auroc": auroc(inside, outside),
        "interval": list(auroc_interval(inside, outside)),
        "fpr95": false_positive_rate(inside, outside),
    }
