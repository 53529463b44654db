"""Candidate libraries for `contrastill serve`, each with the same model behind the same small endpoint.

    python benchmarks/serve_libraries.py --bundle FOLDER --python contrastill=PYTHON ray=PYTHON litserve=PYTHON ...
        -> benchmarks/results/serve_libraries.json

`--python` names the interpreter of each library's own virtual environment, which needs onnxruntime and tokenizers too.
FOLDER holds model.onnx of a sentence-embedding model and tokenizer.json, as `contrastill export` writes them. Clients
send a text each, keep their connection, and run in this process, on the same cores. Start: from launching the process
to its first right answer. Memory: the sum of what each process of the library has to itself and its share of the
rest (PSS). Ports: what its processes listen on. Stop: SIGTERM while 16 clients send; `lost` are the requests that were
sent on an open connection and never got an answer. `contrastill` is what came of it: `contrastill serve` with one
thread.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version as version_here
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from load import Client, free_port, post, run_clients
from peers.serve_model import Model

from contrastill.machine import describe_machine

HERE = Path(__file__).parent
PACKAGE = {
    "ray": "ray",
    "litserve": "litserve",
    "mosec": "mosec",
    "bentoml": "bentoml",
    "starlette": "starlette",
    "contrastill": "contrastill",
}
TEXTS = [f"please tell me why card number {i} was declined " + "in the shop today " * (i % 3) for i in range(256)]


def tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def memory_mb(pid: int) -> float:
    total = 0
    for each in tree(pid):
        try:
            total += each.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 1e6


def listening(pid: int) -> set[tuple[str, int]]:
    """Where the processes listen; an address of this machine that is neither loopback nor wildcard has no name here."""
    found = set()
    for each in tree(pid):
        try:
            connections = each.net_connections("tcp")
        except psutil.Error:
            continue
        for at in (c.laddr for c in connections if c.status == psutil.CONN_LISTEN):
            found.add((at.ip if at.ip in ("127.0.0.1", "::1", "0.0.0.0", "::") else "outside", at.port))
    return found


def right(body: bytes, expected: np.ndarray) -> bool:
    return bool(np.allclose(json.loads(body)["embeddings"][0], expected, atol=1e-4))


async def measure(name: str, python: str, bundle: str, seconds: float, direct: np.ndarray) -> dict[str, Any]:
    port = free_port()
    command = [python, str(HERE / "peers" / f"serve_{name}.py"), bundle, str(port)]
    if name == "contrastill":
        command = [python, "-m", "contrastill", "serve", bundle, "--port", str(port), "--threads", "1"]
    requests = [post("/embed", {"texts": [text]}) for text in TEXTS]
    started: list[psutil.Process] = []
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
        try:
            while True:
                if server.poll() is not None or time.perf_counter() - start > 120:
                    log.seek(0)
                    raise RuntimeError(f"{name} did not start: {log.read().decode()[-2000:]}")
                try:
                    client = await Client.connect(port)
                    status, body = await client.ask(requests[0])
                    await client.close()
                    if status == 200 and right(body, direct[0]):
                        break
                except OSError:
                    pass
                await asyncio.sleep(0.05)
            found: dict[str, Any] = {"start_s": time.perf_counter() - start, "clients": []}
            await run_clients(port, requests, clients=8, seconds=1.0)
            for clients in (1, 8, 64):
                run = await run_clients(port, requests, clients=clients, seconds=seconds)
                wrong = sum(not right(b, direct[i]) for i, status, _, b in run.answers if status == 200)
                found["clients"].append({"clients": clients, **run.summary(), "wrong": wrong})
                if failed := next((body for _, status, _, body in run.answers if status >= 500), None):
                    found["clients"][-1]["a_failure"] = failed.decode()[:200]
                print(name, found["clients"][-1], flush=True)
            found |= {"memory_mb": memory_mb(server.pid), "processes": len(tree(server.pid))}
            found["ports"] = Counter("its own" if at == ("127.0.0.1", port) else at[0] for at in listening(server.pid))
            started = tree(server.pid)
            before = time.perf_counter()
            load = asyncio.create_task(run_clients(port, requests, clients=16, seconds=20.0, until_closed=True))
            await asyncio.sleep(1.0)
            stopped = time.perf_counter()
            server.send_signal(signal.SIGTERM)
            while server.poll() is None and time.perf_counter() - stopped < 40:
                await asyncio.sleep(0.02)
            took = time.perf_counter() - stopped
            run = await load
            left = [each for each in started if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
            found["stop"] = {
                "answered": len(run.answers),
                "lost": run.lost,
                "statuses": run.summary()["statuses"],
                "seconds": took,
                "exit_code": server.poll(),
                "processes_left": len(left),
                "ran_s": time.perf_counter() - before,
            }
            return found
        finally:
            for each in {*started, *tree(server.pid)}:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            server.wait()


def installed(python: str, name: str) -> dict[str, Any]:
    code = f"from importlib.metadata import version; print(version({PACKAGE[name]!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    packages = subprocess.run([python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True)
    folder = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True
    )
    size = sum(f.lstat().st_size for f in Path(folder.stdout.strip()).rglob("*") if f.is_file())
    return {"version": done, "packages": len(packages.stdout.splitlines()), "installed_mb": size / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--python", nargs="+", required=True, metavar="NAME=PYTHON")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "serve_libraries.json")
    args = parser.parse_args()
    args.bundle = str(Path(args.bundle).resolve())
    model = Model(args.bundle)
    direct = np.array([model.embed([{"texts": [text]}])[0]["embeddings"][0] for text in TEXTS])
    start = time.perf_counter()
    for text in TEXTS:
        model.embed([{"texts": [text]}])
    one = (time.perf_counter() - start) / len(TEXTS)
    rows = {}
    for pair in args.python:
        name, _, python = pair.partition("=")
        busy = os.getloadavg()[0]
        rows[name] = installed(python, name) | asyncio.run(measure(name, python, args.bundle, args.seconds, direct))
        rows[name]["load_average_before"] = busy
        print(json.dumps({name: rows[name]}), flush=True)
    result = {
        "command": f"python benchmarks/serve_libraries.py --seconds {args.seconds:g}",
        "direct_one_text_ms": one * 1000,
        "libraries": rows,
        "onnxruntime": version_here("onnxruntime"),
        "machine": describe_machine(),
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
