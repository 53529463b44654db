"""What is looked at before the first training step, so that a run fails in its first seconds or not at all."""

import logging
import resource
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from contrastill.errors import UserError
from contrastill.loading import FITS, misfit, positions, rows_of
from contrastill.training.labelled import Examples, LabelledPlan
from contrastill.training.outcome import WIDE
from contrastill.training.plan import Plan
from contrastill.training.seen import seen_by, seen_share

__all__ = ["FEW_UNKNOWN", "Check", "Report", "check_data", "check_models", "check_run", "room_for_checkpoints"]

FEW_UNKNOWN, MOST_UNKNOWN = 0.05, 0.2  # shares of unknown tokens: above the first a warning, above the second no run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Check:
    """One look: what was looked at, whether it is as it should be, and what was seen (and what to do)."""

    name: str
    ok: bool
    seen: str
    fatal: bool = True
    forceable: bool = True  # False: training could only crash


@dataclass(frozen=True)
class Report:
    checks: list[Check]

    def seen(self, name: str) -> str:
        """By the check of that name; empty where there was none."""
        return next((check.seen for check in self.checks if check.name == name), "")

    def as_dict(self) -> list[dict[str, Any]]:
        return [asdict(check) for check in self.checks]

    def raise_if_failed(self, force: bool = False) -> None:
        failed = [check for check in self.checks if not check.ok]
        fatal = [check for check in failed if check.fatal and not (force and check.forceable)]
        for check in failed:
            if check not in fatal:
                logger.warning("%s? %s", check.name, check.seen)
        if fatal:
            lines = "\n".join(f"  {check.name}: {check.seen}" for check in fatal)
            forced = " (--force starts all the same)" if all(check.forceable for check in fatal) else ""
            raise UserError(f"not started, because a check failed{forced}:\n{lines}")


def check_run(run: Plan) -> Report:
    """Every check that applies to the run, in order; the dry run last."""
    report = check_data(run)
    if any(check.fatal and not check.ok for check in report.checks):
        return report  # the models cannot read these inputs: the other checks would only crash on them
    return Report(report.checks + check_models(run).checks)


def check_data(run: Plan) -> Report:
    """The checks that run no model."""
    rows = (
        [splits_apart(run), *unseen(run), scores_differ(run), *dev_is_large(run)]
        if isinstance(run, LabelledPlan)
        else []
    )
    return Report([tokenizer_fits(run), texts_known(run), lengths(run), *rows])


def check_models(run: Plan) -> Report:
    checks: list[Check] = []
    if run.method.teacher is not None and run.teacher is not None:
        checks += [teacher_frozen(run)]
    if run.method.teacher is not None and isinstance(run, LabelledPlan):
        checks += [teacher_learnt(run)]
    checks += [*dry_run(run), disk(run)]
    return Report(checks)


def teacher_learnt(run: LabelledPlan) -> Check:
    """The teacher beats the commonest answer on dev (without dev: on up to 512 training examples)."""
    assert run.teacher is not None
    assert run.data.train is not None
    metric = run.task.metrics[0]
    if "dev" in run.splits:
        examples, where = run.splits["dev"], "dev"
        got = run.teacher_scores["dev"]["metrics"][metric]
    else:
        known = np.flatnonzero(run.task.known(np.array(run.data.train["label"])))
        rows = run.data.train.select(np.random.default_rng(0).permutation(known)[:512])
        examples, where = Examples(rows, run.task, run.tokenizer, run.settings.max_length), "a training sample"
        got = examples.scores(run.cached or run.teacher)["metrics"][metric]
    chance = run.task.chance(examples.labels, metric)
    seen = f"{metric} {got:.3f} on {where}; always the commonest answer gives {chance:.3f}"
    if got > chance:
        return Check("teacher has learnt the task", True, seen)
    return Check(
        "teacher has learnt the task",
        False,
        f"{seen}; fine-tune it first (contrastill finetune), or check the order of its classes",
    )


def teacher_frozen(run: Plan) -> Check:
    assert run.teacher is not None
    trained = {id(p) for p in run.model.parameters()}
    bad = run.teacher.training or any(p.requires_grad or id(p) in trained for p in run.teacher.parameters())
    return Check("teacher is frozen", not bad, "in train mode, or trained" if bad else "in eval mode, no gradient")


def tokenizer_fits(run: Plan) -> Check:
    models = [run.method.student.model] + ([run.teacher] if run.teacher is not None else [])
    top, rows = run.highest, min(rows for model in models if (rows := rows_of(model)) is not None)
    wrong = misfit(top, rows)
    return Check(FITS, not wrong, wrong or f"highest token id {top}, smallest vocabulary {rows}", forceable=False)


def texts_known(run: Plan) -> Check:
    """The tokenizers know the words, or the script, of the training texts."""
    worst = max(run.known, key=lambda known: known.worse)
    if worst.worse <= FEW_UNKNOWN:
        return Check("texts are known", True, str(worst), fatal=False)
    seen = f"{worst}; choose a model whose tokenizer knows the language and the signs of these texts"
    return Check("texts are known", False, seen, fatal=worst.worse > MOST_UNKNOWN)


def lengths(run: Plan) -> Check:
    room, longest = positions(run.method.student.model.config), run.settings.max_length
    if room is not None and longest > room:
        return Check(
            "texts fit",
            False,
            f"max_length {longest}, but the model has {room} positions; lower --max-length",
            forceable=False,
        )
    cut, mean = run.cut_share, np.mean(run.lengths)
    seen = f"{cut:.1%} of the training texts are cut at {longest} tokens (mean {mean:.0f})"
    return Check("texts fit", cut < 0.1, seen if cut < 0.1 else f"{seen}; raise --max-length?", fatal=False)


def splits_apart(run: LabelledPlan) -> Check:
    ours = set(run.examples["text_key"])
    shared = {
        split: sum(int(key) in ours for batch in rows.batches for key in batch["text_key"]) / max(1, len(rows.labels))
        for split, rows in run.splits.items()
    }
    seen = (
        "; ".join(f"{share:.1%} of {split} texts are in train" for split, share in shared.items()) or "no other split"
    )
    return Check("splits are apart", all(s < 0.05 for s in shared.values()), seen, fatal=False)


def unseen(run: LabelledPlan) -> list[Check]:
    """That the models a run begins with were not trained on the rows it is judged by, as far as their runs tell."""
    ours = np.array(run.examples["text_key"])
    found = []
    for role in ("teacher", "model", "start"):
        name = getattr(run.settings, role, None)
        seen = seen_by(name) if isinstance(name, str) else None
        if seen is None:
            continue
        shares = {split: seen_share(rows.keys, seen, ours) for split, rows in run.splits.items()}
        said = "; ".join(f"{share:.1%} of {split} texts were in its training" for split, share in shares.items())
        wrong = f"{said}: scores on them, and the share kept, say little of new texts; give the --dev it was judged by"
        bad = any(shares.values())
        fatal = max(shares.values(), default=0.0) >= 0.05
        found.append(Check(f"{role} has not seen them", not bad, wrong if bad else said or "no other split", fatal))
    return found


def scores_differ(run: LabelledPlan) -> Check:
    """That there is something to learn, and on dev something to choose by."""
    labels = np.asarray(run.examples["labels"])
    if (same_label := run.task.same_label(labels[run.task.known(labels)])) is not None:
        return Check("labels differ", False, f"every training row has the label {same_label}; add rows with others")
    same = [split for split, rows in run.splits.items() if run.task.same_label(rows.labels) is not None]
    seen = f"every row of {' and '.join(same)} has one label: no score on it says anything; give other rows"
    return Check("labels differ", not same, seen if same else "in every split", fatal=False)


def dev_is_large(run: LabelledPlan) -> list[Check]:
    """How far a score on dev can be trusted, and the choice of a checkpoint by it."""
    if "dev" not in run.splits:
        return []
    rows = len(run.splits["dev"].labels)
    wide = run.task.half_width(rows)
    seen = f"a score on {rows:,} rows is uncertain by about {wide:.1f} points to either side"
    wrong = f"{seen}, and the checkpoint is chosen by it; give more rows (--dev FILE, or a larger --dev-share)"
    return [Check("dev is large enough", wide <= WIDE, seen if wide <= WIDE else wrong, fatal=False)]


def dry_run(run: Plan) -> list[Check]:
    """Two batches of the longest texts through every stage, forward and backward; nothing of it remains."""
    model, method = run.model, run.method
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    size = min(len(run.examples), max(2, run.settings.batch_size // run.settings.accumulate))
    order = np.argsort(-run.lengths, kind="stable")
    halves = [order[:size], order[size : 2 * size] if len(order) >= 2 * size else order[-size:]]
    queues = {name: value.clone() for name, value in model.named_buffers()}
    before, stage, reached, losses = peak_memory(device), method.stage, set(), []
    model.to(device).train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for each in method.stages:
            method.stage = each
            for rows in halves:
                batch = {k: v.to(device) for k, v in run.batch(rows).items()}
                with torch.autocast(device.type, dtype=run.dtype, enabled=run.dtype is not None):
                    loss: Tensor = model(**batch)["loss"]
                loss.backward()
                losses.append(float(loss.detach()))
            reached |= {name for name, p in model.named_parameters() if p.grad is not None}
            model.zero_grad(set_to_none=True)
    method.stage = stage
    with torch.no_grad():
        for name, value in model.named_buffers():
            value.copy_(queues[name])
    trained = dict(model.named_parameters())
    adam = 2 * sum(p.numel() * 4 for p in trained.values())
    need = peak_memory(device) - before + adam
    free = torch.cuda.mem_get_info()[0] if device.type == "cuda" else psutil.virtual_memory().available
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
    ]


def peak_memory(device: torch.device) -> int:
    """Bytes: of the GPU's allocator, else the process's highest resident size (which only ever grows)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def disk(run: Plan) -> Check:
    return room_for_checkpoints(run.model, run.settings.out)


def room_for_checkpoints(model: nn.Module, out: str) -> Check:
    """That the model and up to four checkpoints fit, one being written: weights, Adam's two moments, and any queues."""
    weights = sum(p.numel() * 4 for p in model.parameters())
    need = weights + 4 * (3 * weights + sum(b.numel() * b.element_size() for b in model.buffers()))
    place = Path(out).expanduser().absolute()
    free = shutil.disk_usage(next(p for p in (place, *place.parents) if p.exists())).free
    seen = f"about {need / 1e6:.0f} MB for checkpoints, {free / 1e6:.0f} MB free"
    return Check("disk", need < free, seen if need < free else f"{seen}; free space, or choose another --out")
