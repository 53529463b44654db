"""Cells that say where entities stand in a text: spans, or tokens and their tags; checked, repaired, encoded."""

import json
import operator
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from contrastill.data.cells import at, is_missing, is_text, loose, some
from contrastill.data.classes import Names, matching, unnamed
from contrastill.data.columns import check_column
from contrastill.data.conll import TAG
from contrastill.data.read import Table
from contrastill.data.rows import LABEL_NAMES, TEXT_NAMES
from contrastill.data.schema import METRICS, Schema
from contrastill.errors import UserError, quoted

__all__ = [
    "counted",
    "encode_spans",
    "evidence",
    "judge_types",
    "known_types",
    "rare_types",
    "rarest_type",
    "tag_columns",
    "texts_alone",
    "with_spans",
]

SPAN_NAMES = ("spans", "entities", "label", "labels", "annotations", "ner")
TAG_NAMES = ("ner_tags", "tags", "labels", "label", "ner")
TOKEN_NAMES = ("tokens", "words")
TYPE_KEYS = ("label", "type", "entity", "entity_group", "tag")
LOOKED_AT = 1000  # cells by which a column's form is judged
MOST = 1000  # types of a task
SCHEMES = {"BIO": "BI", "BIOES": "BIES", "BMES": "BMES", "BILOU": "BILU"}
OPENING = frozenset("([{¿¡«„‚‘") | {"``"}
CLOSING = re.compile(r"[.,;:!?…%)\]}»”]+|''|['’]s|n['’]t")
NO_SPACES = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\uff00-\uff60]{2}")
NO_SCHEME = "use tags like B-PER, I-PER and O"

Span = tuple[int, int, str]


@dataclass(frozen=True)
class Picked:
    """The columns of a table, and what the labels are: "spans" or "tags" (the texts are then lists of tokens)."""

    text: str
    label: str
    form: str
    by_name: bool = False


@dataclass
class Marked:
    """What was found and repaired in a table, for the decisions."""

    form: str = ""
    scheme: str = ""
    entities: int = 0
    begun: list[str] = field(default_factory=list)  # places of entities without a beginning
    unfinished: list[str] = field(default_factory=list)
    trimmed: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)

    def said(self) -> dict[str, str]:
        of = f"of {self.entities:,} entities"
        letters = " (or M-, E-, L-)" if self.scheme not in ("BIO", "") else ""
        repaired = [
            f"{len(places):,} {of} {what} (the first in {places[0]})"
            for places, what in ((self.begun, f"began with I-{letters}"), (self.unfinished, "had no end"))
            if places
        ]
        found = {"format": self.form, "scheme of tags": self.scheme, "tags repaired": " and ".join(repaired)}
        for what, places in (
            ("white space around entities left out", self.trimmed),
            ("entities given twice", self.twice),
            ("entities inside others left aside", self.nested),
        ):
            if places:
                found[what] = f"{len(places):,} {of} (the first in {places[0]})"
        return {what: how for what, how in found.items() if how}


# ---- the columns


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


def plain(cell: Any) -> Any:
    """A cell as Python's own lists and dicts; one that is written as JSON in a string is read."""
    if hasattr(cell, "tolist"):
        return cell.tolist()
    if isinstance(cell, str) and cell.lstrip()[:2] in ("[]", "[{", "[[", "{}", '{"', '["', "[ ", "{ "):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    return list(cell) if isinstance(cell, tuple) else cell


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


# ---- cells -> spans


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


def joined(tokens: Any) -> tuple[str, list[tuple[int, int]]]:
    """Tokens as people write them, and where each stands: no space before `.`, `,`, `)` and the like, none behind `(`,
    none between characters of scripts without spaces. Such texts a tagger meets when it is used."""
    text, places = "", list[tuple[int, int]]()
    behind_opening = quoted = german = False  # behind a "(", within straight marks, within German ones
    for token in (str(token) for token in plain(tokens)):
        opens = token in OPENING or (token == '"' and not quoted) or (token == "“" and not german)
        closes = CLOSING.fullmatch(token) is not None or (token in ('"', "“") and not opens)
        seam = text[-1:] + token[:1]
        if text and not closes and not behind_opening and not NO_SPACES.fullmatch(seam):
            text += " "
        places.append((len(text), len(text) + len(token)))
        text += token
        behind_opening, quoted = opens, quoted != (token == '"')
        german = token == "„" or (german and token != "“")
    return text, places


def from_tags(
    table: Table, columns: Picked, labels: Sequence[str] | None, marked: Marked
) -> tuple[list[str], list[tuple[Span, ...]]]:
    """Texts and entities of lists of tokens and of tags."""
    names = ids_of(labels) or table.items.get(columns.label, ())
    tokens = [plain(cell) for cell in table.frame[columns.text]]
    rows = []
    for line, words, cell in zip(table.frame.index, tokens, table.frame[columns.label], strict=True):
        tags = plain(cell)
        for what, column, each in (("tokens", columns.text, words), ("tags", columns.label, tags)):
            if not isinstance(each, list):
                raise UserError(
                    f"{place(table, line)}: expected a list of {what} in column {column!r}, got {quoted(each)}; "
                    "correct it" + ("" if what == "tokens" else ", or pass rows without labels by --unlabelled")
                )
        if wrong := [token for token in words if not isinstance(token, str)]:
            raise UserError(
                f"{place(table, line)}: expected strings in column {columns.text!r}, got {quoted(wrong[0])}; correct it"
            )
        if len(words) != len(tags):
            raise UserError(
                f"{place(table, line)}: expected a tag for each of {len(words)} tokens, got {len(tags)}; correct it"
            )
        rows.append([tag_name(tag, names, table, line, n) for n, tag in enumerate(tags)])
    scheme, prefixed = scheme_of(rows, table, columns.label)
    marked.form = "a token and its tag a line" if table.tokens else "lists of tokens and of tags"
    marked.scheme = scheme
    begins, ends = scheme in SCHEMES, scheme in SCHEMES and scheme != "BIO"
    texts, spans = [], []
    for line, words, tags in zip(table.frame.index, tokens, rows, strict=True):
        text, places = joined(words)
        found = []
        for run in runs(tags, prefixed):
            where = place(table, line, run.start).removeprefix(f"{table.name}, ")
            found.append((places[run.start][0], places[run.end - 1][1], run.kind, None))
            if begins and run.first not in "BSU":
                marked.begun.append(where)
            if ends and run.last not in "ESLU":
                marked.unfinished.append(where)
        texts.append(text)
        spans.append(checked(text, found, place(table, line), marked) if is_text(text) else ())
    return texts, spans


def ids_of(labels: Sequence[str] | None) -> tuple[str, ...]:
    """The names of tags, if the labels given are such: then O is one of them."""
    return tuple(map(str, labels)) if labels is not None and "O" in labels else ()


def tag_name(tag: Any, names: Sequence[str], table: Table, line: int, n: int) -> str:
    if isinstance(tag, str) and not tag.strip().isdecimal():
        return tag.strip()
    where = place(table, line, n)
    try:
        number = operator.index(int(tag) if isinstance(tag, str) else tag)
    except (TypeError, ValueError):  # a number of thousands of digits is a ValueError
        number = -1
    if number < 0 or isinstance(tag, bool):
        raise UserError(f"{where}: expected a tag's name or id, got {quoted(tag)}; correct it")
    if not names:
        raise UserError(
            f"{where}: expected names of tags, got the id {number} without the names of the ids; pass --labels "
            "once for each tag, in the order of the ids, O among them"
        )
    if number >= len(names):
        raise UserError(f"{where}: expected ids of tags from 0 to {len(names) - 1}, got {number}; correct it")
    return names[number]


def scheme_of(rows: Sequence[Sequence[str]], table: Table, column: str) -> tuple[str, bool]:
    """The scheme of a table's tags, and whether types have prefixes.

    Raises:
        UserError: tags of no scheme, or of several.
    """
    counts = Counter(tag for row in rows for tag in row)
    tagged = Counter({tag: count for tag, count in counts.items() if tag != "O"})

    def refuse(wrong: Callable[[str], bool], wanted: str, remedy: str) -> UserError:
        line, n, tag = next(
            (line, n, tag)
            for line, row in zip(table.frame.index, rows, strict=True)
            for n, tag in enumerate(row)
            if tag != "O" and wrong(tag)
        )
        return UserError(
            f"{place(table, line, n)}: expected {wanted} in column {column!r}, got {quoted(tag)}; {remedy}"
        )

    if not tagged:
        return "", True
    prefixed = {tag for tag in tagged if TAG.fullmatch(tag) and tag[2:].strip()}
    others = set(tagged) - prefixed
    if headless := {tag for tag in others if not tag or re.fullmatch(r"[A-Za-z]-\s*", tag)}:
        raise refuse(lambda tag: tag in headless, "a tag with a type (B-PER)", "correct it")
    if prefixed and others:
        if sum(tagged[tag] for tag in prefixed) >= sum(tagged[tag] for tag in others):
            wanted = "O, or a type with one of the prefixes B-, I-, E-, M-, S-, L-, U-"
            raise refuse(lambda tag: tag in others, wanted, "correct it")
        raise refuse(lambda tag: tag in prefixed, "types without a prefix, as most tags are,", "write all alike")
    if others:
        for pattern, what in (
            (r"[BIESMLU][_/:|.].+", "a hyphen between prefix and type (B-PER)"),
            (r".+[-_/:|.][BIESMLU]", "the prefix before the type (B-PER)"),
            (r"[BIESMLU]", "a tag with a type (B-PER)"),
        ):
            if all(re.fullmatch(pattern, tag) for tag in others):
                raise refuse(lambda tag: True, what, NO_SCHEME)
        if odd := {tag for tag in others if re.match(r"[A-Za-z]-.", tag)}:
            raise refuse(lambda tag: tag in odd, "one of the prefixes B-, I-, E-, M-, S-, L-, U-", NO_SCHEME)
        if "O" not in counts:
            raise refuse(
                lambda tag: True,
                "O for the tokens outside entities, in one row at least,",
                "is it the right column (--label)?",
            )
        return "IO", False
    letters = {tag[0] for tag in prefixed}
    scheme = next((name for name, allowed in SCHEMES.items() if letters <= set(allowed)), None)
    if scheme is None:
        which = ", ".join(f"{letter}-" for letter in sorted(letters))
        raise UserError(
            f"{table.name}: expected tags of one scheme ({', '.join(SCHEMES)}) in column {column!r}, got {which} "
            "together; write them alike"
        )
    if letters == {"I"}:
        return "IO (I- before each type)", True
    if scheme == "BIO" and is_iob1(rows):
        return "IOB1 (B- only where an entity follows another of its type)", True
    return scheme, True


def is_iob1(rows: Sequence[Sequence[str]]) -> bool:
    """Whether B- only ever parts two entities of one type."""
    plain = False
    for row in rows:
        before: Run | None = None
        for run in runs(row, True):
            if run.first == "B":
                if before is None or before.end != run.start or before.kind != run.kind:
                    return False
            else:
                plain = True
            before = run
    return plain


@dataclass(frozen=True)
class Run:
    """The tokens of an entity, end exclusive, and the letters of its first and last tag."""

    start: int
    end: int
    kind: str
    first: str
    last: str


def runs(tags: Sequence[str], prefixed: bool) -> list[Run]:
    """The entities of a sequence of tags of any scheme, as conlleval cuts them: one begins at B-, S-, U-, after the end
    of another, and where the type changes."""
    found: list[Run] = []
    start, kind, first, last = -1, "", "", ""
    for n, tag in enumerate([*tags, "O"]):
        letter, of = ("", "") if tag == "O" else (tag[0], tag[2:].strip()) if prefixed else ("I", tag)
        if start >= 0 and (not letter or letter in "BSU" or of != kind or last in "ESLU"):
            found.append(Run(start, n, kind, first, last))
            start = -1
        if letter and start < 0:
            start, kind, first = n, of, letter
        last = letter
    return found


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


def checked(
    text: str, given: Sequence[tuple[int, int, str, Any]], where: str, marked: Marked, *, nests: bool = False
) -> tuple[Span, ...]:
    """The spans of a text, checked, trimmed and sorted. nests: an entity inside another is left aside.

    Raises:
        UserError: a span that is not in the text, or two that overlap.
    """
    spans: list[Span] = []
    marked.entities += len(given)
    at_row = where.rpartition(", ")[2]
    for start, end, kind, surface in given:
        shown = f"[{start}, {end}, {quoted(kind, 60)}]"
        if not 0 <= start < end <= len(text):
            raise UserError(
                f"{where}: expected a span within its text of {len(text)} characters, its start before its end, got "
                f"{shown}{other_units(text, start, end, surface)}; correct it"
            )
        if surface is not None and text[start:end] != surface:
            raise UserError(
                f"{where}: expected the text {quoted(surface)} of the span {shown} at that place, got "
                f"{quoted(text[start:end])}{other_units(text, start, end, surface)}; correct the offsets"
            )
        first = start + len(text[start:end]) - len(text[start:end].lstrip())
        last = first + len(text[start:end].strip())
        if first == last:
            raise UserError(f"{where}: expected characters in the span {shown}, got white space alone; remove it")
        if (first, last) != (start, end):
            marked.trimmed.append(at_row)
        spans.append((first, last, kind))
    spans.sort(key=lambda span: (span[0], -span[1], span[2]))
    kept: list[Span] = []
    for span in spans:
        before = kept[-1] if kept else None
        if before == span:
            marked.twice.append(at_row)
        elif before is None or before[1] <= span[0]:
            kept.append(span)
        elif nests and span[1] <= before[1] and span[:2] != before[:2]:
            marked.nested.append(at_row)
        else:
            both = " and ".join(f"[{s}, {e}, {quoted(k, 60)}] ({quoted(text[s:e], 60)})" for s, e, k in (before, span))
            raise UserError(f"{where}: expected spans that do not overlap, got {both}; remove one")
    return tuple(kept)


def is_at(text: str | bytes, start: int, end: int, surface: str | bytes) -> bool:
    return 0 <= start < end <= len(text) and text[start:end] == surface


def other_units(text: str, start: int, end: int, surface: Any) -> str:
    """A hint at offsets that count something else than characters."""
    if isinstance(surface, str) and surface:
        for codec, size, what in (("utf-16-le", 2, "UTF-16 code units"), ("utf-8", 1, "bytes of UTF-8")):
            if is_at(text.encode(codec), start * size, end * size, surface.encode(codec, "replace")):
                return f" (it is there if offsets count {what}: count characters, Unicode's code points)"
        if is_at(text, start, end + 1, surface):
            return " (it is there if the end is inclusive: add 1 to each end)"
    if 0 <= start < end:
        for codec, size, what in (("utf-16-le", 2, "UTF-16 code units"), ("utf-8", 1, "bytes of UTF-8")):
            if len(text) < end <= len(text.encode(codec)) // size:
                return f" (do the offsets count {what}? Count characters, Unicode's code points)"
    return ""


def place(table: Table, line: Any, n: int = 0) -> str:
    """Where a row is; of a table with a token a line, where its token n is."""
    if table.tokens and table.unit == "line":
        return f"{table.name}, line {int(line) + n}"
    return f"{table.name}, {table.unit} {line}" + (f", tag {n + 1}" if n else "")


# ---- types


def known_types(labels: Sequence[str] | None, of_model: Sequence[str] | None) -> Names | None:
    """The types that are given; from names of tags, those of the tags, in their order."""
    if labels is not None:
        return Names(types_of([str(name).strip() for name in labels]), "--labels")
    if of_model and not unnamed(of_model):
        return Names(tuple(of_model), "the model")
    return None


def types_of(names: Sequence[str]) -> tuple[str, ...]:
    """The types among names of tags, O among them, in their order; other names are types."""
    if "O" not in names:
        return tuple(names)
    tags = [name for name in names if name != "O"]
    prefixed = all(map(TAG.fullmatch, tags))
    return tuple(dict.fromkeys(tag[2:] if prefixed else tag for tag in tags))


def judge_types(
    task: Schema, tables: Mapping[str, Table], known: Names | None, why: str, decided: dict[str, str]
) -> Schema:
    """The schema with its types: those given, else those of all splits by name.

    Raises:
        UserError: none, or too many; one type in two spellings.
    """
    first = next(iter(tables.values()))
    decided["kind"] = f"tagging: {why}"
    if known is None:
        seen = {kind for table in tables.values() for row in table.frame[task.label] for _, _, kind in row}
        for table in tables.values():
            for names in table.items.values():
                if seen & set(types := types_of(names)):
                    seen |= set(types)
        names, order = tuple(sorted(seen)), "by alphabet"
        alike: dict[str, str] = {}
        for name in names:
            if (other := alike.setdefault(loose(name), name)) != name:
                raise UserError(
                    f"{first.name}: expected one spelling for a type, got {quoted(other)} and {quoted(name)}; write "
                    "them the same way, or pass --labels with every type if they are two"
                )
    else:
        names, order = known.names, f"in the order of {known.giver}"
    if not names:
        raise UserError(f"{first.name}: expected texts with entities in column {task.label!r}, got none; add some")
    if len(names) > MOST or len(set(names)) < len(names) or not all(name.strip() for name in names):
        raise UserError(
            f"{first.name}: expected 1 to {MOST:,} different types of entities in column {task.label!r}, got "
            f"{len(names):,} ({some(names)}); choose another column (--label), or correct "
            + (known.giver if known else "the rows")
        )
    decided["types"] = f"{len(names)}, {order}: {some(names)}"
    return replace(task, kind="tagging", labels=names, metrics=METRICS["tagging"])


def encode_spans(rows: "pd.Series[Any]", task: Schema, table: Table, known: Names | None) -> list[list[int]]:
    """Tuples of spans -> [start, end, type id, start, end, type id, …].

    Raises:
        UserError: a type that whoever gives the types does not know.
    """
    ids = {name: n for n, name in enumerate(task.labels)}
    seen = sorted({kind for row in rows for _, _, kind in row})
    if known is not None and known.loosely:
        ids |= matching(seen, task.labels)
    if unknown := [name for name in seen if name not in ids]:
        lines = [line for line, row in rows.items() if any(kind in unknown for _, _, kind in row)]
        giver = known.giver if known is not None else "the data"
        raise UserError(
            f"{table.name}: expected the types of {giver} ({some(task.labels)}), got {some([*map(repr, unknown)])} in "
            f"{at(lines, table.unit)}; correct or remove them"
            + (", or pass --labels with every type" if giver == "--labels" else "")
        )
    return [[number for start, end, kind in row for number in (start, end, ids[kind])] for row in rows]


def counted(labels: Sequence[Sequence[int]]) -> Counter[int]:
    """The entities of each type id, in labelled texts."""
    return Counter(kind for label in labels for kind in label[2::3])


def rarest_type(labels: Sequence[Sequence[int]]) -> list[int]:
    """The rarest type of each text, -1 where it has none: texts are divided by it, so that each part has every type."""
    texts = Counter(kind for label in labels for kind in set(label[2::3]))
    return [min(set(label[2::3]), key=lambda kind: (texts[kind], kind), default=-1) for label in labels]


def rare_types(frames: Mapping[str, pd.DataFrame], task: Schema) -> dict[str, str]:
    """Remarks on types with hardly any entities."""
    counts = {split: counted(frame["label"]) for split, frame in frames.items()}
    train, every = counts["train"], range(len(task.labels))
    groups = {
        "types of one training entity": [n for n in every if train[n] == 1],
        "types without training entities": [n for n in every if not train[n]],
    }
    for split, of_split in counts.items():
        if split != "train":
            groups[f"types in {split} but not in train"] = [n for n in every if of_split[n] and not train[n]]
            groups[f"types without {split} entities"] = [n for n in every if not of_split[n] and train[n]]
    return {what: f"{len(ns)} ({some([task.labels[n] for n in ns])})" for what, ns in groups.items() if ns}
