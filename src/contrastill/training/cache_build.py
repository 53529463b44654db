"""Filling the cache from a corpus that need not fit in memory."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypedDict

from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.data.collate import Collate
from contrastill.data.corpus import several_texts, silent, teacher_rows
from contrastill.data.files import look_up
from contrastill.errors import UserError
from contrastill.loading import check_ids, input_length, rows_of
from contrastill.settings import CacheBuild
from contrastill.teachers import CachedTeacher, cache_root, keys_of, load_teacher, outputs_named

__all__ = ["build_cache"]

logger = logging.getLogger(__name__)


class Built(TypedDict):
    """Result of a cache build. cut: texts that the length limit cut; stored, folders: by field."""

    texts: int
    max_length: int
    cut: int
    teacher_forwards: int
    stored: dict[str, int]
    bytes: int
    folders: dict[str, str]


def build_cache(**settings: Any) -> Built:
    """Stores a teacher's outputs for every text of a corpus. Settings: see `CacheBuild`.

    What is stored already is not computed again: an interrupted build goes on where it was, a longer corpus costs its
    new texts only. Under `torchrun` the processes share the work.
    """
    asked = CacheBuild.given(settings)
    live, tokenizer = load_teacher(asked.teacher, asked.fields or ())
    wanted = outputs_named(asked.fields or ["vector" if "pooled" in live.gives else "logits"], live)
    teacher = CachedTeacher(live, wanted, cache_root(asked.cache), stored=asked.cache_dtype, name=asked.teacher)
    length = input_length(asked.max_length, asked.teacher, tokenizer, getattr(live.transformer, "config", None))
    logger.info("length: %s", length)
    asked = replace(asked, max_length=length.tokens)
    prompt = live.prompt
    first = next(chunks(asked, tokenizer, prompt), None)
    if first is None:
        raise UserError(f"expected texts in {', '.join(asked.texts)}, got none")
    total = count(asked)
    sample, free = teacher.space_needed([len(row["input_ids"]) for row in first])
    each, need = sample / len(first), sample / len(first) * (total or len(first))
    logger.info(
        "teacher outputs: %.2f kB a text, %.2f GB for %s texts at %s (%.1f GB free)",
        each / 1e3,
        need / 1e9,
        f"{total:,}" if total else "the first",
        teacher.root,
        free / 1e9,
    )
    if need > free and len(teacher.missing(keys_of(first))):
        raise UserError(
            f"expected room for {need / 1e9:.2f} GB of teacher outputs at {teacher.root}, got {free / 1e9:.2f} GB; "
            "choose another folder (--cache DIR), fewer fields, or --cache-dtype int8"
        )
    counted = Counted(chunks(asked, tokenizer, prompt), tokenizer, length.tokens, prompt, rows_of(live.model))
    fresh = teacher.fill(counted, Collate(tokenizer), total=total, say=lambda row: repr(row["text"][:80]))
    logger.info("%.1f%% of the texts were cut at %d tokens", 100 * counted.cut / counted.rows, length.tokens)
    return {
        "texts": counted.rows,
        "max_length": length.tokens,
        "cut": counted.cut,
        "teacher_forwards": fresh,
        "stored": {field.name: len(store) for field, store in teacher.stores.items()},
        "bytes": sum(store.size for store in teacher.stores.values()),
        "folders": {field.name: str(store.folder) for field, store in teacher.stores.items()},
    }


class Counted:
    """Passes chunks on, and counts their rows and those that the length limit cut.

    vocabulary: the tokens that the teacher has embeddings of; None: any.

    Raises:
        UserError: a text has a token that the teacher does not.
    """

    def __init__(
        self,
        chunks: Iterator[list[dict[str, Any]]],
        tokenizer: Tokenizer,
        max_length: int,
        prompt: str = "",
        vocabulary: int | None = None,
    ) -> None:
        self.chunks, self.tokenizer, self.max_length, self.prompt = chunks, tokenizer, max_length, prompt
        self.vocabulary, self.rows, self.cut = vocabulary, 0, 0

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        for chunk in self.chunks:
            self.rows += len(chunk)
            full = [self.prompt + row["text"] for row in chunk if len(row["input_ids"]) == self.max_length]
            if full:
                self.cut += sum(len(ids) > self.max_length for ids in self.tokenizer(full, verbose=False)["input_ids"])
            highest = max((max(row["input_ids"]) for row in chunk if row["input_ids"]), default=0)
            check_ids(highest, self.vocabulary)
            yield chunk


def chunks(asked: CacheBuild, tokenizer: Tokenizer, prompt: str) -> Iterator[list[dict[str, Any]]]:
    """Tokenised texts, `CHUNK` at a time."""
    assert asked.max_length is not None
    for texts in several_texts(asked.texts, **asked.reading()):
        yield teacher_rows(texts, tokenizer, asked.max_length, prompt)


def count(asked: CacheBuild) -> int | None:
    """The number of texts, if it is quick to count: for the expected duration and the space needed."""
    if not all(look_up(source)[1] == "file" for source in asked.texts):
        return asked.limit
    return sum(map(len, several_texts(asked.texts, **asked.reading(), say=silent)))
