"""Starts of students, stored in the cache: `inherit` reads the teacher layer by layer only once."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xxhash
from safetensors import SafetensorError
from safetensors.torch import load, save
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill import mapping
from contrastill.students.families import FAMILIES
from contrastill.students.make import make_student
from contrastill.students.sample import read_sample
from contrastill.teachers import fingerprint
from contrastill.teachers.store import write_whole

__all__ = ["remembered_start", "start_student"]

logger = logging.getLogger(__name__)


def start_student(
    teacher: PreTrainedModel,
    tokenizer: Tokenizer,
    shape: str,
    start: str,
    seed: int,
    texts: Sequence[str] | None,
    root: Path | None,
) -> PreTrainedModel:
    """As `make_student`; what `inherit` works out of the teacher is stored in the cache at `root` (None: it is not)."""

    def make(start: str) -> PreTrainedModel:
        return make_student(teacher, tokenizer, shape, start, seed=seed, texts=texts)

    known = teacher.config.model_type in FAMILIES or shape.strip().startswith("static")
    if start != "inherit" or root is None or not known:  # the last says so each time
        return make(start)
    source = {
        "student": shape,
        "seed": seed,
        "sample": [ids.tolist() for ids, _ in read_sample(tokenizer, texts, teacher.config, seed)],
        "code": code(),
    }
    folder = root / fingerprint(teacher)[:16] / "starts"
    return remembered_start(folder, source, lambda: make("inherit"), lambda: make("random"))


def code() -> str:
    """Hash of the source files that determine a start: this package, and the mapping of layers."""
    digest = xxhash.xxh3_64()
    for path in (*sorted(Path(__file__).parent.glob("*.py")), Path(mapping.__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def remembered_start(
    folder: Path,
    source: Mapping[str, Any],
    make: Callable[[], PreTrainedModel],
    blank: Callable[[], PreTrainedModel],
) -> PreTrainedModel:
    """The model of `make`, computed once for each `source` (all that it depends on; ready for JSON).

    blank: makes a model of the same shape cheaply, to take up weights that are remembered.
    """
    digest = xxhash.xxh3_128_hexdigest(json.dumps(source, sort_keys=True).encode())
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
