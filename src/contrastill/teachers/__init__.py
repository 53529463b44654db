"""Teachers: models that run, outputs that are stored (computed once for each text, checked, shared), or several."""

from contrastill.teachers.base import LiveTeacher, Teacher, fingerprint
from contrastill.teachers.embedder import CachedEmbedder, FrozenEmbedder
from contrastill.teachers.fields import Field, fields_of, outputs_named
from contrastill.teachers.fill import budgeted, keys_of
from contrastill.teachers.folder import Entry, cache_root, entries, make_cache_folder, prune, verify
from contrastill.teachers.live import FrozenEncoder
from contrastill.teachers.load import load_teacher
from contrastill.teachers.several import SideBySide
from contrastill.teachers.store import DTYPES, Facts, Shard, Store
from contrastill.teachers.stored import CachedTeacher

__all__ = [
    "DTYPES",
    "CachedEmbedder",
    "CachedTeacher",
    "Entry",
    "Facts",
    "Field",
    "FrozenEmbedder",
    "FrozenEncoder",
    "LiveTeacher",
    "Shard",
    "SideBySide",
    "Store",
    "Teacher",
    "budgeted",
    "cache_root",
    "entries",
    "fields_of",
    "fingerprint",
    "keys_of",
    "load_teacher",
    "make_cache_folder",
    "outputs_named",
    "prune",
    "verify",
]
