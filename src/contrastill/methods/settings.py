"""The settings of methods: types with the range in which the loss means something, and the check of a constructor's."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

from contrastill.encoder import GRANULARITIES
from contrastill.mapping import MAPS
from contrastill.ranges import Range, checked

__all__ = [
    "Comparison",
    "Count",
    "Granularity",
    "LayerMap",
    "Nucleus",
    "Number",
    "Pool",
    "Scale",
    "Share",
    "Source",
    "Temperature",
    "Weight",
    "checking",
    "settings_of",
]

Temperature = Annotated[float, Range(above=0, at_most=1000)]
Scale = Annotated[float, Range(above=0, at_most=10_000)]
Share = Annotated[float, Range(at_least=0, at_most=1)]
Weight = Annotated[float, Range(at_least=0, at_most=1_000_000)]
Number = Annotated[int, Range(at_least=0, at_most=1_048_576, unit="texts")]
Count = Annotated[int, Range(at_least=0, at_most=1024)]
Comparison = Annotated[str, Range(choices=("cos_nce", "hidden", "cosine", "centred"))]
Nucleus = Annotated[float, Range(above=0, at_most=1)]
Source = Annotated[str, Range(choices=("given", "teacher", "student"))]
Granularity = Annotated[str, Range(choices=tuple(GRANULARITIES))]
Pool = Annotated[str, Range(choices=("cls", "mean"))]
LayerMap = Annotated[str, Range(choices=tuple(MAPS))]


def settings_of(init: Callable[..., None]) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a method's constructor."""
    parameters = inspect.signature(init).parameters.values()
    return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}


def checking(init: Callable[..., None]) -> Callable[..., None]:
    """The constructor, which checks its settings before anything else."""
    known = settings_of(init)

    @wraps(init)
    def checked_init(self: Any, *models: Any, **settings: Any) -> None:
        for name in settings.keys() & known.keys():
            settings[name] = checked(settings[name], known[name].annotation, name=f"setting {name!r} of {self.name!r}")
        init(self, *models, **settings)

    return checked_init
