"""Clients for the benchmarks of servers: HTTP/1.1 over kept connections, lean enough to share the server's cores."""

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

__all__ = ["Client", "Load", "free_port", "post", "run_clients"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def post(path: str, body: Any, *headers: str) -> bytes:
    """A request as it goes over the wire."""
    content = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content


class Client:
    """One connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.closed = False  # by the server, with its last answer
        self.head = b""

    @classmethod
    async def connect(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 22))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer; `head` keeps the rest.

        Raises:
            OSError: the connection ended before a whole answer came.
        """
        try:
            self.writer.write(request)
            await self.writer.drain()
            head = self.head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            status, self.closed = int(head[9:12]), b"connection: close" in head
            if b"transfer-encoding: chunked" in head:
                body = bytearray()
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readuntil(b"\r\n")
                return status, bytes(body)
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            return status, await self.reader.readexactly(length)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the connection ended") from error

    async def close(self) -> None:
        self.writer.close()


@dataclass
class Load:
    """What clients saw: the request's index, its status, the seconds it took, the body."""

    seconds: float = 0.0
    lost: int = 0
    answers: list[tuple[int, int, float, bytes]] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        taken = np.array([took for _, status, took, _ in self.answers if status == 200]) * 1000
        statuses = Counter(str(status) for _, status, _, _ in self.answers)
        found = {"requests_per_s": len(taken) / self.seconds, "statuses": dict(sorted(statuses.items()))}
        if len(taken):
            found |= {f"p{q}_ms": float(np.percentile(taken, q)) for q in (50, 99)}
        return found | {"lost": self.lost}


async def run_clients(
    port: int, requests: Sequence[bytes], *, clients: int, seconds: float, until_closed: bool = False
) -> Load:
    """Each client sends the next request as soon as it has an answer.

    `until_closed`: a server that closes the connection, or refuses a new one, ends that client; a request is lost if
    it was sent and got no answer.
    """
    load, order = Load(), iter(range(1 << 60))
    start = time.perf_counter()

    async def one() -> None:
        client = None
        while time.perf_counter() - start < seconds:
            try:
                client = client or await Client.connect(port)
            except OSError:
                if until_closed:
                    return
                raise
            index = next(order) % len(requests)
            sent = time.perf_counter()
            try:
                status, body = await client.ask(requests[index])
            except OSError:
                load.lost += 1
                client = None
                if until_closed:
                    return
                continue
            load.answers.append((index, status, time.perf_counter() - sent, body))
            if client.closed:
                client = None
        if client:
            await client.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    load.seconds = time.perf_counter() - start
    return load
