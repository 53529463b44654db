"""Cells of spans with their offsets in the text, in each of their forms, as entities."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from contrastill.data.cells import is_text, some
from contrastill.data.conll import TAG
from contrastill.data.entities import Marked, Picked, Span, checked, is_at, place, plain
from contrastill.data.read import Table
from contrastill.errors import UserError, quoted

__all__ = ["from_spans"]

TYPE_KEYS = ("label", "type", "entity", "entity_group", "tag")


def from_spans(
    table: Table, columns: Picked, labels: Sequence[str] | None, marked: Marked
) -> tuple[list[Any], list[tuple[Span, ...]]]:
    """Texts and entities of spans: dicts or triplets, a dict of lists, or {type: {surface: [[start, end]]}}."""
    names = table.items.get(columns.label) or tuple(map(str, labels or ()))
    texts = list(table.frame[columns.text])
    cells = [plain(cell) for cell in table.frame[columns.label]]
    nested = [isinstance(cell, dict) and bool(cell) and not {"start", "end"} <= set(cell) for cell in cells]
    one_more = 0
    if any(nested):
        one_more, marked.form = of_surfaces(table, columns.label, texts, cells, nested)
    spans: list[tuple[Span, ...]] = []
    for line, text, cell, by_surface in zip(table.frame.index, texts, cells, nested, strict=True):
        where = place(table, line)
        if not isinstance(cell, (list, dict)):
            raise UserError(
                f"{where}: expected a list of spans in column {columns.label!r}, got {quoted(cell)}; write [] for a "
                "text without entities, or pass texts without labels by --unlabelled"
            )
        if not is_text(text):
            spans.append(())  # said where texts are checked
            continue
        if by_surface and isinstance(cell, dict):
            given: list[Any] = [(s, e + one_more, kind, surface) for kind, surface, s, e in surfaces(cell, where)]
        else:
            given = [span_of(each, names, where) for each in (rows_of(cell) if isinstance(cell, dict) else cell)]
        spans.append(checked(text, given, where, marked, nests=by_surface))
    if not marked.form:
        one: Any = next((plain(cell[0]) for cell in cells if isinstance(cell, list) and cell), {})
        marked.form = "spans as [start, end, type]" if isinstance(one, list) else "spans with start, end and type"
    kinds = {kind for row in spans for _, _, kind in row}
    if kinds and all(TAG.fullmatch(kind) or kind == "O" for kind in kinds):
        raise UserError(
            f"{table.name}: expected types of whole entities in column {columns.label!r}, got tags of tokens "
            f"({some(sorted(kinds), 4)}); join the tokens of an entity (aggregation_strategy='simple' of a pipeline)"
        )
    return texts, spans


def rows_of(cell: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A dict of lists as a list of dicts."""
    parts = {key: plain(each) for key, each in cell.items() if isinstance(plain(each), list)}
    return [{key: each[n] for key, each in parts.items() if n < len(each)} for n in range(len(parts.get("start", [])))]


def span_of(given: Any, names: Sequence[str], where: str) -> tuple[int, int, str, str | None]:
    """Start, end, type and surface (if it is given) of a span."""
    each, surface = plain(given), None
    if isinstance(each, dict):
        kinds = [each[key] for key in TYPE_KEYS if each.get(key) is not None]
        if not kinds or any(kind != kinds[0] for kind in kinds):
            raise UserError(
                f"{where}: expected one of {', '.join(TYPE_KEYS)} in a span, got {quoted(each)}; correct it"
            )
        parts, surface = [each.get("start"), each.get("end"), kinds[0]], each.get("text")
    elif isinstance(each, list) and len(each) == 3:
        parts = each
    else:
        raise UserError(
            f"{where}: expected a span with start, end and label, or [start, end, label], got {quoted(each)}; correct "
            "it"
        )
    start, end = (whole(part, each, where) for part in parts[:2])
    kind = parts[2]
    if isinstance(kind, int) and not isinstance(kind, bool):
        if not 0 <= kind < len(names):
            raise UserError(
                f"{where}: expected the name of a type, got the id {kind}"
                + (
                    f", of {len(names)} names"
                    if names
                    else "; pass --labels once for each type, in the order of the ids"
                )
            )
        kind = names[kind]
    if not isinstance(kind, str) or not kind.strip() or not is_text(kind):
        raise UserError(f"{where}: expected the name of a type in a span, got {quoted(kind)}; correct it")
    return start, end, kind.strip(), surface


def whole(value: Any, span: Any, where: str) -> int:
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise UserError(
        f"{where}: expected whole numbers for start and end, got {quoted(value)} in the span {quoted(span)}; correct it"
    )


def surfaces(cell: Mapping[str, Any], where: str) -> list[tuple[str, str, int, int]]:
    """Type, surface, start and end of each entity of a cell of CLUENER's form."""
    found = []
    for kind, of_kind in ((str(each), inner) for each, inner in cell.items()):
        for surface, places in (
            (of_kind or {}).items() if of_kind is None or isinstance(of_kind, dict) else [("", of_kind)]
        ):
            if places is None:  # another row's surface, in a column of parquet
                continue
            for each in plain(places) if isinstance(plain(places), list) else [places]:
                ends = plain(each)
                if not isinstance(of_kind, dict) or not isinstance(ends, list) or len(ends) != 2 or not kind.strip():
                    raise UserError(
                        f"{where}: expected {{type: {{surface: [[start, end]]}}}}, got {quoted({kind: of_kind})}; "
                        "correct it"
                    )
                found.append((kind.strip(), surface, whole(ends[0], ends, where), whole(ends[1], ends, where)))
    return found


def of_surfaces(
    table: Table, column: str, texts: Sequence[Any], cells: Sequence[Any], nested: Sequence[bool]
) -> tuple[int, str]:
    """What is to be added to the ends of CLUENER's form, judged by all surfaces of the table; and a note.

    Raises:
        UserError: a surface that is not where it should be.
    """
    fits = {1: 0, 0: 0}
    every = []
    for line, text, cell, there in zip(table.frame.index, texts, cells, nested, strict=True):
        if there and is_text(text):
            every += [(line, text, *each) for each in surfaces(cell, place(table, line))]
    for _, text, _, surface, start, end in every:
        for more in fits:
            fits[more] += is_at(text, start, end + more, surface)
    more = max(fits, key=lambda more: fits[more])
    kind_of_end = "inclusive" if more else "exclusive"
    for line, text, kind, surface, start, end in every:
        if not is_at(text, start, end + more, surface):
            raise UserError(
                f"{place(table, line)}: expected {quoted(surface)} ({kind[:60]}) at {start} to {end}, the end "
                f"{kind_of_end} as for {fits[more]} of {len(every)} entities in column {column!r}, got "
                f"{quoted(text[max(0, start) : end + more])}; correct the offsets"
            )
    return more, f"{{type: {{surface: [[start, end]]}}}}, ends {kind_of_end}, for so every surface fits"
