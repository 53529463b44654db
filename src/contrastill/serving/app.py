"""The application: endpoints over a batcher, as ASGI, for whichever server or cluster runs it."""

import asyncio
import contextlib
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contrastill.bundle import Bundle
from contrastill.serving.batching import Batcher, Failed, Full, Text
from contrastill.serving.keys import FREE, Keys
from contrastill.serving.metrics import Metrics
from contrastill.serving.page import endpoints, openapi, page, url
from contrastill.serving.requests import (
    Embed,
    EmbedPairs,
    OpenAIEmbeddings,
    Predict,
    PredictPairs,
    Refusal,
    check_texts,
    decode,
    encode,
    openai_texts,
    packed,
    read_body,
    shortened,
)
from contrastill.settings import Serving

__all__ = ["Service", "make_app"]

log = logging.getLogger(__name__)
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
CLOSED_BY_CLIENT = 499  # nobody reads it but the metrics
HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 408: {"Connection": "close"}}
"""Status of a refusal -> headers of its answer."""
TOO_MANY = Refusal(503, "too many requests at once; send again later", code="too_many_requests", retry=True)
NO_KEY = Refusal(
    401, "expected the header 'Authorization: Bearer KEY' with a key of this server", code="invalid_api_key"
)
CUT_OFF = Refusal(503, "the server stopped before the answer was ready; send again", code="draining", retry=True)


class Row(NamedTuple):
    """Result for a text: the model's output, the tokens read, and whether the text was cut."""

    output: np.ndarray
    tokens: int
    truncated: bool


class Service:
    """A bundle, its batcher, and the endpoints of its task."""

    def __init__(self, bundle: Bundle, settings: Serving, keys: Keys | None) -> None:
        self.bundle, self.settings, self.keys = bundle, settings, keys
        self.batcher = Batcher(
            self.compute,
            max_batch=settings.max_batch,
            max_wait=settings.max_wait_ms / 1000,
            room=settings.queue,
            workers=settings.workers,
        )
        self.metrics = Metrics(bundle.name, lambda: self.batcher.waiting)
        self.active = self.cut_off = 0  # requests in hand; those that the end of the server cut off
        self.draining = False
        self.started = int(time.time())
        self.pairs = bundle.texts == 2
        example = '[["a text", "its pair"], ...]' if self.pairs else '["a text", ...]'
        self.expected = f'{{"texts": {example}}}'

    # ---- the model, in a thread

    def compute(self, texts: Any) -> list[Row]:
        try:
            start = time.perf_counter()
            read = self.bundle.read(texts) if self.bundle.answer.per_word else self.bundle.tokenize(texts)
            middle = time.perf_counter()
            outputs = self.bundle.compute(read) if isinstance(read, dict) else self.bundle.tag(read)
            end = time.perf_counter()
        except Exception:
            self.metrics.failures.inc()
            log.exception("batch_failed texts=%d", len(texts))
            raise
        if isinstance(read, dict):
            tokens = read["attention_mask"].sum(axis=1).tolist()
            truncated = [n >= self.bundle.max_length and self.cut(text) for n, text in zip(tokens, texts, strict=True)]
        else:
            tokens, truncated = [sum(len(part.ids) for part in one.windows) for one in read], [False] * len(texts)
        self.metrics.batches.observe(len(texts))
        self.metrics.stages.labels("tokenize").inc(middle - start)
        self.metrics.stages.labels("compute").inc(end - middle)
        self.metrics.texts.inc(len(texts))
        self.metrics.tokens.inc(sum(tokens))
        self.metrics.truncated.inc(sum(truncated))
        self.metrics.abstained.inc(int(self.bundle.answer.abstains(outputs).sum()))
        return [Row(*each) for each in zip(outputs, tokens, truncated, strict=True)]

    def cut(self, text: Text) -> bool:
        """Whether a text that fills the model's tokens went on; asked of few, as it tokenizes again."""
        parts = (self.bundle.metadata.get("prompt", "") + text,) if isinstance(text, str) else text
        return bool(self.bundle.tokenizer.encode(*parts).overflowing)

    async def rows(self, request: Request, texts: Any) -> list[Row]:
        """The rows of a request's texts.

        Raises:
            Refusal: the queue is full, the time is up, or the batch could not be computed.
            ClientDisconnect: the client left; what was not yet computed is dropped.
        """
        work = asyncio.ensure_future(self.batcher.run(texts))
        left = asyncio.ensure_future(client_left(request))
        try:
            await asyncio.wait({work, left}, timeout=self.settings.timeout, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            if left.done():
                raise ClientDisconnect
            raise Refusal(503, f"no answer within {self.settings.timeout:g} seconds", code="timeout", retry=True)
        except Full:
            message = (
                f"{self.batcher.waiting} texts are waiting, the queue holds {self.settings.queue}; send again later"
            )
            raise Refusal(429, message, code="queue_full", retry=True) from None
        except Failed as error:
            raise Refusal(500, f"{error}; the log has the reason", code="batch_failed") from None
        finally:
            work.cancel()
            left.cancel()

    # ---- endpoints

    async def read(self, request: Request, kind: type, expected: str) -> Any:
        body = await read_body(request, int(self.settings.max_body_mb * 1e6), self.settings.read_timeout)
        asked = decode(body, kind, expected=expected)
        if asked.model is not None and asked.model != self.bundle.name:
            raise Refusal(
                404,
                f"the model {asked.model[:200]!r} is not here; this server has {self.bundle.name!r}",
                param="model",
                code="model_not_found",
            )
        return asked

    async def predict(self, request: Request) -> Response:
        asked = await self.read(request, PredictPairs if self.pairs else Predict, self.expected)
        rows = await self.rows(request, check_texts(asked.texts, self.settings))
        found = [self.bundle.answer.record(row.output, asked.top, asked.probabilities) for row in rows]
        return answer({"model": self.bundle.name, "predictions": found, "usage": usage(rows)})

    async def embed(self, request: Request) -> Response:
        asked = await self.read(request, EmbedPairs if self.pairs else Embed, self.expected)
        rows = await self.rows(request, check_texts(asked.texts, self.settings))
        return answer(
            {
                "model": self.bundle.name,
                "embeddings": [packed(row.output, asked.encoding_format) for row in rows],
                "dimensions": self.bundle.dimensions,
                "usage": usage(rows),
            }
        )

    async def openai_embeddings(self, request: Request) -> Response:
        asked = await self.read(request, OpenAIEmbeddings, '{"model": "...", "input": "a text" or ["a text", ...]}')
        width, wanted = self.bundle.dimensions or 0, asked.dimensions
        if wanted not in (None, width) and not (self.bundle.ordered and 1 <= (wanted or 0) <= width):
            may = f"can be cut to 1 to {width}" if self.bundle.ordered else "cannot be shortened"
            raise Refusal(400, f"this model's vectors have {width} dimensions and {may}", param="dimensions")
        rows = await self.rows(request, check_texts(openai_texts(asked), self.settings, field="input"))
        tokens = sum(row.tokens for row in rows)
        return answer(
            {
                "object": "list",
                "data": [
                    {
                        "object": "embedding",
                        "index": place,
                        "embedding": packed(shortened(row.output, wanted), asked.encoding_format),
                    }
                    for place, row in enumerate(rows)
                ],
                "model": self.bundle.name,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )

    async def models(self, request: Request) -> Response:
        model = {"id": self.bundle.name, "object": "model", "created": self.started, "owned_by": "contrastill"}
        return answer({"object": "list", "data": [model]})

    async def health(self, request: Request) -> Response:
        return answer({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        if self.draining:
            raise Refusal(503, "the server is shutting down", code="draining", retry=True)
        about = {} if self.keys else {"model": self.bundle.name, "task": self.bundle.task}
        return answer({"status": "ready", **about})

    async def show_metrics(self, request: Request) -> Response:
        return Response(self.metrics.page(), media_type=self.metrics.content_type)

    async def show_openapi(self, request: Request) -> Response:
        return answer(openapi(self.bundle, self.settings, keyed=self.keys is not None))

    async def show_page(self, request: Request) -> Response:
        host, port = request.scope.get("server") or (self.settings.host, self.settings.port)
        return HTMLResponse(page(self.bundle, self.settings, url(host, port), keyed=self.keys is not None))

    def routes(self) -> list[Route]:
        answers = {"/predict": self.predict, "/embed": self.embed, "/v1/embeddings": self.openai_embeddings}
        mine = {path: answers[path] for path in endpoints(self.bundle)}
        others = set(answers) - set(mine)
        read = {
            "/": self.show_page,
            "/health": self.health,
            "/ready": self.ready,
            "/metrics": self.show_metrics,
            "/openapi.json": self.show_openapi,
            "/v1/models": self.models,
        }
        return [
            *(Route(path, each, methods=["POST"]) for path, each in mine.items()),
            *(Route(path, self.other_task(" or ".join(mine)), methods=["POST"]) for path in sorted(others)),
            *(Route(path, each, methods=["GET"]) for path, each in read.items()),
        ]

    def other_task(self, instead: str) -> Callable[[Request], Awaitable[Response]]:
        async def refuse(request: Request) -> Response:
            raise Refusal(
                404,
                f"{self.bundle.name!r} answers {self.bundle.answer.words}: call {instead} instead",
                code="other_task",
            )

        return refuse


def make_app(bundle: Bundle, settings: Serving, *, keys: Keys | None = None, echo_ids: bool = True) -> Starlette:
    """The ASGI application that serves a bundle. `app.state.service` is the service behind it.

    keys: one of them must come with each request but those for the free paths; None: the application is open.
    echo_ids: whether answers have the request's id in their headers; not where what is in front sees to that.
    """
    service = Service(bundle, settings, keys)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        service.batcher.close()

    app = Starlette(
        routes=service.routes(),
        lifespan=lifespan,
        exception_handlers={Refusal: refused, HTTPException: not_routed, ClientDisconnect: client_gone},
    )
    app.router.redirect_slashes = False
    app.state.service = service
    app.add_middleware(Observed, service=service, echo_ids=echo_ids)
    return app


class Observed:
    """Around every request: its key, id, count and time, and while the server drains the word that it closes."""

    def __init__(self, app: ASGIApp, service: Service, echo_ids: bool) -> None:
        self.app, self.service, self.echo_ids = app, service, echo_ids
        self.paths = {route.path for route in service.routes()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        metrics, start, status = self.service.metrics, time.perf_counter(), CLOSED_BY_CLIENT
        endpoint = scope["path"] if scope["path"] in self.paths else "other"
        said = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = said if REQUEST_ID.fullmatch(said) else uuid.uuid4().hex

        async def send_more(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self.echo_ids:
                    message["headers"].append((b"x-request-id", request_id.encode()))
                if self.service.draining:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        keys = self.service.keys
        if keys is not None and scope["path"] not in FREE and not keys.let_in(scope["headers"]):
            metrics.requests.labels(endpoint, "401").inc()
            return await refusal(NO_KEY)(scope, receive, send_more)  # before its body; it is in nobody's way
        self.service.active += 1
        metrics.active.inc()
        try:
            # what only reads is answered always: a liveness probe must not end a server that is merely busy
            if self.service.active <= self.service.settings.max_requests or scope["method"] != "POST":
                await self.app(scope, receive, send_more)
            else:
                await refusal(TOO_MANY)(scope, receive, send_more)
        except asyncio.CancelledError:
            self.service.cut_off += 1
            if not self.service.draining or status != CLOSED_BY_CLIENT:
                raise
            await refusal(CUT_OFF)(scope, receive, send_more)  # the time for the end is up
        finally:
            self.service.active -= 1
            metrics.active.dec()
            metrics.requests.labels(endpoint, str(status)).inc()
            metrics.seconds.labels(endpoint).observe(time.perf_counter() - start)
            if status >= 500 and not (status == 503 and endpoint == "/ready"):
                log.warning("request_failed id=%s endpoint=%s status=%d", request_id, endpoint, status)


# ---- answers


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(encode(content), status, headers, media_type="application/json")


def usage(rows: list[Row]) -> dict[str, int]:
    return {"tokens": sum(row.tokens for row in rows), "truncated": sum(row.truncated for row in rows)}


def refusal(error: Refusal) -> Response:
    headers = {"Retry-After": "1"} if error.retry else HEADERS.get(error.status)
    return answer(error.as_dict(), error.status, headers)


async def refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return refusal(error)


async def not_routed(request: Request, error: Exception) -> Response:
    """No such path, or another method."""
    assert isinstance(error, HTTPException)
    path = request.scope["path"][:200]
    if error.status_code == 405:
        allowed = ", ".join(sorted((error.headers or {}).get("Allow", "other methods").split(", ")))
        found = Refusal(405, f"{path} takes {allowed}, not {request.method[:20]}")
    else:
        found = Refusal(error.status_code, f"there is no {path} here; GET / lists what there is")
    return answer(found.as_dict(), found.status, dict(error.headers or {}))


async def client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLOSED_BY_CLIENT)


async def client_left(request: Request) -> None:
    """Returns when the client closes the connection; the body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
