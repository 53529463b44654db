"""The learning rate over a run of stages."""

import pytest

from contrastill.methods import Stage
from contrastill.training.schedule import SCHEDULES, rate

ONE = (Stage("only", {"hard": 1.0}),)
TWO = (Stage("first", {"a": 1.0}, share=0.8), Stage("second", {"b": 1.0}, share=0.2))
FRESH = (Stage("first", {"a": 1.0}, share=0.8), Stage("second", {"b": 1.0}, share=0.2, fresh=True))


def rates(stages: tuple[Stage, ...], ends: list[int], schedule: str, warmup: float = 0.1) -> list[float]:
    return [rate(step, ends, stages, schedule, warmup) for step in range(ends[-1])]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("stages", [ONE, TWO, FRESH])
def test_the_factor_lies_between_0_and_1_and_reaches_1(schedule: str, stages: tuple[Stage, ...]) -> None:
    seen = rates(stages, [100] if len(stages) == 1 else [80, 100], schedule)
    assert all(0 < factor <= 1 for factor in seen)
    assert max(seen) == 1


def test_warm_up_rises_by_equal_steps_from_above_0() -> None:
    seen = rates(ONE, [100], "constant")
    assert seen[:10] == pytest.approx([n / 11 for n in range(1, 11)])
    assert set(seen[10:]) == {1.0}


def test_stages_hold_the_rate_until_the_last_one_decays_it() -> None:
    seen = rates(TWO, [80, 100], "stages")
    assert set(seen[10:80]) == {1.0}
    assert seen[80:] == pytest.approx([1 - n / 20 for n in range(20)])


def test_a_single_stage_decays_from_the_end_of_warm_up() -> None:
    seen = rates(ONE, [100], "stages")
    assert seen == rates(ONE, [100], "linear")
    assert seen[10:] == pytest.approx([1 - n / 90 for n in range(90)])


def test_linear_decays_over_all_stages_at_once() -> None:
    assert rates(TWO, [80, 100], "linear") == rates(ONE, [100], "linear")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_fresh_stage_is_scheduled_as_a_run_of_its_own(schedule: str) -> None:
    seen = rates(FRESH, [80, 100], schedule)
    assert seen == rates(ONE, [80], schedule) + rates(ONE, [20], schedule)


def test_constant_holds_to_the_end() -> None:
    assert rates(TWO, [80, 100], "constant")[10:] == [1.0] * 90


def test_without_warm_up_the_first_step_has_the_whole_rate() -> None:
    assert rate(0, [100], ONE, "linear", 0.0) == 1.0


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("stages", [TWO, FRESH])
@pytest.mark.parametrize("ends", [[0, 1], [1, 1], [1, 2], [0, 5], [5, 5]])
def test_runs_too_short_for_their_stages_still_have_a_rate(
    schedule: str, stages: tuple[Stage, ...], ends: list[int]
) -> None:
    assert all(0 < factor <= 1 for factor in rates(stages, ends, schedule))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_behind_the_end_nothing_is_negative(schedule: str) -> None:
    assert rate(100, [80, 100], TWO, schedule, 0.1) >= 0
