"""Whole runs: fine-tune a model on labels; make a small student of a fine-tuned teacher; score a model."""

import errno
import logging
import math
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from contrastill.data import align_labels, truncated_share
from contrastill.data.files import look_up
from contrastill.errors import UserError
from contrastill.evaluation import size
from contrastill.loading import SCORED, input_length, load_classifier, load_tokenizer
from contrastill.methods import METHODS, Method
from contrastill.methods.queue import Queue
from contrastill.report import PAGE, leave_report
from contrastill.results import read_metrics, write_text
from contrastill.settings import Distillation, EmbeddingDistillation, Evaluation, Finetuning
from contrastill.tasks import Embedding, task_of
from contrastill.training.embeddings import plan_embedding
from contrastill.training.folder import RunFolder, processes
from contrastill.training.labelled import (
    Examples,
    LabelledPlan,
    class_names,
    load,
    plan_distillation,
    plan_finetuning,
)
from contrastill.training.outcome import warnings
from contrastill.training.plan import Plan
from contrastill.training.preflight import FEW_UNKNOWN, check_data, check_models
from contrastill.training.seen import rows_of_teacher, seen_by, seen_share, write_seen
from contrastill.training.trainer import DistillationTrainer, Interrupted, last_good_checkpoint
from contrastill.training.vocabulary import only_occurring_words

__all__ = ["Run", "distill", "distillation", "evaluate", "finetune", "finished", "train"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What a run left behind: its folder, the model's folder, and its metrics (as in metrics.json)."""

    folder: Path
    model: Path
    metrics: dict[str, Any]


def finetune(*, resume: bool = False, **settings: Any) -> Run:
    """Trains a model on labels. Settings: see `Finetuning`.

    Raises:
        UserError: bad settings, data or model; before training where it can be known.
        Interrupted: stopped by Ctrl-C or SIGTERM, and saved; call again with `resume=True`.
    """
    asked = Finetuning.given(settings)
    with RunFolder("finetune", asked, resume) as folder, saving(folder):
        return finished(folder, "model") or train(folder, partial(plan_finetuning, asked), resume)


def distill(*, resume: bool = False, **settings: Any) -> Run:
    """Makes a small student of a teacher: of a task, or, with a method for it, of sentence embeddings.

    Settings: see `Distillation` and `EmbeddingDistillation`. Raises as `finetune` does.
    """
    asked = distillation(settings.get("method")).given(settings)
    if isinstance(asked, Distillation):
        asked = rows_of_teacher(asked)
    prepare: Any = plan_embedding if isinstance(asked, EmbeddingDistillation) else plan_distillation
    with RunFolder("distill", asked, resume) as folder, saving(folder):
        return finished(folder, "student") or train(folder, partial(prepare, asked), resume)


def distillation(method: str | None) -> type[Distillation] | type[EmbeddingDistillation]:
    """The settings that a method's runs have."""
    return EmbeddingDistillation if method in METHODS and METHODS[method].serves(Embedding) else Distillation


def evaluate(**settings: Any) -> dict[str, Any]:
    """Scores a model on one split. Settings: see `Evaluation`. Returns metrics, interval and counts."""
    asked = Evaluation.given(settings)
    model, tokenizer = load_classifier(asked.model), load_tokenizer(asked.model)
    names = class_names(model)
    alone = look_up(asked.data)[1] == "file" and not (asked.split or asked.dev or asked.test)
    if alone:  # a file by itself is what is to be scored, all of it
        asked = replace(asked, dev_share=0.0, split="train")
    data = align_labels(load(asked, of_model=names), names)
    split = asked.split or next(name for name in ("test", "dev", "train") if name in data.splits)
    if split not in data.splits:
        raise UserError(f"expected a split of {sorted(data.splits)} of {data.schema.name}, got {split!r}")
    length = input_length(asked.max_length, asked.model, tokenizer, model.config, SCORED)
    examples = Examples(data.splits[split], task_of(data.schema), tokenizer, length.tokens, asked.batch_size)
    examples.check_ids(model)
    if examples.known.worse > FEW_UNKNOWN:
        logger.warning("%s: %s: the score says little of other texts", data.schema.name, examples.known)
    cut = truncated_share(data.splits[split], tokenizer, length.tokens)
    logger.info("length: %s", length.cutting(cut))
    result = {
        "model": asked.model,
        "split": "all" if alone else split,
        **examples.scores(model),
        "max_length": length.tokens,
        "cut_share": cut,
        **size(model),
    }
    if (seen := seen_by(asked.model)) is not None and (share := seen_share(examples.keys, seen)):
        logger.warning("%.1f %% of these rows are among those that the model was trained on", 100 * share)
        result["seen_in_training"] = share
    return result


def train(folder: RunFolder, prepare: Callable[[], Plan], resume: bool) -> Run:
    """From settings to the finished folder."""
    clock, run = Clock(), prepare()
    settings, student = run.settings, run.method.student.model
    clock.lap("preparation")
    folder.settle(settings)
    folder.check_fact(**run.fingerprints())
    args, steps = training_arguments(run, folder)
    report = check_data(run)
    report.raise_if_failed(force=settings.force)
    logger.info("length: %s; %s", run.length, report.seen("texts fit"))
    run.use_cache()
    clock.lap("teacher outputs")
    run.fit_bridges()
    of_models = check_models(run)
    selection = f"the checkpoint with the best dev {run.metric}" if run.check else "the last checkpoint"
    folder.note(
        data=run.describe(),
        preflight=[*report.as_dict(), *of_models.as_dict()],
        stages=stages(run.method),
        queue=queue(run),
        selection=selection,
    )
    of_models.raise_if_failed(force=settings.force)
    folder.begin()
    clock.lap("checks")

    trainer = DistillationTrainer(
        run.model,
        run.method,
        args,
        run.examples,
        run.lengths,
        run.collate,
        check=run.check,
        record=lambda rows: folder.write_lines("log.jsonl", rows),
        schedule=settings.schedule,
        warmup=settings.warmup,
    )
    with only_occurring_words(student, run.words):
        trainer.train_or_resume(last_good_checkpoint(folder.checkpoints) if resume else None)
    clock.lap("training")
    path = run.save(folder)
    if isinstance(run, LabelledPlan) and folder.main:
        write_seen(folder.path, run.examples["text_key"])
    folder.note(status="saved")  # whatever goes wrong from here on, the model is there
    metrics = {"steps": steps, **run.results()}
    clock.lap("evaluation")
    doubt(folder, metrics, warnings(run, trainer.state.log_history))
    metrics["seconds"] = clock.seconds
    conclude(folder, path, run.card(metrics), metrics, run.evidence)
    return Run(folder.path, path, metrics)


def doubt(folder: RunFolder, metrics: dict[str, Any], found: list[str]) -> None:
    """Says what speaks against a run, and keeps it with its scores and its record."""
    for one in found:
        logger.warning("%s", one)
    if found:
        metrics["warnings"] = found
        folder.note(warnings=found)


def conclude(
    folder: RunFolder,
    model: Path,
    card: str,
    metrics: dict[str, Any],
    evidence: Callable[[], dict[str, Any] | None],
) -> None:
    """Writes what a run leaves beside its model: the card, the scores, and the page."""
    if folder.main:
        write_text(model / "README.md", card)
    folder.write("metrics.json", metrics)
    folder.note(status="finished")
    if folder.main:
        leave_report(folder.path, evidence)


def training_arguments(run: Plan, folder: RunFolder) -> tuple[TrainingArguments, int]:
    """transformers' arguments, and the number of steps."""
    settings, method, rows, has_dev = run.settings, run.method, len(run.examples), run.check is not None
    world = processes().num_processes
    parts = world * settings.accumulate
    if settings.batch_size % parts:
        raise UserError(
            f"expected a batch size that {world} process(es) x {settings.accumulate} part(s) divide, "
            f"got {settings.batch_size}"
        )
    if settings.batch_size < 2 and method.across_batch:
        raise UserError(f"{method.name!r} compares the texts of a batch: expected a batch size of at least 2, got 1")
    check_reporters(settings.report_to)
    if settings.accumulate > 1 and (method.across_batch or run.unlabelled):
        why = (
            "compares the examples of a batch with each other"
            if method.across_batch
            else "takes a mean over the labelled examples of the batch"
        )
        raise UserError(
            f"method {method.name!r} {why}, so a batch in parts is another loss, not the same one with less memory; "
            "leave --accumulate at 1 and choose a smaller --batch-size (a queue, --set queue=256, restores the number "
            "of negatives), or launch several processes: they are gathered"
        )
    whole = rows >= settings.batch_size
    steps = math.ceil(settings.epochs * max(1, rows // settings.batch_size))
    every = math.ceil(steps / settings.checks)
    args = TrainingArguments(
        output_dir=str(folder.checkpoints),
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size // parts,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch_fused",
        bf16=run.dtype is torch.bfloat16,
        use_cpu=not torch.accelerator.is_available(),
        seed=settings.seed,
        eval_strategy="steps" if has_dev else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=3,  # the best, the newest, and the one before it: kept until the newest is sealed
        load_best_model_at_end=has_dev,
        metric_for_best_model=run.metric,
        greater_is_better=run.metric != "loss" if has_dev else None,
        logging_steps=max(1, steps // 50),
        logging_nan_inf_filter=False,
        report_to=settings.report_to,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_drop_last=whole,
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,  # `Progress` draws the bar
    )
    return args, steps


def check_reporters(report_to: str) -> None:
    """That what the run is to be reported to is installed and lets itself be started."""
    try:
        for callback in get_reporting_integration_callbacks(report_to):
            callback()
    except (ValueError, RuntimeError, ImportError) as error:
        raise UserError(f"cannot report to {report_to!r}: {error}") from None


class Clock:
    """Wall time of a run's phases."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] = round(now - self.last, 2)
        self.last = now


FULL = (
    "No space left",
    "File too large",
    "quota",
    *("PytorchStreamWriter", "file write failed", "inline_container", "iostream error"),  # torch.save
)
"""Words of libraries that could not write."""


@contextmanager
def saving(folder: RunFolder) -> Iterator[None]:
    """Turns a failure to save into an error that says what is left and how to go on."""
    go_on = f"`contrastill {folder.command} --resume {shlex.quote(str(folder.path))}`"
    try:
        yield
    except Interrupted:
        raise Interrupted(f"The run is saved; continue with {go_on}") from None
    except (OSError, SafetensorError, RuntimeError) as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if not full and not any(word in str(error) for word in FULL):
            raise
        kept = last_good_checkpoint(folder.checkpoints)
        state = f"the checkpoint before it is whole ({kept.name})" if kept else "there was no checkpoint before it"
        raise UserError(
            f"could not save to {folder.path}: {error}; {state}; free space there, then continue with {go_on}"
        ) from error


def queue(run: Plan) -> dict[str, Any] | None:
    """The method's queue of past texts, the terms that read it, and the step at which it is full; None without one."""
    size = run.method.queue.size if isinstance(getattr(run.method, "queue", None), Queue) else 0
    together = min(run.settings.batch_size, len(run.examples))
    return {"size": size, "full_at": math.ceil(size / together), "terms": sorted(run.method.queued)} if size else None


def stages(method: Method) -> list[dict[str, Any]]:
    return [{**vars(stage), "weights": dict(stage.weights)} for stage in method.stages]


def finished(folder: RunFolder, name: str) -> Run | None:
    """A run that has ended, its page written if it was killed before that; None: there is something to do."""
    if not folder.finished(name):
        return None
    logger.info("%s has already finished", folder.path)
    if folder.main and not (folder.path / PAGE).is_file():
        leave_report(folder.path)
    return Run(folder.path, folder.path / name, read_metrics(folder.path))
