"""`contrastill serve` while clients only hold its connections: is /health answered, and how soon?

    python benchmarks/serve_attack.py --bundle FOLDER     -> benchmarks/results/serve_attack.json

The server is started on a loopback port, with a limit of open files as most systems have it. A fifth of the attackers
each: say nothing; send half a request line; send a header a second, without end; send a body a byte at a time; send
requests and never take an answer. One that is closed comes again. A process of its own asks for /health each 100 ms, on
a new connection each time, as a liveness probe does; another one asks for predictions on a connection that it keeps.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from load import Client, free_port, post

HERE = Path(__file__).parent
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
PATIENCE = 2.0  # seconds after which a probe gives up
KINDS = ("silent", "half a line", "endless headers", "slow body", "never reads")


async def attacker(port: int, kind: str, path: str, ended: Counter[str]) -> None:
    """Holds a connection in one way, and makes another when it is closed."""
    body = json.dumps({"texts": ["w"] * 200}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n".encode()
    whole = head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    first, more = {
        "silent": (b"", b""),
        "half a line": (b"POST /pre", b""),
        "endless headers": (head, b"X-More: a\r\n"),
        "slow body": (head + b"Content-Length: 1000000\r\n\r\n{", b" "),
        "never reads": (whole, whole),
    }[kind]
    while True:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(5):  # wait_for may swallow the end of the attack, and it would not end
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                if kind == "never reads":
                    writer.transport.pause_reading()  # type: ignore[attr-defined]
                writer.write(first)
                while not reader.at_eof():
                    await writer.drain()
                    writer.write(more)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1):
                            await reader.read(65536)
            finally:
                writer.transport.abort()
        ended[kind] += 1
        await asyncio.sleep(0.5)


async def watch(pid: int, most: list[int]) -> None:
    """Writes down, each 50 ms, how many files the process has open, where the system shows it."""
    held = Path(f"/proc/{pid}/fd")
    while held.is_dir():
        most.append(len(list(held.iterdir())))
        await asyncio.sleep(0.05)


async def probe(port: int, seconds: float, request: bytes, *, keep: bool) -> dict[str, Any]:
    """Asks every 100 ms; how many were answered with a 200, and how soon."""
    statuses: Counter[str] = Counter()
    taken, client, start = [], None, time.monotonic()
    for turn in range(int(seconds * 10)):
        await asyncio.sleep(max(0.0, start + turn / 10 - time.monotonic()))
        sent = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                client = client or await Client.connect(port)
                status, _ = await client.ask(request)
            statuses[str(status)] += 1
            if status == 200:
                taken.append(1000 * (time.monotonic() - sent))
            if not keep or client.closed:
                await client.close()
                client = None
        except (OSError, TimeoutError) as error:
            statuses[type(error).__name__] += 1
            client = None
    found = {"asked": sum(statuses.values()), "statuses": dict(statuses), "share": len(taken) / sum(statuses.values())}
    return found | {f"p{q}_ms": float(np.percentile(taken, q)) for q in (50, 99, 100) if taken}


def probing(port: int, seconds: float, kind: str, path: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--probe", kind, "--port", port, "--seconds", seconds, "--path", path]
    return subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True)


async def attack(
    bundle: str, *, connections: int, files: int, seconds: float, options: list[str] | None = None
) -> dict[str, Any]:
    """The attack, and what the two that behave saw of it."""
    path = "/embed" if json.loads((Path(bundle) / "bundle.json").read_text())["task"] == "embedding" else "/predict"
    port, ended, opened = free_port(), Counter(), []
    command = [sys.executable, "-m", "contrastill", "serve", bundle, "--port", str(port), *(options or [])]
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *command],
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            for _ in range(600):
                with contextlib.suppress(OSError):
                    await (await Client.connect(port)).close()
                    break
                await asyncio.sleep(0.1)
            tasks = [asyncio.create_task(watch(server.pid, opened))]
            kinds = itertools.cycle(KINDS)
            tasks += [asyncio.create_task(attacker(port, next(kinds), path, ended)) for _ in range(connections)]
            await asyncio.sleep(1)
            probes = {kind: probing(port, seconds, kind, path) for kind in ("health", "predictions")}
            async with asyncio.timeout(seconds + 120):
                said = {kind: await asyncio.to_thread(each.communicate) for kind, each in probes.items()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            client = await Client.connect(port)
            _, page = await client.ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await client.close()
            counted = re.findall(r'^contrastill_connections_ended_total\{reason="(\w+)"\} (\S+)$', page.decode(), re.M)
            server.terminate()
            code = await asyncio.to_thread(server.wait, 60)
        finally:
            server.kill()
            server.wait()
        log.seek(0)
        lines = log.read()
    return {
        **{kind: json.loads(out) for kind, (out, _) in said.items()},
        "attackers": connections,
        "attackers_came_again": dict(ended),
        "most_open_files": max(opened, default=None),
        "limit_of_open_files": files,
        "ended_by_the_server": {reason: float(count) for reason, count in counted},
        "warnings": [line[24:] for line in lines.splitlines() if " WARNING " in line],
        "tracebacks": lines.count("Traceback"),
        "exit_code": code,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle")
    parser.add_argument("--connections", type=int, default=1024)
    parser.add_argument("--files", type=int, default=1024, help="the server's limit of open files")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "serve_attack.json")
    parser.add_argument("--probe", choices=["health", "predictions"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not (0 < args.connections <= 10_000 and 0 < args.seconds <= 600):
        parser.error("expected at most 10000 connections and 600 seconds")
    if args.probe:
        request = HEALTH if args.probe == "health" else post(args.path, {"texts": ["where is my card?"]})
        print(json.dumps(asyncio.run(probe(args.port, args.seconds, request, keep=args.probe != "health"))))
        return
    from contrastill.machine import describe_machine  # not in the probes: it takes seconds to load

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(args.connections + 256, hard)), hard))
    result = asyncio.run(attack(args.bundle, connections=args.connections, files=args.files, seconds=args.seconds))
    result["command"] = "python benchmarks/serve_attack.py --bundle FOLDER"
    result["command"] += f" --connections {args.connections} --files {args.files} --seconds {args.seconds:g}"
    result["machine"] = describe_machine()
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "machine"}, indent=2))


if __name__ == "__main__":
    main()
