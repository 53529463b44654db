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
from contrastill.data.collate import Collate, flat, known_tokens
from contrastill.data.files import look_up
from contrastill.data.labels import align_labels
from contrastill.data.load import TaskData, keys_of
from contrastill.data.windows import Encoded
from contrastill.errors import UserError
from contrastill.evaluation import size
from contrastill.evaluation.calibration import calibration
from contrastill.evaluation.selective import kept_promise
from contrastill.loading import SCORED, check_ids, input_length, load_classifier, load_tokenizer, rows_of
from contrastill.processes import processes
from contrastill.report.paired import by_row
from contrastill.results import Split
from contrastill.settings import Evaluation
from contrastill.tasks import LabelledTask, check_task, class_names, load_rows, task_given, task_of
from contrastill.teachers import CachedTeacher, LiveTeacher, TableTeacher
from contrastill.training.checks import FEW_UNKNOWN
from contrastill.training.seen import seen_by, seen_share
from contrastill.training.selective import Outside, Texts, check_selective, read_outside, selective

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


@dataclass(frozen=True, eq=False)
class Inputs:
    """Rows as a model reads them. place: of each input, in the order of the batches, its number in `encoded`."""

    batches: list[dict[str, torch.Tensor]]
    place: np.ndarray
    encoded: Encoded


class Examples:
    """A labelled split, tokenised and batched once, shortest texts first."""

    def __init__(
        self,
        rows: Dataset,
        task: LabelledTask,
        tokenizer: Tokenizer,
        max_length: int,
        batch_size: int = 64,
        teacher: Tokenizer | None = None,
    ) -> None:
        """teacher: the teacher's tokenizer, if it is another."""
        self.task, self.rows, self.max_length, self.batch_size = task, rows, max_length, batch_size
        self.theirs = self.ours = self.inputs(tokenizer)  # as the teacher reads them, and as the scored model does
        windows = self.theirs.encoded.readings is not None
        self.order = np.arange(len(rows)) if windows else self.theirs.place  # of labels and logits
        self.labels = task.labels_of(rows)[self.order]
        self.keys = keys_of(rows)[self.order]
        if teacher is not None:
            self.theirs = self.inputs(teacher, None if windows else self.order)
        self.known = known_tokens(*flat(self.ours.encoded.rows["input_ids"]), tokenizer)
        self.kept: dict[str, np.ndarray] = {}  # logits that were scored
        self.tasks: dict[str, LabelledTask] = {}  # as their models answer it
        self.reported: Split | None = None  # the scores of ours

    @property
    def highest(self) -> int:
        """The highest token id."""
        return max(int(batch["input_ids"].max()) for batch in self.ours.batches)

    @property
    def highest_of_teacher(self) -> int:
        """As `highest`, of the teacher's tokens."""
        return max(int(batch["input_ids"].max()) for batch in self.theirs.batches)

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

    def scores(self, model: PreTrainedModel, keep: str | None = None, logits: np.ndarray | None = None) -> Split:
        """In float32. keep: the name under which the logits stay in `kept`; logits: the model's, where they are
        known."""
        result = self.judged(self.logits(model) if logits is None else logits, model.config, keep)
        if keep == "ours":
            self.reported = result
        return result

    def scores_of_teacher(self, teacher: CachedTeacher | LiveTeacher) -> Split:
        """As `scores`, in float32; the logits stay in `kept` as "theirs"."""
        device = processes().device
        inputs = self.theirs
        logits = teacher.logits(inputs.batches, lambda model, batches: self.task.predict(model.to(device), batches))
        return self.judged(self.task.gathered(logits, inputs.place, inputs.encoded), teacher.model.config, "theirs")

    def scores_of_table(self, teacher: TableTeacher) -> Split:
        """As `scores_of_teacher`, of a file that answers every text; of probabilities its likeliest class counts."""
        if self.theirs.encoded.readings is None:
            return self.judged(teacher.logits_of(self.keys), None, "theirs")
        return self.judged(self.task.tagged_by(teacher.spans_of(self.keys), self.theirs.encoded), None, "theirs")

    def logits(self, model: PreTrainedModel, dtype: torch.dtype | None = None) -> np.ndarray:
        logits = self.task.predict(model.to(processes().device), self.ours.batches, dtype)
        return self.task.gathered(logits, self.ours.place, self.ours.encoded)

    def read_by(self, tokenizer: Tokenizer) -> None:
        """Lets the scored model read the same rows, in the same order, by a tokenizer of its own."""
        same = self.order if self.theirs.encoded.readings is None else None
        self.ours = self.inputs(tokenizer, same)

    def cut_share(self, tokenizer: Tokenizer) -> float:
        """The share of rows longer than an input."""
        return self.task.long_share(self.ours.encoded, self.rows, tokenizer, self.max_length)

    def inputs(self, tokenizer: Tokenizer, place: np.ndarray | None = None) -> Inputs:
        """The rows in this order; by default the shortest first."""
        encoded = self.task.read(self.rows, tokenizer, self.max_length)
        if place is None:
            place = np.argsort([len(ids) for ids in encoded.rows["input_ids"]], kind="stable")
        collate, size = Collate(tokenizer, self.task.label_dtype), self.batch_size
        batches = [collate(encoded.rows.select(place[n : n + size]).to_list()) for n in range(0, len(place), size)]
        return Inputs(batches, place, encoded)

    def judged(self, logits: np.ndarray, config: Any, keep: str | None = None, interval: bool = True) -> Split:
        task = self.task if config is None else self.task.with_config(config)
        if keep is not None:
            self.kept[keep], self.tasks[keep] = logits, task
        found = scored(task, task.answers(logits), self.labels, interval)
        return replace(found, more=calibration_of_logits(task, logits, self.labels)) if interval else found

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


def calibration_of_logits(task: LabelledTask, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """The entry "calibration" of a model's scores: of its probabilities, and of those it would have without
    temperatures ("before"), where it has some; nothing of a task without probabilities."""
    if not task.has_probabilities:
        return {}
    found = figures_of_logits(task, logits, labels)
    if task.temperatures is not None:
        found["temperatures"] = task.temperatures.tolist()
        if (task.temperatures != 1).any():
            found["before"] = figures_of_logits(task.with_config(None), logits, labels)
    return {"calibration": found}


def figures_of_logits(task: LabelledTask, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    judged = task.judgements(task.probabilities(logits), labels)
    return {"log_loss": task.log_loss(logits, labels), **calibration(*judged)}


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
    data, split, said = scored_rows(asked, class_names(model.config))
    task = task_of(data.schema, asked.task)
    check_task(task, asked.model, model.config)
    check_selective(asked, task, task.describe())
    length = input_length(asked.max_length, asked.model, tokenizer, model.config, SCORED)
    examples = Examples(data.splits[split], task, tokenizer, length.tokens, asked.batch_size)
    texts = None if asked.oos is None else read_outside(asked, data, examples.keys)
    examples.check_ids(model)
    if examples.known.worse > FEW_UNKNOWN:
        logger.warning("%s: %s: the score says little of other texts", data.schema.name, examples.known)
    cut = examples.cut_share(tokenizer)
    logger.info("length: %s", length.cutting(cut, task.longer))
    scores, seen = examples.scores(model, "ours"), seen_by(asked.model)
    if asked.target is not None or texts is not None:
        scores = with_more(scores, of_model(asked, examples, model, tokenizer, texts))
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
    if bundle.answer.several or bundle.answer.per_word:
        asked = replace(asked, task=asked.task or bundle.task)
    data, split, said = scored_rows(asked, list(bundle.answer.classes or ["score"]))
    rows, task = data.splits[split], task_of(data.schema, asked.task).with_answer(bundle.answer)
    columns = [list(rows[name][:]) for name in ("text", "text_pair") if name in rows.column_names]
    texts = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
    check_selective(asked, task, bundle.answer.words)
    strangers = None if asked.oos is None else read_outside(asked, data, keys_of(rows))
    answers, labels = bundle.run(texts, asked.batch_size), task.labels_of(rows)
    cut, longer = bundle.cut_share(texts), bundle.answer.longer
    logger.info("length: %d tokens (the bundle's); %.1f %% of the texts %s", bundle.max_length, 100 * cut, longer)
    measured = {"parameters": bundle.metadata["parameters"], "size_mb": megabytes(bundle.metadata)}
    scores = scored(task, answers, labels)
    if task.has_probabilities:
        judged = task.judgements(answers, labels)
        more: dict[str, Any] = {"calibration": calibration(*judged)}
        if (abstain := bundle.metadata.get("abstain")) is not None:
            more["abstain"] = kept_promise(abstain, *judged)
        outside = None if strangers is None else (lambda: (bundle.run(strangers, asked.batch_size), None))
        more |= selective(asked, *judged, None, outside, None if abstain is None else abstain["threshold"])
        scores = with_more(scores, more)
    return Evaluated(asked.model, said, scores, bundle.max_length, cut, measured)


def of_model(
    asked: Evaluation, examples: Examples, model: PreTrainedModel, tokenizer: Tokenizer, texts: Texts | None
) -> dict[str, Any]:
    """What --target and --oos ask, of a model that was scored on these examples. texts: of --oos."""
    logits, task = examples.kept["ours"], examples.tasks["ours"]
    judged = task.judgements(task.probabilities(logits), examples.labels)

    def outside() -> Outside:
        pairs = [text if isinstance(text, tuple) else (text,) for text in texts or ()]
        columns = dict(zip(("text", "text_pair"), map(list, zip(*pairs, strict=True)), strict=False))
        rows = Dataset.from_dict({**columns, "label": [-100] * len(pairs)})
        raw = Examples(rows, examples.task, tokenizer, examples.max_length, asked.batch_size).logits(model)
        return task.probabilities(raw), raw

    return selective(asked, *judged, logits, None if texts is None else outside, None)


def with_more(scores: Split, more: Mapping[str, Any]) -> Split:
    """The scores with further entries."""
    return replace(scores, more={**scores.more, **more})


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
