"""Forms of requests, and every refusal of one."""

import asyncio
import base64
import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct
from starlette.requests import Request

from contrastill.serving.batching import Text
from contrastill.settings import Serving

__all__ = [
    "Embed",
    "EmbedPairs",
    "OpenAIEmbeddings",
    "Predict",
    "PredictPairs",
    "Refusal",
    "check_texts",
    "decode",
    "encode",
    "openai_texts",
    "packed",
    "read_body",
    "shortened",
]


class Refusal(Exception):
    """A refusal of a request: its status, the reason, and the field at fault."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry: bool = False
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.retry = status, message, param, code, retry

    def as_dict(self) -> dict[str, Any]:
        """The body of the answer, in the form of OpenAI's errors."""
        kind = "overloaded_error" if self.retry else "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


# ---- what is asked


class Predict(Struct, forbid_unknown_fields=True):
    """Labels, scores or entities of single texts."""

    texts: list[str]
    top: Annotated[int, Meta(ge=1)] = 1
    probabilities: bool = False
    model: str | None = None


class PredictPairs(Struct, forbid_unknown_fields=True):
    """Labels or scores of pairs of texts."""

    texts: list[tuple[str, str]]
    top: Annotated[int, Meta(ge=1)] = 1
    probabilities: bool = False
    model: str | None = None


class Embed(Struct, forbid_unknown_fields=True):
    """Vectors of single texts."""

    texts: list[str]
    encoding_format: Literal["float", "base64"] = "float"
    model: str | None = None


class EmbedPairs(Struct, forbid_unknown_fields=True):
    """Vectors of pairs of texts."""

    texts: list[tuple[str, str]]
    encoding_format: Literal["float", "base64"] = "float"
    model: str | None = None


class OpenAIEmbeddings(Struct, forbid_unknown_fields=True):
    """OpenAI's request for embeddings."""

    input: str | list[str | int | list[int]]
    model: str
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None


DECODERS: dict[type, msgspec.json.Decoder] = {
    kind: msgspec.json.Decoder(kind) for kind in (Predict, PredictPairs, Embed, EmbedPairs, OpenAIEmbeddings)
}
encode = msgspec.json.Encoder().encode
PLACE = re.compile(r" - at `\$\.(\w{1,20})[^`]*`$")
"""Where a message of msgspec names the field."""
ESCAPE = re.compile(rb"\\(?:u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w|(u[dD][89a-fA-F]\w\w)|.)", re.DOTALL)
"""An escape in JSON; the group is half of a surrogate pair without the other half."""
ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
"""Escapes by which a body can write a field's name without having its bytes."""


# ---- reading


async def read_body(request: Request, limit: int, seconds: float) -> bytes:
    """The request's body, held to `limit` bytes while it comes in, whether it says its length or not.

    Raises:
        Refusal: it is not JSON by its own word, or longer than the limit, or slow in coming.
        ClientDisconnect: the client left.
    """
    check_kind(request)
    too_long = Refusal(
        413, f"the body is longer than the {limit:,} bytes that this server takes", code="body_too_large"
    )
    said = request.headers.get("content-length", "")
    if said.isdecimal() and (len(said) > 18 or int(said) > limit):
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_long
    except TimeoutError:
        raise Refusal(408, f"the body did not come within {seconds:g} seconds") from None
    return bytes(body)


def check_kind(request: Request) -> None:
    """Holds the body to JSON in UTF-8, as it is, by what its headers say.

    Raises:
        Refusal: another type, charset or coding.
    """
    kind, *parameters = (part.strip().lower() for part in request.headers.get("content-type", "").split(";"))
    if kind != "application/json":
        raise Refusal(415, f"expected the header 'Content-Type: application/json', got {kind[:80] or 'none'!r}")
    for name, _, value in (parameter.partition("=") for parameter in parameters):
        charset = value.strip('"')
        if name == "charset" and charset not in ("utf-8", "utf8", "us-ascii"):
            raise Refusal(415, f"expected the body in utf-8, got charset {charset[:80]!r}; encode it as utf-8")
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise Refusal(415, f"expected the body as it is, got 'Content-Encoding: {coding[:80]}'; send it uncompressed")


def decode(body: bytes, kind: type[Struct], *, expected: str) -> Any:
    """The body in the expected form. Types are exact: no number becomes a text.

    Raises:
        Refusal: it is not JSON, or other JSON than expected.
    """
    try:
        asked = DECODERS[kind].decode(body)
    except msgspec.ValidationError as error:
        message = str(error)
        place = PLACE.search(message)
        if len(message) > 300:  # it quotes unknown names and values whole
            message = f"{message[:200]} ... {message[-60:]}"
        raise Refusal(400, f"{message}. Expected {expected}", param=place and place[1]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        try:
            body.decode()  # msgspec raises a UnicodeDecodeError here before 0.23, and no place from then on
        except UnicodeDecodeError as bad:
            bad_byte = f"{bad.reason} at byte {bad.start}"
            raise Refusal(400, f"the body is not UTF-8 ({bad_byte}); encode it as utf-8") from None
        half = next((escape for escape in ESCAPE.finditer(body) if escape[1]), None)
        why = f"\\{half[1].decode()} at byte {half.start()} is half a character, a lone surrogate" if half else error
        raise Refusal(400, f"the body is not valid JSON ({why}). Expected {expected}") from None
    if ESCAPED_LETTER.search(body) or any(body.count(b'"%b"' % name.encode()) > 1 for name in kind.__struct_fields__):
        json.loads(body, object_pairs_hook=distinct)
    return asked


def distinct(pairs: list[tuple[str, Any]]) -> None:
    """Refuses an object that names a field twice, where one reader takes the first and another the last."""
    names = [name for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise Refusal(400, f"the field {twice!r} occurs twice; send it once", param=twice)


def check_texts(texts: Sequence[Text], settings: Serving, *, field: str = "texts") -> Sequence[Text]:
    """Holds texts to the limits.

    Raises:
        Refusal: none, too many, a blank or an overlong one.
    """
    if not texts:
        raise Refusal(400, f"expected at least one text in {field!r}, got none", param=field)
    if len(texts) > settings.max_texts:
        raise Refusal(
            413,
            f"expected at most {settings.max_texts} texts in a request, got {len(texts)}; send several requests",
            param=field,
            code="too_many_texts",
        )
    for place, text in enumerate(texts):
        for part in (text,) if isinstance(text, str) else text:
            if len(part) > settings.max_characters:
                raise Refusal(
                    413,
                    f"{field}[{place}] has {len(part):,} characters; this server takes {settings.max_characters:,}",
                    param=field,
                    code="text_too_long",
                )
            if not part or part.isspace():
                raise Refusal(400, f"{field}[{place}] is empty or blank", param=field)
    return texts


def openai_texts(asked: OpenAIEmbeddings) -> list[str]:
    """The texts of OpenAI's `input`.

    Raises:
        Refusal: it holds token ids.
    """
    found = [asked.input] if isinstance(asked.input, str) else asked.input
    texts = [each for each in found if isinstance(each, str)]
    if len(texts) < len(found):
        raise Refusal(
            400,
            "'input' holds token ids of another tokenizer; send the texts themselves (in LangChain: "
            "OpenAIEmbeddings(check_embedding_ctx_length=False, ...))",
            param="input",
        )
    return texts


# ---- answering


def shortened(vector: np.ndarray, width: int | None) -> np.ndarray:
    """The first numbers of a vector, of length 1 again; the vector itself where no other width is asked for."""
    if width in (None, len(vector)):
        return vector
    first = vector[:width]
    return first / max(float(np.linalg.norm(first)), 1e-12)


def packed(vector: np.ndarray, encoding: str) -> list[float] | str:
    """A vector as numbers, or as the base64 of its little-endian float32."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode() if encoding == "base64" else vector.tolist()
