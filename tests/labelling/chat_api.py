"""A server that speaks OpenAI's protocol: its answers, delays and faults are those of the test."""

import contextlib
import http.server
import json
import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

CLASSES = ("card", "login", "delivery")
TEXTS = [f"{name} question {n}" for n in range(4) for name in CLASSES]
KEY = "sk-SECRET-0123456789"

Respond = Callable[["Asked"], "tuple[int, Any] | tuple[int, Any, dict[str, str]]"]


class Asked:
    """A request: path, headers, body as JSON, its number, and the text that it is about."""

    def __init__(self, path: str, headers: Mapping[str, str], body: dict[str, Any], number: int) -> None:
        self.path, self.headers, self.body, self.number = path, headers, body, number

    @property
    def words(self) -> str:
        return str(self.body["messages"][0]["content"])

    @property
    def text(self) -> str:
        return re.findall(r"<text>\n(.*?)\n</text>", self.words, re.DOTALL)[-1]

    @property
    def codes(self) -> dict[str, str]:
        """Class -> code, as the question lists them."""
        return {name: code for code, name in re.findall(r"^(\w+)\. ([\w -]+)$", self.words, re.MULTILINE)}

    @property
    def right(self) -> str:
        """The class of one of TEXTS."""
        return self.text.split()[0]


def completion(said: str, logprobs: Any = None, usage: Any = (100, 2), finish: str = "stop") -> dict[str, Any]:
    found: dict[str, Any] = {"choices": [{"message": {"content": said}, "finish_reason": finish}], "model": "m-1"}
    if logprobs is not None:
        found["choices"][0]["logprobs"] = {"content": logprobs}
    if usage is not None:
        found["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return found


def token(text: str, top: Mapping[str, float]) -> dict[str, Any]:
    """A token with the probabilities of its place, as log-probabilities."""
    alternatives = [{"token": each, "logprob": math.log(p)} for each, p in top.items()]
    return {"token": text, "logprob": math.log(top[text]), "top_logprobs": alternatives}


def by_code(asked: Asked) -> tuple[int, Any]:
    """The right code with probability 0.7, the next one with 0.2."""
    codes = asked.codes
    others = [code for name, code in codes.items() if name != asked.right]
    top = {codes[asked.right]: 0.7, others[0]: 0.2, "The": 0.05}
    return 200, completion(codes[asked.right], [token(codes[asked.right], top)])


def by_name(asked: Asked) -> tuple[int, Any]:
    return 200, completion(asked.right.capitalize() + ".")


class Api:
    """A running server. requests: all that came, in order; most: requests at a time."""

    def __init__(self, respond: Respond) -> None:
        self.respond, self.requests, self.now, self.most = respond, list[Asked](), 0, 0
        self.lock = threading.Lock()
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with api.lock:
                    asked = Asked(self.path, dict(self.headers), body, len(api.requests))
                    api.requests.append(asked)
                    api.now += 1
                    api.most = max(api.most, api.now)
                try:
                    status, content, *more = api.respond(asked)
                finally:
                    with api.lock:
                        api.now -= 1
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **(more[0] if more else {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(data)

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def texts(self) -> list[str]:
        return [asked.text for asked in self.requests]


@contextlib.contextmanager
def api(respond: Respond) -> Iterator[Api]:
    running = Api(respond)
    try:
        yield running
    finally:
        running.server.shutdown()
        running.server.server_close()
