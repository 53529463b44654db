"""`contrastill serve` under load: how fast, beside calling the bundle directly, and whether every answer is right.

    python benchmarks/serve.py --bundle FOLDER     -> benchmarks/results/serve.json

The texts are those of BANKING77's test split, one a request. The server is a process of its own and the clients run in
this one, on the same cores, so that the client's share is taken from the server's. Each answer is compared with what
the bundle gives for that text alone, called directly.

* clients: 1 to 64 at once, each sending its next request when it has an answer.
* overload: requests come at twice the highest rate seen above, whether or not answers do.
* malformed: seeded, of many kinds; each must get a 4xx (or, cut short by the client, nothing at all).
* stop: SIGTERM while 32 clients send. Lost are requests sent on an open connection that never got an answer.
"""

import argparse
import asyncio
import contextlib
import csv
import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from load import Client, Load, free_port, post, run_clients

from contrastill.bundle import Bundle, open_bundle
from contrastill.machine import describe_machine

HERE = Path(__file__).parent
DATA = HERE.parent / "demo" / "banking77" / "test.csv.gz"


class Subject:
    """A bundle, its texts, and what it says of each of them alone."""

    def __init__(self, folder: str, threads: int | None, workers: int) -> None:
        self.folder = folder
        self.bundle: Bundle = open_bundle(folder, threads=threads, workers=workers)
        with gzip.open(DATA, "rt", encoding="utf-8") as file:
            self.texts = list(dict.fromkeys(row["text"] for row in csv.DictReader(file)))
        self.path = "/embed" if self.bundle.task == "embedding" else "/predict"
        extra = {} if self.bundle.labels is None else {"top": len(self.bundle.labels)}
        asked = [[text, text] if self.bundle.texts == 2 else text for text in self.texts]
        self.requests = [
            post(self.path, {"texts": [each], **extra}, f"X-Request-ID: r{i}") for i, each in enumerate(asked)
        ]
        self.single = [self._given(each) for each in asked]
        self.times: list[float] = []
        rows = []
        self.bundle.run(self.single[:8])
        for each in self.single:
            start = time.perf_counter()
            rows.append(self.bundle.run([each])[0])
            self.times.append(time.perf_counter() - start)
        self.expected = np.stack(rows)
        self.tolerance = 1e-3 if self.bundle.precision == "fp32" else 0.05

    @staticmethod
    def _given(text: Any) -> Any:
        return tuple(text) if isinstance(text, list) else text

    def direct(self) -> dict[str, Any]:
        """The bundle called in this process: a text at a time, and all of them in batches of 32."""
        start = time.perf_counter()
        self.bundle.run(self.single, batch_size=32)
        batched = time.perf_counter() - start
        taken = np.array(self.times) * 1000
        return {
            "texts": len(self.texts),
            "one_at_a_time": {
                "texts_per_s": float(1000 / taken.mean()),
                "p50_ms": float(np.percentile(taken, 50)),
                "p99_ms": float(np.percentile(taken, 99)),
            },
            "batches_of_32": {"texts_per_s": len(self.texts) / batched},
        }

    def vector(self, body: bytes) -> np.ndarray:
        found = json.loads(body)
        if "embeddings" in found:
            return np.array(found["embeddings"][0])
        one = found["predictions"][0]
        if self.bundle.labels is None:
            return np.array([one["score"]])
        scores = {each["label"]: each["score"] for each in one["top"]}
        return np.array([scores[label] for label in self.bundle.labels])

    def compare(self, load: Load) -> dict[str, Any]:
        """How far the answers are from the direct ones."""
        far = [
            float(np.abs(self.vector(body) - self.expected[i]).max())
            for i, status, _, body in load.answers
            if status == 200
        ]
        wrong = sum(each > self.tolerance for each in far)
        return {"compared": len(far), "wrong": wrong, "largest_difference": max(far, default=0.0)}

    def apart(self) -> float:
        """How far the answers to two neighbouring texts of the file are from each other, in the median."""
        return float(np.median(np.abs(np.diff(self.expected, axis=0)).max(axis=1)))


@contextlib.asynccontextmanager
async def served(subject: Subject, options: Sequence[str]) -> AsyncIterator[tuple[subprocess.Popen, int, float]]:
    """A server of its own process, ready: the process, its port, the seconds it took to start."""
    port, start = free_port(), time.perf_counter()
    command = [sys.executable, "-m", "contrastill", "serve", subject.folder, "--port", str(port), *options]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        while True:
            if server.poll() is not None or time.perf_counter() - start > 120:
                raise RuntimeError(f"the server did not start: {command}")
            with contextlib.suppress(OSError):
                client = await Client.connect(port)
                status, _ = await client.ask(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await client.close()
                if status == 200:
                    break
            await asyncio.sleep(0.02)
        yield server, port, time.perf_counter() - start
    finally:
        server.kill()
        server.wait()


async def metrics(port: int) -> dict[str, float]:
    client = await Client.connect(port)
    _, body = await client.ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await client.close()
    found = re.findall(r"^(contrastill_\S+|process_\S+) (\S+)$", body.decode(), re.MULTILINE)
    return {name: float(value) for name, value in found}


async def throughput(subject: Subject, options: Sequence[str], counts: Sequence[int], seconds: float) -> dict[str, Any]:
    rows = []
    async with served(subject, options) as (server, port, started):
        await run_clients(port, subject.requests, clients=8, seconds=1.0)
        for clients in counts:
            before = await metrics(port)
            load = await run_clients(port, subject.requests, clients=clients, seconds=seconds)
            after = await metrics(port)
            grown = {name: after[name] - before.get(name, 0.0) for name in after}
            batches = grown["contrastill_batch_texts_count"]
            rows.append(
                {
                    "clients": clients,
                    **load.summary(),
                    **subject.compare(load),
                    "texts_per_batch": grown["contrastill_batch_texts_sum"] / batches,
                    "tokenize_ms_per_text": 1000
                    * grown['contrastill_model_seconds_total{stage="tokenize"}']
                    / grown["contrastill_texts_total"],
                    "compute_ms_per_text": 1000
                    * grown['contrastill_model_seconds_total{stage="compute"}']
                    / grown["contrastill_texts_total"],
                    "server_cpu_share": grown["process_cpu_seconds_total"] / load.seconds,
                }
            )
            print(rows[-1], flush=True)
        memory = psutil.Process(server.pid).memory_full_info().uss / 1e6
    return {"start_s": started, "memory_mb": memory, "rows": rows}


async def overload(subject: Subject, options: Sequence[str], rate: float, seconds: float) -> dict[str, Any]:
    """Requests at a steady rate over as many connections as it takes."""
    load, idle, count, cut_ids = Load(), [], int(rate * seconds), 0
    async with served(subject, options) as (_, port, _):

        async def one(index: int) -> None:
            nonlocal cut_ids
            client = idle.pop() if idle else await Client.connect(port)
            sent = time.perf_counter()
            try:
                status, body = await client.ask(subject.requests[index])
            except OSError:
                load.lost += 1
                return
            load.answers.append((index, status, time.perf_counter() - sent, body if status == 200 else b""))
            cut_ids += f"x-request-id: r{index}\r\n".encode() not in client.head
            if client.closed:
                await client.close()
            else:
                idle.append(client)

        start, running = time.perf_counter(), set()
        for each in range(count):
            if (early := start + each / rate - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            elif each % 16 == 0:
                await asyncio.sleep(0)
            task = asyncio.create_task(one(each % len(subject.requests)))
            running.add(task)
            task.add_done_callback(running.discard)
        load.seconds = time.perf_counter() - start
        await asyncio.gather(*running)
        for client in idle:
            await client.close()
        after = await run_clients(port, subject.requests, clients=4, seconds=1.0)
    return {
        "rate_asked": rate,
        "rate_sent": count / load.seconds,
        "seconds": load.seconds,
        "sent": count,
        **load.summary(),
        **subject.compare(load),
        "wrong_request_ids": cut_ids,
        "afterwards": {**after.summary(), **subject.compare(after)},
    }


# ---- malformed requests


def malformed(draw: random.Random, path: str) -> tuple[str, bytes, bool]:
    """A request that is wrong: its kind, its bytes, and whether the client hangs up instead of waiting."""

    def raw(body: bytes, *headers: str, method: str = "POST", where: str = path, length: bool = True) -> bytes:
        lines = [f"{method} {where} HTTP/1.1", "Host: localhost", *(headers or ("Content-Type: application/json",))]
        if length:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode() + body

    def of(value: Any) -> bytes:
        return raw(json.dumps(value).encode())

    junk: Any = draw.choice([None, True, -1, 1.5, "", [], {}, [[]], [None], [1], [{}], [["a"]], [["a", "b", "c"]]])
    kinds: dict[str, Any] = {
        "texts of a wrong type": lambda: of({"texts": junk}),
        "no object": lambda: of(draw.choice([[], "a", 1, None, True])),
        "unknown field": lambda: of({"texts": ["a"], draw.choice(["text", "inputs", "x" * 9]): junk}),
        "blank text": lambda: of({"texts": ["a", draw.choice(["", " ", "\n\t"])]}),
        "too many texts": lambda: of({"texts": ["a"] * draw.randint(257, 5000)}),
        "long text": lambda: of({"texts": ["a" * draw.randint(20_001, 1_000_000)]}),
        "5 MB text": lambda: of({"texts": ["a" * 5_000_000]}),
        "not a number": lambda: raw(f'{{"texts": [{draw.choice(["NaN", "Infinity", "-", "01"])}]}}'.encode()),
        "invalid UTF-8": lambda: raw(b'{"texts": ["' + draw.randbytes(8).replace(b'"', b"x") + b'\xff"]}'),
        "half a surrogate": lambda: raw(b'{"texts": ["\\ud83d"]}'),
        "other encoding": lambda: raw('{"texts": ["a"]}'.encode(draw.choice(["utf-16", "utf-32"]))),
        "deep nesting": lambda: raw(b'{"texts": ' + b"[" * draw.randint(1000, 200_000)),
        "deep objects": lambda: raw(b'{"a":' * draw.randint(1000, 100_000)),
        "cut JSON": lambda: raw(json.dumps({"texts": ["some text"]}).encode()[: draw.randint(0, 22)]),
        "random bytes": lambda: raw(draw.randbytes(draw.randint(1, 2000))),
        "other content type": lambda: raw(
            b'{"texts": ["a"]}', f"Content-Type: {draw.choice(['text/plain', 'a/b', ''])}"
        ),
        "other method": lambda: raw(b"", method=draw.choice(["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])),
        "other path": lambda: raw(b"{}", where=draw.choice(["/nothing", "/v1", "/../etc/passwd", "/predict/", "/%00"])),
        "other model": lambda: of({"texts": ["a"], "model": draw.choice(["gpt", "", "x" * 500])}),
        "huge header": lambda: raw(b"{}", "X-Long: " + "a" * draw.randint(70_000, 300_000)),
        "no HTTP": lambda: draw.randbytes(draw.randint(20, 200)).replace(b"\n", b"") + b"\r\n\r\n",
        "bad length": lambda: raw(b"{}", f"Content-Length: {draw.choice(['-1', 'x', '1e3', '2, 3'])}", length=False),
        "huge length": lambda: raw(
            b"{}", "Content-Type: application/json", f"Content-Length: {10 ** draw.randint(9, 30)}", length=False
        ),
        "long chunks": lambda: (
            raw(b"", "Content-Type: application/json", "Transfer-Encoding: chunked", length=False)
            + (b"10000\r\n" + b"a" * 65536 + b"\r\n") * draw.randint(32, 64)
            + b"0\r\n\r\n"
        ),
        "bad chunk": lambda: (
            raw(b"", "Content-Type: application/json", "Transfer-Encoding: chunked", length=False) + b"zz\r\nabc\r\n"
        ),
        "hang up in the body": lambda: of({"texts": ["some text"]})[: -draw.randint(1, 20)],
        "hang up in the headers": lambda: of({"texts": ["some text"]})[: draw.randint(1, 60)],
    }
    kind = draw.choice(sorted(kinds))
    return kind, kinds[kind](), kind.startswith("hang up")


async def fuzz(subject: Subject, options: Sequence[str], count: int, seed: int) -> dict[str, Any]:
    draw, statuses, kinds, bad = random.Random(seed), Counter(), Counter(), []
    async with served(subject, options) as (server, port, _):
        for _ in range(count):
            kind, request, hang_up = malformed(draw, subject.path)
            kinds[kind] += 1
            client = await Client.connect(port)
            if hang_up:
                client.writer.write(request)
                await client.close()
                statuses["hung up"] += 1
                continue
            try:
                status, _ = await asyncio.wait_for(client.ask(request), 20)
            except (OSError, TimeoutError):
                status = 0
            statuses[str(status)] += 1
            if not 400 <= status < 500:
                bad.append({"kind": kind, "status": status})
            await client.close()
        counted = await metrics(port)
        fifth = sum(v for name, v in counted.items() if re.match(r'contrastill_requests_total\{.*status="5', name))
        after = await run_clients(port, subject.requests, clients=8, seconds=2.0)
        alive = server.poll() is None
    return {
        "seed": seed,
        "sent": count,
        "kinds": dict(sorted(kinds.items())),
        "statuses": dict(sorted(statuses.items())),
        "not_4xx": bad,
        "5xx_counted_by_the_server": fifth,
        "alive": alive,
        "afterwards": {**after.summary(), **subject.compare(after)},
    }


async def stop(subject: Subject, options: Sequence[str]) -> dict[str, Any]:
    async with served(subject, options) as (server, port, _):
        load = asyncio.create_task(run_clients(port, subject.requests, clients=32, seconds=60.0, until_closed=True))
        await asyncio.sleep(2.0)
        start = time.perf_counter()
        server.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(server.wait, 60)
        took = time.perf_counter() - start
        done = await load
    return {"exit_code": code, "seconds": took, **done.summary(), **subject.compare(done)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--options", nargs="*", default=[], help="more options of the server, without their dashes: max-wait-ms=2"
    )
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each number of clients")
    parser.add_argument("--overload-seconds", type=float, default=60.0)
    parser.add_argument("--malformed", type=int, default=200)
    parser.add_argument("--stops", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "serve.json")
    args = parser.parse_args()
    options = ["--workers", str(args.workers)] + (["--threads", str(args.threads)] if args.threads else [])
    options += [f"--{each}" for each in args.options]
    subject = Subject(args.bundle, args.threads, args.workers)
    bundle = subject.bundle
    result: dict[str, Any] = {
        "command": " ".join(["python benchmarks/serve.py --bundle", bundle.name, *options]),
        "bundle": {k: bundle.metadata.get(k) for k in ("name", "task", "runtime", "precision", "parameters")},
        "threads": bundle.threads,
        "workers": bundle.workers,
        "direct": subject.direct(),
        "tolerance": subject.tolerance,
        "different_texts_differ_by": subject.apart(),
    }
    print(result["direct"], flush=True)
    result["clients"] = asyncio.run(throughput(subject, options, args.clients, args.seconds))
    most = max(row["requests_per_s"] for row in result["clients"]["rows"])
    if args.overload_seconds:
        result["overload"] = asyncio.run(overload(subject, options, 2 * most, args.overload_seconds))
        print(result["overload"], flush=True)
    if args.malformed:
        result["malformed"] = asyncio.run(fuzz(subject, options, args.malformed, args.seed))
        print(result["malformed"], flush=True)
    if args.stops:
        result["stop"] = [asyncio.run(stop(subject, options)) for _ in range(args.stops)]
        print(result["stop"], flush=True)
    result["machine"] = describe_machine()
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
