"""From a user's file, a folder or the Hub to rows of a task, and from rows to padded batches."""

from contrastill.data.collate import Collate, Known, content_key, flat, known_tokens, tokenise, truncated_share
from contrastill.data.corpus import Corpus, read_corpus, read_for_teacher, several_texts
from contrastill.data.labels import align_labels
from contrastill.data.load import UNLABELLED, TaskData, load_task, text_key
from contrastill.data.schema import GLUE, Schema
from contrastill.data.stream import stream_texts

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
    "stream_texts",
    "text_key",
    "tokenise",
    "truncated_share",
]
