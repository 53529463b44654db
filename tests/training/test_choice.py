"""Which weights are kept: the last, unless the best checkpoint or the start leads by more than chance."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from contrastill.tasks import Classification
from contrastill.training.choice import chosen
from contrastill.training.plan import Trained

ROWS = 200
LABELS = np.arange(ROWS) % 2


class Student(nn.Module):
    """Answers the first `right` rows rightly."""

    def __init__(self, right: int) -> None:
        super().__init__()
        self.right = nn.Parameter(torch.tensor(float(right)))
        self.config = SimpleNamespace()


class Dev:
    labels = LABELS

    def logits(self, student: Student, dtype: Any) -> np.ndarray:
        said = np.where(np.arange(ROWS) < float(student.right.detach()), LABELS, 1 - LABELS)
        return np.eye(2)[said]


def keep(
    start: int, best: tuple[int, int], last: tuple[int, int], mean: int | None = None, steps: tuple[int, ...] = (40, 50)
) -> tuple[int | None, int, dict[str, str]]:
    """Rights of the start, (step, rights) of best and last checkpoint, rights of the mean of the weights at `steps` ->
    step kept, its rights, what was noted."""
    student = Student(last[1])
    run: Any = SimpleNamespace(
        method=SimpleNamespace(student=SimpleNamespace(model=student)),
        splits={"dev": Dev()},
        task=Classification(("a", "b")),
        dtype=None,
        start=(start / ROWS, {"right": torch.tensor(float(start))}),
        decided={},
    )
    load = {"right": torch.tensor(float(best[1]))}

    def load_mean() -> tuple[int, ...]:
        if len(steps) > 1:
            student.load_state_dict({"right": torch.tensor(float(mean or 0))})
        return steps

    found = Trained(
        last[0],
        best[0],
        best[1] / ROWS,
        lambda: student.load_state_dict(load),
        None if mean is None else load_mean,
    )
    step = chosen(run, found)
    return step, round(float(student.right.detach())), run.decided


@pytest.mark.parametrize(
    ("start", "best", "last", "kept"),
    {
        "a lead that is no chance": (100, (10, 160), (50, 140), (10, 160)),
        "a lead of one row": (100, (10, 141), (50, 140), (50, 140)),
        "a start far ahead": (160, (10, 141), (50, 140), (0, 160)),
        "a lead of one row over a model without use": (80, (10, 101), (50, 100), (10, 101)),
        "a start ahead by a row": (141, (10, 130), (50, 140), (50, 140)),
        "the last is the best": (100, (50, 140), (50, 140), (50, 140)),
        "the start is as good as the best": (160, (10, 160), (50, 140), (10, 160)),
    }.values(),
    ids=lambda value: str(value),
)
def test_the_last_is_kept_unless_another_leads_by_more_than_its_error(
    start: int, best: tuple[int, int], last: tuple[int, int], kept: tuple[int, int]
) -> None:
    step, rights, noted = keep(start, best, last)
    assert (step, rights) == kept
    assert bool(noted) == (step == last[0] != best[0])


@pytest.mark.parametrize(
    ("best", "last", "mean", "kept"),
    {
        "the mean is ahead": ((10, 140), (50, 120), 150, (50, 150)),
        "the mean is ahead of the last, which is the best": ((50, 140), (50, 140), 150, (50, 150)),
        "the best leads the mean by a row": ((10, 141), (50, 120), 140, (50, 140)),
        "the best leads the mean by more than chance": ((10, 160), (50, 159), 140, (10, 160)),
        "the last leads the mean by more than chance": ((50, 160), (50, 160), 140, (50, 160)),
        "the mean is of no use": ((10, 101), (50, 90), 100, (10, 101)),
    }.values(),
    ids=lambda value: str(value),
)
def test_the_mean_of_the_last_weights_takes_the_place_of_the_last(
    best: tuple[int, int], last: tuple[int, int], mean: int, kept: tuple[int, int]
) -> None:
    step, rights, noted = keep(80, best, last, mean)
    assert (step, rights) == kept
    assert ("not the mean" in noted["checkpoint"]) == (rights != mean)
    assert "steps 40, 50" in noted["checkpoint"]


def test_of_one_weight_there_is_no_mean(caplog: pytest.LogCaptureFixture) -> None:
    step, rights, noted = keep(80, (50, 140), (50, 140), 150, steps=(50,))
    assert (step, rights) == (50, 140)
    assert "fewer than two" in noted["average"]
    assert "fewer than two" in caplog.text


def test_the_error_is_that_of_the_difference_on_the_same_rows() -> None:
    """d rows that the best has right alone: a resample has none of them with a chance of exp(-d); where that is below
    16 %, the lead is above 0 at one standard error."""
    kept = {lead: keep(0, (10, 140 + lead), (50, 140))[0] for lead in range(1, 8)}
    assert kept == {lead: 10 if np.exp(-lead) < 0.16 else 50 for lead in kept}


def test_without_scores_nothing_is_chosen() -> None:
    run: Any = SimpleNamespace(start=None)
    assert chosen(run, Trained(5, None, None, lambda: None)) is None
