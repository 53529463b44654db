"""Raw bytes to the server: which requests it reads, which it refuses, and that nothing behind a refused one is read."""

import re
import socket
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from contrastill.bundle import open_bundle
from serving import Server

sys.path.append(str(Path(__file__).parents[1] / "fuzz"))
from raw_requests import mutations, send_all

PING = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
BODY = b'{"texts": ["w1"]}'
POST = b"POST /embed HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
WHOLE = POST + b"Content-Length: 17\r\n\r\n" + BODY
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def get(target=b"/health", *, method=b"GET", version=b"HTTP/1.1", headers=b"Host: a\r\n"):
    return method + b" " + target + b" " + version + b"\r\n" + headers + b"\r\n"


def with_header(line):
    return get(headers=b"Host: a\r\n" + line + b"\r\n")


def padded(size):
    """A request whose line and headers have so many bytes, the blank line left out."""
    return with_header(b"X: " + b"a" * (size - len(with_header(b"X: ")) + 2))


def statuses(server: Server, data: bytes) -> list[int]:
    """Of all answers to the bytes and to a request for /health behind them, until the server closes."""
    got = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=15) as wire:
        try:
            wire.sendall(data + PING)
            while more := wire.recv(65536):
                got += more
        except ConnectionError:  # it closed while more was on its way
            pass
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", got)]


READ = {
    "absolute form": (get(b"http://example.org/health"), 200),
    "absolute form, upper case, port, query": (get(b"HTTP://example.org:80/health?a=b"), 200),
    "absolute form without a path": (get(b"http://example.org"), 200),
    "absolute form, a query alone": (get(b"http://[::1]?a"), 200),
    "absolute form, https": (get(b"https://example.org/nothing"), 404),
    "asterisk form": (get(b"*", method=b"OPTIONS"), 404),
    "percent-encoded letters": (get(b"/%68ealth"), 200),
    "percent-encoded slash": (get(b"/health%2F"), 404),
    "percent-encoded NUL": (get(b"/health%00"), 404),
    "percent-encoded half of a character": (get(b"/%ff%c3"), 404),
    "percent sign alone": (get(b"/health?a=%zz"), 200),
    "two slashes": (get(b"//health"), 404),
    "dots": (get(b"/x/../health"), 404),
    "fragment": (get(b"/health#a"), 404),
    "HEAD": (get(method=b"HEAD"), 200),
    "TRACE": (get(method=b"TRACE"), 405),
    "OPTIONS": (get(method=b"OPTIONS"), 405),
    "lower-case method": (get(method=b"get"), 405),
    "method nobody knows": (get(method=b"BREW"), 405),
    "POST where nothing is posted": (get(method=b"POST"), 405),
    "empty host": (get(headers=b"Host:\r\n"), 200),
    "IPv6 host": (get(headers=b"Host: [::1]:8000\r\n"), 200),
    "letters beyond ASCII in a value": (with_header("X: é".encode("latin-1")), 200),
    "empty value": (with_header(b"X:"), 200),
    "same header many times": (with_header(b"X: a\r\n" * 500 + b"X: a"), 200),
    "headers of 64 KiB": (padded(65_536), 200),
    "expectation nobody knows": (with_header(b"Expect: a-miracle"), 200),
    "upgrade to WebSocket": (with_header(b"Connection: Upgrade\r\nUpgrade: websocket"), 200),
    "upgrade to HTTP/2": (with_header(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c"), 200),
    "body": (WHOLE, 200),
    "length twice, equal": (POST + b"Content-Length: 17\r\nContent-Length: 17\r\n\r\n" + BODY, 200),
    "GET with a body": (with_header(b"Content-Length: 17") + BODY, 200),
    "body longer than the limit": (POST + b"Content-Length: 3000000\r\n\r\n" + b"a" * 3_000_000, 413),
    "body nobody asked for": (get(b"/nothing", headers=b"Host: a\r\nContent-Length: 100000\r\n") + b"a" * 100_000, 404),
    "chunks": (CHUNKED + b"9\r\n" + BODY[:9] + b"\r\n8\r\n" + BODY[9:] + b"\r\n" + END, 200),
    "chunk extension": (CHUNKED + b"11;a=b\r\n" + BODY + b"\r\n" + END, 200),
    "trailers": (CHUNKED + b"11\r\n" + BODY + b"\r\n0\r\nX: a\r\n\r\n", 200),
    "charset": (WHOLE.replace(b"json", b"json; charset=latin-1"), 415),
    "gzip": (WHOLE.replace(b"Host", b"Content-Encoding: gzip\r\nHost"), 415),
}

REFUSED = {
    "path without a slash": get(b"health"),
    "asterisk form of GET": get(b"*"),
    "authority form": get(b"example.org:443", method=b"CONNECT"),
    "absolute form without a host": get(b"http:///health"),
    "absolute form with a user": get(b"http://a@b/health"),
    "another scheme": get(b"file:///etc/passwd"),
    "space in the path": get(b"/health /x"),
    "NUL in the path": get(b"/health\0"),
    "letter beyond ASCII in the path": get("/é".encode()),
    "no method": b" /health HTTP/1.1\r\nHost: a\r\n\r\n",
    "method of no letters": get(method=b"G@T"),
    "no version": b"GET /health\r\nHost: a\r\n\r\n",
    "HTTP/0.9": get(version=b"HTTP/0.9"),
    "HTTP/1.2": get(version=b"HTTP/1.2"),
    "HTTP/2.0": get(version=b"HTTP/2.0"),
    "HTTP/1.10": get(version=b"HTTP/1.10"),
    "lower-case version": get(version=b"http/1.1"),
    "start of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "start of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "blank line first": b"\r\n" + get(),
    "no host": get(headers=b"X: a\r\n"),
    "two hosts": get(headers=b"Host: a\r\nHost: b\r\n"),
    "host with a space": get(headers=b"Host: a b\r\n"),
    "host with a slash": get(headers=b"Host: a/b\r\n"),
    "LF alone after every line": get().replace(b"\r\n", b"\n"),
    "LF alone after the first line": get().replace(b"\r\n", b"\n", 1),
    "LF alone in a value": with_header(b"X: a\nY: b"),
    "LF alone as the blank line": b"GET /health HTTP/1.1\r\nHost: a\r\n\n",
    "CR alone": with_header(b"X: a\rY: b"),
    "folded header": with_header(b"X: a\r\n b"),
    "header that begins with a tab": get(headers=b"\tX: a\r\nHost: a\r\n"),
    "space before the colon": with_header(b"X : a"),
    "space in a header's name": with_header(b"X Y: a"),
    "header without a name": with_header(b": a"),
    "header without a colon": with_header(b"X"),
    "NUL in a value": with_header(b"X: a\0b"),
    "length twice": POST + b"Content-Length: 17\r\nContent-Length: 18\r\n\r\n" + BODY,
    "two lengths in one": POST + b"Content-Length: 17, 18\r\n\r\n" + BODY,
    "length with a sign": POST + b"Content-Length: +17\r\n\r\n" + BODY,
    "length in hexadecimal": POST + b"Content-Length: 0x11\r\n\r\n" + BODY,
    "empty length": POST + b"Content-Length: \r\n\r\n" + BODY,
    "length of 30 digits": POST + b"Content-Length: " + b"1" * 30 + b"\r\n\r\n" + BODY,
    "length and chunks": CHUNKED.replace(b"Host", b"Content-Length: 17\r\nHost") + b"11\r\n" + BODY + b"\r\n" + END,
    "chunks, then length": CHUNKED[:-2] + b"Content-Length: 5\r\n\r\n" + END,
    "chunks in HTTP/1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + END,
    "chunks twice": CHUNKED[:-2] + b"Transfer-Encoding: chunked\r\n\r\n" + END,
    "coding before chunks": CHUNKED.replace(b"chunked", b"gzip, chunked") + END,
    "coding after chunks": CHUNKED.replace(b"chunked", b"chunked, identity") + END,
    "coding nobody knows": CHUNKED.replace(b"chunked", b"xchunked") + END,
    "chunk of no number": CHUNKED + b"xyz\r\n" + END,
    "chunk of a negative number": CHUNKED + b"-1\r\n" + END,
    "chunk in hexadecimal with its prefix": CHUNKED + b"0x11\r\n" + BODY + b"\r\n" + END,
    "chunk longer than it says": CHUNKED + b"5\r\n" + BODY + b"\r\n" + END,
    "LF alone after a chunk's size": CHUNKED + b"11\n" + BODY + b"\r\n" + END,
    "LF alone after a chunk": CHUNKED + b"11\r\n" + BODY + b"\n" + END,
    "LF alone after the last chunk": CHUNKED + b"11\r\n" + BODY + b"\r\n0\r\n\n",
    "LF alone in the trailers": CHUNKED + b"11\r\n" + BODY + b"\r\n0\r\nX: a\nY: b\r\n\r\n",
    "chunk extension of 70 KB": CHUNKED + b"11;" + b"a" * 70_000 + b"\r\n" + BODY + b"\r\n" + END,
    "many chunk extensions": CHUNKED + (b"1;" + b"a" * 1_000 + b"\r\n \r\n") * 80 + b"11\r\n" + BODY + b"\r\n" + END,
}  # fmt: skip

TOO_LARGE = {
    "headers over 64 KiB": padded(65_537),
    "one long header": with_header(b"X: " + b"a" * 200_000),
    "many headers": with_header(b"X: a\r\n" * 20_000 + b"X: a"),
    "long path": get(b"/" + b"a" * 70_000),
    "trailers over 64 KiB": CHUNKED + b"11\r\n" + BODY + b"\r\n0\r\n" + b"X: a\r\n" * 20_000 + b"\r\n",
}


RAW = [*(data for data, _ in READ.values()), *REFUSED.values()] + [
    WHOLE,
    CHUNKED + b"11\r\n" + BODY + b"\r\n" + END,
] * 40


@pytest.mark.parametrize("case", READ)
def test_a_request_that_is_read_leaves_the_connection_open_for_the_next(server, case):
    data, status = READ[case]
    assert statuses(server, data) == [status, 200]


@pytest.mark.parametrize("case", REFUSED)
def test_nothing_is_read_behind_a_request_that_others_may_read_otherwise(server, case):
    assert statuses(server, REFUSED[case]) == [400]


@pytest.mark.parametrize("case", TOO_LARGE)
def test_headers_are_bounded_at_64_kib(server, case):
    assert statuses(server, TOO_LARGE[case]) == [431]


def test_pipelined_requests_are_answered_in_their_order(server):
    assert statuses(server, get() + WHOLE + get(b"/nothing") + WHOLE + get(method=b"PUT")) == [
        200,
        200,
        404,
        200,
        405,
        200,
    ]


@pytest.mark.parametrize("headers", [b"", b"Connection: keep-alive\r\n"])
def test_http_1_0_is_answered_once_and_closed(server, headers):
    assert statuses(server, get(version=b"HTTP/1.0", headers=headers)) == [200]


def test_a_body_is_asked_for_where_it_waits_and_never_where_it_is_refused(server):
    expecting = WHOLE[: -len(BODY)].replace(b"Host", b"Expect: 100-continue\r\nHost")
    with socket.create_connection(("127.0.0.1", server.port), timeout=15) as wire:
        wire.sendall(expecting)
        assert wire.recv(1000).startswith(b"HTTP/1.1 100 ")
        wire.sendall(BODY)
        assert wire.recv(1000).startswith(b"HTTP/1.1 200 ")
    with socket.create_connection(("127.0.0.1", server.port), timeout=15) as wire:
        wire.sendall(expecting.replace(b"json", b"xml"))
        with wire.makefile("rb") as answers:  # to its end: the body or the next request may follow, nobody could tell
            assert answers.read().startswith(b"HTTP/1.1 415 ")


def test_what_is_no_http_is_told_so_in_the_form_of_all_errors_and_counted(server):
    answer = server.send(REFUSED["folded header"])
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert "no valid HTTP/1.1: a line" in answer.json["error"]["message"]
    assert len(server.send(get(b"/" + b"a" * 60_000 + b"\0")).body) < 500
    assert (
        'contrastill_requests_total{endpoint="other",status="400"}'
        in server.ask("/metrics", method="GET").body.decode()
    )


# ---- requests changed at random (`python tests/fuzz/raw_requests.py 2000` sends more)


def embeds(server, folder):
    """A well-behaved client: asks for vectors; whether they are the bundle's own."""
    wanted = open_bundle(folder).run(["w1 w2", "w3"])
    return lambda: bool(
        np.allclose(server.ask("/embed", {"texts": ["w1 w2", "w3"]}).json["embeddings"], wanted, atol=1e-5)
    )


def test_changed_requests_are_answered_or_refused_while_others_get_their_vectors(bundle_folder, tmp_path):
    log = tmp_path / "log"
    server = Server(bundle_folder, log, "--read-timeout", "0.3", "--timeout", "5").wait_until_ready()
    found = send_all(server.port, [*mutations(RAW, seed=7, count=250)], embeds(server, bundle_folder))
    assert (found["faults"], found["wrong"]) == ([], 0)
    assert found["good"] > 5
    assert {"200", "400", "404", "415"} <= set(found["statuses"])
    assert server.ask("/health", method="GET").status == 200
    server.process.terminate()
    assert server.process.wait(20) == 0
    assert "Traceback" not in log.read_text()
    assert "ERROR" not in log.read_text()


def test_the_same_seed_changes_requests_alike():
    assert [*mutations(RAW, 5, 20)] == [*mutations(RAW, 5, 40)][:20]


def test_a_server_that_fails_is_seen():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def fail():
            for answer in (b"HTTP/1.1 500 x\r\n\r\n", b"HTTP/1.1 503 x\r\n\r\n"):
                with listener.accept()[0] as wire:
                    wire.recv(65536)
                    wire.sendall(answer)

        threading.Thread(target=fail).start()
        found = send_all(listener.getsockname()[1], [get(), get()], lambda: False)
    assert [statuses for statuses, _ in found["faults"]] == [["500"]]
    assert (found["statuses"], found["good"]) == ({"500": 1, "503": 1}, 0)
    assert found["wrong"] > 0
