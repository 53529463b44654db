"""The tiny tasks and teachers of the training tests."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from workshop import Workshop


@pytest.fixture(scope="module")
def workshop(shared_folder: Path) -> Workshop:
    return Workshop(shared_folder / "workshop")
