"""Runs that are stopped or cut off at a step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from contrastill.training.callbacks import StopRequest


@contextmanager
def stopping_at(step: int) -> Iterator[None]:
    """As if Ctrl-C were pressed during that step (counted from 1)."""
    before = StopRequest.on_step_end

    def on_step_end(self: StopRequest, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == step:
            self.asked = True
        before(self, args, state, control, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopRequest, "on_step_end", on_step_end)
        yield


class PowerCut(Exception):
    pass


@contextmanager
def cut_at(step: int) -> Iterator[None]:
    """As if the process died after that step, before anything of it is saved."""

    def on_step_end(self: StopRequest, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == step:
            raise PowerCut

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopRequest, "on_step_end", on_step_end)
        yield
