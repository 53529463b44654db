"""Checks of labelled rows and of a teacher of a task, and doubts about what was learnt from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastill.training.checks import Check
from contrastill.training.examples import Examples
from contrastill.training.outcome import LAST, losses
from contrastill.training.seen import seen_by, seen_share

if TYPE_CHECKING:
    from contrastill.training.labelled import LabelledPlan

__all__ = ["at_chance", "learnt_nothing", "of_rows", "scores_differ", "teacher_learnt", "unseen"]

WIDE = 5.0  # points to either side of a score, beyond which it can hardly choose a checkpoint


def of_rows(run: LabelledPlan) -> list[Check]:
    return [splits_apart(run), *unseen(run), scores_differ(run), *dev_is_large(run)]


def teacher_learnt(run: LabelledPlan) -> Check:
    """The teacher beats the commonest answer on dev (without dev: on up to 512 training examples)."""
    assert run.teacher is not None
    assert run.data.train is not None
    metric = run.task.metrics[0]
    if "dev" in run.splits:
        examples, where = run.splits["dev"], "dev"
        got = run.teacher_scores["dev"].metrics[metric]
    else:
        known = np.flatnonzero(run.task.known(np.array(run.data.train["label"])))
        rows = run.data.train.select(np.random.default_rng(0).permutation(known)[:512])
        examples, where = Examples(rows, run.task, run.tokenizer, run.settings.max_length), "a training sample"
        got = run.score_teacher(examples).metrics[metric]
    chance = run.task.chance(examples.labels, metric)
    seen = f"{metric} {got:.3f} on {where}; always the commonest answer gives {chance:.3f}"
    if got > chance:
        return Check("teacher has learnt the task", True, seen)
    return Check(
        "teacher has learnt the task",
        False,
        f"{seen}; fine-tune it first (contrastill finetune), or check the order of its classes",
    )


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


def at_chance(run: LabelledPlan, advice: str) -> list[str]:
    """Answers on dev that are all the same, or no better than the commonest label."""
    dev, task, metric = run.splits.get("dev"), run.task, run.task.metrics[0]
    if dev is None or dev.reported is None or dev.reported.interval is None:
        return []
    if (answer := task.same_answer(dev.kept["ours"], dev.labels)) is not None:
        return [f"the {run.name} answers {answer} to every dev text; {advice}"]
    value, (low, high), chance = dev.reported.metrics[metric], dev.reported.interval, task.chance(dev.labels, metric)
    if low > chance:
        return []
    few = task.half_width(len(dev.labels)) > WIDE and value > chance
    return [
        f"dev {metric} {value:.3f} ({low:.3f} to {high:.3f}) does not differ from that of always giving the commonest "
        f"answer ({chance:.3f}); {'score it on more rows (--dev FILE)' if few else advice}"
    ]


def learnt_nothing(run: LabelledPlan, history: Sequence[Mapping[str, Any]], advice: str) -> list[str]:
    """Without dev, a label loss that ended where ignorance is."""
    seen, ignorance = losses(history), run.task.ignorance(np.asarray(run.examples["labels"]))
    if not seen or ignorance is None or run.teacher is not None:
        return []
    last = float(np.mean(seen[-LAST:]))
    if last < 0.98 * ignorance:
        return []
    outputs = len(run.task.names)
    return [
        f"the loss ended at {last:.3g}, and a model that knows nothing of {outputs} classes has {ignorance:.3g}; "
        f"{advice}"
    ]
