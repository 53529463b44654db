"""transformers' arguments for a plan, and what settings must agree with the method."""

import math
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from contrastill.errors import UserError
from contrastill.processes import processes
from contrastill.results import LESS_IS_BETTER
from contrastill.training.folder import RunFolder
from contrastill.training.plan import Plan

__all__ = ["check_reporters", "training_arguments"]


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
    for name in ("patience", "average"):
        if getattr(settings, name, None) is not None and not has_dev:
            raise UserError(f"--{name}: expected a run that is scored on dev, got one that is not; give --dev FILE")
    task: Any = method.task
    weighted = getattr(task, "class_weights", None) is not None and not task.several
    if settings.accumulate > 1 and (method.across_batch or weighted):
        why = (
            "compares the examples of a batch with each other"
            if method.across_batch
            else "takes a weighted mean over the labelled examples of the batch"
        )
        raise UserError(
            f"method {method.name!r} {why}, so splitting the batch changes the loss; "
            "leave --accumulate at 1 and choose a smaller --batch-size (a queue, --set queue=256, restores the number "
            "of negatives), or launch several processes, which share their negatives"
        )
    steps = run.steps
    every, gpu = math.ceil(steps / settings.checks), torch.cuda.is_available()
    args = TrainingArguments(
        output_dir=str(folder.checkpoints),
        max_steps=steps,
        per_device_train_batch_size=run.batch_size // parts,
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
        metric_for_best_model=run.metric,
        greater_is_better=run.metric not in LESS_IS_BETTER if has_dev else None,
        logging_steps=max(1, steps // 50),
        logging_nan_inf_filter=False,
        report_to=settings.report_to,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_drop_last=rows >= run.batch_size,
        dataloader_pin_memory=gpu,
        dataloader_num_workers=2 if gpu else 0,  # beside a GPU this process has enough to do with launching its work
        dataloader_persistent_workers=gpu,
        disable_tqdm=True,  # `Progress` draws the bar
    )
    return args, steps


def check_reporters(report_to: str) -> None:
    """Checks that the chosen experiment trackers are installed and can be started."""
    try:
        for callback in get_reporting_integration_callbacks(report_to):
            callback()
    except (ValueError, RuntimeError, ImportError) as error:
        raise UserError(f"cannot report to {report_to!r}: {error}") from None
