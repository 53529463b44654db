"""Plan of a run on labelled rows: data, models and method from settings. Writes and trains nothing."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.data.both import TEACHER, CollateBoth, as_teacher_reads
from contrastill.data.collate import Collate, Known, flat, known_tokens
from contrastill.data.load import TaskData
from contrastill.errors import UserError
from contrastill.evaluation import size
from contrastill.loading import Length
from contrastill.methods import Method
from contrastill.processes import processes
from contrastill.results import RunResult, Scores, Split
from contrastill.settings import Distillation, Finetuning
from contrastill.tasks import LabelledTask
from contrastill.teachers import (
    AlignedTeacher,
    CachedTeacher,
    FrozenEncoder,
    LiveTeacher,
    TableTeacher,
    keys_of,
    make_cache_folder,
)
from contrastill.training import labelled_checks, labelled_doubts
from contrastill.training.as_is import (
    compares_tokens,
    told_of,
)
from contrastill.training.budget import STATIC_RATE, default_rate, settle_budget
from contrastill.training.card import Origin, model_card
from contrastill.training.checks import Check
from contrastill.training.choice import MEAN, SELECTED, chosen, clone_state
from contrastill.training.class_weights import by_class, check_label_loss, described
from contrastill.training.doubts import Remedies
from contrastill.training.examples import Examples
from contrastill.training.folder import RunFolder
from contrastill.training.plan import Plan, Trained, autocast_dtype
from contrastill.training.probe import ROWS as HEAD_ROWS
from contrastill.training.probe import fit_probe, forget_probe, head_is_new
from contrastill.training.vectors import PAIRS, fit_vectors
from contrastill.training.vocabulary import check_vocabulary
from contrastill.vocabulary import Trimming, trim

logger = logging.getLogger(__name__)

__all__ = ["CacheChoice", "LabelledPlan"]

ALIGNED = 256  # rows on which it is counted how many tokens have none of the teacher's beside them
CHUNK = 16_384  # rows among which texts of a length are looked for, when the teacher is run


@dataclass(frozen=True)
class CacheChoice:
    """The folder and the number type of a teacher's stored outputs."""

    root: Path
    stored: str
    asked: bool  # for this folder: where it cannot be used, that is an error, no reason to run the teacher live


@dataclass(eq=False, kw_only=True)
class LabelledPlan(Plan):
    """Fine-tuning or distillation on labelled rows."""

    settings: Any
    name: str
    task: LabelledTask
    data: TaskData
    tokenizer: Tokenizer
    teacher: PreTrainedModel | None
    method: Method
    model: nn.Module
    examples: Dataset
    collate: Collate
    splits: dict[str, Examples]  # dev and test, where there are any
    length: Length
    dtype: torch.dtype | None
    origin: Origin
    lengths: np.ndarray
    words: np.ndarray
    cut_share: float
    labels: np.ndarray  # of the training texts
    unlabelled: int
    metric: str | None
    cache: CacheChoice | None = None
    reader: Tokenizer | None = None  # of the teacher, where it reads by another than the student's
    table: TableTeacher | None = None  # a file of answers in place of the model, where labels are not its own
    decided: dict[str, str] = field(default_factory=dict)  # what the settings left open
    probed: dict[str, Split] = field(default_factory=dict)  # scores of the linear probe, where the head was fitted
    vectors: dict[str, Split] = field(default_factory=dict)  # of a linear fit on the two texts' vectors
    averaged: int = 0  # weights of which the model has the mean
    start: tuple[float, dict[str, Tensor]] | None = None  # dev score and weights before the first step
    logits_of_dev: np.ndarray | None = None  # of the model that is saved

    @classmethod
    def of(
        cls,
        settings: Finetuning | Distillation,
        data: TaskData,
        tokenizer: Tokenizer,
        method: Method,
        length: Length,
        origin: Origin,
        *,
        teacher: PreTrainedModel | None = None,
        model: nn.Module | None = None,
        cache: CacheChoice | None = None,
        reader: Tokenizer | None = None,
        table: TableTeacher | None = None,
    ) -> "LabelledPlan":
        """model: a wrapper of the method, if it is trained inside one. reader: the teacher's tokenizer, if it is
        another. table: a teacher that is a file, if the labels are not its answers."""
        if data.train is None:
            raise UserError(f"{data.schema.name} has no training examples; --data needs a train file")
        check_vocabulary(settings, method.student.model, tokenizer)
        task: Any = method.task
        check_label_loss(task, method)
        config = method.student.model.config  # with the temperatures of the teacher, or of a former run
        former = task if head_is_new(method.student.model) else task.with_config(config)
        enter(config, former.uncalibrated())
        collate: Any = Collate(tokenizer, task.label_dtype)
        if reader is None or not method.uses_teacher:
            encoded = task.read(data.train, tokenizer, length.tokens)
        else:
            encoded = task.read_both(data.train, tokenizer, reader, length.tokens, compares_tokens(method))
            collate = CollateBoth(collate, Collate(reader))
        examples, labels = encoded.rows, task.labels_of(data.train)
        made = cls(
            settings=replace(settings, max_length=length.tokens),
            name=origin.name,
            task=task,
            data=data,
            tokenizer=tokenizer,
            teacher=teacher,
            method=method,
            model=method if model is None else model,
            examples=examples,
            collate=collate,
            origin=origin,
            lengths=np.array([len(ids) for ids in examples["input_ids"]]),
            words=np.unique(examples.data.column("input_ids").combine_chunks().flatten().to_numpy()),
            cut_share=task.long_share(encoded, data.train, tokenizer, length.tokens),
            labels=labels,
            unlabelled=int((~task.known(labels)).sum()),
            metric=task.metrics[0] if data.dev is not None else None,
            cache=cache,
            reader=reader,
            table=table,
            splits={
                split: Examples(rows, task, tokenizer, length.tokens, teacher=reader)
                for split, rows in (("dev", data.dev), ("test", data.test))
                if rows is not None
            },
            length=length,
            dtype=autocast_dtype(settings),
        )
        if reader is not None and made.read_by_teacher is not None:
            some = made.batch(np.random.default_rng(0).permutation(len(examples))[:ALIGNED])
            made.decided["teacher"] = told_of(task, data.train, encoded, some, reader, length.tokens)
            logger.info("teacher: %s", made.decided["teacher"])
        for name, said in method.decided.items():
            made.decided[name] = said
            logger.info("%s: %s", name, said)
        settle_budget(made)
        if settings.class_weights is not None:
            made.decided["class weights"] = described(task, settings.class_weights)
            logger.info("class weights: %s", made.decided["class weights"])
        return made

    @property
    def highest(self) -> int:
        return max([super().highest, *(rows.highest for rows in self.splits.values())])

    @property
    def read_by_teacher(self) -> Sequence[Sequence[int]] | None:
        """The token ids of each example as the teacher reads it; None: it reads the student's, or none."""
        name = TEACHER + "input_ids"
        return self.examples[name] if name in self.examples.column_names else None

    @property
    def readers(self) -> Sequence[tuple[int, PreTrainedModel]]:
        if self.reader is None or self.teacher is None:
            return super().readers
        theirs = [max(ids) for ids in self.read_by_teacher or ()]
        theirs += [rows.highest_of_teacher for rows in self.splits.values()]
        return [(self.highest, self.method.student.model), (max(theirs, default=0), self.teacher)]

    @property
    def known(self) -> Sequence[Known]:
        ours = known_tokens(*flat(self.examples["input_ids"]), self.tokenizer)
        theirs = self.read_by_teacher
        return [ours] if theirs is None or self.reader is None else [ours, known_tokens(*flat(theirs), self.reader)]

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        return self.collate(self.examples.select(rows).to_list())

    def checks_of_rows(self) -> list[Check]:
        return labelled_checks.of_rows(self)

    def checks_of_teacher(self) -> list[Check]:
        return labelled_checks.of_teacher(self) if self.method.teacher is not None else []

    @property
    def usual_rate(self) -> float:
        if not self.method.student.depth:
            return STATIC_RATE
        pairs = len(self.examples) if self.data.schema.text_pair else None
        return default_rate(self.origin.command, self.method.student.model.config.hidden_size, pairs)

    def doubts(self, history: Sequence[Mapping[str, Any]], remedies: Remedies) -> list[str]:
        return labelled_doubts.doubts(self, history, remedies)

    @property
    def row_keys(self) -> Iterable[int]:
        return self.examples["text_key"]

    def fingerprints(self) -> dict[str, Any]:
        taught = self.method.teacher or self.live
        teacher = {} if taught is None else {"teacher_fingerprint": taught.fingerprint}
        weights = {"class_weights": found} if (found := by_class(self.task)) else {}
        return {"data_fingerprint": self.data.fingerprint(), **teacher, **weights}

    def score_start(self, folder: RunFolder) -> Sequence[Mapping[str, Any]] | None:
        """Fits the head, where it is new, to the training rows, and scores the model before its first step."""
        student = self.method.student.model
        head = getattr(self.settings, "head", "probe-cls")  # a student has the layers that were asked for
        if head_is_new(student):
            if self.origin.command == "finetune":
                self.fit_vectors(student)
            if head != "random":
                self.fit_head(student, may_add=head == "probe")
        if "dev" not in self.splits:
            return None
        scores = self.scores_on_dev()
        self.start = scores[self.task.metrics[0]], clone_state(student)
        return [{"epoch": 0, "step": 0, **{f"eval_{name}": value for name, value in scores.items()}}]

    def fit_vectors(self, model: PreTrainedModel) -> None:
        """Of a model that is fine-tuned on few pairs: scores a linear fit on the vectors of each text by itself."""
        known, train = self.labelled_rows, self.data.train
        if train is None or not self.data.schema.text_pair or not self.splits or len(known) >= PAIRS:
            return
        splits, limit = {split: rows.rows for split, rows in self.splits.items()}, self.length.tokens
        model.to(processes().device)
        labelled, seed = train.select(known), self.settings.seed
        found = fit_vectors(model, self.tokenizer, self.task, labelled, splits, limit, self.dtype, seed)
        for split, logits in (found or {}).items():
            rows = self.splits[split]
            self.vectors[split] = rows.judged(logits[rows.order], model.config, "vectors")

    @cached_property
    def labelled_rows(self) -> np.ndarray:
        """The numbers of the examples with a label."""
        known = self.task.known(self.labels)
        return np.flatnonzero(known[np.asarray(self.examples["text_number"])] if self.task.per == "token" else known)

    def fit_head(self, student: PreTrainedModel, may_add: bool) -> None:
        if not len(self.labelled_rows):
            self.decided["head"] = "random, as no training row has a label to fit it to"
            return
        some = np.random.default_rng(self.settings.seed).permutation(self.labelled_rows)[:HEAD_ROWS]
        if self.task.per == "token":
            some = some[: 1 + int(np.searchsorted(np.cumsum(self.lengths[some]), 2 * HEAD_ROWS))]
        some = some[np.argsort(self.lengths[some], kind="stable")]
        batches = [self.batch(some[n : n + 64]) for n in range(0, len(some), 64)]
        logger.info("head: reading %s training rows with the frozen encoder to fit it", f"{len(some):,}")
        student.to(processes().device)
        probe = fit_probe(student, self.task, batches, self.dtype, self.settings.seed, may_add=may_add)
        if probe is not None:
            self.decided["head"] = str(probe)
            logger.info("head: %s", probe)
            logits = {split: rows.logits(student, self.dtype) for split, rows in self.splits.items()}
            if "dev" in logits:
                self.tune(lambda: logits["dev"])
            self.probed = {split: rows.judged(logits[split], student.config) for split, rows in self.splits.items()}
            if not probe.tells:
                forget_probe(student, probe)

    @property
    def selection(self) -> str:
        if self.check is not None and self.settings.average is not None:
            return f"{super().selection}, or {MEAN}"
        return f"{super().selection}{SELECTED if self.check else ''}"

    def choose(self, trained: Trained) -> int | None:
        return chosen(self, trained)

    def trim_vocabulary(self) -> Trimming | None:
        if self.settings.vocabulary == "all":
            return None
        split = next(iter(self.splits), "dev")  # dev, if there is one
        texts, others = texts_of(self.data.train), texts_of(self.splits[split].rows) if self.splits else []
        self.tokenizer, told = trim(self.method.student.model, self.tokenizer, texts, [*others])
        for rows in self.splits.values():
            rows.read_by(self.tokenizer)
        self.decided["vocabulary"] = told.of(f"the texts of {split}")
        logger.info("%s", self.decided["vocabulary"])
        return told

    @property
    def check(self) -> Callable[[], Mapping[str, float]] | None:
        return self.scores_on_dev if "dev" in self.splits else None

    def scores_on_dev(self) -> Mapping[str, float]:
        """Dev scores of the student in its present state, in the precision of training."""
        dev, student = self.splits["dev"], self.method.student.model
        logits = dev.logits(student, self.dtype)
        self.tune(lambda: logits)
        return dev.judged(logits, student.config, interval=False).metrics

    def tune(self, logits: Callable[[], np.ndarray]) -> None:
        """Writes the task's choices on dev (such as thresholds) to the model's config; computes logits if needed."""
        enter(self.method.student.model.config, self.task.tuned(logits, self.splits["dev"].labels))

    @cached_property
    def rows_described(self) -> dict[str, Any]:
        """The data without what the run decided; reads every text once."""
        return self.data.describe()

    @property
    def teacher_forwards(self) -> int | None:
        return None if self.cached is None else self.cached.forwards

    def describe(self) -> dict[str, Any]:
        about = self.rows_described
        ours = {"length": self.length.cutting(self.cut_share, self.task.longer), **self.decided}
        return {**about, "decisions": {**about.get("decisions", {}), **ours}}

    def results(self) -> RunResult:
        student, metric = self.method.student.model, self.task.metrics[0]
        known = {"dev": self.logits_of_dev}
        ours = {split: rows.scores(student, "ours", known.get(split)) for split, rows in self.splits.items()}
        models, kept, figures = {self.name: Scores(ours, size(student))}, None, {"train_rows": len(self.labels)}
        if self.checkpoint is not None:
            figures["checkpoint"] = self.checkpoint
        if self.averaged:
            figures["averaged"] = self.averaged
        if self.probed:
            models = {"probe": Scores(self.probed, size(student)), **models}
        if self.vectors:
            models = {"vectors": Scores(self.vectors, size(student)), **models}
        if self.teacher is not None or self.teacher_scores:
            theirs = {split: scores.metrics[metric] for split, scores in self.teacher_scores.items()}
            figures_of_teacher = {} if self.teacher is None else size(self.teacher)
            models = {"teacher": Scores(self.teacher_scores, figures_of_teacher), **models}
            kept = {split: ours[split].metrics[metric] / value for split, value in theirs.items() if value}
        return RunResult(self.data.schema.name, metric, models=models, kept=kept, figures=figures)

    def save(self, folder: RunFolder) -> Path:
        student, dev = self.method.student.model, self.splits.get("dev")
        if dev is not None:
            self.logits_of_dev = logits = dev.logits(student)
            self.tune(lambda: logits)
            enter(student.config, self.task.with_config(student.config).calibrated(logits, dev.labels))
            self.decided |= self.task.with_config(student.config).calibrated_in_words(logits, dev.labels)

        def write(place: Path) -> None:
            student.save_pretrained(place)
            self.tokenizer.save_pretrained(place)

        return folder.save_model(self.name, write)

    def card(self, result: RunResult) -> str:
        return model_card(self.origin, self.task, result)

    @cached_property
    def live(self) -> LiveTeacher | None:
        """The teacher model: the method's, or, for a method without a teacher, one for its scores only."""
        taught = self.method.teacher
        if isinstance(taught, AlignedTeacher):
            taught = taught.teacher
        return None if self.teacher is None else taught or FrozenEncoder(self.teacher)

    @cached_property
    def cached(self) -> CachedTeacher | None:
        """The cached teacher, if a cache is used; until `use_cache` the method still calls the live one."""
        if self.cache is None or self.live is None:
            return None
        if self.method.asks_live:
            logger.info("the teacher runs in every step: %r asks it what no cache holds", self.method.name)
            return None
        try:
            make_cache_folder(self.cache.root)
        except UserError as error:
            if self.cache.asked:
                raise
            logger.warning("the teacher runs in every step: %s", error)
            return None
        return CachedTeacher(
            self.live,
            self.method.wanted,
            self.cache.root,
            stored=self.cache.stored,
            computed="bfloat16" if self.dtype is torch.bfloat16 else "float32",
            name=self.origin.teacher or "",
        )

    @cached_property
    def teacher_scores(self) -> dict[str, Split]:
        """The teacher's scores on each split, in float32: computed once, and with a cache once for all runs. A file of
        answers has scores on the splits of which it answers every text."""
        table = self.table
        if table is not None:
            return {split: rows.scores_of_table(table) for split, rows in self.splits.items() if table.has(rows.keys)}
        if self.teacher is None:
            return {}
        return {split: self.score_teacher(rows) for split, rows in self.splits.items()}

    def score_teacher(self, rows: Examples) -> Split:
        """In float32."""
        teacher = self.cached or self.live
        assert teacher is not None
        return rows.scores_of_teacher(teacher)

    def evidence(self) -> dict[str, Any] | None:
        """Summary of the scored answers on dev, and the answers to each row for comparisons."""
        found = self.splits["dev"].evidence() if "dev" in self.splits else None
        rows = {split: told for split, examples in self.splits.items() if (told := examples.by_row())}
        return None if found is None else {**found, "by_row": rows}

    def use_cache(self) -> None:
        """Runs the teacher on the training texts that are not stored yet; from here on the method reads its outputs.

        Raises:
            UserError: the disk has no room, and a cache was asked for (unasked, the teacher is run live, and a log line
                says why).
        """
        teacher = self.cached
        if teacher is None or self.cache is None or not self.method.uses_teacher:
            return
        lengths, collate, reader = self.lengths, self.collate, self.reader or self.tokenizer
        if (theirs := self.read_by_teacher) is not None:
            lengths, collate = np.array([len(ids) for ids in theirs]), Collate(reader)
        chunks = range(0, len(lengths), CHUNK)
        need, free = teacher.space_needed(lengths)
        most, new = free * (0.95 if self.cache.asked else 0.5), lengths
        if need > most:  # what is stored takes no further room
            new = lengths[teacher.missing(np.concatenate([keys_of(self.of_teacher(first)) for first in chunks]))]
        lacking, _ = teacher.space_needed(new)
        processes().wait_for_everyone()  # all decide by the same cache
        if lacking > most:
            why = (
                f"the teacher's outputs for {len(new):,} texts take {lacking / 1e9:.1f} GB, of {free / 1e9:.1f} GB "
                f"free at {teacher.root}; --cache-dtype int8 or --set granularity=cls take less"
            )
            if self.cache.asked:
                raise UserError(f"{why}; or pass --cache none")
            logger.warning("the teacher runs in every step: %s", why)
            return
        logger.info(
            "teacher outputs: %.1f kB a text, %.0f MB for %s texts at %s (%.0f GB free)",
            need / 1e3 / max(1, len(lengths)),
            need / 1e6,
            f"{len(lengths):,}",
            teacher.root,
            free / 1e9,
        )
        teacher.fill(
            map(self.of_teacher, chunks),
            collate,
            total=len(lengths),
            say=lambda row: repr(reader.decode(row["input_ids"], skip_special_tokens=True)[:80]),
        )
        self.method.teacher = teacher if self.reader is None else AlignedTeacher(teacher)

    def of_teacher(self, first: int) -> list[dict[str, Any]]:
        """`CHUNK` training rows from this one on, as the teacher reads them."""
        rows = self.examples.select(range(first, min(first + CHUNK, len(self.examples)))).to_list()
        return rows if self.reader is None else list(map(as_teacher_reads, rows))


def enter(config: Any, entries: Mapping[str, Any]) -> None:
    """Writes entries to a model's config; None: takes one out."""
    for name, value in entries.items():
        if value is None:
            vars(config).pop(name, None)
        else:
            setattr(config, name, value)


def texts_of(rows: Any) -> Iterator[str]:
    """Each text of labelled rows; those of a pair one by one."""
    for name in {"text", "text_pair"}.intersection(rows.column_names):
        yield from rows[name]
