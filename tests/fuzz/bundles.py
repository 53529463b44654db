"""Edits of a bundle.json: each entry left out, of another type, of another value, in another order, twice, or new."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from contrastill.seal import SEAL, seal_of

Metadata = dict[str, Any]
Edit = Callable[[Metadata], str]
"""From a bundle's metadata to the text of an edited bundle.json."""

FOREIGN: tuple[Any, ...] = (None, True, -1, 2**40, 0.5, "", "other", [], ["other"], {}, {"other": 1}, [[[]]])


def sealed(metadata: Metadata) -> Metadata:
    """The metadata with the seal of its entries, as a mistaken tool would leave it."""
    return metadata | {SEAL: seal_of(metadata)}


def mutations(seed: int, count: int) -> Iterator[tuple[str, Edit]]:
    """Random single edits that change what a bundle.json says: what was done, and the function that does it."""
    for number in range(count):
        yield f"bundle.json, seed {seed}, edit {number}", lambda metadata, n=number: one_of(metadata, f"{seed} {n}")


def one_of(metadata: Metadata, seed: str) -> str:
    drawn = random.Random(seed)
    found = [text for _, text in edits(metadata)]
    return drawn.choice(found)


def edits(metadata: Metadata) -> Iterator[tuple[str, str]]:
    """Each single edit of each entry, at every depth: its name, and the text of the edited file."""
    for path in places(metadata):
        where = "/".join(map(str, path))
        yield f"without {where}", written(metadata, path, delete)
        for value in FOREIGN:
            yield f"{where}: {value!r}", written(metadata, path, lambda _, value=value: value)
        yield f"{where} changed", written(metadata, path, changed)
    yield "a new entry", json.dumps(metadata | {"other": 1})
    for name in metadata:  # of two entries with one name readers take the last
        text = json.dumps(metadata)
        yield f"{name} twice", text[:-1] + f", {json.dumps(name)}: 1}}"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each entry; of long lists the first and the last."""
    if isinstance(value, dict):
        inner: list[Any] = [*value]
    else:
        inner = sorted({0, len(value) - 1} - {-1}) if isinstance(value, list) else []
    for name in inner:
        yield (*path, name)
        yield from places(value[name], (*path, name))


def written(metadata: Metadata, path: tuple[Any, ...], edit: Callable[[Any], Any]) -> str:
    copied = copy.deepcopy(metadata)
    holder: Any = copied
    for name in path[:-1]:
        holder = holder[name]
    if edit is delete:
        del holder[path[-1]]
    else:
        holder[path[-1]] = edit(holder[path[-1]])
    return json.dumps(copied)


def delete(_: Any) -> None:
    """Marks an entry to leave out."""


def changed(value: Any) -> Any:
    """Another value of the same type, as near as there is one."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value + 1e-6
    if isinstance(value, str):
        return value[:-1] + ("y" if value.endswith("x") else "x")
    if isinstance(value, list):
        return value[::-1] if value[::-1] != value else [*value, *value[:1]]
    return {name: value[name] for name in list(value)[1:]}
