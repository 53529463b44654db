"""Students' starts, remembered: `inherit` reads the teacher layer by layer, and need do so once."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import xxhash
from safetensors import SafetensorError
from safetensors.torch import load, save
from transformers import PreTrainedModel

from contrastill.cache.store import write_whole

__all__ = ["remembered_start"]

logger = logging.getLogger(__name__)


def remembered_start(
    folder: Path,
    asked: Mapping[str, Any],
    make: Callable[[], PreTrainedModel],
    blank: Callable[[], PreTrainedModel],
) -> PreTrainedModel:
    """What `make` gives, computed once for each `asked` (all that it depends on; ready for JSON).

    blank: makes a model of the same shape cheaply, to take up weights that are remembered.
    """
    digest = xxhash.xxh3_128_hexdigest(json.dumps(asked, sort_keys=True).encode())
    for path in sorted(folder.glob(f"{digest}-*.safetensors")):
        try:
            content = path.read_bytes()
            if path.stem.endswith("-" + xxhash.xxh3_128_hexdigest(content)):
                model = blank()
                model.load_state_dict(load(content))
                return model
        except (OSError, SafetensorError, RuntimeError):
            pass
        logger.warning("%s is damaged: it is removed and made again", path)
        path.unlink(missing_ok=True)
    model = make()
    content = save({name: value.detach().clone().contiguous() for name, value in model.state_dict().items()})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"{digest}-{xxhash.xxh3_128_hexdigest(content)}.safetensors", content)
    except OSError as error:
        logger.warning("the student's start was not stored (%s)", error.strerror or error)
    return model
