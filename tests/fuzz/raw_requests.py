"""Raw bytes for the server: requests of a table, changed at random by a seed; the tests of serving send some.

    python tests/fuzz/raw_requests.py 2000 [SEED]    -> counts of the answers, and the faults

(Not `requests.py`: a library of that name would be hidden from whatever imports it.)
"""

import re
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

__all__ = ["mutations", "send_all"]

BYTES = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"/",
    b"%",
    b'"',
    b"\\",
    b"{",
    b"[",
    b"\x7f",
    b"\x80",
    b"\xc3",
    b"\xff",
    b"\xed\xa0\x80",
    b"-",
    b"0",
    b"9" * 20,
    b"1e9",
    b"a" * 3000,
]
LINES = [
    b"Transfer-Encoding: chunked",
    b"Content-Length: 17",
    b"Content-Length: 5",
    b"Content-Length: 18446744073709551617",
    b"Connection: close",
    b"Connection: Upgrade",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"Content-Encoding: gzip",
    b"Content-Type: application/json; charset=latin-1",
    b"Host: b",
    b"X-Request-ID: \xff",
    b"Authorization: Bearer x",
    b"POST /embed HTTP/1.1",
    b"GET /metrics HTTP/1.1",
]
BODIES = [
    b'{"texts": []}',
    b'{"texts": "w1"}',
    b'{"texts": [null]}',
    b'{"texts": [["w1", "w2"]]}',
    b'{"texts": ["\\ud800"]}',
    b"[" * 3000,
    b'{"texts": ["w1"], "texts": ["w2"]}',
    b'{"texts": ["w1"], "model": 1}',
    b'{"input": [1, 2], "model": "a"}',
    b"\xff\xfe",
    b'{"texts": ["w1", "' + b"w2 " * 2000 + b'"]}',
    b'{"texts": ["\\u0000"]}',
    b'{"texts": ["\xf0\x9f\x92\xa9"]}',
]
STATUS = re.compile(rb"^HTTP/1\.1 (\d{3}) ", re.MULTILINE)


def with_bytes(data: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    place = random.randint(0, len(data))
    return data[:place] + random.choice(BYTES) + data[place:]


def with_a_flipped_bit(data: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    place = random.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]


def without_a_piece(data: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    place = random.randrange(len(data))
    return data[:place] + data[place + random.randint(1, 20) :]


def with_a_piece_twice(data: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    place = random.randrange(len(data))
    end = place + random.randint(1, 60)
    return data[:end] + data[place:end] * random.randint(1, 3) + data[end:]


def with_a_line(data: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    lines = data.split(b"\r\n")
    lines.insert(random.randint(0, len(lines)), random.choice(LINES))
    return b"\r\n".join(lines)


def with_a_body(data: bytes, random: Random, table: Sequence[bytes]) -> bytes:
    """One of the bodies, or its own with other bytes in it, of the length that its headers say."""
    head, _, body = data.partition(b"\r\n\r\n")
    body = random.choice([random.choice(BODIES), with_bytes(body, random, table)])
    return re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % len(body), head) + b"\r\n\r\n" + body


def cut(data: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    return data[: random.randint(1, len(data))]


def with_another_s_end(data: bytes, random: Random, table: Sequence[bytes]) -> bytes:
    other = random.choice(table)
    return data[: random.randint(1, len(data))] + other[random.randrange(len(other)) :]


CHANGES: list[Callable[[bytes, Random, Sequence[bytes]], bytes]] = [
    with_bytes,
    with_a_flipped_bit,
    without_a_piece,
    with_a_piece_twice,
    with_a_line,
    with_a_body,
    cut,
    with_another_s_end,
]


def mutations(table: Sequence[bytes], seed: int, count: int) -> Iterator[bytes]:
    """Requests of the table, each with one to three changes; the same for the same seed."""
    random = Random(seed)
    for _ in range(count):
        data = random.choice(table)
        for _ in range(random.randint(1, 3)):
            data = random.choice(CHANGES)(data, random, table) or b"\r"
        yield data


def answers(port: int, data: bytes) -> list[str]:
    """The statuses that come back until the server ends the connection; "hang": it does not.

    A good request follows, which closes: so what is answered whole ends without a timeout.
    """
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as wire:
        try:
            wire.sendall(data + b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            while more := wire.recv(65536):
                got += more
        except TimeoutError:
            return ["hang"]
        except ConnectionError:  # it closed while more was on its way
            pass
    return [status.decode() for status in STATUS.findall(got)] or ["none"]


def send_all(port: int, cases: Sequence[bytes], good: Callable[[], bool]) -> dict[str, Any]:
    """Sends all, some at a time; `good` asks meanwhile as others do, and says whether the answer is right.

    Returns:
        statuses: how often each came; faults: the requests that hung or were a 5xx other than 503; good, wrong: how
        many answers the well-behaved client had of each kind.
    """
    statuses: Counter[str] = Counter()
    faults: list[tuple[list[str], bytes]] = []
    asked: Counter[bool] = Counter()
    through = threading.Event()

    def behave() -> None:
        while not through.is_set():
            try:
                asked[good()] += 1
            except Exception as error:
                faults.append(([f"good client: {error}"[:200]], b""))
            through.wait(0.02)

    other = threading.Thread(target=behave)
    other.start()
    try:
        with ThreadPoolExecutor(16) as pool:
            for data, found in zip(cases, pool.map(lambda data: answers(port, data), cases), strict=True):
                statuses.update(found)
                if any(one == "hang" or (one[0] == "5" and one != "503") for one in found):
                    faults.append((found, data))
    finally:
        through.set()
        other.join()
    return {"statuses": dict(sorted(statuses.items())), "faults": faults, "good": asked[True], "wrong": asked[False]}


def main() -> None:
    sys.path.append(str(Path(__file__).parents[1] / "serve"))
    import tempfile

    from test_wire import RAW, embeds

    from serving import Server, write_bundle

    count, seed = int(sys.argv[1]), int((sys.argv[2:] or ["0"])[0])
    with tempfile.TemporaryDirectory() as place:
        bundle = write_bundle(Path(place) / "bundle")
        options = ("--read-timeout", "0.5", "--timeout", "5")
        server = Server(bundle, Path(place) / "log", *options).wait_until_ready()
        try:
            found = send_all(server.port, [*mutations(RAW, seed, count)], embeds(server, bundle))
        finally:
            server.process.terminate()
            code = server.process.wait(60)
        print(found, "exit code", code, "tracebacks", server.log.read_text().count("Traceback"))
        sys.exit(bool(found["faults"] or found["wrong"] or code or "Traceback" in server.log.read_text()))


if __name__ == "__main__":
    main()
