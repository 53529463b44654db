"""Connections: what ends those that only stand, and that others are answered meanwhile."""

import contextlib
import http.client
import json
import resource
import runpy
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from contrastill.errors import UserError
from contrastill.serving import connections
from serving import Server

HEAD = b"POST /embed HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
MOST = 16


@pytest.fixture(scope="module")
def server(bundle_folder, tmp_path_factory):
    options = ("--read-timeout", "0.5", "--keep-alive", "1", "--timeout", "1", "--max-connections", str(MOST))
    running = Server(bundle_folder, tmp_path_factory.mktemp("log") / "log.txt", *options).wait_until_ready()
    yield running
    running.process.terminate()
    assert running.process.wait(20) == 0
    assert "Traceback" not in running.log.read_text()


def connected(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def rest(wire):
    """What still comes before the server closes, and how many seconds that took."""
    start, got = time.monotonic(), b""
    with contextlib.suppress(ConnectionError):
        while more := wire.recv(65536):
            got += more
    return got, time.monotonic() - start


def count(server, reason):
    page = server.ask("/metrics", method="GET").body.decode()
    return float(page.split(f'contrastill_connections_ended_total{{reason="{reason}"}} ')[1].split()[0])


@pytest.mark.parametrize(
    ("sent", "slowly", "answer"),
    [
        (b"", b"", b""),
        (b"GET /hea", b"", b"HTTP/1.1 408 "),
        (HEAD, b"X: a\r\n", b"HTTP/1.1 408 "),
        (HEAD + b"Content-Length: 1000\r\n\r\n", b"a", b"HTTP/1.1 408 "),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", b"HTTP/1.1 408 "),
    ],
    ids=["silent", "half a line", "headers without end", "a body byte by byte", "chunks without end"],
)
def test_a_request_that_does_not_come_in_time_ends_its_connection(server, sent, slowly, answer):
    with connected(server) as wire:
        wire.sendall(sent)
        start = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for _ in range(8 if slowly else 0):
                wire.sendall(slowly)
                time.sleep(0.1)
        got, _ = rest(wire)
        assert got.startswith(answer)
        assert got.count(b"HTTP/1.1") == bool(answer)
        assert time.monotonic() - start < 5
    assert server.ask("/health", method="GET").status == 200


def test_the_rest_of_a_refused_body_has_the_same_time(server):
    with connected(server) as wire:
        wire.sendall(HEAD + b"Content-Length: 90000000\r\n\r\n")
        assert wire.recv(1000).startswith(b"HTTP/1.1 413 ")
        start = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                wire.sendall(b"a")
                time.sleep(0.05)
        assert time.monotonic() - start < 3


def test_a_kept_connection_is_closed_when_it_stays_idle_and_when_its_next_request_does_not_end(server):
    ping = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    with connected(server) as idle, connected(server) as begun:
        for wire in (idle, begun):
            wire.sendall(ping)
            response = http.client.HTTPResponse(wire)
            response.begin()
            assert (response.status, response.read()) == (200, b'{"status":"ok"}')
        begun.sendall(ping[:-2])
        assert rest(begun)[0].startswith(b"HTTP/1.1 408 ")
        assert rest(idle)[0] == b""


def test_timed_out_connections_are_counted_and_warned_of_once(server):
    before = count(server, "timed_out")
    with connected(server) as one, connected(server) as two:
        assert rest(one)[0] == rest(two)[0] == b""
    assert count(server, "timed_out") == before + 2
    assert server.log.read_text().count("WARNING connections_timed_out count=") == 1


def test_at_the_limit_the_longest_silent_connection_gives_way(server):
    before = count(server, "dropped")
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(connected(server)) for _ in range(3 * MOST)]
        assert server.ask("/health", method="GET").status == 200
        assert rest(wires[0])[1] < 0.4, "not by its time, but by the newer ones"
        assert count(server, "dropped") - before >= 2 * MOST + 1
    time.sleep(0.2)
    assert server.log.read_text().count("WARNING connections_dropped count=") == 1


def test_requests_that_compute_leave_room_for_those_that_only_read(server):
    with contextlib.ExitStack() as stack:
        for _ in range(2 * MOST):  # each would hold a request in hand
            wire = stack.enter_context(connected(server))
            wire.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
        for _ in range(5):
            assert server.ask("/health", method="GET").status == 200
    page = server.ask("/metrics", method="GET").body.decode()
    assert 'contrastill_requests_total{endpoint="/embed",status="503"}' in page


def test_where_none_is_silent_a_new_connection_is_refused_at_once():
    counted = []

    class Busy:
        where = None

        def refuse(self, *said, retry):
            counted.append((said[0], retry))

    watch = connections.Connections.__new__(connections.Connections)
    watch.waiting, watch.silent, watch.full = (connections.OrderedDict() for _ in range(3))
    watch.count = counted.append
    newcomer = Busy()
    watch.put(newcomer, watch.waiting)
    watch.make_room(newcomer)
    assert counted == ["refused", (503, True)]


@pytest.mark.parametrize(("files", "wanted", "allowed"), [(1024, 1000, 960), (20_000, 1000, 1000), (72, 1000, 8)])
def test_no_more_connections_than_the_process_may_open_files(monkeypatch, files, wanted, allowed):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (files, files))
    assert connections.connections_allowed(wanted) == allowed


def test_a_limit_of_files_that_leaves_no_room_is_told(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (70, 70))
    with pytest.raises(UserError, match=r"at least 72 open files \(ulimit -n\), got 70"):
        connections.connections_allowed(1000)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="POSIX")
def test_sighup_ends_it_in_order_and_a_second_one_is_no_second_signal(bundle_folder, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, here and by the server
    try:
        server = Server(bundle_folder, tmp_path / "log", "--max-wait-ms", "500").wait_until_ready()
    finally:
        signal.signal(signal.SIGHUP, before)
    with connected(server) as wire:
        body = b'{"texts": ["w1"]}'
        wire.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        time.sleep(0.1)
        for _ in range(2):
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.1)
        assert wire.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert server.process.wait(20) == 0
    assert "draining signal=SIGHUP" in server.log.read_text()


def test_a_small_attack_leaves_health_and_predictions_answered(bundle_folder, tmp_path, monkeypatch):
    benchmarks = Path(__file__).parents[2] / "benchmarks"
    options = ["--connections", 60, "--files", 104, "--seconds", 1, "--out", tmp_path / "attack.json"]
    monkeypatch.syspath_prepend(benchmarks)
    monkeypatch.setattr(sys, "argv", ["serve_attack.py", "--bundle", str(bundle_folder), *map(str, options)])
    runpy.run_path(str(benchmarks / "serve_attack.py"), run_name="__main__")
    found = json.loads((tmp_path / "attack.json").read_text())
    assert found["health"]["statuses"] == {"200": 10}
    assert found["predictions"]["statuses"]["200"] > 0, "slow bodies hold the requests in hand, some get a 503"
    assert found["most_open_files"] is None or found["most_open_files"] <= 104
    assert found["ended_by_the_server"]["dropped"] > 0
    assert (found["tracebacks"], found["exit_code"]) == (0, 0)
    assert "limit=40 the process may open no more files" in found["warnings"][0]
