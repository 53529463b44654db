"""Charts that were drawn are kept for the next test that asks for the very same: drawing is most of a page's time."""

import itertools
from collections.abc import Callable
from functools import wraps
from typing import Any

from markupsafe import Markup

from contrastill.report import charts

ANY = 987654321  # stands for a chart's number, which depends on its place in the page


def drawn_once(draw: Callable[..., Any]) -> Callable[..., Any]:
    kept: dict[str, Any] = {}

    @wraps(draw)
    def again(*asked: Any, **options: Any) -> Any:
        key = repr((asked, options))
        if key not in kept:
            numbers, charts.numbers = charts.numbers, itertools.repeat(ANY)
            try:
                kept[key] = draw(*asked, **options)
            finally:
                charts.numbers = numbers
        found, own = kept[key], f"k{next(charts.numbers)}-"
        picture, *more = found if isinstance(found, tuple) else (found,)
        numbered = Markup(picture.replace(f"k{ANY}-", own))
        return (numbered, *more) if isinstance(found, tuple) else numbered

    return again
