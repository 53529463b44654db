"""Tables whose cells say where entities stand in a text: spans, or tokens and their tags."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from contrastill.data.cells import is_missing, some
from contrastill.data.columns import check_column
from contrastill.data.entities import Marked, Picked, plain
from contrastill.data.offsets import from_spans
from contrastill.data.read import Table
from contrastill.data.rows import LABEL_NAMES, TEXT_NAMES
from contrastill.data.schema import Schema
from contrastill.data.tags import from_tags, joined
from contrastill.errors import UserError, quoted

__all__ = ["evidence", "tag_columns", "texts_alone", "with_spans"]

SPAN_NAMES = ("spans", "entities", "label", "labels", "annotations", "ner")
TAG_NAMES = ("ner_tags", "tags", "labels", "label", "ner")
TOKEN_NAMES = ("tokens", "words")
LOOKED_AT = 1000  # cells by which a column's form is judged


def evidence(table: Table, label: Any) -> str:
    """What speaks for entities, where nobody says what the labels are; "" if nothing does."""
    if table.tokens:
        return "a token and its tag a line"
    lower = {str(column).lower(): str(column) for column in table.frame.columns}
    if isinstance(label, str):
        names = [label] if label in table.frame else []
    else:
        names = [lower[name] for name in dict.fromkeys((*SPAN_NAMES, *TAG_NAMES)) if name in lower]
    forms, tokens = {name: form_of(table, name) for name in names}, tokens_in(table, lower)
    others = [lower[name] for name in LABEL_NAMES if name in lower and not isinstance(label, str)]
    if any(forms.get(name) not in ("spans", "tags" if tokens else "spans") for name in others):
        return ""  # the texts have labels of another kind as well
    if spans := [name for name, form in forms.items() if form == "spans"]:
        return f"the cells of {spans[0]!r} are spans"
    tags = [name for name, form in forms.items() if form == "tags"]
    if tags and tokens:
        return f"the cells of {tokens!r} are tokens, those of {tags[0]!r} their tags"
    return ""


def tokens_in(table: Table, lower: Mapping[str, str]) -> str:
    """The column of lists of tokens, by name."""
    return next((lower[name] for name in TOKEN_NAMES if name in lower and form_of(table, lower[name]) == "tags"), "")


def form_of(table: Table, column: str) -> str:
    """What the cells of a column are: "spans", "tags" (lists of names or ids), "empty" lists, or "" for neither."""
    cells = [plain(cell) for cell in table.frame[column].head(LOOKED_AT) if not is_missing(cell)]
    if not cells or any(not isinstance(cell, (list, dict)) for cell in cells):
        return ""
    full = [cell for cell in cells if cell]
    if not full:
        return "empty"
    if any(looks_like_spans(cell) for cell in full):
        return "spans"
    return "tags" if all(isinstance(cell, list) and not isinstance(cell[0], (list, dict)) for cell in full) else ""


def looks_like_spans(cell: Any) -> bool:
    if isinstance(cell, dict):
        return {"start", "end"} <= set(cell) or all(part is None or isinstance(part, dict) for part in cell.values())
    first = plain(cell[0])
    if isinstance(first, dict):
        return "start" in first or "end" in first
    return isinstance(first, list) and len(first) == 3 and not isinstance(first[0], (str, list, dict))


def tag_columns(
    name: str, table: Table, text: str | None, text_pair: str | None, label: Any, decided: dict[str, str]
) -> Schema:
    """A task with the columns of texts and entities, asked for or known by name; no types yet."""
    if text_pair is not None:
        raise UserError(f"expected one text a row for entities, got --text-pair {quoted(text_pair)}; leave it out")
    if label is not None and not isinstance(label, str):
        raise UserError(f"expected one label column for entities, got {some(label)}; name one")
    found = picked(table, text, label)
    there = [str(column) for column in table.frame.columns]
    decided["columns"] = f"text {found.text!r}, label {found.label!r}" + (
        " (the first and the last)" if table.tokens and text is None and label is None else ""
    )
    if text is None and label is None and not table.tokens:
        decided["columns"] += " (text and label by name)"
    if left := [column for column in there if column not in (found.text, found.label)]:
        decided["columns left aside"] = some([repr(column) for column in left], 20)
    tokens = found.form == "tags"
    return Schema(
        name, "tagging", "text" if tokens else found.text, None, "tags" if table.tokens else found.label, (), ()
    )


def picked(table: Table, text: str | None, label: str | None) -> Picked:
    """The columns of one table.

    Raises:
        UserError: one that is asked for is not there, or the names leave a doubt.
    """
    there = [str(column) for column in table.frame.columns]
    listing = f"{table.name} has the columns {some([repr(column) for column in there], 20)}"
    for flag, column in (("--text", text), ("--label", label)):
        check_column(flag, column, there, listing)
    if table.tokens:
        if len(there) == 1:
            raise UserError(
                f"{table.name}: expected a token and its tag a line, got one column; add the tags, or, if the texts "
                "have none, pass the file by --unlabelled"
            )
        text, label = text or there[0], label or there[-1]
        if text == label:
            raise UserError(f"expected different columns, got {text!r} for --text and --label; {listing}")
        return Picked(text, label, "tags")
    lower = {column.lower(): column for column in reversed(there)}
    if label is None:
        names = [lower[each] for each in dict.fromkeys((*SPAN_NAMES, *TAG_NAMES)) if each in lower]
        hits = [each for each in names if each != text and form_of(table, each)]
        if len(hits) != 1:
            raise UserError(
                f"expected the name of the column of entities (spans, or tags of tokens): {listing}; pass --label "
                "COLUMN, or, if the rows have no labels, pass the file by --unlabelled"
            )
        label = hits[0]
    form = form_of(table, label)
    tokens = tokens_in(table, lower)
    if form in ("empty", ""):
        form = "tags" if tokens and not any(each in lower for each in TEXT_NAMES) else "spans"
    if text is None:
        names = [lower[each] for each in (TOKEN_NAMES if form == "tags" else TEXT_NAMES) if each in lower]
        if len(names) != 1:
            what = "tokens (lists)" if form == "tags" else "texts"
            raise UserError(f"expected the name of the column of {what}: {listing}; pass --text COLUMN")
        text = names[0]
    if text == label:
        raise UserError(f"expected different columns, got {text!r} for --text and --label; {listing}")
    return Picked(text, label, form)


def with_spans(
    tables: Mapping[str, Table],
    task: Schema,
    text: str | None,
    label: str | None,
    labels: Sequence[str] | None,
    decided: dict[str, str],
) -> dict[str, Table]:
    """Each table with texts and tuples of (start, end, type) in the columns that the task names.

    What was decided and repaired goes to `decided`. labels: as the user gave them; names of tags among them serve for
    ids.

    Raises:
        UserError: cells that are no entities of their text.
    """
    found, said, entities = {}, dict[str, dict[str, str]](), []
    for split, table in tables.items():
        there = {str(column) for column in table.frame.columns}
        own = table.tokens or not {task.text, task.label} <= there
        chosen = picked(table, text or (None if own else task.text), label or (None if own else task.label))
        if not own and text is None and chosen.form == "tags":
            chosen = picked(table, None, label or task.label)
        marked = Marked()
        read = from_tags if chosen.form == "tags" else from_spans
        texts, spans = read(table, chosen, labels, marked)
        frame = pd.DataFrame({task.text: texts, task.label: spans}, index=table.frame.index, dtype=object)
        found[split] = replace(table, frame=frame)
        said[split] = marked.said()
        empty = sum(not each for each in spans)
        entities.append(f"{split}: {sum(map(len, spans)):,} in {len(spans):,} texts ({empty:,} without any)")
    for what in dict.fromkeys(what for each in said.values() for what in each):
        of_splits = {split: each[what] for split, each in said.items() if what in each}
        same = (
            len(set(of_splits.values())) == 1 and len(of_splits) == len(said) and what in ("format", "scheme of tags")
        )
        decided[what] = (
            next(iter(of_splits.values())) if same else "; ".join(f"{split}: {how}" for split, how in of_splits.items())
        )
    decided["entities"] = ", ".join(entities)
    return found


def texts_alone(table: Table, task: Schema, text: str | None) -> Table:
    """A table of texts without labels, in the column that the task names; of tokens, joined."""
    there = {str(column).lower(): str(column) for column in reversed(list(table.frame.columns))}
    if table.tokens:
        column = text if text in table.frame else "1"
    elif task.text in table.frame:
        column = task.text
    else:
        column = tokens_in(table, there) or task.text
    if column not in table.frame:
        return table  # said where columns are checked
    cells = [joined(cell)[0] if isinstance(plain(cell), list) else cell for cell in table.frame[column]]
    return replace(table, frame=pd.DataFrame({task.text: cells}, index=table.frame.index, dtype=object))
