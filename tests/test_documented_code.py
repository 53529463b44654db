"""Every python block of README, CONTRIBUTING and docs/ runs, in a folder of small stand-ins; yaml and json are read.

What curl and probes ask for is a route of the server. Training is checked up to its settings: the examples and the
notebook train.
"""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

import contrastill
from contrastill.settings import Augmentation, Distillation, Finetuning

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / place) for place in ("serving", "report", "evaluation")]

from run_folders import METRICS, RECORD, log_rows  # noqa: E402
from test_sts import write_sets  # noqa: E402

from contrastill.serving.app import make_app  # noqa: E402
from contrastill.settings import Serving  # noqa: E402
from serving import FakeBundle, Server, write_bundle  # noqa: E402

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(language: str) -> list[Any]:
    """The blocks of a language, each with its page as the test's name."""
    found = []
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        of_page = [body for language_, body in BLOCK.findall(page.read_text("utf-8")) if language_ == language]
        found += [pytest.param(body, id=f"{name}-{n}") for n, body in enumerate(of_page, 1)]
    return found


# ---- python


class Embedder:
    """In place of a `SentenceTransformer`: a vector that depends on the text alone."""

    def __init__(self, name: str, **settings: Any) -> None:
        assert name.startswith(("runs/", "sentence-transformers/"))

    def encode(self, texts: list[str], **settings: Any) -> np.ndarray:
        return np.stack([np.random.default_rng(sum(text.encode())).normal(size=8) for text in texts])


def trained_as(kind: type, model: str) -> Callable[..., Any]:
    """In place of a function that trains: the names of the settings are checked, nothing is trained."""

    def train(**settings: Any) -> Any:
        assert set(settings) <= {field.name for field in fields(kind)}
        folder = Path(settings["out"])
        return SimpleNamespace(folder=folder, model=folder / model, metrics={"kept": {"accuracy": 0.99}})

    return train


def augment(**settings: Any) -> Any:
    """In place of `contrastill.augment`: the names of the settings are checked."""
    assert set(settings) <= {field.name for field in fields(Augmentation)}
    return SimpleNamespace(by="nearest", written=9, repeated=1)


def predict(run: Callable[..., Any]) -> Callable[..., Any]:
    """`contrastill.predict`, which answers with bundles; for a run's folder, an empty result."""
    return lambda **settings: run(**settings) if "bundles" in settings["model"] else SimpleNamespace(answers=[])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("server")
    running = Server(write_bundle(place / "embedder"), place / "log.txt").wait_until_ready()
    yield running
    running.process.terminate()
    running.process.wait(20)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the blocks name."""
    for name in ("onnx-int8", "openvino-int8"):
        write_bundle(tmp_path / "runs" / "student" / "exports" / name, "classification")
    shutil.copytree(tmp_path / "runs/student/exports/onnx-int8", tmp_path / "bundles" / "intents")
    for name in ("student", "lrc", "kd"):
        folder = tmp_path / "runs" / name
        folder.mkdir(exist_ok=True)
        (folder / "run.json").write_text(json.dumps(RECORD))
        (folder / "metrics.json").write_text(json.dumps(METRICS))
        (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log_rows()))
    (tmp_path / "queries.csv").write_text("query\nw1 w2\nw3\n")
    (tmp_path / "intents.csv").write_text("query,intent\nw1 w2,a\nw3,b\n")
    write_sets(tmp_path / "FOLDER")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("code", blocks("python"))
def test_a_block_runs(code: str, place: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    import sentence_transformers

    for module in re.findall(r"^(?:from|import) (langchain_openai|llama_index)", code, re.MULTILINE):
        pytest.importorskip(module)  # run by hand against a server; not among the packages for development
    monkeypatch.setattr(contrastill, "finetune", trained_as(Finetuning, "model"), raising=False)
    monkeypatch.setattr(contrastill, "distill", trained_as(Distillation, "student"), raising=False)
    monkeypatch.setattr(contrastill, "augment", augment, raising=False)
    monkeypatch.setattr(contrastill, "predict", predict(contrastill.predict), raising=False)
    monkeypatch.setattr(contrastill.Study, "run", lambda self: None)
    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", Embedder)
    if ":8000/" in code:
        port = request.getfixturevalue("server").port
        code = code.replace(":8000/", f":{port}/").replace('"embedder"', '"tiny-embedding"')
    exec(compile(code, "block", "exec"), {"__name__": "block"})


def test_blocks_were_found() -> None:
    assert len(blocks("python")) >= 10
    assert len(blocks("yaml")) >= 2


# ---- what is read, not run


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_is_yaml(text: str) -> None:
    assert [document for document in yaml.safe_load_all(text) if document]


@pytest.mark.parametrize("text", blocks("json"))
def test_json_is_json(text: str) -> None:
    assert json.loads(text)


def asked_paths() -> set[str]:
    """The paths of curl lines and of Kubernetes' probes."""
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    called = re.findall(r"curl [^\n]*?http://[\w.]+:8000(/[\w/.]*)", text)
    return {*called, *re.findall(r"httpGet: \{path: (/\w+)", text)}


def test_what_is_asked_of_the_server_is_a_route() -> None:
    routes: set[str] = set()
    for task in ("embedding", "classification"):
        bundle: Any = FakeBundle(task, labels=["a", "b"] if task == "classification" else None)
        routes |= {route.path for route in make_app(bundle, Serving(bundle="unused")).routes}
    assert {"/predict", "/health", "/ready", "/metrics"} <= asked_paths() <= routes
