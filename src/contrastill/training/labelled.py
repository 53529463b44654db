"""From settings to a run on a task: data, models, method. Nothing is written and nothing trained here."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel, set_seed
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.cache import CachedTeacher, cache_root, fingerprint
from contrastill.cache.folder import mark
from contrastill.data import (
    Collate,
    Known,
    TaskData,
    align_labels,
    flat,
    known_tokens,
    load_task,
    tokenise,
    truncated_share,
)
from contrastill.encoder import FrozenEncoder
from contrastill.errors import UserError
from contrastill.evaluation import predict, size
from contrastill.loading import Length, check_ids, input_length, load_classifier, load_tokenizer, rows_of
from contrastill.methods import METHODS, Finetune, Method, read_settings
from contrastill.methods.perturbed import Perturbed
from contrastill.settings import DataSource, Distillation, Finetuning
from contrastill.tasks import Embedding, LabelledTask, task_of
from contrastill.training.card import model_card
from contrastill.training.folder import RunFolder, processes
from contrastill.training.plan import Plan, autocast_dtype
from contrastill.training.seen import rows_of_teacher
from contrastill.training.start import start_student

logger = logging.getLogger(__name__)

__all__ = ["Examples", "LabelledPlan", "class_names", "load", "plan_distillation", "plan_finetuning"]


CHUNK = 16_384  # rows among which texts of a length are looked for, when the teacher is run


@dataclass(eq=False)
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
    splits: dict[str, "Examples"]  # dev and test, where there are any
    length: Length
    dtype: torch.dtype | None

    @classmethod
    def of(
        cls,
        settings: Finetuning | Distillation,
        name: str,
        data: TaskData,
        tokenizer: Tokenizer,
        method: Method,
        teacher: PreTrainedModel | None,
        length: Length,
    ) -> "LabelledPlan":
        settings = replace(settings, max_length=length.tokens)
        if data.train is None:
            raise UserError(f"{data.schema.name} has no training examples; --data needs a train file")
        examples = tokenise(data.train, tokenizer, length.tokens)
        task = task_of(data.schema)
        collate = Collate(tokenizer, task.label_dtype)
        model: nn.Module = method
        if isinstance(settings, Distillation) and settings.perturb:
            model = Perturbed(method, settings.perturb, settings.epsilon)
        return cls(
            settings=settings,
            name=name,
            task=task,
            data=data,
            tokenizer=tokenizer,
            teacher=teacher,
            method=method,
            model=model,
            examples=examples,
            collate=collate,
            splits={
                split: Examples(rows, task, tokenizer, length.tokens)
                for split, rows in (("dev", data.dev), ("test", data.test))
                if rows is not None
            },
            length=length,
            dtype=autocast_dtype(settings),
        )

    @property
    def metric(self) -> str | None:  # type: ignore[override]
        return self.task.metrics[0] if "dev" in self.splits else None

    @cached_property
    def lengths(self) -> np.ndarray:  # type: ignore[override]
        return np.array([len(ids) for ids in self.examples["input_ids"]])

    @property
    def words(self) -> np.ndarray:
        return np.unique(self.examples.data.column("input_ids").combine_chunks().flatten().to_numpy())

    @property
    def highest(self) -> int:
        return max([super().highest, *(rows.highest for rows in self.splits.values())])

    @property
    def known(self) -> Sequence[Known]:
        return [known_tokens(*flat(self.examples["input_ids"]), self.tokenizer)]

    @cached_property
    def cut_share(self) -> float:  # type: ignore[override]
        assert self.data.train is not None
        return truncated_share(self.data.train, self.tokenizer, self.length.tokens)

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        return self.collate(self.examples.select(rows).to_list())

    @property
    def unlabelled(self) -> int:  # type: ignore[override]
        return int((~self.task.known(np.asarray(self.examples["labels"]))).sum())

    def fingerprints(self) -> dict[str, str]:
        teacher = {"teacher_fingerprint": fingerprint(self.teacher)} if self.teacher is not None else {}
        return {"data_fingerprint": self.data.fingerprint(), **teacher}

    @property
    def check(self) -> Callable[[], Mapping[str, float]] | None:
        dev, student = self.splits.get("dev"), self.method.student.model
        return (lambda: dev.scores(student, self.dtype)["metrics"]) if dev else None

    def describe(self) -> dict[str, Any]:
        about = self.data.describe()
        return {**about, "decisions": {**about.get("decisions", {}), "length": self.length.cutting(self.cut_share)}}

    def scores(self, model: PreTrainedModel) -> dict[str, Any]:
        """Of each split, in float32, and the model's size."""
        return {**{split: rows.scores(model, keep="ours") for split, rows in self.splits.items()}, **size(model)}

    def results(self) -> dict[str, Any]:
        ours, metric = self.scores(self.method.student.model), self.task.metrics[0]
        metrics: dict[str, Any] = {
            "task": self.data.schema.name,
            "metric": metric,
            "train_rows": len(self.examples),
            self.name: ours,
        }
        if self.teacher is not None:
            theirs = metrics["teacher"] = {**self.teacher_scores, **size(self.teacher)}
            metrics["kept"] = {
                split: ours[split]["metrics"][metric] / theirs[split]["metrics"][metric]
                for split in self.splits
                if theirs[split]["metrics"][metric]
            }
            if self.cached is not None:
                metrics["teacher_forwards"] = self.cached.forwards
        return metrics

    def save(self, folder: RunFolder) -> Path:
        def write(place: Path) -> None:
            self.method.student.model.save_pretrained(place)
            self.tokenizer.save_pretrained(place)

        return folder.save_model(self.name, write)

    def card(self, metrics: dict[str, Any]) -> str:
        return model_card(self.settings, self.data, metrics)

    @cached_property
    def cached(self) -> CachedTeacher | None:
        """The teacher as it is stored, if it is to be; the method still asks the live one until `use_cache`."""
        root = self.cache_folder
        if root is None or self.teacher is None:
            return None
        settings = self.settings
        assert isinstance(settings, Distillation)
        try:
            mark(root)
        except UserError as error:
            if settings.cache:
                raise
            logger.warning("the teacher is run live: %s", error)
            return None
        return CachedTeacher(
            self.method.teacher or FrozenEncoder(self.teacher),  # for its scores, of a method that does without
            self.method.wanted,
            root,
            stored=settings.cache_dtype,
            computed="bfloat16" if self.dtype is torch.bfloat16 else "float32",
            name=settings.teacher,
        )

    @property
    def cache_folder(self) -> Path | None:
        return cache_folder(self.settings) if isinstance(self.settings, Distillation) else None

    @cached_property
    def teacher_scores(self) -> dict[str, dict[str, Any]]:
        """Of each split, in float32: computed once, and with a cache once for all runs."""
        assert self.teacher is not None
        model = self.cached or self.teacher
        return {split: rows.scores(model, keep="theirs") for split, rows in self.splits.items()}

    def evidence(self) -> dict[str, Any] | None:
        """Of the answers on dev that were scored."""
        dev = self.splits.get("dev")
        if dev is None or "ours" not in dev.kept:
            return None
        return self.task.evidence(dev.labels, dev.kept["ours"], dev.kept.get("theirs"), dev.texts)

    def use_cache(self) -> None:
        """Runs the teacher on the training texts that are not stored yet; from here on the method reads its outputs.

        Raises:
            UserError: the disk has no room, and a cache was asked for (unasked, the teacher is run live, and a log line
                says why).
        """
        teacher = self.cached
        if teacher is None or not self.method.uses_teacher:
            return
        assert isinstance(self.settings, Distillation)
        lengths = self.lengths
        need, free = teacher.room(lengths)
        why = ""
        if need > free * (0.95 if self.settings.cache else 0.5):
            why = (
                f"the teacher's outputs for {len(lengths):,} texts take {need / 1e9:.1f} GB, of {free / 1e9:.1f} GB "
                f"free at {teacher.root}; --cache-dtype int8 or --set granularity=cls take less"
            )
        if why and self.settings.cache:
            raise UserError(f"{why}; or pass --cache none")
        if why:
            logger.warning("the teacher is run live: %s", why)
            return
        logger.info(
            "teacher outputs: %.1f kB a text, %.0f MB for %s texts at %s (%.0f GB free)",
            need / 1e3 / max(1, len(lengths)),
            need / 1e6,
            f"{len(lengths):,}",
            teacher.root,
            free / 1e9,
        )
        world = processes()
        teacher.fill(
            (
                self.examples.select(range(n, min(n + CHUNK, len(lengths)))).to_list()
                for n in range(0, len(lengths), CHUNK)
            ),
            self.collate,
            total=len(lengths),
            say=lambda row: repr(self.tokenizer.decode(row["input_ids"], skip_special_tokens=True)[:80]),
            share=(world.process_index, world.num_processes),
        )
        world.wait_for_everyone()
        if world.num_processes > 1:
            teacher.refresh()  # what the others have stored
        self.method.teacher = teacher


def plan_finetuning(settings: Finetuning) -> LabelledPlan:
    data, tokenizer = load(settings), load_tokenizer(settings.model)
    set_seed(settings.seed)
    task = task_of(data.schema)
    model = load_classifier(settings.model, **task.head())
    length = input_length(settings.max_length, settings.model, tokenizer, model.config)
    return LabelledPlan.of(settings, "model", data, tokenizer, Finetune(model, None, task), None, length)


def plan_distillation(settings: Distillation) -> LabelledPlan:
    settings = rows_of_teacher(settings)
    given = read_settings(settings.method, settings.set)
    if settings.cache not in (None, "none"):
        mark(cache_root(settings.cache))  # a folder that was asked for and can't be had is an error, before all work
    if METHODS[settings.method].serves(Embedding):
        raise UserError(f"{settings.method!r} distils sentence embeddings: it takes --texts, and no --data")
    tokenizer, teacher = load_tokenizer(settings.teacher), load_classifier(settings.teacher)
    data = align_labels(load(settings, settings.unlabelled), class_names(teacher))
    set_seed(settings.seed)
    texts = data.train["text"] if data.train is not None else None
    model = start_student(
        teacher, tokenizer, settings.student, settings.start, settings.seed, texts, cache_folder(settings)
    )
    method = METHODS[settings.method](model, teacher, task_of(data.schema), **given)
    if settings.stages:
        method.with_shares(settings.stages)
    length = input_length(settings.max_length, settings.teacher, tokenizer, teacher.config)
    return LabelledPlan.of(settings, "student", data, tokenizer, method, teacher, length)


def cache_folder(settings: Distillation) -> Path | None:
    return None if settings.cache == "none" else cache_root(settings.cache)


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
        self.labels = np.concatenate([batch["labels"].numpy() for batch in self.batches])
        self.keys = np.concatenate([batch["text_key"].numpy() for batch in self.batches])
        self.kept: dict[str, np.ndarray] = {}  # logits that were scored
        self.reported: dict[str, Any] = {}  # the scores of ours

    @property
    def highest(self) -> int:
        """Token id."""
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

    def logits(self, model: PreTrainedModel | CachedTeacher, dtype: torch.dtype | None = None) -> np.ndarray:
        device = processes().device
        if isinstance(model, CachedTeacher):
            return model.logits(self.batches, lambda teacher, batches: predict(teacher.to(device), batches))
        return predict(model.to(device), self.batches, dtype=dtype)

    def scores(
        self, model: PreTrainedModel | CachedTeacher, dtype: torch.dtype | None = None, keep: str | None = None
    ) -> dict[str, Any]:
        """{"metrics": {name: value}, "interval": [low, high] of the first one, "rows": N}

        keep: the name under which the logits stay in `kept`.
        """
        logits = self.logits(model, dtype)
        if keep is not None:
            self.kept[keep] = logits
        result: dict[str, Any] = {"metrics": self.task.score(logits, self.labels), "rows": len(self.labels)}
        if dtype is None:  # a score to report, not one of the checks of a run
            result["interval"] = list(self.task.interval(logits, self.labels, self.task.metrics[0]))
        if keep == "ours":
            self.reported = result
        return result


def load(source: DataSource, unlabelled: str | None = None, of_model: Sequence[str] | None = None) -> TaskData:
    """The rows that the settings name. `of_model`: as in `load_task`."""
    return load_task(
        source.data,
        text=source.text,
        text_pair=source.text_pair,
        label=source.label,
        kind=source.kind,
        labels=source.labels,
        metric=source.metric,
        dev=source.dev,
        test=source.test,
        dev_share=source.dev_share,
        limit=source.limit,
        encoding=source.encoding,
        delimiter=source.delimiter,
        unlabelled=unlabelled,
        of_model=of_model,
    )


def class_names(model: PreTrainedModel) -> list[str]:
    config: Any = model.config
    return [str(config.id2label[n]) for n in range(config.num_labels)]
