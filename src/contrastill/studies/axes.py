"""The variants that axes cross, and what stands in their settings for a place."""

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contrastill.errors import UserError, quoted

__all__ = ["check_paths", "crossed", "filled", "parts_of", "places_in"]

PLACE = re.compile(r"{([^{}]+)}")

Settings = Mapping[str, Any]


def crossed(variants: Mapping[str, Settings] | None, axes: Mapping[str, Mapping[str, Settings]]) -> dict[str, Settings]:
    """Each variant at every combination of the axes' values, with their names; settings of a later axis come before
    those of an earlier one, a variant's own before all. Objects of settings (`set`, `stages`) are put together.

    Raises:
        UserError: an axis without values; neither variants nor axes; a variant that goes on from another, and axes.
    """
    if empty := [axis for axis, values in axes.items() if not values]:
        raise UserError(f"axes: expected values of {quoted(empty[0])}, got none")
    if not variants and not axes:
        raise UserError("expected variants or axes, got neither")
    found: dict[str, Settings] = {}
    for chosen in itertools.product(*(values.items() for values in axes.values())):
        names = {axis: name for axis, (name, _) in zip(axes, chosen, strict=True)}
        settings: dict[str, Any] = {}
        for _, one in chosen:
            settings = together(settings, one)
        for name, variant in (variants or {"": {}}).items():
            if axes and "of" in variant:
                raise UserError(f"{name}: expected no `of` beside axes: make its start a place (`places`)")
            label = ", ".join([*names.values(), *([name] if name else [])])
            if label in found:
                raise UserError(f"axes: expected names that tell combinations apart, got {quoted(label)} twice")
            found[label] = together(settings, variant) | ({"axes": names} if axes else {})
    return found


def parts_of(label: str, values: Sequence[str]) -> set[str]:
    """What `crossed` names a combination, and the names of its parts: "300 labels, kd" too of "300 labels, copy, kd".

    values: of the axes, as the label begins."""
    variant = label.removeprefix(", ".join(values)).removeprefix(", ")
    names = [*values, variant] if variant else values
    return {", ".join(some) for n in range(1, len(names) + 1) for some in itertools.combinations(names, n)}


def together(first: Settings, then: Settings) -> dict[str, Any]:
    """Settings, those of `then` in place of others; objects put together."""
    both = {name for name in first.keys() & then.keys() if all(isinstance(x[name], Mapping) for x in (first, then))}
    return {**first, **then, **{name: {**first[name], **then[name]} for name in both}}


def filled(value: Any, places: Settings) -> Any:
    """A setting with each `{name}` replaced."""
    if isinstance(value, Mapping):
        return {key: filled(one, places) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [filled(one, places) for one in value]
    if not isinstance(value, str):
        return value
    if unknown := [name for name in PLACE.findall(value) if name not in places]:
        raise UserError(f"{quoted(value)}: expected a place for {unknown[0]} (--place {unknown[0]}=…)")
    return PLACE.sub(lambda found: str(places[found[1]]), value)


def places_in(value: Any) -> list[str]:
    """The names of the places in a setting."""
    if isinstance(value, Mapping):
        return [name for one in value.values() for name in places_in(one)]
    if isinstance(value, list | tuple):
        return [name for one in value for name in places_in(one)]
    return PLACE.findall(value) if isinstance(value, str) else []


def check_paths(settings: Settings, places: Settings) -> None:
    """Raises a UserError if a setting begins with a place on this machine, and nothing is there. A name of the Hub is
    none: that model is looked for when it is loaded."""
    for name, value in settings.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            found = PLACE.match(one) if isinstance(one, str) else None
            if found is None or found[1] not in places:
                continue
            place = Path(places[found[1]]).expanduser()
            path = Path(filled(one, places)).expanduser()
            if (place.is_absolute() or place.exists()) and not path.exists():
                raise UserError(
                    f"{name}: expected {one} to be there, found nothing at {path}; check --place {found[1]}="
                )
