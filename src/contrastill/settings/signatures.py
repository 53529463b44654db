"""Signatures and help of the public functions, made from the settings: editors and notebooks complete them."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, Field, fields
from functools import wraps
from typing import Any, TypeVar, cast, get_args, get_origin

from contrastill.errors import lacking
from contrastill.ranges import typed

__all__ = ["arguments", "signature", "takes"]

Function = TypeVar("Function", bound=Callable[..., Any])
CLASSES = {"method", "task"}  # settings that take a class as well as its name
Kinds = Sequence[type]


def takes(*kinds: type) -> Callable[[Function], Function]:
    """Gives a function of `**settings` the signature of their dataclasses, the help of each setting, and an error that
    says what to install where the packages for training are missing."""

    def given(function: Function) -> Function:
        plain = inspect.signature(function)
        own = [one for one in plain.parameters.values() if one.kind is one.KEYWORD_ONLY]
        lines = [f"    {name}: {said}" for name, said in arguments(kinds).items()]
        named = " and ".join(f"`{kind.__name__}`" for kind in kinds)
        about = [inspect.cleandoc(function.__doc__ or ""), "", f"The settings are those of {named}."]
        function.__doc__ = "\n".join([*about, "", "Args:", *lines])

        @wraps(function)
        def run(**settings: Any) -> Any:
            try:
                return function(**settings)
            except ModuleNotFoundError as error:
                if (found := lacking(error)) is None:
                    raise
                raise ModuleNotFoundError(f"contrastill.{function.__name__}: {found}", name=error.name) from None

        vars(run)["__signature__"] = signature(kinds, own, plain.return_annotation)
        return cast(Function, run)

    return given


def signature(kinds: Kinds, own: Sequence[inspect.Parameter] = (), returned: Any = None) -> inspect.Signature:
    """The signature of a function whose keywords are the fields of `kinds`, those that are required first.

    Where kinds differ, the default is the first one's. own: further parameters.
    """
    found = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default(same, len(kinds)),
            annotation=annotation(name, same, len(kinds)),
        )
        for name, same in gathered(kinds)
    ]
    required = [one for one in found if one.default is one.empty]
    rest = [one for one in found if one.default is not one.empty]
    return inspect.Signature([*required, *rest, *own], return_annotation=returned)


def arguments(kinds: Kinds) -> dict[str, str]:
    """The help of each setting, with its range; the default of a kind that has another than the first."""
    found = {}
    for name, same in gathered(kinds):
        (first, field), *others = same
        range_ = str(field.metadata["range"])
        notes = [f"[{range_}]"] if range_ else []
        notes += [
            f"[{kind.__name__}: {default([(kind, other)], 1)!r}]"
            for kind, other in others
            if default([(kind, other)], 1) != default([(first, field)], 1)
        ]
        if len(same) < len(kinds):
            notes.append(f"[{' and '.join(kind.__name__ for kind, _ in same)} alone]")
        found[name] = " ".join([field.metadata["help"], *notes])
    return found


def gathered(kinds: Kinds) -> Iterator[tuple[str, list[tuple[type, Field[Any]]]]]:
    """Each setting with the kinds that have it."""
    for name in dict.fromkeys(field.name for kind in kinds for field in fields(kind)):
        yield name, [(kind, field) for kind in kinds for field in fields(kind) if field.name == name]


def default(same: Sequence[tuple[type, Field[Any]]], kinds: int) -> Any:
    """The first default, None for an empty list; `Parameter.empty` where each kind requires the setting, None where
    some do."""
    for _, field in same:
        if field.default is not MISSING:
            return field.default
        if field.default_factory is not MISSING:
            made = field.default_factory()
            return None if made == [] else made
    return inspect.Parameter.empty if len(same) == kinds else None


def annotation(name: str, same: Sequence[tuple[type, Field[Any]]], kinds: int) -> str:
    """The types that a setting may have in any of the kinds, in the words of a stub."""
    parts = [part for _, field in same for part in types_of(name, field)]
    if default(same, kinds) is None:
        parts.append("None")
    found = dict.fromkeys(parts)
    return " | ".join([*(part for part in found if part != "None"), *(["None"] if "None" in found else [])])


def types_of(name: str, field: Field[Any]) -> list[str]:
    kind, _, optional = typed(field.type)
    range_ = field.metadata["range"]
    one = f"Literal[{', '.join(map(repr, range_.choices))}]" if range_.choices else getattr(kind, "__name__", str(kind))
    found = [one]
    if get_origin(kind) is list:
        item = one if range_.choices else get_args(kind)[0].__name__
        found = [item, *(["PathLike[str]"] if range_.path else []), f"list[{item}]", f"tuple[{item}, ...]"]
    elif get_origin(kind) is dict:
        value = get_args(kind)[1]
        found = [f"Mapping[str, {getattr(value, '__name__', 'Any')}]"]
    elif range_.path:
        found = ["str", "PathLike[str]"]
    if field.metadata.get("rows"):
        found.append("Rows")
    if name in CLASSES and not range_.choices:
        found.append("type")
    return [*found, *(["None"] if optional else [])]
