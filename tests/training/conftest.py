"""What the tests of training share: the workshop, and settings that spare them time."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from workshop import Workshop


@pytest.fixture(scope="session")
def workshop(shared_folder: Path) -> Workshop:
    return Workshop(shared_folder / "workshop")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are computed quickest, and always alike, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def few_resamples() -> Iterator[None]:
    """Intervals of 50 resamples: 2,000 take longer than the tiny runs themselves."""
    from contrastill import evaluation

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "bootstrap_interval", partial(evaluation.bootstrap_interval, samples=50))
        yield
