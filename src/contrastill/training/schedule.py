"""The learning rate over a run of stages."""

from collections.abc import Sequence

from contrastill.methods import Stage

__all__ = ["SCHEDULES", "rate"]

SCHEDULES = ("stages", "linear", "constant")


def rate(step: int, ends: Sequence[int], stages: Sequence[Stage], schedule: str, warmup: float) -> float:
    """The factor on the learning rate at `step`, given the step at which each stage ends.

    "stages": warm-up, then held until the last stage before the end (or before a fresh stage), which decays it to 0.
        A single decay over all stages would leave almost no learning rate for the last stage, which trains the head.
    "linear": warm-up, then one decay to 0 over all stages, as the papers' code does.
    "constant": warm-up, then held.

    A fresh stage begins anew, warm-up included. `warmup` is a share of the steps between such beginnings.
    """
    starts = [0, *ends[:-1]]
    fresh = [n for n, stage in enumerate(stages) if n == 0 or stage.fresh]
    first = max(n for n in fresh if starts[n] <= step or n == 0)
    following = [n for n in fresh if n > first]
    final = (following[0] if following else len(stages)) - 1
    begin, end = starts[first], ends[final]
    warm = int(warmup * (end - begin))
    if step - begin < warm:
        return (step - begin + 1) / (warm + 1)
    hold = {"stages": max(starts[final], begin + warm), "linear": begin + warm, "constant": end}[schedule]
    return 1.0 if step < hold else max(0.0, (end - step) / max(1, end - hold))
