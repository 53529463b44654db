"""What the tests of training share: the workshop, and settings that spare them time."""

import gc
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from markupsafe import Markup
from workshop import Workshop


@pytest.fixture(scope="session")
def workshop(shared_folder: Path) -> Workshop:
    return Workshop(shared_folder / "workshop")


@pytest.fixture(autouse=True, scope="module")
def empty_charts() -> Iterator[None]:
    """Charts are drawn on paper that nobody looks at in tests/report: drawing took longer than the tiny runs."""
    from contrastill.report import charts

    with pytest.MonkeyPatch.context() as patch:
        drawn = Markup("<svg><title>{}</title></svg>")
        patch.setattr(charts, "svg", lambda figure, title, alt, values: drawn.format(title))
        yield


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are computed quickest, and always alike, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def quick_collections() -> Iterator[None]:
    """Every run collects garbage, which would take longer than its training if it walked all that was imported."""
    import contrastill.training  # noqa: F401

    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True, scope="session")
def few_resamples() -> Iterator[None]:
    """Intervals of 50 resamples: the correlations' 2 000 take longer than the tiny runs themselves."""
    from contrastill import evaluation

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "bootstrap_interval", partial(evaluation.bootstrap_interval, samples=50))
        yield
