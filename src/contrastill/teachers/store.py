"""Rows on disk, found by content: shards that are written whole, with their checksum in their name.

A store holds one field of one teacher: for each text, n rows of D numbers (n is the number of its tokens, or 1).
"""

import contextlib
import json
import logging
import os
import re
import tempfile
import time
import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from safetensors.torch import save
from torch import Tensor

from contrastill.errors import UserError

__all__ = ["DTYPES", "KEY", "TYPES", "Facts", "Shard", "Store", "encoded"]

logger = logging.getLogger(__name__)

FORMAT = 1
KEY = 16  # bytes of a content key
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.int8}
TYPES = {**DTYPES, "uint8": torch.uint8}  # uint8: bytes that a teacher packs itself
NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8", "uint8": "U8"}  # of safetensors
OPEN = 256  # shards kept open at once, of all stores together
NAME = re.compile(r"[0-9a-f]{32}\.safetensors")


@dataclass(frozen=True)
class Facts:
    """Facts on which a store's values depend, beside the text. A change of any of them is another store."""

    teacher: str  # fingerprint of weights and config (for texts, of tokenizer and longest input too)
    field: str  # logits, layer-3-tokens, layer-3-cls, layer-3-mean, attention-3, vector, likeliest-64-of-49152-float16
    width: int
    computed: str  # float32 or bfloat16
    stored: str  # of `TYPES`
    format: int = FORMAT

    def folder(self, root: Path) -> Path:
        digest = xxhash.xxh3_64_hexdigest(json.dumps(asdict(self), sort_keys=True).encode())
        return root / self.teacher[:16] / f"{self.field}-{self.stored}-{digest}"

    @property
    def bytes_per_row(self) -> int:
        return self.width * TYPES[self.stored].itemsize + (4 if self.stored == "int8" else 0)


@dataclass(frozen=True)
class Shard:
    """One file: keys (N, 16), rows of each text (N,), values (total rows, D), and for int8 scales (total rows,)."""

    path: Path
    keys: np.ndarray
    counts: np.ndarray
    values_at: int  # where the values begin in the file
    scales_at: int

    @classmethod
    def read(cls, path: Path, facts: Facts) -> "Shard":
        """Raises ValueError: the file is not what its name says, or not a shard of such a store."""
        digest = xxhash.xxh3_128()
        with path.open("rb") as file:
            head = b""
            while block := file.read(1 << 22):
                digest.update(block)
                head = head or block
            if digest.hexdigest() != path.stem:
                raise ValueError("its content does not have the checksum in its name")
            size = int.from_bytes(head[:8], "little")
            file.seek(8)
            header = json.loads(file.read(size))
            start = 8 + size

            def array(name: str, dtype: Any) -> np.ndarray:
                begin, end = header[name]["data_offsets"]
                file.seek(start + begin)
                return np.frombuffer(file.read(end - begin), dtype)

            keys, counts = array("keys", np.uint8).reshape(-1, KEY), array("counts", np.int32)
        about = header["values"]
        if about["shape"] != [int(counts.sum()), facts.width] or about["dtype"] != NAMES[facts.stored]:
            raise ValueError(f"its values are {about['dtype']} of shape {about['shape']}")
        scales_at = start + header["scales"]["data_offsets"][0] if "scales" in header else 0
        return cls(path, keys, counts, start + header["values"]["data_offsets"][0], scales_at)


IN_USE: "weakref.WeakSet[Store]" = weakref.WeakSet()  # their open files are counted together


class Store:
    """The shards of one folder, verified when it is opened, and an index over them.

    Reading goes through `pread`, not a memory map: memory stays flat, and a file cut by somebody else cannot crash the
    process. Several processes may write to one folder: each writes files of its own, under names nobody else has.
    """

    def __init__(self, root: Path, facts: Facts, about: dict[str, Any] | None = None) -> None:
        self.facts, self.folder = facts, facts.folder(root)
        self.about = about or {}
        self.files: dict[int, int] = {}
        self.refresh()

    def refresh(self) -> None:
        """Reads the folder anew. Damaged shards are deleted, and so count as missing."""
        self.close()
        sweep(self.folder)
        self.shards, self.damaged = [], []
        for path, shard in verified(self.folder, self.facts):
            if shard is None:
                logger.warning("%s is damaged: it is removed, and its texts are computed again", path)
                path.unlink(missing_ok=True)
                self.damaged.append(path)
            else:
                self.shards.append(shard)
        self.index()
        if self.shards:
            with contextlib.suppress(OSError):  # somebody else's cache may be read all the same
                self.describe()
                os.utime(self.folder / "store.json")  # when it was last used: `prune` goes by it

    def index(self) -> None:
        keys = [shard.keys for shard in self.shards]
        counts = [shard.counts for shard in self.shards]
        firsts = [np.cumsum(n, dtype=np.int64) - n for n in counts]
        empty = np.zeros((0, KEY), np.uint8)
        self.keys = np.concatenate(keys) if keys else empty
        self.counts = np.concatenate(counts) if counts else np.zeros(0, np.int32)
        self.firsts = np.concatenate(firsts) if firsts else np.zeros(0, np.int64)
        self.owners = np.repeat(np.arange(len(counts), dtype=np.int32), [len(n) for n in counts])
        heads = self.keys.view(np.uint64)[:, 0]
        self.order = np.argsort(heads, kind="stable").astype(np.int64)
        self.heads = heads[self.order]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(shard.path.stat().st_size for shard in self.shards)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """(B, 16) uint8 -> (B,) int64: where each text's rows are; -1: it is not here."""
        if not len(self.keys):
            return np.full(len(keys), -1, np.int64)
        heads = np.ascontiguousarray(keys).view(np.uint64)[:, 0]
        at = np.minimum(np.searchsorted(self.heads, heads), len(self.heads) - 1)
        rows = self.order[at]
        return np.where((self.keys[rows] == keys).all(1), rows, -1)

    def read(self, row: int, out: np.ndarray | None = None) -> np.ndarray:
        """The (n, D) values of one text, as stored (bfloat16 as uint16), or float32 if stored as int8."""
        shard, count, first = self.shards[self.owners[row]], int(self.counts[row]), int(self.firsts[row])
        kind = np.dtype("uint16" if self.facts.stored == "bfloat16" else self.facts.stored)
        eight = self.facts.stored == "int8"
        values = np.empty((count, self.facts.width), kind) if out is None or eight else out
        file = self.file(int(self.owners[row]))
        bytes_per_value = values.itemsize * self.facts.width
        self.fetch(file, values, shard.values_at + first * bytes_per_value, shard)
        if not eight:
            return values
        scales = np.empty(count, np.float32)
        self.fetch(file, scales, shard.scales_at + first * 4, shard)
        return np.multiply(values, scales[:, None], out=out, dtype=np.float32)

    def fetch(self, file: int, into: np.ndarray, offset: int, shard: Shard) -> None:
        if os.preadv(file, [into.data], offset) != into.nbytes:
            raise UserError(f"{shard.path} was truncated while in use; start again: lost outputs are computed again")

    def file(self, owner: int) -> int:
        if owner not in self.files:
            IN_USE.add(self)
            if sum(len(store.files) for store in IN_USE) >= OPEN:
                for store in IN_USE:
                    store.close()
            path = self.shards[owner].path
            try:
                self.files[owner] = os.open(path, os.O_RDONLY)
            except OSError as error:
                raise UserError(
                    f"cannot read {path}: {error.strerror}; start again: lost outputs are computed again"
                ) from None
        return self.files[owner]

    def close(self) -> None:
        for file in self.files.values():
            os.close(file)
        self.files.clear()

    def __del__(self) -> None:
        if hasattr(self, "files"):
            self.close()

    def append(self, keys: np.ndarray, counts: np.ndarray, values: Tensor) -> None:
        """Writes one shard: (N, 16) uint8, (N,) and (sum of counts, D).

        Raises:
            UserError: a value does not fit the stored type, or the disk is full.
        """
        tensors = {
            "keys": torch.from_numpy(np.ascontiguousarray(keys)),
            "counts": torch.from_numpy(np.asarray(counts, np.int32)),
            **encoded(values, self.facts.stored),
        }
        content = save(tensors)
        name = f"{xxhash.xxh3_128_hexdigest(content)}.safetensors"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.describe()
            write_whole(self.folder / name, content)
            if all(shard.path.name != name for shard in self.shards):
                self.shards.append(Shard.read(self.folder / name, self.facts))  # read back: what was written is whole
                self.index()
        except OSError as error:
            raise UserError(
                f"cannot store teacher outputs in {self.folder}: {error.strerror or error}; outputs stored before are "
                "intact; free space, choose another folder (--cache DIR), or use no cache (--cache none)"
            ) from error

    def describe(self) -> None:
        """Writes store.json, unless it is there and tells these facts."""
        facts = asdict(self.facts)
        try:
            stored = json.loads((self.folder / "store.json").read_text())
            if {name: stored[name] for name in facts} == facts:
                return
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        write_whole(self.folder / "store.json", (json.dumps({**facts, **self.about}, indent=2) + "\n").encode())


def encoded(values: Tensor, stored: str) -> dict[str, Tensor]:
    """(rows, D) in the type to store; int8 with a scale for each row."""
    if stored != "int8":
        result = values.to(TYPES[stored]).contiguous()
        if stored == "float16" and not result.isfinite().all():
            raise UserError(
                f"the teacher's outputs reach {values.abs().max():.3g}, more than float16 holds; pass --cache-dtype "
                "bfloat16"
            )
        return {"values": result}
    rows = values.float()
    scales = rows.abs().amax(1).clamp(min=1e-30) / 127
    return {"values": (rows / scales[:, None]).round().to(torch.int8), "scales": scales}


def sweep(folder: Path) -> None:
    """Removes what killed writers left behind: parts that nobody has written to for an hour."""
    for part in folder.glob("*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > 3600:
                part.unlink()


def verified(folder: Path, facts: Facts) -> Iterator[tuple[Path, Shard | None]]:
    """Each shard of the folder, in the order of the names; None for one that is damaged."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            yield path, Shard.read(path, facts) if NAME.fullmatch(path.name) else None
        except FileNotFoundError:
            continue  # another process found it damaged first
        except OSError as error:
            # too many open files, no permission, a server that is away: the shard may be whole
            raise UserError(f"cannot read {path}: {error.strerror or error}; or use no cache (--cache none)") from None
        except (ValueError, KeyError, TypeError, OverflowError, MemoryError):
            yield path, None


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that its final name never holds a part of it."""
    handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, 0o644)
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
