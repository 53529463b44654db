"""Teachers: models that run, outputs that are stored (once for each text, checked, shared), several, or a file."""

from contrastill.teachers.aligned import AlignedTeacher
from contrastill.teachers.base import LiveTeacher, fingerprint
from contrastill.teachers.embedder import CachedEmbedder
from contrastill.teachers.fields import outputs_named
from contrastill.teachers.fill import keys_of
from contrastill.teachers.folder import cache_root, entries, make_cache_folder, prune, verify
from contrastill.teachers.language import FrozenLM, LanguageTeacher, RecalledLM
from contrastill.teachers.live import FrozenEncoder
from contrastill.teachers.load import load_teacher
from contrastill.teachers.several import SideBySide
from contrastill.teachers.stored import CachedTeacher
from contrastill.teachers.table import TableTeacher
from contrastill.teachers.tokens import CachedLM, answer_keys
from contrastill.teachers.vectors import VectorTeacher
from contrastill.teachers.words import WordsHead, load_words_head

__all__ = [
    "AlignedTeacher",
    "CachedEmbedder",
    "CachedLM",
    "CachedTeacher",
    "FrozenEncoder",
    "FrozenLM",
    "LanguageTeacher",
    "LiveTeacher",
    "RecalledLM",
    "SideBySide",
    "TableTeacher",
    "VectorTeacher",
    "WordsHead",
    "answer_keys",
    "cache_root",
    "entries",
    "fingerprint",
    "keys_of",
    "load_teacher",
    "load_words_head",
    "make_cache_folder",
    "outputs_named",
    "prune",
    "verify",
]
