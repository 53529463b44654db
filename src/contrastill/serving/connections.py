"""Connections: HTTP/1.1 read strictly, a clock on what clients send and take, and a bound on how many there are."""

import http
import itertools
import logging
import re
import time
from collections import OrderedDict
from typing import Any

import h11
from h11._receivebuffer import ReceiveBuffer
from uvicorn.protocols.http.h11_impl import H11Protocol

from contrastill.errors import UserError
from contrastill.serving.metrics import Metrics
from contrastill.serving.requests import Refusal, encode
from contrastill.settings import Serving

__all__ = ["HEADERS", "Connections", "Protocol", "connections_allowed"]

log = logging.getLogger(__name__)
HEADERS = 64 * 1024
"""Bytes of a request's line and headers; the same for what frames a body in chunks."""
CHUNK = 16
"""Bytes that frame a chunk, beyond which they count as extensions."""
SPARE = 64
"""Files a process opens beside its connections: the model's, the log, the runtimes'."""
AT_A_TIME = 25
"""Connections ended in one go, ten times a second."""
WARNED = 60.0
"""Seconds between two warnings of one kind."""

LOOSE_LINE = re.compile(rb"(?<!\r)\n|\n[ \t]")
HOST = re.compile(rb"[\w.~!$&'()*+,;=:%\[\]-]*")
ABSOLUTE = re.compile(rb"https?://([^/?#]+)(.*)", re.IGNORECASE | re.DOTALL)


def connections_allowed(wanted: int) -> int:
    """How many connections the process can hold: `wanted`, or fewer where its limit of open files is low.

    Raises:
        UserError: the limit leaves no room for any.
    """
    try:
        import resource
    except ImportError:  # not POSIX
        return wanted
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY or wanted <= files - SPARE:
        return wanted
    if files - SPARE < 8:
        raise UserError(f"expected a limit of at least {SPARE + 8} open files (ulimit -n), got {files}; raise it")
    return files - SPARE


# ---- reading


class Lines(ReceiveBuffer):
    """h11's buffer. Lines end with CRLF and nothing else, and are bounded where they come at once, too.

    A line that two servers end at different places is how a request is smuggled past the first of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.extensions = 0

    def maybe_extract_lines(self) -> list[bytearray] | None:
        if self._data.startswith(b"\r\n"):  # no line at all; what follows is not of this message
            return super().maybe_extract_lines()
        start = self._multiple_lines_search
        end = self._data.find(b"\r\n\r\n", start) + 2
        size = end if end > 1 else len(self._data)
        if LOOSE_LINE.search(self._data, start, size):
            raise h11.LocalProtocolError("a line that ends without CR, or that begins with a space")
        if size > HEADERS:
            raise h11.LocalProtocolError(f"the headers are longer than {HEADERS:,} bytes", error_status_hint=431)
        lines = super().maybe_extract_lines()
        if lines is None:
            self._multiple_lines_search = max(0, len(self._data) - 3)
        return lines

    def maybe_extract_next_line(self) -> bytearray | None:
        line = super().maybe_extract_next_line()
        self.extensions += max(0, len(line or b"") - CHUNK)
        if self.extensions > HEADERS:
            raise h11.LocalProtocolError(f"chunk extensions longer than {HEADERS:,} bytes")
        return line


class Strict(h11.Connection):
    """HTTP/1.1 as h11 reads it, without what it lets pass."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, HEADERS)
        self._receive_buffer: Lines = Lines()
        self.error: h11.RemoteProtocolError | None = None

    @property
    def unread(self) -> int:
        return len(self._receive_buffer)

    def next_event(self) -> Any:
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                self._receive_buffer.extensions = 0
                return checked(event)
            return event
        except h11.RemoteProtocolError as error:
            self.error = error
            raise


def checked(request: h11.Request) -> h11.Request:
    """The request with a path as its target.

    Raises:
        h11.RemoteProtocolError: a version, a framing, a host or a target that another server may read otherwise.
    """
    if request.http_version not in (b"1.0", b"1.1"):
        raise h11.RemoteProtocolError("expected HTTP/1.1")
    framed = set()
    for name, value in request.headers:
        if name in (b"content-length", b"transfer-encoding"):
            framed.add(name)
        elif name == b"host" and not HOST.fullmatch(value):
            raise h11.RemoteProtocolError("the Host header names no host")
    if len(framed) == 2 or (b"transfer-encoding" in framed and request.http_version == b"1.0"):
        raise h11.RemoteProtocolError(
            "expected a Content-Length or a Transfer-Encoding of HTTP/1.1, got both or neither"
        )
    if request.target.startswith(b"/") or (request.method, request.target) == (b"OPTIONS", b"*"):
        return request
    whole = ABSOLUTE.fullmatch(request.target)
    if whole is None or not HOST.fullmatch(whole[1]):
        raise h11.RemoteProtocolError("expected a path or an http:// address")
    target = whole[2] if whole[2].startswith(b"/") else b"/" + whole[2]
    return h11.Request(method=request.method, target=target, headers=request.headers, http_version=request.http_version)


# ---- the connections of a server


class Connections:
    """What each connection waits for, the longest first.

    waiting: nothing has come, or a request in part; silent: kept after an answer; full: its client takes nothing.
    A connection with a request in hand is in none of them.
    """

    def __init__(self, settings: Serving, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.waiting: OrderedDict[Protocol, float] = OrderedDict()
        self.silent: OrderedDict[Protocol, float] = OrderedDict()
        self.full: OrderedDict[Protocol, float] = OrderedDict()
        self.counts = dict.fromkeys(("refused", "timed_out", "dropped"), 0)
        self.warned = dict.fromkeys(self.counts, -WARNED)

    def put(self, one: "Protocol", where: "OrderedDict[Protocol, float] | None") -> None:
        """Its time begins where it was elsewhere before."""
        if one.where is not where:
            if one.where is not None:
                del one.where[one]
            if where is not None:
                where[one] = time.monotonic()
            one.where = where

    def make_room(self, newcomer: "Protocol") -> None:
        """For one more than may be: the connection that has been silent longest gives way, else the newcomer."""
        fronts = [next(iter(each.items())) for each in (self.waiting, self.silent) if each]
        oldest = min(fronts, key=lambda front: front[1])[0]
        if oldest is newcomer and self.full:
            oldest = next(iter(self.full))
        if oldest is newcomer:
            self.count("refused")
            newcomer.refuse(503, "too many connections; send again later", retry=True)
        else:
            self.count("dropped")
            oldest.transport.abort()
            self.put(oldest, None)

    def sweep(self) -> None:
        """Ends those whose time is up, a few at a time so that others are answered between, and warns of it."""
        now = time.monotonic()
        for where, seconds in ((self.waiting, self.settings.read_timeout), (self.full, self.settings.timeout)):
            for late, since in list(itertools.islice(where.items(), AT_A_TIME)):
                if since > now - seconds:
                    break
                self.count("timed_out")
                if where is self.waiting and late.conn.unread:
                    late.refuse(408, f"the headers did not come within {seconds:g} seconds")
                else:
                    late.transport.abort()
                    self.put(late, None)
        for what, count in self.counts.items():
            if count and now - self.warned[what] >= WARNED:
                log.warning("connections_%s count=%d limit=%d", what, count, self.settings.max_connections)
                self.counts[what], self.warned[what] = 0, now

    def count(self, what: str) -> None:
        self.counts[what] += 1
        self.metrics.connections.labels(what).inc()


class Protocol(H11Protocol):
    """A connection: uvicorn's, with the strict reader and under the clock."""

    conn: Strict
    where: OrderedDict["Protocol", float] | None = None

    def __init__(self, watch: Connections, **given: Any) -> None:
        super().__init__(**given)
        self.watch, self.conn = watch, Strict()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.watch.put(self, self.watch.waiting)
        if len(self.connections) > self.watch.settings.max_connections:
            self.watch.make_room(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.watch.put(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.settle()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.settle()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.settle()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY and not self.in_hand and self.expects_100():
            self.transport.close()  # the client may send the body that was refused, or its next request instead
        self.settle()

    @property
    def in_hand(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def expects_100(self) -> bool:
        return any(name == b"expect" for name, _ in self.cycle.scope["headers"])

    def settle(self) -> None:
        """Registers what the connection waits for now."""
        watch = self.watch
        if self.transport.is_closing() or self.flow.write_paused:
            watch.put(self, watch.full)
        elif self.in_hand:
            watch.put(self, None)
        elif self.conn.their_state is h11.IDLE and not self.conn.unread:
            watch.put(self, watch.silent)
        else:
            watch.put(self, watch.waiting)

    def send_400_response(self, msg: str) -> None:
        error = self.conn.error
        assert error is not None
        self.refuse(431 if error.error_status_hint == 431 else 400, f"no valid HTTP/1.1: {str(error)[:200]}")

    def refuse(self, status: int, message: str, *, retry: bool = False) -> None:
        """Answers, if it can still be answered, and ends the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = encode(Refusal(status, message, retry=retry).as_dict())
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
            reason = http.HTTPStatus(status).phrase
            answer = h11.Response(status_code=status, headers=[*headers.items()], reason=reason)
            for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
            self.watch.metrics.requests.labels("other", str(status)).inc()
        if self.in_hand:  # its application must not answer a second time
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
        self.settle()
