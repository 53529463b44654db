"""Bundles and servers for the tests of serving."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contrastill.serving.app import make_app
from contrastill.serving.keys import VARIABLE
from contrastill.settings import Serving
from serving import FakeBundle, Server, write_bundle


@pytest.fixture(autouse=True, scope="session")
def no_key() -> Iterator[None]:
    """Servers ask for none but where a test gives one, whatever whoever runs the tests has set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(VARIABLE, raising=False)
        yield


@pytest.fixture
def fake() -> Callable[..., FakeBundle]:
    return FakeBundle


@pytest.fixture
def make() -> Callable[..., Any]:
    """An application over a bundle, with settings of the test's own."""
    return lambda bundle, **settings: make_app(bundle, Serving(bundle="unused", **settings))


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="module")
def server(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests of a file; it is asserted to live, and to end well, when they are through."""
    running = Server(bundle_folder, tmp_path_factory.mktemp("log") / "log.txt").wait_until_ready()
    yield running
    assert running.process.poll() is None, running.log.read_text()
    running.process.terminate()
    assert running.process.wait(20) == 0
