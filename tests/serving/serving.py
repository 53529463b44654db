"""Bundles for the server: one that computes in Python and can be held up, and a real one on disk; servers to call."""

import asyncio
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from contrastill.answers import answer_of
from contrastill.bundle import FORMAT
from contrastill.seal import SEAL, file_seals, seal_of

MAX_LENGTH, WIDTH = 16, 4
WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{i}" for i in range(200))]


def make_tokenizer(pairs: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.enable_truncation(MAX_LENGTH)
    return tokenizer


class FakeBundle:
    """What the server needs of a bundle. A text's row is a function of the text alone; `gate` holds batches up."""

    runtime, precision, threads, metadata, max_length = "fake", "fp32", 1, {}, MAX_LENGTH

    def __init__(
        self,
        task: str = "embedding",
        texts: int = 1,
        labels: Sequence[str] | None = None,
        thresholds: Sequence[float] | None = None,
        abstain: dict[str, float] | None = None,
    ) -> None:
        self.task, self.texts, self.name = task, texts, f"fake-{task}"
        self.labels = tuple(labels) if labels else None
        self.dimensions = WIDTH if task == "embedding" else None
        about = {"task": task, "labels": self.labels, "dimensions": self.dimensions, "thresholds": thresholds}
        self.answer = answer_of({**about, "abstain": abstain})
        self.ordered = False
        self.tokenizer = make_tokenizer()
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[list[Any]] = []
        self.running, self.most_running, self.lock = 0, 0, threading.Lock()

    def tokenize(self, texts: Sequence[Any]) -> dict[str, np.ndarray]:
        self.batches.append(list(texts))
        lengths = [len(self.tokenizer.encode(*((t,) if isinstance(t, str) else t)).ids) for t in texts]
        mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
        return {"attention_mask": mask.astype(np.int64), "texts": np.array([repr(t) for t in texts])}

    def compute(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        with self.lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        assert self.gate.wait(20)
        if any("poison" in text for text in inputs["texts"]):
            self.running -= 1
            raise RuntimeError("poisoned")
        rows = np.stack([row_of(text, self.width) for text in inputs["texts"]])
        with self.lock:
            self.running -= 1
        return rows

    @property
    def width(self) -> int:
        return WIDTH if self.task == "embedding" else len(self.labels or "1")


def row_of(text: str, width: int) -> np.ndarray:
    row = np.random.default_rng(zlib.crc32(text.encode())).random(width, dtype=np.float32)
    return row / row.sum()


def expected(text: Any, width: int = WIDTH) -> list[float]:
    """The fake bundle's row of a text."""
    return row_of(repr(tuple(text) if isinstance(text, list) else text), width).tolist()


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def call(
    app: Any,
    path: str,
    body: Any = None,
    *,
    method: str = "POST",
    headers: Sequence[tuple[str, str]] = (("content-type", "application/json"),),
    left: asyncio.Event | None = None,
    receive: Callable[[], Awaitable[dict[str, Any]]] | None = None,
) -> Answer:
    """One request to an ASGI application. `body`: JSON, or bytes as they are; `left`: when set, the client hangs up."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": content, "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def once() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await (left or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
        "raw_path": path.encode(), "query_string": b"", "scheme": "http", "root_path": "", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80), "headers": [(k.encode(), v.encode()) for k, v in headers],
    }  # fmt: skip
    await app(scope, receive or once, send)
    start = sent[0]
    return Answer(
        start["status"],
        {k.decode(): v.decode() for k, v in start["headers"]},
        b"".join(m.get("body", b"") for m in sent[1:]),
    )


# ---- real ones


def write_bundle(folder: Path, task: str = "embedding") -> Path:
    """A bundle for ONNX Runtime: the mean of its tokens' vectors, for classification their softmax."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    output = {"embedding": "sentence_embedding", "classification": "probabilities"}[task]
    table = np.random.default_rng(0).standard_normal((len(WORDS), WIDTH)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["vectors", "mask3"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "middle"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask3", "middle"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], [output if task == "embedding" else "mean"]),
    ]
    if task == "classification":
        nodes.append(helper.make_node("Softmax", ["mean"], [output], axis=-1))
    names = ("input_ids", "attention_mask")
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in names],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", WIDTH])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([-1]), "last"),
            numpy_helper.from_array(np.array([1]), "middle"),
        ],
    )
    folder.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / "model.onnx"))
    make_tokenizer().save(str(folder / "tokenizer.json"))
    labels = ["a", "b", "c", "d"] if task == "classification" else None
    metadata = {
        "format": FORMAT, "task": task, "labels": labels, "dimensions": WIDTH if task == "embedding" else None,
        "texts": 1, "max_length": MAX_LENGTH, "runtime": "onnxruntime", "precision": "fp32", "file": "model.onnx",
        "output": output, "inputs": list(names), "name": f"tiny-{task}", "files": file_seals(folder),
    }  # fmt: skip
    (folder / "bundle.json").write_text(json.dumps(metadata | {SEAL: seal_of(metadata)}))
    return folder


class Server:
    """`contrastill serve` as a process of its own."""

    def __init__(self, folder: Path, log: Path, *options: str) -> None:
        self.log = log
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "contrastill", "serve", str(folder), "--port", str(self.port), *options]
        with log.open("w") as file:
            self.process = subprocess.Popen(command, stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1"})

    def wait_until_ready(self) -> "Server":
        for _ in range(600):
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError):
                if self.ask("/ready", method="GET").status == 200:
                    return self
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def ask(self, path: str, body: Any = None, *, method: str = "POST") -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            content = json.dumps(body).encode() if body is not None else None
            connection.request(method, path, content, {"Content-Type": "application/json"})
            got = connection.getresponse()
            return Answer(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())
        finally:
            connection.close()

    def send(self, data: bytes, *, hang_up: bool = False) -> Answer | None:
        """Bytes as they are; the answer, or None where there is none."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as wire:
            with contextlib.suppress(ConnectionError):  # the answer may come before the request is through
                wire.sendall(data)
            if hang_up:
                return None
            response = http.client.HTTPResponse(wire)
            try:
                response.begin()
                return Answer(response.status, dict(response.getheaders()), response.read())
            except (http.client.HTTPException, ConnectionError):
                return None
