"""Which weights of a run on labelled rows are kept.

The highest of ten dev scores is partly luck, on few rows for the most part. So the last weights are kept, unless the
best checkpoint leads by more than one standard error, or the last is no better than one answer for all rows. The rule
of Breiman et al., Classification and Regression Trees, 1984, section 3.4.3, with the error of the difference on the
same rows. Where the mean of the last weights was asked for, it takes their place: it varies less.
"""

import logging
from typing import TYPE_CHECKING

from torch import Tensor, nn

from contrastill.training.plan import Trained

if TYPE_CHECKING:
    from contrastill.training.labelled import LabelledPlan

__all__ = ["MEAN", "SELECTED", "chosen", "clone_state"]

logger = logging.getLogger(__name__)

ONE_ERROR = 0.68  # the share of a normal distribution within a standard error
SELECTED = ", or the last one if the best leads by no more than a standard error"

MEAN = "the mean of the last weights if that one leads it by no more than a standard error"


def chosen(run: "LabelledPlan", trained: Trained) -> int | None:
    """Gives the model the weights that are kept; their step, 0 for those before training. None: dev selects nothing."""
    if run.start is None or trained.best is None or trained.score is None:
        return None
    student, dev, (score, before) = run.method.student.model, run.splits["dev"], run.start
    best = trained.best if trained.score >= score else 0
    averaged = mean_loaded(run, trained)
    if best == trained.last and not averaged:
        return best
    task, metric = run.task.with_config(student.config), run.task.metrics[0]
    last, answers = clone_state(student), task.answers(dev.logits(student, run.dtype))
    useless = task.score(answers, dev.labels)[metric] <= task.chance(dev.labels, metric)
    if best:
        trained.load_best()
    else:
        student.load_state_dict(before)
    lead, low, _ = task.paired(
        task.answers(dev.logits(student, run.dtype)), answers, dev.labels, metric, level=ONE_ERROR
    )
    name = f"the mean of the weights at steps {', '.join(map(str, averaged))}" if averaged else f"step {trained.last}"
    leads = f"step {best} leads by {100 * lead:.1f} points of dev {metric}"
    if useless or low > 0:
        if averaged:
            why = "the mean is no better than one answer for all rows" if useless else "more than a standard error"
            run.decided["checkpoint"] = f"step {best}, not {name}: {leads}, {why}"
            logger.info("checkpoint: %s", run.decided["checkpoint"])
        return best
    student.load_state_dict(last)
    run.averaged = len(averaged)
    run.decided["checkpoint"] = (
        f"{name}{'' if averaged else ', the last'}: {leads}, which is within a standard error"
        if lead >= 0 or not averaged
        else f"{name}: {100 * -lead:.1f} points of dev {metric} ahead of step {best}"
    )
    logger.info("checkpoint: %s", run.decided["checkpoint"])
    return trained.last


def mean_loaded(run: "LabelledPlan", trained: Trained) -> tuple[int, ...]:
    """Gives the model the mean of its last weights, where it was asked for and there are two; their steps."""
    steps = () if trained.load_mean is None else trained.load_mean()
    if trained.load_mean is None or len(steps) > 1:
        return steps
    run.decided["average"] = "none: the last stage has fewer than two checks; raise --checks"
    logger.warning("average: %s", run.decided["average"])
    return ()


def clone_state(model: nn.Module) -> dict[str, Tensor]:
    """The weights, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
