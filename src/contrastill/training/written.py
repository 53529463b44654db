"""Scores of the answers that a language model has written."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contrastill.evaluation.language import AnswerScores
from contrastill.evaluation.written import distinct_2, rouge_l
from contrastill.language import CausalLM
from contrastill.training.answers import score_answers

__all__ = ["diversity", "own_nats", "score_written"]

Ids = Sequence[int]
Row = Mapping[str, Any]


def score_written(
    found: AnswerScores,
    answers: Sequence[Ids],
    rows: Sequence[Row],
    wanted: Collection[str],
    text: Callable[[Ids], str],
    ends: Collection[int],
) -> AnswerScores:
    """The scores with those of the model's own answers that are wanted and need no model: "exact_match", "rouge_l",
    "distinct_2". rows: their given answers. text: of token ids. ends: ids that end an answer."""
    given = [row["answer"] for row in rows]
    if "exact_match" in wanted:
        found = replace(
            found, right=np.array([list(ours) == list(true) for ours, true in zip(answers, given, strict=True)])
        )
    if "rouge_l" in wanted:
        found = replace(found, rouge_l=rouge_l([text(one) for one in answers], [text(one) for one in given]))
    if "distinct_2" in wanted:
        found = replace(found, distinct_2=diversity(answers, ends))
    return found


def diversity(answers: Iterable[Ids], ends: Collection[int]) -> float | None:
    """`distinct_2` of answers without the tokens that end them."""
    return distinct_2([[one for one in answer if one not in ends] for answer in answers])


def own_nats(
    teacher: CausalLM,
    answers: Sequence[Ids],
    rows: Sequence[Row],
    collate: Callable[[Sequence[Row]], dict[str, Tensor]],
    size: int,
    dtype: torch.dtype | None = None,
) -> np.ndarray:
    """(rows, 2): the sum of -log p_T over the tokens of each answer that a model wrote, and their number.

    rows: their prompts. collate: of rows to a batch; size: rows of one. dtype: of autocast.
    """

    def batches() -> Iterator[dict[str, Tensor]]:
        for n in range(0, len(answers), size):
            some = zip(rows[n : n + size], answers[n : n + size], strict=True)
            yield collate([{**row, "answer": list(said)} for row, said in some])

    found = score_answers(teacher, batches(), None, dtype)
    return np.stack([found.nats, found.tokens], 1)
