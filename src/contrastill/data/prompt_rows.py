"""Finds the columns of prompts and answers, or of conversations, and checks every row of them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from contrastill.data.cells import is_missing, is_text
from contrastill.data.columns import check_column
from contrastill.data.read import Table
from contrastill.data.rows import reads_like_text
from contrastill.errors import UserError, counted, quoted, quoted_each

__all__ = ["Columns", "Prompt", "columns_of", "prompt_rows"]

Prompt = str | list[dict[str, str]]
"""A text, or the messages before the answer."""
Columns = tuple[str] | tuple[str, str]
"""The column of conversations, or those of prompt and answer."""
Row = tuple[Prompt, str, str]  # prompt, answer, and what is wrong with them ("" for nothing)

PROMPTS = ("prompt", "instruction", "input", "question", "query")
ANSWERS = ("answer", "response", "output", "completion")
SEQUENCES = ("source", "target")  # taken where there is none of the others: "source" often says where a row is from
MESSAGES = "messages"
USERS = ("system", "developer", "user", "tool")
ASSISTANT = "assistant"
FEW = 0.05  # the largest share of broken rows that is left out with a note


def columns_of(
    table: Table, prompt: str | None, answer: str | None, messages: str | None, decided: dict[str, str]
) -> Columns:
    """The columns asked for, or those whose names leave no doubt.

    What was chosen and what was left aside goes to `decided`.

    Raises:
        UserError: no such column, none or several with a usual name, further columns that read like texts.
    """
    there = [str(column) for column in table.frame.columns]
    listing = f"{table.name} has the columns {quoted_each(there)} (a .csv file's first row must name them)"
    for flag, column in (("--prompt", prompt), ("--answer", answer), ("--messages", messages)):
        check_column(flag, column, there, listing)
    plain = prompt is not None or answer is not None
    if plain and messages is not None:
        raise UserError("expected --messages, or --prompt and --answer, got both; leave one out")
    chats = [messages] if messages is not None else [name for name in there if name.lower() == MESSAGES and not plain]
    prompts = [prompt] if prompt is not None else usual(there, PROMPTS, SEQUENCES[0], answer)
    answers = [answer] if answer is not None else usual(there, ANSWERS, SEQUENCES[1], prompt)
    if len(chats) == 1 and (messages is not None or not (prompts and answers)):
        found: Columns = (chats[0],)
    elif not chats and len(prompts) == len(answers) == 1:
        found = (prompts[0], answers[0])
    else:
        raise UserError(
            f"expected one column of prompts ({', '.join(PROMPTS)}) and one of answers ({', '.join(ANSWERS)}), or one "
            f"of {MESSAGES}: {listing}; pass --prompt COLUMN and --answer COLUMN, or --messages COLUMN (texts in "
            "several columns must be joined first)"
        )
    if len(set(found)) < len(found):
        raise UserError(f"expected different columns, got {found[0]!r} for --prompt and --answer")
    left = [column for column in there if column not in found]
    if len(found) == 2 and prompt is None and (more := [name for name in left if reads_like_text(table, name)]):
        raise UserError(
            f"expected a choice of the prompt: {table.name} has texts in {found[0]!r} and in {quoted_each(more)}; pass "
            f"--prompt {found[0]} to leave these aside, or join them in one column"
        )
    said = [f"{what} {column!r}" for what, column in zip(("prompt", "answer"), found, strict=False)]
    guessed = " (by name)" if messages is None and (prompt is None or answer is None) else ""
    decided["columns"] = (f"messages {found[0]!r}" if len(found) == 1 else ", ".join(said)) + guessed
    if left:
        decided["columns left aside"] = quoted_each(left)
    return found


def usual(there: Sequence[str], names: Sequence[str], last: str, taken: str | None) -> list[str]:
    """The columns with one of these names, whatever the case; `last` where there is none."""
    free = [column for column in there if column != taken]
    return [c for c in free if c.lower() in names] or [c for c in free if c.lower() == last]


def prompt_rows(table: Table, columns: Columns, split: str, notes: list[str]) -> pd.DataFrame:
    """The rows as example_id, prompt and answer, texts exactly as found; the index still counts the source's lines.

    Broken rows are left out, and counted in `notes`; so are empty answers, which are kept.

    Raises:
        UserError: a column is missing or holds no texts, more than 5 % of the rows are broken.
    """
    there = [str(column) for column in table.frame.columns]
    for column in columns:
        if column not in there:
            raise UserError(
                f"{table.name}: expected a column {column!r}, as the training rows have, got {quoted_each(there)}; "
                "name it so"
            )
    check_cells(table, columns)
    read: Callable[..., Row] = plain if len(columns) == 2 else conversation
    cells = zip(*(table.frame[column] for column in columns), strict=True)
    rows = pd.DataFrame(
        [read(*each) for each in cells], columns=["prompt", "answer", "fault"], index=table.frame.index, dtype=object
    )
    rows.insert(0, "example_id", [f"{split}-{n}" for n in range(len(rows))])
    rows = without_faults(table, rows, notes)
    if empty := int((rows["answer"] == "").sum()):
        notes.append(f"{table.name}: {counted(empty, 'row')} with an empty answer, kept: it is the end token alone")
    return rows


def check_cells(table: Table, columns: Columns) -> None:
    """Checks that the cells that are filled are texts, or lists of messages."""
    wanted, repair = "texts", "write it as a text (in JSON: in quotes), or choose another column"
    kinds: tuple[type, ...] = (str,)
    if len(columns) == 1:
        wanted, repair, kinds = "lists of messages", "write conversations as .jsonl or .parquet", (list, tuple)
    for column in columns:
        for line, cell in table.frame[column].items():
            if not isinstance(cell, kinds) and not is_missing(cell):
                raise UserError(
                    f"{table.name}: expected {wanted} in column {column!r}, got {quoted(cell)} on {table.unit} {line}; "
                    f"{repair}"
                )


def plain(prompt: Any, answer: Any) -> Row:
    """Prompt, answer and fault of two cells."""
    if not isinstance(prompt, str):
        return "", "", "no prompt"
    if not isinstance(answer, str):
        return "", "", "no answer"
    return prompt, answer, fault_of(prompt, answer)


def conversation(cell: Any) -> Row:
    """Prompt, answer and fault of a list of messages: the last one is the answer."""
    if not isinstance(cell, (list, tuple)) or not cell:
        return "", "", "no messages"
    if fault := next(filter(None, map(fault_in_message, cell)), ""):
        return "", "", fault
    if cell[-1]["role"] != ASSISTANT:
        return "", "", f"a last message that is not of the role {ASSISTANT}"
    if len(cell) == 1:
        return "", "", f"no message before the {ASSISTANT}'s"
    prompt = [{"role": each["role"], "content": each["content"]} for each in cell[:-1]]
    answer = cell[-1]["content"]
    return prompt, answer, fault_of("".join(each["content"] for each in prompt), answer)


def fault_in_message(message: Any) -> str:
    if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
        return "a message without role and content"
    if message["role"] not in (*USERS, ASSISTANT):
        return f"a role that is none of {', '.join((*USERS, ASSISTANT))}"
    if not isinstance(message["content"], str):
        return "a message whose content is no text"
    if any(value is not None for key, value in message.items() if key not in ("role", "content")):
        return "a message with more than role and content"
    return ""


def fault_of(prompt: str, answer: str) -> str:
    texts = [text for text in (prompt, answer) if text.strip()]
    if not texts:
        return "neither prompt nor answer"
    return "" if all(map(is_text, texts)) else "a text that is not valid Unicode"


def without_faults(table: Table, rows: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    bad = rows["fault"] != ""
    lines = rows.index[bad]
    if not len(lines):
        return rows.drop(columns="fault")
    first = {fault: line for line, fault in zip(lines[::-1], rows["fault"][bad][::-1], strict=True)}
    kinds = Counter(rows["fault"][bad]).most_common()
    said = "; ".join(
        f"{counted(n, 'row')} with {fault}, the first on {table.unit} {first[fault]}" for fault, n in kinds
    )
    if len(lines) > FEW * len(rows):
        raise UserError(
            f"{table.name}: expected a prompt and an answer in at least {1 - FEW:.0%} of the {len(rows):,} rows, got "
            f"{said}; correct or remove them"
        )
    notes.append(f"{table.name}: left out {said}")
    return rows[~bad].drop(columns="fault")
