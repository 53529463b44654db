"""Teacher outputs on disk: computed once for each text, checked, and shared by runs, students and methods."""

from contrastill.cache.folder import cache_root
from contrastill.cache.start import remembered_start
from contrastill.cache.store import DTYPES, Facts, Shard, Store
from contrastill.cache.teacher import CachedTeacher, budgeted, fingerprint

__all__ = [
    "DTYPES",
    "CachedTeacher",
    "Facts",
    "Shard",
    "Store",
    "budgeted",
    "cache_root",
    "fingerprint",
    "remembered_start",
]
