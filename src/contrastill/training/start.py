"""The student before training, and its start remembered beside the teacher's outputs."""

import inspect
from collections.abc import Sequence
from pathlib import Path

import xxhash
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.cache import fingerprint, remembered_start
from contrastill.student import FAMILIES, make_student, read_sample

__all__ = ["start_student"]


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

    if start != "inherit" or root is None or teacher.config.model_type not in FAMILIES:  # the last says so each time
        return make(start)
    asked = {
        "student": shape,
        "seed": seed,
        "sample": [ids.tolist() for ids, _ in read_sample(tokenizer, texts, teacher.config, seed)],
        "code": xxhash.xxh3_64_hexdigest(Path(inspect.getfile(make_student)).read_bytes()),
    }
    folder = root / fingerprint(teacher)[:16] / "starts"
    return remembered_start(folder, asked, lambda: make("inherit"), lambda: make("random"))
