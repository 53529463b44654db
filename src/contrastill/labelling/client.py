"""One HTTP request to an endpoint, with its key.

`urllib.request` of the standard library: it takes proxies and certificates from the environment as other tools do, and
a library for requests would be one more package for a single POST.
"""

import email.utils
import http.client
import ipaddress
import json
import os
import re
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from contrastill import __version__
from contrastill.errors import UserError, first_line, quoted

__all__ = ["Client", "Refused", "Temporary", "address", "read_key"]

LARGEST = 1 << 24  # bytes of an answer
PART = 1 << 16
SHOWN = 300  # characters of a server's message
SECRET = 8  # characters of a key from which on it is one: local servers take "none"
DEFAULT = "OPENAI_API_KEY"
VISIBLE = re.compile(r"[!-~]+")
ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
BUSY = (408, 409, 425, 429)


class Refused(Exception):
    """The server refused a request; the same one would be refused again."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


class Temporary(Exception):
    """No answer, or a broken one; a later try may succeed.

    wait: seconds that the server asks to wait.
    """

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class Client:
    """Sends JSON to one address. The key goes into its header alone, and is taken out of all that comes back."""

    def __init__(self, url: str, key: str | None, timeout: float) -> None:
        self.url, self.timeout = url, timeout
        self.hidden = key if key and len(key) >= SECRET else None
        self.headers = {"Content-Type": "application/json", "User-Agent": f"contrastill/{__version__}"}
        if key:
            self.headers["Authorization"] = f"Bearer {key}"
        proxies = [urllib.request.ProxyHandler({})] if is_local(urlsplit(url).hostname) else []
        self.opener = urllib.request.build_opener(NoRedirect, *proxies)

    def post(self, content: dict[str, Any]) -> Any:
        """The JSON that the server answers.

        Raises:
            Refused: it refuses the request.
            Temporary: it could not be reached, is busy or broken, or answers no JSON.
        """
        body = json.dumps(content).encode()
        request = urllib.request.Request(self.url, body, self.headers, method="POST")
        try:
            with self.opener.open(request, timeout=self.timeout) as response:
                return self.parsed(self.read(response))
        except urllib.error.HTTPError as error:
            with error:
                raise self.refusal(error) from None
        except urllib.error.URLError as error:
            raise self.unreachable(error.reason) from None
        except TimeoutError:
            raise Temporary(f"no answer within {self.timeout:g} seconds") from None
        except (
            OSError,
            ValueError,
            http.client.HTTPException,
        ) as error:  # ValueError: a host or a redirect that is none
            raise Temporary(f"the connection broke ({self.clean(first_line(error))})") from None

    def read(self, response: Any) -> bytes:
        """A body, within the time and size of one."""
        end, body = time.monotonic() + self.timeout, bytearray()
        while part := response.read1(PART):
            body += part
            if len(body) > LARGEST:
                raise Temporary(f"the answer is longer than {LARGEST:,} bytes")
            if time.monotonic() > end:
                raise TimeoutError
        if (said := response.headers.get("Content-Length", "")).isdecimal() and len(body) < int(said):
            raise Temporary("the answer broke off")
        return bytes(body)

    def parsed(self, body: bytes) -> Any:
        try:
            return self.without_key(json.loads(body))
        except (ValueError, RecursionError):
            raise Temporary(f"the answer is no JSON: {self.shown(body)}") from None

    def refusal(self, error: urllib.error.HTTPError) -> Exception:
        """The error for a status that is no success."""
        try:
            body = self.read(error)
        except (OSError, http.client.HTTPException, Temporary):
            body = b""
        if 300 <= error.code < 400:
            to = self.clean(re.split(r"[?#]", error.headers.get("Location", ""))[0])
            return Refused(error.code, f"it redirects to {quoted(to, SHOWN)}, which is not followed; check --endpoint")
        message, code, wait = self.message(body), error.code, wait_of(error.headers.get("Retry-After"))
        if (code in BUSY or code >= 500) and b"insufficient_quota" not in body:  # OpenAI's 429 that waiting cannot help
            asked = f"; it asks to wait {wait:,.0f} seconds" if wait else ""
            return Temporary(f"{code}: {message}{asked}", wait)
        return Refused(code, message)

    def message(self, body: bytes) -> str:
        """A server's words about an error, bounded: of OpenAI's form, else of the body's beginning."""
        try:
            found = self.without_key(json.loads(body))
        except (ValueError, RecursionError):
            return self.shown(body)
        about = found.get("error", found) if isinstance(found, dict) else found
        words = [about.get(name) for name in ("message", "detail", "code")] if isinstance(about, dict) else [about]
        said = "; ".join(dict.fromkeys(word for word in words if isinstance(word, str) and word))
        return quoted(said, SHOWN) if said else quoted(json.dumps(found), SHOWN)

    def unreachable(self, reason: Any) -> Exception:
        if isinstance(reason, TimeoutError):
            return Temporary(f"no connection within {self.timeout:g} seconds")
        said = self.clean(first_line(reason) if isinstance(reason, BaseException) else str(reason))
        return Temporary(f"could not be reached ({said})")

    # ---- the key

    def shown(self, body: bytes) -> str:
        text = body.decode(errors="replace")
        if self.hidden:
            text = self.clean(ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text))
        return quoted(text, SHOWN) if body else "(no message)"

    def clean(self, text: str) -> str:
        return text.replace(self.hidden, "[key]") if self.hidden else text

    def without_key(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.clean(value)
        if isinstance(value, list):
            return [self.without_key(one) for one in value]
        if isinstance(value, dict):
            return {self.clean(name): self.without_key(one) for name, one in value.items()}
        return value


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the next host would be sent the key and the texts."""

    def redirect_request(self, *_: Any) -> None:
        return None


def wait_of(value: str | None) -> float | None:
    """The seconds of a Retry-After header: a number, or a date."""
    if value is None:
        return None
    if re.fullmatch(r"\s*\d{1,9}(\.\d{1,9})?\s*", value):
        return float(value)
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


# ---- where to, and with which key


def is_local(host: str | None) -> bool:
    """Whether a host's name is that of this machine."""
    if host == "localhost" or (host or "").endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def address(endpoint: str) -> str:
    """The address that requests go to: of an API's base, its chat completions; of `/predict`, itself.

    Raises:
        UserError: it is no address, or one with a key or another query in it.
    """
    refused = UserError(
        f"--endpoint: expected an address such as https://api.openai.com/v1 or http://localhost:8000/predict, got "
        f"{quoted(without_secrets(endpoint), SHOWN)}; check it"
    )
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        raise refused from None
    if not good or VISIBLE.fullmatch(endpoint) is None:
        raise refused
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UserError(
            "--endpoint: expected an address without user name, password, query and fragment; a key belongs into an "
            "environment variable (--key-variable)"
        )
    path = parts.path.rstrip("/")
    if not path.endswith(("/chat/completions", "/predict")):
        path = (path or "/v1") + "/chat/completions"
    return parts._replace(path=path).geturl()


def without_secrets(endpoint: str) -> str:
    """An address as given, without what may be a key in it."""
    return re.sub(r"//[^/?#]*@", "//[left out]@", re.split(r"[?#]", endpoint)[0])


def read_key(variable: str | None, url: str, plain_http: bool) -> tuple[str | None, str]:
    """The key of the environment (None: there is none), and the variable that has it. Errors never quote it.

    Raises:
        UserError: the variable that was asked for has none; it fits no header; it would go in clear to another machine.
    """
    name = variable or DEFAULT
    key = os.environ.get(name, "").strip()
    if not key:
        if variable is not None:
            raise UserError(  # the name is not quoted: it may be a key given by mistake
                "--key-variable: expected the name of an environment variable with a key, got none that is set; export "
                "it first"
            )
        return None, name
    if VISIBLE.fullmatch(key) is None:
        raise UserError(f"${name}: expected a key of visible ASCII characters, got others among them; export it again")
    if len(key) >= SECRET and key in url:
        raise UserError("--endpoint: expected an address without the key, got one with it; leave it out there")
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_local(parts.hostname) and not plain_http:
        raise UserError(
            f"--endpoint: expected https:// for the key in ${name}, got http://, by which others can read it on the "
            f"way; use https://, unset {name} if the server needs no key, or pass --plain-http"
        )
    return key, name
