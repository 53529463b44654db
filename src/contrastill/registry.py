"""Classes by name: those of a registry, and a user's own as "package.module:Class"."""

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

from contrastill.errors import UserError, quoted
from contrastill.ranges import suggestion

__all__ = ["class_of", "name_of"]

GIVEN: dict[str, type] = {}
"""Classes that were passed to a function of this process, by the names that stand for them in run.json."""


def name_of(given: Any, registry: Mapping[str, type]) -> Any:
    """The name of a class, in the registry or as "package.module:Class"; anything else as it is."""
    if not isinstance(given, type):
        return given
    if (known := next((name for name, cls in registry.items() if cls is given), None)) is not None:
        return known
    name = f"{given.__module__}:{given.__qualname__}"
    GIVEN[name] = given
    return name


def class_of(name: str | type, registry: Mapping[str, type], base: type, what: str) -> Any:
    """The class of that name, a subclass of `base`. what: the noun of messages ("method").

    A module is looked for as `python -m` does: installed, or in the current folder.

    Raises:
        UserError: no such name, module or class; a class of another kind.
    """
    known = str(name_of(name, registry))
    if known in registry:
        return registry[known]
    module, colon, path = known.partition(":")
    if not colon:
        raise UserError(
            f"expected a {what} of {', '.join(registry)}, or your own as package.module:Class; got {quoted(known)}"
            + suggestion(known, registry)
        )
    found: Any = GIVEN.get(known) or imported(module, path, what)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(f"{what} {quoted(known)}: expected a subclass of {base.__name__}, got {quoted(found)}")
    return found


def imported(module: str, path: str, what: str) -> Any:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"{what} {quoted(f'{module}:{path}')}: expected a name that can be imported from here, got {error}; write "
            "package.module:Class, installed or in the current folder"
        ) from None
    return found
