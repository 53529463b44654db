"""The server's description: OpenAPI for programs, a page without scripts or outside resources for people."""

import html
import json
from typing import Any

import msgspec

import contrastill
from contrastill.bundle import Bundle
from contrastill.serving.keys import FREE, VARIABLE
from contrastill.serving.requests import Embed, EmbedPairs, OpenAIEmbeddings, Predict, PredictPairs
from contrastill.settings import Serving

__all__ = ["curl", "endpoints", "limits", "openapi", "page", "url"]

READ = {
    "/health": "whether the process is alive",
    "/ready": "whether it takes requests: 503 while it shuts down",
    "/metrics": "Prometheus' text format",
    "/v1/models": "the model's name",
    "/openapi.json": "this description for programs",
}

REQUESTS: dict[str, tuple[type, type]] = {"/predict": (Predict, PredictPairs), "/embed": (Embed, EmbedPairs)}
"""Path -> what it takes of a model of single texts, and of one of pairs."""


def endpoints(bundle: Bundle) -> dict[str, type]:
    """The paths that compute, and what each takes."""
    path = bundle.answer.endpoint
    kind = REQUESTS[path][bundle.texts - 1]
    return {path: kind, **({"/v1/embeddings": OpenAIEmbeddings} if kind is Embed else {})}


def limits(bundle: Bundle, settings: Serving) -> dict[str, str]:
    return {
        "texts in a request": f"{settings.max_texts}",
        "characters in a text": f"{settings.max_characters:,}",
        "tokens the model reads of a text": f"{bundle.max_length}, the rest is cut off"
        if not bundle.answer.per_word
        else f"all, in overlapping parts of {bundle.max_length}",
        "body": f"{settings.max_body_mb:g} MB",
        "texts that wait": f"{settings.queue}",
        "connections": f"{settings.max_connections}",
        "requests at once": f"{settings.max_requests}",
        "seconds for headers, and for a body": f"{settings.read_timeout:g}",
        "seconds for an answer": f"{settings.timeout:g}",
    }


def url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def curl(bundle: Bundle, url: str, *, keyed: bool) -> str:
    body = json.dumps({"texts": [["a text", "its pair"]] if bundle.texts == 2 else ["a text"]})
    key = f' -H "Authorization: Bearer ${VARIABLE}"' if keyed else ""
    return f"curl {url}{bundle.answer.endpoint}{key} -H 'Content-Type: application/json' -d '{body}'"


def openapi(bundle: Bundle, settings: Serving, *, keyed: bool) -> dict[str, Any]:
    kinds = endpoints(bundle)
    (schemas, components) = msgspec.json.schema_components(kinds.values(), ref_template="#/components/schemas/{name}")
    keyless = {"401": "no key"} if keyed else {}
    refusals = {
        "400": "malformed", **keyless, "404": "no such path or model", "413": "over a limit", "415": "not JSON",
        "429": "the queue is full", "503": "no answer in time",
    }  # fmt: skip
    paths: dict[str, Any] = {
        path: {
            "post": {
                "summary": (kind.__doc__ or "").strip(),
                "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
                "responses": {code: {"description": what} for code, what in {"200": "OK", **refusals}.items()},
            }
        }
        for (path, kind), schema in zip(kinds.items(), schemas, strict=True)
    }
    paths |= {
        path: {"get": {"summary": what, "responses": {"200": {"description": "OK"}}}} for path, what in READ.items()
    }
    about = "; ".join(f"{name}: {value}" for name, value in limits(bundle, settings).items())
    info = {"title": bundle.name, "version": contrastill.__version__, "description": f"Limits. {about}."}
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": info,
        "paths": paths,
        "components": {"schemas": components},
    }
    if keyed:
        described["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"key": []}]
        for path in FREE:
            paths[path]["get"]["security"] = []
    return described


def page(bundle: Bundle, settings: Serving, url: str, *, keyed: bool) -> str:
    posts = "".join(
        f"<li><code>POST {path}</code> {html.escape((kind.__doc__ or '').strip())}</li>"
        for path, kind in endpoints(bundle).items()
    )
    gets = "".join(f'<li><a href="{path}"><code>GET {path}</code></a> {what}</li>' for path, what in READ.items())
    bounds = "".join(f"<li>{name}: {value}</li>" for name, value in limits(bundle, settings).items())
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(bundle.name)}</title>"
        f"<h1>{html.escape(bundle.name)}</h1><p>{bundle.task}, {bundle.runtime}, {bundle.precision}</p>"
        f"<pre>{html.escape(curl(bundle, url, keyed=keyed))}</pre>"
        f"<h2>Endpoints</h2><ul>{posts}{gets}</ul><h2>Limits</h2><ul>{bounds}</ul></html>"
    )
