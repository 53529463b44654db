"""Filling the cache from a corpus that need not fit in memory."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.cache import CachedTeacher, FrozenEmbedder, cache_root, keys_of
from contrastill.data import Collate, content_key, read_for_teacher, several_texts
from contrastill.data.files import look_up
from contrastill.encoder import GRANULARITIES, FrozenEncoder, Wanted
from contrastill.errors import UserError
from contrastill.loading import (
    check_ids,
    encoder_inside,
    input_length,
    load_classifier,
    load_embedder,
    load_encoder,
    load_tokenizer,
    locate,
)
from contrastill.loading import rows_of as vocabulary
from contrastill.settings import CacheBuild, Corpus
from contrastill.training.folder import processes

__all__ = ["build_cache"]

logger = logging.getLogger(__name__)


def build_cache(**settings: Any) -> dict[str, Any]:
    """Stores a teacher's outputs for every text of a corpus. Settings: see `CacheBuild`.

    What is stored already is not computed again: an interrupted build goes on where it was, a longer corpus costs its
    new texts only. Under `torchrun` the processes share the work.

    Returns counts, bytes and folders.
    """
    asked = CacheBuild.given(settings)
    frozen, tokenizer = load_any(asked.teacher, asked.fields)
    wanted = parse_fields(asked.fields or ["vector" if isinstance(frozen, FrozenEmbedder) else "logits"], frozen)
    teacher = CachedTeacher(frozen, wanted, cache_root(asked.cache), stored=asked.cache_dtype, name=asked.teacher)
    length = input_length(
        asked.max_length, asked.teacher, tokenizer, getattr(encoder_inside(frozen.model), "config", None)
    )
    logger.info("length: %s", length)
    asked = replace(asked, max_length=length.tokens)
    prompt = frozen.prompt if isinstance(frozen, FrozenEmbedder) else ""
    first = next(chunks(asked, tokenizer, prompt), None)
    if first is None:
        raise UserError(f"expected texts in {', '.join(asked.texts)}, got none")
    total = count(asked)
    sample, free = teacher.room([len(row["input_ids"]) for row in first])
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
    world = processes()
    counted = Counted(chunks(asked, tokenizer, prompt), tokenizer, length.tokens, prompt, vocabulary(frozen.model))
    fresh = teacher.fill(
        counted,
        Collate(tokenizer),
        total=total,
        say=lambda row: repr(row["text"][:80]),
        share=(world.process_index, world.num_processes),
    )
    world.wait_for_everyone()
    if world.num_processes > 1:
        teacher.refresh()  # what the others have stored
    logger.info("%.1f%% of the texts were cut at %d tokens", 100 * counted.cut / counted.rows, length.tokens)
    return {
        "texts": counted.rows,
        "max_length": length.tokens,
        "cut": counted.cut,
        "teacher_forwards": fresh,
        "stored": {field: len(store) for field, store in teacher.stores.items()},
        "bytes": sum(store.size for store in teacher.stores.values()),
        "folders": {field: str(store.folder) for field, store in teacher.stores.items()},
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


def corpus_texts(asked: Corpus, say: Callable[[str], object] = logger.info) -> Iterator[list[str]]:
    """The texts that the settings name. say: told what was decided and left out; `silent` where they are read again."""
    return several_texts(
        asked.texts,
        text=asked.text,
        encoding=asked.encoding,
        delimiter=asked.delimiter,
        limit=asked.limit,
        say=say,
    )


def silent(note: str) -> None:
    pass


def chunks(asked: CacheBuild, tokenizer: Tokenizer, prompt: str) -> Iterator[list[dict[str, Any]]]:
    """Tokenised texts, `CHUNK` at a time."""
    assert asked.max_length is not None
    for texts in corpus_texts(asked):
        yield rows_of(texts, tokenizer, asked.max_length, prompt)


def count(asked: CacheBuild) -> int | None:
    """How many texts there are, if that is quickly told: to say how long it takes, and whether there is room."""
    if not all(look_up(source)[1] == "file" for source in asked.texts):
        return asked.limit
    return sum(map(len, corpus_texts(asked, silent)))


def rows_of(texts: Sequence[str], tokenizer: Tokenizer, max_length: int, prompt: str = "") -> list[dict[str, Any]]:
    """Texts as a teacher reads them, `prompt` before each, with the keys its outputs are stored under."""
    encoded = read_for_teacher(tokenizer, prompt, texts, max_length)
    types = encoded.get("token_type_ids")
    return [
        {
            "input_ids": ids,
            **({"token_type_ids": types[n]} if types else {}),
            "content": content_key(ids, types[n] if types else ()),
            "text": text,
            "labels": -100,
            "text_key": 0,
            "index": n,
        }
        for n, (text, ids) in enumerate(zip(texts, encoded["input_ids"], strict=True))
    ]


def parse_fields(names: Sequence[str], frozen: FrozenEncoder | FrozenEmbedder) -> Wanted:
    """The fields' names -> what is wanted."""
    layers, granularities = set(), set()
    for name in names:
        found = re.fullmatch(rf"layer-(\d+)-({'|'.join(GRANULARITIES)})", name)
        if found and int(found[1]) <= frozen.depth and isinstance(frozen, FrozenEncoder):
            layers.add(int(found[1]))
            granularities.add(found[2])
        elif found:
            raise UserError(f"expected a layer from 0 to {frozen.depth}, got {name!r}")
        elif name not in ("logits", "vector"):
            raise UserError(f"expected fields vector, logits or layer-N-{{{','.join(GRANULARITIES)}}}, got {name!r}")
    if len(granularities) > 1:
        raise UserError(f"expected layers of one granularity, got {sorted(granularities)}; build them one by one")
    if "logits" in names and not hasattr(getattr(frozen.model, "config", None), "num_labels"):
        raise UserError("expected a classifier for logits, got a sentence-embedding model")
    if "vector" in names and not isinstance(frozen, FrozenEmbedder):
        raise UserError("expected a sentence-embedding model (sentence-transformers) for vectors, got another model")
    return Wanted(
        logits="logits" in names,
        layers=tuple(sorted(layers)),
        granularity=granularities.pop() if granularities else "tokens",
        pooled="vector" in names,
    )


def load_any(name: str, fields: Sequence[str] | None) -> tuple[FrozenEncoder | FrozenEmbedder, Tokenizer]:
    """The teacher as what it is: with a modules.json a sentence-embedding model, else a classifier, else bare."""
    place = locate(name)
    if place.embeds and (not fields or "vector" in fields):
        model = load_embedder(name)
        return FrozenEmbedder(model), model.tokenizer
    if place.classifies or "logits" in (fields or []):
        return FrozenEncoder(load_classifier(name)), load_tokenizer(name)
    return FrozenEncoder(load_encoder(name)), load_tokenizer(name)
