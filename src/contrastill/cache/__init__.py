"""Teacher outputs on disk: computed once for each text, checked, and shared by runs, students and methods."""

from contrastill.cache.embedder import FrozenEmbedder
from contrastill.cache.folder import Entry, cache_root, entries, prune, verify
from contrastill.cache.store import DTYPES, Facts, Shard, Store
from contrastill.cache.teacher import CachedTeacher, budgeted, fingerprint, keys_of

__all__ = [
    "DTYPES",
    "CachedTeacher",
    "Entry",
    "Facts",
    "FrozenEmbedder",
    "Shard",
    "Store",
    "budgeted",
    "cache_root",
    "entries",
    "fingerprint",
    "keys_of",
    "prune",
    "verify",
]
