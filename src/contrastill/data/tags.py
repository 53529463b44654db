"""Lists of tokens and of their tags as texts and entities, whatever the scheme of the tags."""

import operator
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from contrastill.data.cells import is_text
from contrastill.data.conll import TAG
from contrastill.data.entities import Marked, Picked, Span, checked, place, plain
from contrastill.data.read import Table
from contrastill.errors import UserError, quoted

__all__ = ["from_tags", "joined"]

SCHEMES = {"BIO": "BI", "BIOES": "BIES", "BMES": "BMES", "BILOU": "BILU"}
OPENING = frozenset("([{¿¡«„‚‘") | {"``"}
CLOSING = re.compile(r"[.,;:!?…%)\]}»”]+|''|['’]s|n['’]t")
NO_SPACES = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\uff00-\uff60]{2}")
NO_SCHEME = "use tags like B-PER, I-PER and O"


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
