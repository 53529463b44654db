"""A bundle as a server: texts of many requests in common batches, within limits, on one machine or a cluster."""

from typing import Any

from contrastill.errors import UserError

__all__ = ["serve"]


def serve(**settings: Any) -> int:
    """Serves a bundle over HTTP until a signal, then answers what it has taken. Settings: see `Serving`.

    Returns the exit code: 1 if requests were cut off.

    Raises:
        UserError: the server's libraries are not installed, the keys cannot be read, the address not be listened on,
            or the bundle not be opened.
    """
    try:
        from contrastill.serving.server import serve as run
    except ImportError as error:
        raise UserError(f"{error}; run pip install 'contrastill[serve]'") from None
    return run(**settings)
