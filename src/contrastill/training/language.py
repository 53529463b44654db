"""Runs on language models: fine-tuned on answers, or distilled from a larger one with the same tokenizer."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.data.collate import Known
from contrastill.data.prompt_batches import EncodedPrompts, collate_prompts
from contrastill.data.prompts import PromptData
from contrastill.evaluation import size
from contrastill.evaluation.inference import inference
from contrastill.evaluation.language import WRITTEN, AnswerScores
from contrastill.loading import Length
from contrastill.methods import LanguageMethod
from contrastill.processes import processes
from contrastill.report.paired import by_row
from contrastill.report.written import answers_to, of_written
from contrastill.results import RunResult, Scores, Split
from contrastill.settings import LanguageDistillation, LanguageFinetuning
from contrastill.teachers import CachedLM, FrozenLM, RecalledLM
from contrastill.training.answers import score_answers, write_answers
from contrastill.training.card import Origin, language_card
from contrastill.training.checks import Check
from contrastill.training.doubts import Remedies
from contrastill.training.folder import RunFolder
from contrastill.training.language_cache import store_words
from contrastill.training.language_checks import answers_end, costs, dearest, mass_kept, pace, teacher_helps
from contrastill.training.language_doubts import endless, unended
from contrastill.training.language_vocabulary import LanguageTrimming
from contrastill.training.plan import Plan, autocast_dtype
from contrastill.training.written import diversity, own_nats, score_written

__all__ = ["LanguagePlan"]

logger = logging.getLogger(__name__)

SCORED = 64  # rows that are scored together


class LanguagePlan(Plan):
    method: LanguageMethod

    def __init__(
        self,
        settings: LanguageFinetuning | LanguageDistillation,
        data: PromptData,
        splits: Mapping[str, EncodedPrompts],
        tokenizer: Tokenizer,
        method: LanguageMethod,
        length: Length,
        origin: Origin,
        teacher: FrozenLM | None = None,
        trimmed: LanguageTrimming | None = None,
    ) -> None:
        """teacher: by which the student is scored, whether its method learns from it or not. trimmed: both had their
        vocabulary cut."""
        self.settings, self.data, self.tokenizer, self.length, self.origin = settings, data, tokenizer, length, origin
        self.name = origin.name
        self.method, self.model, self.task = method, method, method.task
        self.scorer = None if teacher is None else RecalledLM(teacher)
        self.teacher = None if teacher is None else teacher.model
        self.dtype = autocast_dtype(settings)
        self.splits, self.examples = splits, splits["train"].rows
        self.lengths, self.cut_share = splits["train"].lengths, splits["train"].cut
        self.words = np.arange(len(tokenizer))  # any may be written
        self.collate = partial(collate_prompts, pad=self.task.pad)
        self.metric = settings.select if "dev" in splits else None
        self.written: dict[str, dict[str, list[list[int]]]] = {}  # by split and model
        self.found: dict[str, dict[str, AnswerScores]] = {}
        self.beside: Sequence[int] = ()  # rows whose answers are kept for the page of the run whose baseline this is
        self.stored: CachedLM | None = None
        self.decided: dict[str, str] = {} if trimmed is None else {"vocabulary": str(trimmed)}
        self.trimmed = trimmed
        self.start: AnswerScores | None = None  # of the student on dev, before its first step

    @property
    def usual_rate(self) -> float:
        own = isinstance(self.settings, LanguageDistillation)
        return self.settings.usual_rate if own else super().usual_rate

    # ---- the training texts

    @property
    def known(self) -> Sequence[Known]:
        return [Known()]

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        return self.collate([self.examples[int(n)] for n in rows])

    def batches(self, split: str) -> Iterable[dict[str, Tensor]]:
        """The rows of a split, in their order."""
        rows = self.splits[split].rows
        return (self.collate(rows[n : n + SCORED]) for n in range(0, len(rows), SCORED))

    # ---- checks and doubts

    @property
    def costs(self) -> np.ndarray:
        return costs(self)

    def dearest(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return dearest(self, batch)

    def checks_of_rows(self) -> list[Check]:
        return [answers_end(self), *mass_kept(self)]

    def checks_of_teacher(self) -> list[Check]:
        return teacher_helps(self)

    def checks_of_pace(self, seconds: float, memory: float) -> list[Check]:
        return pace(self, seconds, memory)

    def doubts(self, history: Sequence[Mapping[str, Any]], remedies: Remedies) -> list[str]:
        return endless(self, remedies)

    # ---- a run's steps

    def fingerprints(self) -> dict[str, Any]:
        teacher = {} if self.scorer is None else {"teacher_fingerprint": self.scorer.teacher.fingerprint}
        return {"data_fingerprint": self.data.fingerprint(), **teacher}

    def use_cache(self) -> None:
        """Runs the teacher on the given answers that are not stored yet; from here on the method reads its words."""
        if not isinstance(self.settings, LanguageDistillation) or not self.method.uses_teacher:
            return
        splits = [self.splits[split] for split in ("train", "dev") if split in self.splits]
        stored, told = store_words(self.settings, self.method, splits, self.tokenizer, self.dtype)
        self.stored, self.decided["teacher outputs"] = stored, told
        self.method.teacher = stored or self.method.teacher

    def trim_vocabulary(self) -> LanguageTrimming | None:
        """It was trimmed before training."""
        return self.trimmed

    def score_start(self, folder: RunFolder) -> Sequence[Mapping[str, Any]] | None:
        if "dev" not in self.splits:
            return None
        self.method.student.model.to(processes().device)
        found = self.start = self.scores(self.method.student, "dev", wanted=[self.settings.select])
        return [{"epoch": 0, "step": 0, **{f"eval_{name}": value for name, value in found.metrics.items()}}]

    @property
    def check(self) -> Callable[[], Mapping[str, float]] | None:
        return self.on_dev if "dev" in self.splits else None

    def on_dev(self) -> dict[str, float]:
        """Dev scores of the student in its present state, and the method's own loss on the given answers."""
        found = self.scores(self.method.student, "dev", wanted=[self.settings.select])
        return {**found.metrics, "loss": self.loss_on_dev()}

    def loss_on_dev(self) -> float:
        """The method's own loss on the given answers."""
        method: Any = self.method
        device, loss, tokens = method.student.model.device, 0.0, 0
        with inference(method, self.dtype):
            for batch in self.batches("dev"):
                batch = {name: value.to(device) for name, value in batch.items()}
                count = int(batch["answer_mask"].sum())
                loss += count * float(method.loss_of(batch)["loss"])
                tokens += count
        return loss / max(1, tokens)

    def scores(
        self, model: Any, split: str, wanted: Collection[str] = WRITTEN, name: str | None = None
    ) -> AnswerScores:
        """Scores of the given answers, and those of the model's own that are wanted: it writes for these alone."""
        teacher = self.scorer if model is self.method.student else None
        found = score_answers(model, self.batches(split), teacher, self.dtype)
        if not set(wanted) & set(WRITTEN):
            return found
        answers, rows = self.write(model, split), self.splits[split].rows
        if name is not None:
            self.written.setdefault(split, {})[name] = answers
        if self.scorer is not None and "own_nats" in wanted:
            judge = self.scorer.teacher.of(processes().device)
            found = replace(found, own=own_nats(judge, answers, rows, self.collate, SCORED, self.dtype))
        return score_written(found, answers, rows, wanted, self.text, self.task.ends)

    def write(self, model: Any, split: str) -> list[list[int]]:
        return write_answers(model.model, self.batches(split), self.task, self.dtype, len(self.tokenizer))

    def text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    @property
    def teacher_forwards(self) -> int | None:
        return None if self.stored is None else self.stored.forwards

    def describe(self) -> dict[str, Any]:
        decided = {"length": self.length.cutting(self.cut_share), "new tokens": str(self.task.new_tokens)}
        about = self.data.describe()
        decided = {**about["decisions"], **decided, **self.decided}
        return {**about, "tokens": int(self.lengths.sum()), "decisions": decided}

    def results(self) -> RunResult:
        metric = self.settings.select
        splits = [split for split in ("dev", "test") if split in self.splits]
        ours = {split: self.judged(self.method.student, split, metric, self.name) for split in splits}
        models = {self.name: Scores(ours, size(self.method.student.model))}
        if self.scorer is not None:
            teacher = self.scorer.on(processes().device)
            theirs = {split: self.judged(teacher, split, metric, "teacher") for split in splits}
            whole = size(self.scorer.model) if self.trimmed is None else self.trimmed.teacher_size
            models = {"teacher": Scores(theirs, whole), **models}
        figures: dict[str, Any] = {"train_rows": len(self.examples)}
        if self.checkpoint is not None:
            figures["checkpoint"] = self.checkpoint
        given = {
            split: diversity((row["answer"] for row in self.splits[split].rows), self.task.ends) for split in splits
        }
        yardsticks = {f"{split} distinct_2": value for split, value in given.items() if value is not None}
        return RunResult(self.data.name, metric, models=models, yardsticks=yardsticks, figures=figures)

    def judged(self, model: Any, split: str, metric: str, name: str) -> Split:
        found = self.scores(model, split, name=name)
        self.found.setdefault(split, {})[name] = found
        intervals = {one: found.interval(one) for one in found.names}
        more: dict[str, Any] = {"unended": unended(self.written[split][name], self.task.ends)}
        if found.distinct_2 is None:
            more["left_out"] = {"distinct_2": "no answer has two tokens"}
        return Split(found.metrics, len(found.tokens), intervals.get(metric), more, intervals)

    def evidence(self) -> dict[str, Any] | None:
        """Some answers of each model beside the given ones, on dev, else test; and the score of each row."""
        if not self.written:
            return None
        split = next(iter(self.written))
        written = {name: self.written[split][name] for name in sorted(self.written[split], key="teacher".__ne__)}
        samples = of_written(self.splits[split].rows, written, self.text, self.task.ends, self.settings.seed)
        counts = {name: unended(answers, self.task.ends) for name, answers in written.items()}
        kept: dict[str, Any] = {"split": split, "new_tokens": self.task.new_tokens, "unended": counts}
        kept["by_row"] = {name: self.scored_rows(name) for name in self.found}
        if self.beside:
            rows, ours = self.splits[split].rows, self.written[split][self.name]
            kept["beside"] = answers_to(self.beside, rows, ours, self.text, self.task.ends)
        return {**samples, **kept}

    def scored_rows(self, split: str) -> dict[str, Any]:
        """The scores of a split's rows, for comparisons with runs that read the same tokens."""
        read = ((str(row["prompt"]), str(row["answer"])) for row in self.splits[split].rows)
        ours, teacher, metric = self.found[split][self.name], self.found[split].get("teacher"), self.settings.select
        theirs = teacher.by_row(metric) if teacher is not None and metric in teacher.names else None
        return by_row(metric, read, None, ours.by_row(metric), theirs)

    def save(self, folder: RunFolder) -> Path:
        def write(place: Path) -> None:
            self.method.student.model.save_pretrained(place)
            self.tokenizer.save_pretrained(place)

        return folder.save_model(self.name, write)

    def card(self, result: RunResult) -> str:
        return language_card(self.origin, result)
