"""From a user's file, a folder or the Hub to rows of a task, and from rows to padded batches."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contrastill.data.collate import Collate, Known, content_key, flat, known_tokens, tokenise, truncated_share
    from contrastill.data.corpus import Corpus, read_corpus, read_for_teacher, several_texts, silent, teacher_rows
    from contrastill.data.labels import align_labels
    from contrastill.data.load import UNLABELLED, TaskData, load_task, text_key
    from contrastill.data.schema import GLUE, Schema
    from contrastill.data.stream import stream_texts

_HOMES = {
    **dict.fromkeys(
        ("Collate", "Known", "content_key", "flat", "known_tokens", "tokenise", "truncated_share"), "collate"
    ),
    **dict.fromkeys(("Corpus", "read_corpus", "read_for_teacher", "several_texts", "silent", "teacher_rows"), "corpus"),
    "align_labels": "labels",
    **dict.fromkeys(("UNLABELLED", "TaskData", "load_task", "text_key"), "load"),
    **dict.fromkeys(("GLUE", "Schema"), "schema"),
    "stream_texts": "stream",
}

__all__ = [
    "GLUE",
    "UNLABELLED",
    "Collate",
    "Corpus",
    "Known",
    "Schema",
    "TaskData",
    "align_labels",
    "content_key",
    "flat",
    "known_tokens",
    "load_task",
    "read_corpus",
    "read_for_teacher",
    "several_texts",
    "silent",
    "stream_texts",
    "teacher_rows",
    "text_key",
    "tokenise",
    "truncated_share",
]


def __getattr__(name: str) -> Any:
    """Names are imported when first used: rows of a file are read where there is no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"contrastill.data.{_HOMES[name]}"), name)
