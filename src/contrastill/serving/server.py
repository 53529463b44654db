"""One process that serves a bundle: a socket, the application, and an orderly end."""

import asyncio
import contextlib
import dataclasses
import ipaddress
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from contrastill.bundle import open_bundle
from contrastill.errors import UserError
from contrastill.serving.app import Service, make_app
from contrastill.serving.connections import HEADERS, Connections, Protocol, connections_allowed
from contrastill.serving.keys import FREE, read_keys
from contrastill.serving.page import curl, limits, url
from contrastill.settings import Serving

__all__ = ["serve"]

log = logging.getLogger(__name__)
GRACE = 1.0  # seconds for each of the first two steps of stopping
HANGUP: Any = getattr(signal, "SIGHUP", None)  # there is none on Windows


def serve(**given: Any) -> int:
    """Serves a bundle until a signal, then answers what it has taken. Settings: see `Serving`.

    Returns the exit code: 1 if requests were cut off.

    Raises:
        UserError: the keys cannot be read, the address not be listened on, or the bundle not be opened.
    """
    settings = Serving.given(given)
    keys = read_keys(settings.api_key_file)
    allowed = connections_allowed(settings.max_connections)
    fewer, settings = allowed < settings.max_connections, within(settings, allowed)
    with listening_socket(settings.host, settings.port, settings.timeout) as listener:
        # the clients' requests are read and answered on the same cores
        bundle = open_bundle(settings.bundle, threads=settings.threads, workers=settings.workers, spin=False)
        app = make_app(bundle, settings, keys=keys)
        service: Service = app.state.service
        bundle.run([("warm", "up")] if service.pairs else ["warm up"])
        start_log()
        host, port = listener.getsockname()[:2]
        here = url(host, port)
        log.info("serving url=%s model=%s task=%s runtime=%s precision=%s threads=%s workers=%d", here, bundle.name,
                 bundle.task, bundle.runtime, bundle.precision, bundle.threads, settings.workers)  # fmt: skip
        log.info("limits %s", "; ".join(f"{name}: {value}" for name, value in limits(bundle, settings).items()))
        if fewer:
            log.warning("connections limit=%d the process may open no more files (ulimit -n)", allowed)
        log.info("example %s", curl(bundle, here, keyed=keys is not None))
        if keys:
            log.info("keys count=%d each request but %s needs one", len(keys), " and ".join(FREE))
        if not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
            log.warning("open address=%s others can reach this server, and %s: see the chapter on security in "
                        "docs/serve.md", host, "keys and texts are not encrypted on their way" if keys else
                        "it asks nobody who they are")  # fmt: skip
        Draining(app).run(sockets=[listener])
        log.info("stopped cut_off=%d", service.cut_off)
        return 1 if service.cut_off else 0


def within(settings: Serving, connections: int) -> Serving:
    """The settings for as many connections. Some are kept from requests that compute, so that others are answered."""
    requests = min(settings.max_requests, connections - max(1, connections // 8))
    return dataclasses.replace(settings, max_connections=connections, max_requests=requests)


class Draining(uvicorn.Server):
    """Stops in three steps: says so in every answer; takes no new connection; closes those without a request.

    A client that keeps its connection, or has just made one, may be sending its request at the very moment of the
    signal. To close that connection would lose the request. So every answer says `Connection: close` from then on, and
    what is left after a while is idle. Without connections nothing is waited for.
    """

    def __init__(self, app: Starlette) -> None:
        self.service: Service = app.state.service
        self.signalled = 0.0
        settings = self.service.settings
        self.watch = Connections(settings, self.service.metrics)
        self.answerer = partial(Protocol, self.watch)
        wider: dict[str, Any] = {  # than uvicorn's annotations: what makes a protocol, fractions of a second
            "http": self.answerer,
            "timeout_keep_alive": settings.keep_alive,
        }
        config = uvicorn.Config(
            app,
            **wider,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=max(1, round(settings.drain)),
            h11_max_incomplete_event_size=HEADERS,
        )
        super().__init__(config)
        self.service.metrics.open.set_function(lambda: len(self.server_state.connections))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.signalled and sig == HANGUP:  # a terminal that closes may send it twice, systemd after its SIGTERM
            return
        if self.signalled:  # a second signal: leave at once, in the middle of a batch too
            log.info("stopped cut_off=%d", self.service.active)
            os._exit(1 if self.service.active else 0)
        self.signalled = time.monotonic()
        self.service.draining = True
        log.info("draining signal=%s active=%d", signal.Signals(sig).name, self.service.active)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The signals of uvicorn, and SIGHUP unless the process was started to outlive its terminal (nohup)."""
        with super().capture_signals():
            here = HANGUP and threading.current_thread() is threading.main_thread()
            if here and signal.getsignal(HANGUP) is not signal.SIG_IGN:
                signal.signal(HANGUP, self.handle_exit)
            yield

    async def on_tick(self, counter: int) -> bool:
        self.watch.sweep()
        if self.signalled and (not self.server_state.connections or time.monotonic() - self.signalled > GRACE):
            return True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        waiting = [connection for listener in sockets or [] for connection in accepted(listener)]
        for server in self.servers:
            server.close()
        for connection in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self.protocol, connection)
        closed = time.monotonic()
        while self.server_state.connections and time.monotonic() - closed < GRACE:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)

    def protocol(self) -> asyncio.Protocol:
        """The protocol of a connection, made as uvicorn makes it for those that it accepts itself."""
        return self.answerer(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


def accepted(listener: socket.socket) -> list[socket.socket]:
    """The connections that the system has made already; to close the listener would reset them."""
    found = []
    listener.setblocking(False)
    with contextlib.suppress(OSError):
        while True:
            found.append(listener.accept()[0])
    return found


def listening_socket(host: str, port: int, patience: float) -> socket.socket:
    """A socket that listens on the address, before anything slow is done.

    patience: after how many seconds a client that takes nothing of its answer is cut off (on Linux).

    Raises:
        UserError: the port is taken, or the address is not this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise UserError(f"--host {host}: expected a name or address of this machine ({error})") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(patience * 1000))
        listener.bind(address)
        listener.listen()  # until then another server may bind the same address, and uvloop would not notice
    except OSError as error:
        listener.close()
        raise UserError(
            f"cannot listen on {host} port {port}: {error.strerror}. Choose another with --port, or 0 for any free one"
        ) from None
    return listener


def start_log() -> None:
    """A line an event on standard error: time, level, event, key=value."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s.%(msecs)03d %(levelname)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
        force=True,
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # its warnings are of what clients send: a line for each
