"""Checks of labelled rows and of a teacher of a task, before any training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from contrastill.data.cells import some
from contrastill.data.load import keys_of
from contrastill.training.checks import Check
from contrastill.training.doubts import WIDE, Array, missed_classes
from contrastill.training.examples import Examples
from contrastill.training.seen import seen_by, seen_share

if TYPE_CHECKING:
    from contrastill.training.labelled import LabelledPlan

__all__ = ["noun", "of_rows", "of_teacher", "scores_differ", "unseen"]


def of_rows(run: LabelledPlan) -> list[Check]:
    return [splits_apart(run), *unseen(run), scores_differ(run), *classes_have_rows(run), *dev_tells(run)]


def of_teacher(run: LabelledPlan) -> list[Check]:
    if run.teacher is None and run.table is None:
        return []  # its answers are the labels
    return [teacher_learnt(run), *teacher_knows_classes(run)]


def teacher_learnt(run: LabelledPlan) -> Check:
    """Checks that the teacher beats the commonest answer on dev (without dev: on up to 512 training rows)."""
    assert run.data.train is not None
    metric = run.task.metrics[0]
    if "dev" in run.teacher_scores:
        examples, where = run.splits["dev"], "dev"
        got = run.teacher_scores["dev"].metrics[metric]
    elif run.table is not None:
        known = np.flatnonzero(run.task.known(run.labels) & run.table.knows(keys_of(run.data.train)))
        if not len(known):
            return Check("teacher has learnt the task", True, "no row has a label and an answer of the teacher")
        rows = run.data.train.select(np.random.default_rng(0).permutation(known)[:512])
        examples, where = Examples(rows, run.task, run.tokenizer, run.settings.max_length), "a training sample"
        got = examples.scores_of_table(run.table).metrics[metric]
    else:
        known = np.flatnonzero(run.task.known(run.labels))
        rows = run.data.train.select(np.random.default_rng(0).permutation(known)[:512])
        examples = Examples(rows, run.task, run.reader or run.tokenizer, run.settings.max_length)
        where = "a training sample"
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


def teacher_knows_classes(run: LabelledPlan) -> list[Check]:
    """Checks that the teacher answers most classes right at least once on dev."""
    dev = run.splits.get("dev")
    if dev is None or dev.kept.get("theirs") is None:
        return []
    truth, said = run.task.truth(dev.labels), dev.tasks["theirs"].marks(dev.kept["theirs"])
    if truth is None or said is None:
        return []
    seen, _ = missed_classes(truth.sum(0), (truth & said).sum(0), run.task.labels, noun(run))
    wrong = f"{seen}: the student can't learn them from it; train the teacher for longer (contrastill finetune)"
    return [Check("teacher knows the classes", not seen, wrong if seen else f"most {noun(run)} on dev", fatal=False)]


def splits_apart(run: LabelledPlan) -> Check:
    ours = set(run.examples["text_key"])
    shared = {
        split: sum(int(key) in ours for key in rows.keys) / max(1, len(rows.keys)) for split, rows in run.splits.items()
    }
    seen = (
        "; ".join(f"{share:.1%} of {split} texts are in train" for split, share in shared.items()) or "no other split"
    )
    apart = all(s < 0.05 for s in shared.values())
    wrong = f"{seen}: scores on them say little of new texts; take them out of one of the files"
    return Check("splits are apart", apart, seen if apart else wrong, fatal=False)


def unseen(run: LabelledPlan) -> list[Check]:
    """Checks that the run's initial models were not trained on its dev and test rows, as far as known."""
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
    """Checks that the labels of each split differ: in train to learn from, in dev to select by."""
    labels = run.labels
    if (same_label := run.task.same_label(labels[run.task.known(labels)])) is not None:
        return Check("labels differ", False, f"every training row has the label {same_label}; add rows with others")
    same = [split for split, rows in run.splits.items() if run.task.same_label(rows.labels) is not None]
    seen = f"every row of {' and '.join(same)} has one label: scores on it mean nothing; give other rows"
    return Check("labels differ", not same, seen if same else "in every split", fatal=False)


def classes_have_rows(run: LabelledPlan) -> list[Check]:
    """Checks that each class has more than one training row, and each dev class at least one."""
    train, dev = rows_of_classes(run)
    if train is None:
        return []
    once = np.flatnonzero(train == 1)
    none = np.flatnonzero((train == 0) & (dev > 0)) if dev is not None else once[:0]
    counts = ((once, "one training row"), (none, "rows in dev alone"))
    said = [f"{len(ns)} of {len(train)} {noun(run)} have {what} ({named(run, ns)})" for ns, what in counts if len(ns)]
    seen = f"at least {int(train[train > 0].min(initial=0))} training rows each"
    wrong = f"{' and '.join(said)}: they can hardly be learnt; add rows of them, or merge them with others"
    return [Check(f"{noun(run)} have rows", not said, wrong if said else seen, fatal=False)]


def dev_tells(run: LabelledPlan) -> list[Check]:
    """Checks that dev is large enough to select a checkpoint; if so, that it has the classes."""
    if "dev" not in run.splits:
        return []
    rows = run.task.judged_rows(run.splits["dev"].labels)
    wide = run.task.half_width(rows)
    seen = f"a score on {rows:,} {run.task.judged} is uncertain by about {wide:.1f} points in either direction"
    more = more_dev_rows(run, math.ceil(rows * (wide / WIDE) ** 2))
    wrong = f"{seen}, and the checkpoint is chosen by it; {more}"
    found = [Check("dev is large enough", wide <= WIDE, seen if wide <= WIDE else wrong, fatal=False)]
    return found if wide > WIDE else [*found, *dev_has_classes(run)]


def dev_has_classes(run: LabelledPlan) -> list[Check]:
    """Checks that classes without dev rows hold only a small share of the training rows."""
    train, dev = rows_of_classes(run)
    if train is None or dev is None:
        return []
    absent = np.flatnonzero((train > 0) & (dev == 0))
    share = float(train[absent].sum() / max(1, train.sum()))
    ok = 100 * share < WIDE
    seen = f"{len(absent)} of {(train > 0).sum()} {noun(run)} have no dev row" if len(absent) else f"all {noun(run)}"
    wrong = (
        f"{seen} ({named(run, absent)}), but {share:.0%} of the training rows: the score does not see them; "
        f"{more_dev_rows(run, 2 * len(run.splits['dev'].labels))}"
    )
    return [Check(f"dev has the {noun(run)}", ok, seen if ok else wrong, fatal=False)]


def more_dev_rows(run: LabelledPlan, wanted: int) -> str:
    """Advice for a dev set of this size: a larger --dev-share if dev was held out and train suffices, else --dev."""
    rows = len(run.splits["dev"].labels)
    share = run.settings.dev_share or rows / (rows + run.task.known(run.labels).sum())
    if "held out" in run.data.decisions.get("dev", "") and (more := math.ceil(100 * share * wanted / rows)) <= 50:
        return f"try --dev-share {more / 100:g} (it was {share:.2g})"
    return f"give at least {wanted:,} rows with --dev FILE"


def rows_of_classes(run: LabelledPlan) -> tuple[Array | None, Array | None]:
    """(C,) rows of each class in train and in dev; None where there are no classes, or no dev."""
    labels = run.labels
    train = run.task.truth(labels[run.task.known(labels)])
    dev = run.task.truth(run.splits["dev"].labels) if "dev" in run.splits else None
    return None if train is None else train.sum(0), None if dev is None else dev.sum(0)


def noun(run: LabelledPlan) -> str:
    return "labels" if run.task.several else "classes"


def named(run: LabelledPlan, classes: Sequence[int] | Array) -> str:
    return some([run.task.labels[n] for n in classes], 5)
