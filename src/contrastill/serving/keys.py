"""The keys that a server asks for: read once, kept as their sha256, compared in constant time."""

import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Sequence

from contrastill.errors import UserError

__all__ = ["FREE", "VARIABLE", "Keys", "read_keys"]

FREE = ("/health", "/ready")
"""Paths that need no key: a probe of Kubernetes would have it in its manifest."""
VARIABLE = "CONTRASTILL_API_KEY"
SHORTEST, LONGEST = 16, 512
"""Characters of a key."""
LARGEST = 64 * 1024
"""Bytes of the file."""
VISIBLE = re.compile(rb"[!-~]*")


class Keys:
    """Says whether a request has one of the keys. None of them can be got out of it."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self.digests = tuple({hashlib.sha256(key).digest() for key in keys})

    def __len__(self) -> int:
        return len(self.digests)

    def let_in(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """headers: of a request, their names in lower case."""
        said = [value for name, value in headers if name == b"authorization"]
        if len(said) != 1:  # of two, a proxy in front may have looked at the other one
            return False
        scheme, _, key = said[0].partition(b" ")
        key = key.strip(b" ")
        if scheme.lower() != b"bearer" or not SHORTEST <= len(key) <= LONGEST:
            return False
        digest = hashlib.sha256(key).digest()
        return sum(hmac.compare_digest(digest, known) for known in self.digests) > 0  # all, whichever it is


def read_keys(file: str | None) -> Keys | None:
    """The keys of the file, one a line, or that of the environment; None: no key is asked for. Errors never quote them.

    Raises:
        UserError: both are given; no file that can be read, or one without a key; a key that is short or of other
            characters than a header takes.
    """
    variable = os.environ.get(VARIABLE)
    if file is not None and variable is not None:
        raise UserError(f"expected --api-key-file or ${VARIABLE}, got both; leave one out")
    if variable is not None:
        return Keys([checked(variable.encode(errors="surrogateescape"), f"${VARIABLE}")])
    if file is None:
        return None
    try:
        with open(os.path.expanduser(file), "rb") as opened:
            content = opened.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # the name is not quoted: it may be a key given by mistake
        why = getattr(error, "strerror", None) or "no name of a file"
        raise UserError(
            f"--api-key-file: expected a file with one key a line, got none that can be read ({why})"
        ) from None
    if len(content) > LARGEST:
        raise UserError(f"--api-key-file: expected at most {LARGEST:,} bytes, got more; give a file of keys alone")
    lines = {number: line for number, line in enumerate(content.splitlines(), 1) if line}
    if not lines:
        raise UserError("--api-key-file: expected a key on a line, got an empty file; write one into it")
    return Keys([checked(line, f"--api-key-file, line {number}") for number, line in lines.items()])


def checked(key: bytes, where: str) -> bytes:
    if VISIBLE.fullmatch(key) is None:
        raise UserError(
            f"{where}: expected a key of letters, digits and signs of ASCII, got a space, a control character or "
            "something beyond ASCII in it; make one with `openssl rand -hex 32`"
        )
    if not SHORTEST <= len(key) <= LONGEST:
        raise UserError(
            f"{where}: expected a key of {SHORTEST} to {LONGEST} characters, got {len(key)}; "
            "make one with `openssl rand -hex 32`"
        )
    return key
