"""The parts of a settings dataclass: fields with help, panel and range, and the check of them all."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Self, get_origin

from contrastill.errors import UserError, quoted
from contrastill.memory import held
from contrastill.ranges import Range, checked, suggestion

__all__ = [
    "BATCH",
    "COUNT",
    "LENGTH",
    "POINTS",
    "ROWS",
    "SECONDS",
    "SEED",
    "STORED",
    "TARGET",
    "THREADS",
    "Checked",
    "cache_option",
    "delimiter_option",
    "flag",
    "length_option",
    "option",
]

# Ranges of several commands' options. Upper bounds stop slips of a key, not uses: beyond them libraries overflow.
LENGTH: dict[str, Any] = {"at_least": 2, "at_most": 1_048_576, "unit": "tokens"}
ROWS: dict[str, Any] = {"at_least": 1, "at_most": 1_000_000_000}
BATCH: dict[str, Any] = {"at_least": 1, "at_most": 1_000_000}
COUNT: dict[str, Any] = {"at_least": 1, "at_most": 1_000_000}
SEED: dict[str, Any] = {"at_least": 0, "at_most": 2**32 - 1}
SECONDS: dict[str, Any] = {"above": 0, "at_most": 86_400, "unit": "seconds"}
THREADS: dict[str, Any] = {"at_least": 1, "at_most": 4096}
STORED: dict[str, Any] = {
    "help": "type the outputs are stored in: float16, bfloat16, int8 or float32",
    "panel": "Cache",
    "choices": ("float16", "bfloat16", "int8", "float32"),
}
TARGET: dict[str, Any] = {"above": 0, "below": 1}
POINTS: dict[str, Any] = {"at_least": 0, "at_most": 100, "unit": "points"}


def option(
    default: Any,
    help: str,
    panel: str = "Training",
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] | None = None,
    unit: str | None = None,
    path: bool = False,
    rows: bool = False,
) -> Any:
    """A field of a settings dataclass: default, help, panel of the help, and range; see `Range`.

    default: a list or dict is copied for each object. rows: in Python, rows may be passed as objects (`memory.Rows`).
    """
    range_ = Range(at_least, above, at_most, below, choices, unit, path)
    metadata = {"help": help, "panel": panel, "range": range_, "rows": rows}
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def delimiter_option(panel: str = "Data") -> Any:
    """The option of commands that read files with fields."""
    return option(
        None, "character between the fields of .csv and .tsv files, or 'tab' [default: by the file's name]", panel
    )


def length_option(bound: int) -> Any:
    """The option of commands that cut texts. bound: the length where neither a run nor the model has a smaller one."""
    return option(
        None,
        "longest input in tokens; longer texts are cut [default: as in the run that made the model, else the smaller "
        f"of the model's own limit and {bound}]",
        "Data",
        **LENGTH,
    )


def cache_option(of: str) -> Any:
    """The option of commands that use the cache. of: its content, in words."""
    return option(None, f"folder of {of} [default: $CONTRASTILL_CACHE or ~/.cache/contrastill]", "Cache", path=True)


@dataclass(frozen=True)
class Checked:
    """Settings whose every field is checked against its annotation and range when they are made."""

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.default_factory is not MISSING and isinstance(value, list | dict | None):
                value = f.default_factory() if value is None else value
                if value == f.default_factory():  # it may be empty, which others may not
                    object.__setattr__(self, f.name, value)
                    continue
            if f.metadata["rows"]:
                value = held_in(value, f.type, flag(f.name))
            value = checked(value, f.type, f.metadata["range"], name=flag(f.name))
            object.__setattr__(self, f.name, value)
        self.check_together()

    def check_together(self) -> None:
        """Raises a UserError where settings, each of them possible, do not go with each other."""

    @classmethod
    def given(cls, settings: Mapping[str, Any]) -> Self:
        """The settings of these names.

        Raises:
            UserError: an unknown name, a required one that is missing, a value that cannot be.
        """
        known = [f.name for f in fields(cls)]
        if unknown := [name for name in settings if name not in known]:
            names = ", ".join(quoted(name) for name in unknown[:5])
            raise UserError(f"expected the settings of {cls.__name__}, got {names}{suggestion(unknown[0], known)}")
        missing = [
            flag(f.name)
            for f in fields(cls)
            if f.default is MISSING and f.default_factory is MISSING and f.name not in settings
        ]
        if missing:
            raise UserError(f"missing {', '.join(sorted(missing))} (see --help)")
        return cls(**settings)

    @classmethod
    def among(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The given settings that are fields of this class."""
        names = {f.name for f in fields(cls)}
        return {name: value for name, value in settings.items() if name in names and value is not None}


def held_in(value: Any, kind: Any, name: str) -> Any:
    """A setting whose value, or an item of it, may be rows."""
    if get_origin(kind) is not list:
        return held(value, name)
    if isinstance(value, list | tuple) and not all(isinstance(one, Mapping) for one in value):
        return [held(one, name) for one in value]
    return value if value is None or isinstance(value, str) else [held(value, name)]


def flag(name: str) -> str:
    """A setting's name on the command line."""
    return "--" + name.replace("_", "-")
