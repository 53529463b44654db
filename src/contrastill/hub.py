"""Whether the Hugging Face Hub can be asked.

Its client tries each file of a model six times, 23 seconds long: without a network a model that is in its cache opens
after minutes, and a mistyped name is refused after as many.
"""

import logging
import sys
import time
from collections.abc import Sequence

from contrastill.errors import first_line

__all__ = ["hub_answers"]

logger = logging.getLogger(__name__)

WAITS = (1.0, 2.0)  # seconds between attempts
TIMEOUT = 5.0  # seconds of an attempt
AGAIN = 60.0  # seconds until the next attempt

answered: bool | None = None  # None: not asked yet
asked = 0.0


def hub_answers() -> bool:
    """Asks the Hub, unless it has answered this process before: through a proxy and of a mirror, if such are set.

    Where it does not answer, later requests fail at once, and models and data sets come from its cache alone, until a
    call of this function a minute later or more gets an answer. With `HF_HUB_OFFLINE=1` it is never asked.
    """
    from huggingface_hub import constants

    global answered, asked
    if answered or (constants.HF_HUB_OFFLINE if answered is None else time.monotonic() < asked + AGAIN):
        return bool(answered)
    offline(False)
    error = failed(WAITS if answered is None else ())
    if error is not None:
        offline(True)
        if answered is None:
            logger.warning(
                "the Hugging Face Hub does not answer (%s): models and data sets come from its cache or from folders",
                first_line(error),
            )
    answered, asked = error is None, time.monotonic()
    return answered


def failed(waits: Sequence[float]) -> Exception | None:
    """The error of the last attempt; None: one had an answer."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    for wait in (*waits, None):
        try:
            get_session().head(constants.ENDPOINT, timeout=TIMEOUT)
        except Exception as error:  # of whichever client the Hub's library has
            if wait is None:
                return error
            time.sleep(wait)
        else:
            break
    return None


def offline(value: bool) -> None:
    """Whether requests fail at once, of all libraries that are loaded."""
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = value
    if "datasets" in sys.modules:
        sys.modules["datasets"].config.HF_HUB_OFFLINE = value
