"""Finds the columns of texts and labels, and checks every row of them."""

import re
from typing import Any

import pandas as pd

from contrastill.data.cells import at, class_name, is_missing, is_text, several, some
from contrastill.data.columns import check_column
from contrastill.data.read import Table
from contrastill.data.schema import Schema
from contrastill.errors import UserError

__all__ = ["checked_rows", "columns_of", "hides_labels"]

PAIR_NAMES = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("text", "text_pair"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("sentence_a", "sentence_b"),
)
CUSTOMARY = (  # pairs as well, but for a second column that reads like a label
    ("query", "document"),
    ("query", "passage"),
    ("query", "positive"),
    ("question", "answer"),
    ("question", "passage"),
    ("question", "context"),
    ("anchor", "positive"),
    ("claim", "evidence"),
)
IDEOGRAPH = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]"
)  # no spaces between words
LOOKED_AT = 1000  # rows by which a column is judged to hold texts
TEXT_NAMES = ("text", "sentence", "utterance", "question", "query", "review", "tweet", "content")
LABEL_NAMES = ("label", "labels", "category", "intent", "class", "score", "target")


def columns_of(
    name: str, table: Table, text: str | None, text_pair: str | None, label: Any, decided: dict[str, str]
) -> Schema:
    """A task with the text, text pair and label columns asked for, or those whose names leave no doubt; no kind yet.

    What was chosen and what was left aside goes to `decided`.
    """
    there = [str(column) for column in table.frame.columns]
    lower = known_names(table)
    listing = f"{table.name} has the columns {columns_in_words(there)} (its first row must name them)"
    parts = label.split(",") if isinstance(label, str) and label not in there else label
    if isinstance(parts, (list, tuple)) and len(parts) > 1:
        raise UserError(
            f"expected one label column, got {some(parts)}; pass --task multilabel if each says yes or no to a label"
        )
    for flag, column in (("--text", text), ("--text-pair", text_pair), ("--label", label)):
        check_column(flag, column, there, listing)
    guessed = [what for what, column in (("text", text), ("label", label)) if column is None]
    single = False
    if text is None:
        text, text_pair = text_columns(table, lower, listing, text_pair)
        single = text_pair is None
    if label is None:
        guesses = [lower[name] for name in LABEL_NAMES if name in lower and lower[name] not in (text, text_pair)]
        if len(guesses) != 1:
            raise UserError(
                f"expected the name of the label column: {listing}; pass --label COLUMN, or, "
                "if each label has a column of yes and no, --task multilabel --label A,B,C"
            )
        label = guesses[0]
    if len({text, text_pair, label}) < 3:
        raise UserError(f"expected different columns, got text {text!r}, text pair {text_pair!r}, label {label!r}")
    left = [column for column in there if column not in (text, text_pair, label)]
    if single and (more := [column for column in left if reads_like_text(table, column)]):
        raise UserError(
            f"expected a choice of one text or two a row: {table.name} has texts in {text!r} and in "
            f"{columns_in_words(more)}; pass --text {text} to ignore {'it' if len(more) == 1 else 'them'}, or "
            f"--text {text} --text-pair {more[0]} to read both"
        )
    used = {"text": text, "text pair": text_pair, "label": label}
    decided["columns"] = ", ".join(f"{what} {column!r}" for what, column in used.items() if column is not None) + (
        f" ({' and '.join(guessed)} by name)" if guessed else ""
    )
    if left:
        decided["columns left aside"] = columns_in_words(left)
        if named := [column for column in left if names_the_ids(table, str(label), column)]:
            decided["columns left aside"] += (
                f"; {named[0]!r} names the ids of {label!r}: --label {named[0]} takes the names"
            )
    return Schema(name, "", text, text_pair, label, (), ())


def text_columns(table: Table, lower: dict[str, str], listing: str, text_pair: str | None) -> tuple[str, str | None]:
    """The columns of the first and second text, by name; the second is None if a row has one text.

    Raises:
        UserError: several columns, or none, have such names.
    """
    pairs = [pair for pair in (*PAIR_NAMES, *CUSTOMARY) if set(pair) <= set(lower)]
    alone = [name for name in TEXT_NAMES if name in lower and not any(name in pair for pair in pairs)]
    if len(pairs) + len(alone) != 1 or text_pair is not None:
        raise UserError(
            f"expected the name of the text column: {listing}; pass --text COLUMN, and --text-pair "
            "COLUMN if there are two texts a row"
        )
    if not pairs:
        return lower[alone[0]], None
    first, second = (lower[name] for name in pairs[0])
    if pairs[0] in CUSTOMARY and repeats(table, second):
        raise UserError(
            f"expected the name of the text column: {listing}, of which {second!r} may be a second "
            f"text or a label; pass --text {first}, and --text-pair {second} if each row has two texts"
        )
    return first, second


def known_names(table: Table) -> dict[str, str]:
    """Columns by their lower-case names.

    Raises:
        UserError: two known names differ in case only.
    """
    lower: dict[str, str] = {}
    known = {*TEXT_NAMES, *LABEL_NAMES, *(name for pair in (*PAIR_NAMES, *CUSTOMARY) for name in pair)}
    for column in map(str, table.frame.columns):
        if (key := column.lower()) in lower and key in known:
            raise UserError(
                f"{table.name}: expected column names that differ in more than case, got {lower[key]!r} and "
                f"{column!r}; rename one"
            )
        lower[key] = column
    return lower


def columns_in_words(columns: list[str]) -> str:
    return some([repr(column) for column in columns], 20)


def strings(table: Table, column: str) -> list[str]:
    """The first texts of a column."""
    return [cell for cell in table.frame[column].head(LOOKED_AT) if isinstance(cell, str) and cell.strip()]


def words(cells: list[str]) -> float:
    """The mean number of words in a cell; a sign of a script without spaces counts as one."""
    counts = [
        len(IDEOGRAPH.findall(cell)) + sum(any(map(str.isalpha, part)) for part in cell.split()) for cell in cells
    ]
    return sum(counts) / max(1, len(counts))


def reads_like_text(table: Table, column: str) -> bool:
    """Whether most rows of a column have a text, few of them the same."""
    cells, rows = strings(table, column), min(len(table.frame), LOOKED_AT)
    return len(cells) > rows / 2 and len(set(cells)) > len(cells) / 2 and words(cells) >= 3


def repeats(table: Table, column: str) -> bool:
    """Whether a column has few different cells, and short ones, as a label has."""
    cells = strings(table, column)
    return len(set(cells)) <= len(cells) / 2 and words(cells) < 3


def names_the_ids(table: Table, label: str, column: str) -> bool:
    """Whether `label` holds whole numbers and `column` one name for each of them."""
    if not column.lower().startswith("label"):
        return False
    ids = [class_name(cell) for cell in table.frame[label] if not is_missing(cell)]
    pairs = set(zip(map(class_name, table.frame[label]), map(class_name, table.frame[column]), strict=True))
    one_to_one = len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    return one_to_one and all(re.fullmatch(r"-?\d+", one) for one in ids)


def hides_labels(table: Table, label: str) -> bool:
    return label not in table.frame or bool(table.frame[label].map(is_missing).all())


def checked_rows(
    table: Table, task: Schema, split: str, *, benchmark: bool, notes: list[str], sets: bool = False
) -> pd.DataFrame:
    """The rows as example_id, text, text_pair, label (cells as found); the index still counts the source's lines.

    The split "unlabelled" has no label. A benchmark's broken rows are dropped and noted: its user cannot change them;
    in own data they are errors.
    """
    wanted = {"text": task.text, "text_pair": task.text_pair, "label": None if split == "unlabelled" else task.label}
    wanted = {ours: theirs for ours, theirs in wanted.items() if theirs is not None}
    for ours, column in wanted.items():
        if column not in table.frame:
            repair = "; name it so, or pass --text, --text-pair and --label"
            if ours == "label":
                repair += "; or, if the rows have no labels, pass the file by --unlabelled"
            there = columns_in_words([str(each) for each in table.frame.columns])
            raise UserError(f"{table.name}: expected a column {column!r}, got {there}{repair}")
    rows = pd.DataFrame({ours: table.frame[theirs] for ours, theirs in wanted.items()}, dtype=object)
    rows.insert(0, "example_id", [f"{split}-{i}" for i in range(len(rows))])

    good = {ours: rows[ours].map(is_text).astype(bool) for ours in wanted if ours != "label"}
    for ours, mask in good.items():
        if not mask.all() and not benchmark:
            raise UserError(
                f"{table.name}: expected text in column {wanted[ours]!r}, got {at(rows.index[~mask], table.unit)} "
                "without (empty, white space, not a string or not valid Unicode); fill them in or remove them"
            )
    whole = pd.DataFrame(good).all(axis=1)
    if dropped := table.dropped + int((~whole).sum()):
        notes.append(f"{table.name}: {dropped} broken rows were left out")
    rows = rows[whole]

    if "label" in wanted and not sets:
        missing = rows["label"].map(is_missing).astype(bool)
        if missing.any():
            divided = several(list(rows["label"][~missing]))
            raise UserError(
                f"{table.name}: expected a label in column {task.label!r}, got {at(rows.index[missing], table.unit)}"
                " without; label or remove them, or put them in a file of their own and pass it by --unlabelled"
                + ("; or pass --task multilabel --separator, if a row may have any number of labels" if divided else "")
            )
        if rows["label"].map(lambda cell: isinstance(cell, (list, tuple, dict))).any():
            raise UserError(
                f"{table.name}: expected one label a row in column {task.label!r}, got lists; pass --task "
                "multilabel if a row has any number of labels"
            )
        odd = rows["label"].map(lambda cell: isinstance(cell, bytes)).astype(bool)
        if odd.any():
            raise UserError(
                f"{table.name}: expected names or numbers in column {task.label!r}, got bytes in "
                f"{at(rows.index[odd], table.unit)}; write the column as strings"
            )
    return rows
