"""Checks before the first training step, so that a run fails in its first seconds or not at all."""

import resource
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import nn

from contrastill.loading import FITS, load_classifier, misfit, positions, rows_of
from contrastill.processes import processes
from contrastill.settings import Distillation
from contrastill.students import fitting_shape
from contrastill.training.checks import FEW_UNKNOWN, Check, Report
from contrastill.training.plan import Plan
from contrastill.training.trial import trial

__all__ = ["check_data", "check_models", "check_run", "fit_student", "room_for_checkpoints"]

MOST_UNKNOWN = 0.2  # share of unknown tokens above which no run starts


def check_run(run: Plan) -> Report:
    """Every check that applies to the run, in order; the dry run last."""
    report = check_data(run)
    if report.failed:
        return report  # the models cannot read these inputs: the other checks would only crash on them
    return Report(report.checks + check_models(run).checks)


def fit_student(settings: Distillation) -> tuple[Distillation, list[Check]]:
    """The settings with a student shape that fits the teacher, and a check that says if the default had to change."""
    if settings.teacher is None:
        return settings, []  # which needs another kind of student
    shape = fitting_shape(settings.student, load_classifier(settings.teacher).config)
    if shape == settings.student:
        return settings, []
    seen = f"the default, {settings.student}, does not fit this teacher; checked with {shape}: give --student {shape}"
    return replace(settings, student=shape), [Check("student fits", False, seen, fatal=False)]


def check_data(run: Plan) -> Report:
    """The checks that run no model."""
    return Report([tokenizer_fits(run), texts_known(run), lengths(run), *run.checks_of_rows()])


def check_models(run: Plan) -> Report:
    """The checks that run the models."""
    frozen = [teacher_frozen(run)] if run.method.teacher is not None and run.teacher is not None else []
    return Report([*frozen, *run.checks_of_teacher(), *dry_run(run), disk(run)])


def teacher_frozen(run: Plan) -> Check:
    assert run.teacher is not None
    trained = {id(p) for p in run.model.parameters()}
    bad = run.teacher.training or any(p.requires_grad or id(p) in trained for p in run.teacher.parameters())
    return Check("teacher is frozen", not bad, "in train mode, or trained" if bad else "in eval mode, no gradient")


def tokenizer_fits(run: Plan) -> Check:
    known = [(highest, rows) for highest, model in run.readers if (rows := rows_of(model)) is not None]
    if not known:
        return Check(FITS, True, "the model reads words")
    highest, rows = min(known, key=lambda each: each[1] - each[0])
    wrong = misfit(highest, rows)
    seen = f"highest token id {highest}, smallest vocabulary {rows}"
    return Check(FITS, not wrong, wrong or seen, forceable=False)


def texts_known(run: Plan) -> Check:
    """The tokenizers know the words, or the script, of the training texts."""
    worst = max(run.known, key=lambda known: known.worse)
    if worst.worse <= FEW_UNKNOWN:
        return Check("texts are known", True, str(worst), fatal=False)
    seen = f"{worst}; choose a model whose tokenizer knows the language and the signs of these texts"
    return Check("texts are known", False, seen, fatal=worst.worse > MOST_UNKNOWN)


def lengths(run: Plan) -> Check:
    transformer, longest = run.method.student.transformer, run.settings.max_length
    if transformer is None:
        return Check("texts fit", True, "the model cuts no text")
    room = positions(transformer.config)
    if room is not None and longest > room:
        return Check(
            "texts fit",
            False,
            f"max_length {longest}, but the model has {room} positions; lower --max-length",
            forceable=False,
        )
    cut, mean = run.cut_share, np.mean(run.lengths)
    read = f"mean {mean:.0f}" + (" after that" if cut else "")
    seen = f"{cut:.1%} of the training texts are cut at {longest} tokens ({read})"
    remedy = (
        "raise --max-length?"
        if room is None or longest < room
        else "the model has no more positions: shorten the texts, or choose a model for longer ones"
    )
    return Check("texts fit", cut < 0.1, seen if cut < 0.1 else f"{seen}; {remedy}", fatal=False)


def dry_run(run: Plan) -> list[Check]:
    """Two batches of the longest texts through every stage, forward and backward; nothing of it remains."""
    model, method = run.model, run.method
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    size = min(len(run.examples), max(2, run.batch_size // run.settings.accumulate))
    order = np.argsort(-run.costs, kind="stable")
    halves = [order[:size], order[size : 2 * size] if len(order) >= 2 * size else order[-size:]]
    before, stage, reached, losses, took = peak_memory(device), method.stage, set(), [], []
    with trial(run, device) as step:
        for each in method.stages:
            method.stage = each
            tried = [timed(step, rows) for rows in halves]
            losses += [loss for loss, _ in tried]
            took.append(min(seconds for _, seconds in tried))  # the first one also starts the device's work
            reached |= {name for name, p in model.named_parameters() if p.grad is not None}
            model.zero_grad(set_to_none=True)
    method.stage = stage
    trained = dict(model.named_parameters())
    adam = 2 * sum(p.numel() * 4 for p in trained.values())
    need = peak_memory(device) - before + adam
    free = torch.cuda.mem_get_info()[0] if device.type == "cuda" else psutil.virtual_memory().available
    parts = min(run.batch_size, len(run.examples)) / size / processes().num_processes
    finite = bool(np.isfinite(losses).all())
    added = {name for name, p in trained.items() if id(p) not in {id(q) for q in method.student.parameters()}}
    idle = sorted(added - reached)
    return [
        Check(
            "dry run", finite, f"losses {', '.join(f'{x:.3f}' for x in losses)}" + ("" if finite else "; not finite")
        ),
        Check(
            "projections are trained",
            not idle and all(trained[name].requires_grad for name in added),
            f"no gradient reaches {idle}" if idle else f"{len(added)} tensors beside the student, all reached",
        ),
        Check(
            "memory",
            need < free,
            f"about {need / 1e6:.0f} MB for training, {free / 1e6:.0f} MB free"
            + ("" if need < free else "; lower --batch-size or --max-length"),
        ),
        *run.checks_of_pace(max(took) * parts, need),
    ]


def timed(step: Callable[[np.ndarray], float], rows: np.ndarray) -> tuple[float, float]:
    """The loss of a trial's step, and its seconds."""
    begun = time.perf_counter()
    return step(rows), time.perf_counter() - begun


def peak_memory(device: torch.device) -> int:
    """Bytes: of the GPU's allocator, else the process's highest resident size (which only ever grows)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def disk(run: Plan) -> Check:
    return room_for_checkpoints(run.model, run.settings.out, getattr(run.settings, "average", None) or 0)


def room_for_checkpoints(model: nn.Module, out: str, averaged: int = 0) -> Check:
    """Checks the disk space for model and up to four checkpoints, one in writing (weights, Adam's moments, queues), and
    for the weights of which the mean is to be taken."""
    weights = sum(p.numel() * 4 for p in model.parameters())
    need = (1 + averaged) * weights + 4 * (3 * weights + sum(b.numel() * b.element_size() for b in model.buffers()))
    place = Path(out).expanduser().absolute()
    free = shutil.disk_usage(next(p for p in (place, *place.parents) if p.exists())).free
    seen = f"about {need / 1e6:.0f} MB for checkpoints, {free / 1e6:.0f} MB free"
    return Check("disk", need < free, seen if need < free else f"{seen}; free space, or choose another --out")
