"""Is a damaged cache ever believed? Faults at random places of a store's files, each followed by opening the store.

    python benchmarks/cache_faults.py --faults 1000

A store of several shards is made for each type of numbers. Then, for each fault, one shard is damaged: a byte is
flipped, the file is cut, a block of it is zeroed, or random bytes are put over a block. The store is opened, which must
find the shard, and no other; every row that it still serves must be, to the bit, what was served before. The shard is
then put back.

Writes results/cache_faults.json beside this file, unless --out says otherwise, and prints a table.
"""

import argparse
import json
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from contrastill.machine import describe_machine
from contrastill.teachers.store import DTYPES, Facts, Store

SHARDS, TEXTS, LONGEST, WIDTH = 5, 40, 12, 16
BLOCK = 512  # bytes of a block that is lost, at most


def flip(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ rng.randrange(1, 256)]) + content[at + 1 :]


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def zero(content: bytes, rng: random.Random) -> bytes:
    at, size = rng.randrange(len(content)), rng.randint(1, BLOCK)
    return content[:at] + bytes(len(content[at : at + size])) + content[at + size :]


def scribble(content: bytes, rng: random.Random) -> bytes:
    at, size = rng.randrange(len(content)), rng.randint(1, BLOCK)
    return content[:at] + rng.randbytes(len(content[at : at + size])) + content[at + size :]


FAULTS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "byte flipped": flip,
    "file cut": cut,
    "block zeroed": zero,
    "block overwritten": scribble,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the rows, the places and the kinds")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "cache_faults.json")
    args = parser.parse_args()
    logging.getLogger("contrastill").setLevel(logging.ERROR)  # it warns of each shard it removes
    with tempfile.TemporaryDirectory(prefix="cache-faults-") as root:
        result = trials(args.faults, args.seed, Path(root))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"{'fault':<20} {'times':>6} {'found':>6}")
    for kind, count in result["kinds"].items():
        print(f"{kind:<20} {count['faults']:>6} {count['found']:>6}")
    print(
        f"{result['found']} of {result['faults']} found in {result['seconds']} s; {result['rows_served']:,} rows were"
    )
    print(f"served meanwhile, {result['served_wrong']} texts wrongly, {result['lost']} whole ones not; {args.out}")
    sys.exit(result["found"] != result["faults"] or result["served_wrong"] > 0 or result["lost"] > 0)


def trials(faults: int, seed: int, root: Path) -> dict[str, Any]:
    rng, begin = random.Random(seed), time.perf_counter()
    stores = {stored: filled(root, stored, seed) for stored in DTYPES}
    bytes_on_disk = sum(store.size for store in stores.values())
    whole = {stored: served(store) for stored, store in stores.items()}
    done, found, by_type = Counter[str](), Counter[str](), Counter[str]()
    wrong = lost = rows = 0
    while sum(done.values()) < faults:
        kind, stored = rng.choice(list(FAULTS)), rng.choice(list(DTYPES))
        shard = rng.choice(stores[stored].shards)
        content = shard.path.read_bytes()
        damaged = FAULTS[kind](content, rng)
        if damaged == content:  # zeros over zeros are no fault
            continue
        shard.path.write_bytes(damaged)
        opened = Store(root, stores[stored].facts)
        done[kind] += 1
        by_type[stored] += 1
        found[kind] += opened.damaged == [shard.path] and not shard.path.exists()
        answers, gone = served(opened), {key.tobytes() for key in shard.keys}
        wrong += sum(answers[key] != whole[stored].get(key) for key in answers)
        lost += len(whole[stored].keys() - gone - answers.keys())
        rows += int(opened.counts.sum())
        shard.path.write_bytes(content)
    again = {stored: served(Store(root, store.facts)) for stored, store in stores.items()}
    if again != whole:
        sys.exit("the stores are not what they were: this program is wrong, and so are its numbers")
    return {
        "faults": faults,
        "found": sum(found.values()),
        "served_wrong": wrong,
        "lost": lost,
        "rows_served": rows,
        "kinds": {kind: {"faults": done[kind], "found": found[kind]} for kind in FAULTS},
        "types": {stored: by_type[stored] for stored in DTYPES},
        "store": {"shards": SHARDS, "texts": SHARDS * TEXTS, "bytes_of_all_types": bytes_on_disk},
        "seconds": round(time.perf_counter() - begin, 1),
        "seed": seed,
        "command": f"python benchmarks/cache_faults.py --faults {faults} --seed {seed}",
        "machine": describe_machine(),
    }


def filled(root: Path, stored: str, seed: int) -> Store:
    """Texts of 1 to LONGEST rows."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    store = Store(root, Facts("0" * 64, "layer-1-tokens", WIDTH, "float32", stored))
    for _ in range(SHARDS):
        counts = rng.integers(1, LONGEST + 1, TEXTS)
        keys = rng.integers(0, 256, (TEXTS, 16), dtype=np.uint8)
        store.append(keys, counts, torch.randn(int(counts.sum()), WIDTH, generator=generator))
    store.refresh()
    return store


def served(store: Store) -> dict[bytes, bytes]:
    """Every text that the store has: its key, and its rows to the bit, found as a run finds them."""
    rows = store.find(store.keys)
    return {key.tobytes(): store.read(int(row)).tobytes() for key, row in zip(store.keys, rows, strict=True)}


if __name__ == "__main__":
    main()
