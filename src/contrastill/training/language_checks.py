"""Checks of a language model's run before its first step: the time of a step, the teacher, the ends of the answers."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from contrastill.data.prompt_batches import EncodedPrompts
from contrastill.evaluation.language import AnswerScores
from contrastill.processes import processes
from contrastill.training.answers import score_answers
from contrastill.training.checks import Check

if TYPE_CHECKING:
    from contrastill.training.language import LanguagePlan

__all__ = ["answers_end", "costs", "dearest", "mass_kept", "pace", "teacher_helps", "without_end"]

FEW = 0.05  # share of given answers without an end above which there is a warning
LOST = 0.1  # share of the teacher's mass on left-out words above which there is a warning
READ = ("data", "dev", "test", "prompt", "answer", "messages")  # settings that say how the data are read

logger = logging.getLogger(__name__)


# ---- the time of a step


def costs(run: LanguagePlan) -> np.ndarray:
    """(N,) the most tokens of each training row that a step reads: the given ones, or those that are written."""
    if not run.method.writes:
        return run.lengths
    return np.maximum(run.lengths, run.splits["train"].prompt_lengths + run.task.new_tokens)


def dearest(run: LanguagePlan, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch with answers of the dearest source of the method's stage, written to the last of their places."""
    task, ends = run.task, run.task.ends
    task.ends = ()
    try:
        read = run.method.dearest(batch)
    finally:
        task.ends = ends
    return {**read, "tokens": read["answer_mask"].sum().float()}


def pace(run: LanguagePlan, seconds: float, memory: float) -> list[Check]:
    """The most time and memory (bytes) that a step takes, and the run's steps; logged too."""
    learnt = f"answers of {run.task.new_tokens} tokens, written" if run.method.writes else "given answers"
    seen = (
        f"at most {seconds:.2g} s a step ({learnt}; the longest rows, without the update) and about "
        f"{memory / 1e6:.0f} MB; {run.steps:,} steps: at most {span(seconds * run.steps)} beside the scores on dev"
    )
    logger.info("pace: %s", seen)
    return [Check("pace", True, seen, fatal=False)]


def span(seconds: float) -> str:
    """A time in seconds, minutes or hours."""
    for most, unit, name in ((120, 1, "seconds"), (7200, 60, "minutes")):
        if seconds < most:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 3600:.1f} hours"


# ---- the teacher


def teacher_helps(run: LanguagePlan) -> list[Check]:
    """Checks that the teacher's perplexity on dev is not above that of the student's start, by more than noise.

    The noise is that of their quotient, over resampled rows. Nothing is checked without dev, or where the method does
    not learn from a teacher.
    """
    start = run.start
    if start is None or run.scorer is None or not run.method.uses_teacher:
        return []
    teacher = score_answers(run.scorer.on(processes().device), run.batches("dev"), None, run.dtype)
    low, _ = AnswerScores(start.tokens, teacher.nats - start.nats).interval("perplexity")
    theirs, ours = (each.metrics["perplexity"] for each in (teacher, start))
    seen = f"perplexity {theirs:.4g} on the answers of dev, the student's start {ours:.4g}"
    if not low > 1:
        return [Check("teacher helps", True, seen, fatal=False)]
    wrong = f"the teacher is worse than the student's start: {seen}; fine-tune the teacher first: {tuning(run)}"
    return [Check("teacher helps", False, wrong, fatal=False)]


def tuning(run: LanguagePlan) -> str:
    """The command that fine-tunes the run's teacher on its data."""
    settings = run.settings
    words = ["contrastill", "finetune", "--task", "language", "--model", settings.teacher]
    for name in READ:
        if isinstance(value := getattr(settings, name), str):
            words += [f"--{name}", value]
    return shlex.join([*words, *(["--chat"] if settings.chat else []), "--out", "runs/teacher"])


# ---- the ends of the given answers


def without_end(split: EncodedPrompts, ends: Collection[int]) -> int:
    """The number of given answers whose last token does not end them."""
    last = split.rows.tokens[split.rows.ends[2::2] - 1]
    return int((~np.isin(last, list(ends))).sum())


def answers_end(run: LanguagePlan) -> Check:
    """Checks that few of the training answers are without an end token."""
    train = run.splits["train"]
    count, rows = without_end(train, run.task.ends), len(train.rows)
    seen = f"{count:,} of {rows:,} training answers have no end token"
    wrong = (
        f"{seen}, as --max-length {run.settings.max_length} cuts them: a student that learns from them writes on and "
        "on; raise --max-length, or leave those rows out"
    )
    ok = count <= FEW * rows
    return Check("answers end", ok, seen if ok else wrong, fatal=False)


# ---- the vocabulary


def mass_kept(run: LanguagePlan) -> list[Check]:
    """Checks that little of the teacher's mass lay on the words that were left out, where some were."""
    if run.trimmed is None:
        return []
    seen = f"{run.trimmed.lost_mass:.1%} of the teacher's mass lay on the words that were left out"
    wrong = f"{seen}: the texts are too few to stand for its answers; add texts, or use --vocabulary all"
    ok = run.trimmed.lost_mass <= LOST
    return [Check("vocabulary", ok, seen if ok else wrong, fatal=False)]
