"""A labelled split that models are scored on."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.bundle import is_bundle, megabytes, open_bundle, refuse_length
from contrastill.data.collate import Collate, flat, known_tokens, tokenise, truncated_share
from contrastill.data.files import look_up
from contrastill.data.labels import align_labels
from contrastill.data.load import TaskData
from contrastill.errors import UserError
from contrastill.evaluation import predict, size
from contrastill.loading import SCORED, check_ids, input_length, load_classifier, load_tokenizer, rows_of
from contrastill.processes import processes
from contrastill.report.paired import by_row
from contrastill.results import Split
from contrastill.settings import Evaluation
from contrastill.tasks import LabelledTask, check_task, load_rows, output_names, task_given, task_of
from contrastill.teachers import CachedTeacher, LiveTeacher
from contrastill.training.checks import FEW_UNKNOWN
from contrastill.training.seen import seen_by, seen_share

__all__ = ["Evaluated", "Examples", "score_model"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluated:
    """The scores of a model on one split. seen: the share of its rows that were in the model's training, if known."""

    model: str
    split: str
    scores: Split
    max_length: int
    cut_share: float
    size: Mapping[str, float]
    seen: float | None = None

    def to_json(self) -> dict[str, Any]:
        about = {"max_length": self.max_length, "cut_share": self.cut_share, **self.size}
        seen = {"seen_in_training": self.seen} if self.seen else {}
        return {"model": self.model, "split": self.split, **self.scores.to_json(), **about, **seen}


class Examples:
    """A labelled split, tokenised and batched once, shortest texts first."""

    def __init__(
        self, rows: Dataset, task: LabelledTask, tokenizer: Tokenizer, max_length: int, batch_size: int = 64
    ) -> None:
        self.task, self.rows = task, rows
        tokens = tokenise(rows, tokenizer, max_length)
        ids, lengths = flat(tokens["input_ids"])
        self.known = known_tokens(ids, lengths, tokenizer)
        self.order = order = np.argsort(lengths, kind="stable")
        collate = Collate(tokenizer, task.label_dtype)
        self.batches = [
            collate(tokens.select(order[n : n + batch_size]).to_list()) for n in range(0, len(order), batch_size)
        ]
        self.ours, self.max_length = self.batches, max_length  # ours: as the scored model reads them
        self.labels = np.concatenate([batch["labels"].numpy() for batch in self.batches])
        self.keys = np.concatenate([batch["text_key"].numpy() for batch in self.batches])
        self.kept: dict[str, np.ndarray] = {}  # logits that were scored
        self.tasks: dict[str, LabelledTask] = {}  # as their models answer it
        self.reported: Split | None = None  # the scores of ours

    @property
    def highest(self) -> int:
        """The highest token id."""
        return max(int(batch["input_ids"].max()) for batch in self.batches)

    def check_ids(self, model: PreTrainedModel) -> None:
        """Checks that the model has an embedding of every token.

        Raises:
            UserError: it has not.
        """
        check_ids(self.highest, rows_of(model))

    def texts(self, numbers: np.ndarray) -> list[list[str]]:
        """The text or texts of these rows, which count in the order of `labels` and logits."""
        some = self.rows.select(self.order[numbers])
        columns = [some[name] for name in ("text", "text_pair") if name in some.column_names]
        return [list(row) for row in zip(*columns, strict=True)]

    def scores(self, model: PreTrainedModel, keep: str | None = None) -> Split:
        """In float32. keep: the name under which the logits stay in `kept`."""
        result = self.judged(self.logits(model), model.config, keep)
        if keep == "ours":
            self.reported = result
        return result

    def scores_of_teacher(self, teacher: CachedTeacher | LiveTeacher) -> Split:
        """As `scores`, in float32; the logits stay in `kept` as "theirs"."""
        device = processes().device
        logits = teacher.logits(self.batches, lambda model, batches: predict(model.to(device), batches))
        return self.judged(logits, teacher.model.config, "theirs")

    def logits(self, model: PreTrainedModel, dtype: torch.dtype | None = None) -> np.ndarray:
        return predict(model.to(processes().device), self.ours, dtype=dtype)

    def read_by(self, tokenizer: Tokenizer) -> None:
        """Lets the scored model read the same rows, in the same order, by a tokenizer of its own."""
        tokens, collate = tokenise(self.rows, tokenizer, self.max_length), Collate(tokenizer, self.task.label_dtype)
        parts = np.split(self.order, np.cumsum([len(batch["labels"]) for batch in self.batches])[:-1])
        self.ours = [collate(tokens.select(part).to_list()) for part in parts]

    def judged(self, logits: np.ndarray, config: Any, keep: str | None = None, interval: bool = True) -> Split:
        task = self.task.with_config(config)
        if keep is not None:
            self.kept[keep], self.tasks[keep] = logits, task
        return scored(task, task.answers(logits), self.labels, interval)

    def evidence(self) -> dict[str, Any] | None:
        """Single answers of ours, beside the teacher's, for the run's page; None before they were scored."""
        if "ours" not in self.kept:
            return None
        theirs, ours = self.kept.get("theirs"), self.tasks["ours"]
        return ours.evidence(self.labels, self.kept["ours"], theirs, self.texts, self.tasks.get("theirs", ours))

    def by_row(self) -> dict[str, Any] | None:
        """The answers of ours and the teacher's to each row, in the order of the data; None where there are none."""
        if "ours" not in self.kept:
            return None
        back = np.argsort(self.order, kind="stable")
        told = {
            who: self.tasks[who].by_row(self.labels, logits) for who, logits in self.kept.items() if who in self.tasks
        }
        ours, theirs = told["ours"], told.get("theirs")
        if ours is None:
            return None
        truth, answers = ours
        columns = [self.rows[name][:] for name in ("text", "text_pair") if name in self.rows.column_names]
        return by_row(
            self.task.row_metric or self.task.metrics[0],
            zip(*columns, strict=True),
            None if truth is None else truth[back],
            answers[back],
            None if theirs is None else theirs[1][back],
        )


def scored(task: LabelledTask, answers: np.ndarray, labels: np.ndarray, interval: bool = True) -> Split:
    """interval: whether the first metric gets one."""
    ends = task.interval(answers, labels, task.metrics[0]) if interval else None
    return Split(task.score(answers, labels), len(labels), ends)


def score_model(asked: Evaluation) -> Evaluated:
    """Scores a model, or a bundle, on one split of labelled rows."""
    if is_bundle(asked.model):
        return score_bundle(asked)
    model, tokenizer = load_classifier(asked.model), load_tokenizer(asked.model)
    asked = replace(asked, task=task_given(asked.task, model.config))
    data, split, said = scored_rows(asked, output_names(model.config))
    task = task_of(data.schema, asked.task)
    check_task(task, asked.model, model.config)
    length = input_length(asked.max_length, asked.model, tokenizer, model.config, SCORED)
    examples = Examples(data.splits[split], task, tokenizer, length.tokens, asked.batch_size)
    examples.check_ids(model)
    if examples.known.worse > FEW_UNKNOWN:
        logger.warning("%s: %s: the score says little of other texts", data.schema.name, examples.known)
    cut = truncated_share(data.splits[split], tokenizer, length.tokens)
    logger.info("length: %s", length.cutting(cut))
    scores, seen = examples.scores(model), seen_by(asked.model)
    if share := None if seen is None else seen_share(examples.keys, seen):
        logger.warning("%.1f %% of these rows are among those that the model was trained on", 100 * share)
    return Evaluated(asked.model, said, scores, length.tokens, cut, size(model), share)


def score_bundle(asked: Evaluation) -> Evaluated:
    """As `score_model`, of a bundle, at its own length."""
    refuse_length(asked.max_length)
    bundle = open_bundle(asked.model)
    if bundle.answer.vector:
        raise UserError(
            f"{asked.model}: expected a bundle of labels or scores, got one of {bundle.answer.words}; score it with "
            "--suite sts, or contrastill verify"
        )
    if bundle.answer.several:
        asked = replace(asked, task=asked.task or bundle.task)
    data, split, said = scored_rows(asked, list(bundle.labels or ["score"]))
    rows, task = data.splits[split], task_of(data.schema, asked.task).with_config(bundle.answer)
    columns = [list(rows[name][:]) for name in ("text", "text_pair") if name in rows.column_names]
    texts = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
    answers, labels = bundle.run(texts, asked.batch_size), np.asarray(rows["label"][:])
    cut = bundle.cut_share(texts)
    logger.info("length: %d tokens (the bundle's); %.1f %% of the texts are cut", bundle.max_length, 100 * cut)
    measured = {"parameters": bundle.metadata["parameters"], "size_mb": megabytes(bundle.metadata)}
    return Evaluated(asked.model, said, scored(task, answers, labels), bundle.max_length, cut, measured)


def scored_rows(asked: Evaluation, names: list[str]) -> tuple[TaskData, str, str]:
    """The data, with the classes of a model with these names; the split that is scored, and its name in the result.

    Raises:
        UserError: no such split, other classes.
    """
    alone = look_up(asked.data)[1] == "file" and not (asked.split or asked.dev or asked.test)
    if alone:  # a file by itself is what is to be scored, all of it
        asked = replace(asked, dev_share=0.0, split="train")
    data = align_labels(load_rows(asked.data, **asked.reading(), of_model=names), names)
    split = asked.split or next(name for name in ("test", "dev", "train") if name in data.splits)
    if split not in data.splits:
        raise UserError(f"expected a split of {sorted(data.splits)} of {data.schema.name}, got {split!r}")
    return data, split, "all" if alone else split
