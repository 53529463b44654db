"""The rows of .jsonl and .json files, one by one."""

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

from contrastill.data.files import Text
from contrastill.errors import UserError, quoted, quoted_each

__all__ = ["json_rows"]


class Repeated(ValueError):
    """A key occurs twice in one JSON object."""


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Repeated(quoted(key))
            seen.add(key)
    return found


DECODER = json.JSONDecoder(object_pairs_hook=once)


def decoded(text: str, where: str, line: int) -> Any:
    """One JSON value that begins on this line of the file."""
    try:
        return DECODER.decode(text.rstrip(" \t\n"))
    except json.JSONDecodeError as error:
        wrong = f"one JSON object a line or one array of objects, got {error.msg}; correct that line"
        raise UserError(f"{where}, line {line + error.lineno - 1}: expected {wrong}") from error
    except Repeated as error:
        wrong = f"each key once in an object, got {error} twice; rename or remove one"
    except RecursionError:
        wrong = "an object of texts and numbers, got values nested too deeply; leave them out"
    except ValueError:  # Python's limit on the digits of an integer
        wrong = "numbers of at most 4,300 digits, got a longer one; write it as a text"
    place = f", line {line}" if text.count("\n") < 2 else ""
    raise UserError(f"{where}{place}: expected {wrong}")


def json_rows(
    text: Text, broken: Callable[[UserError], object] | None = None
) -> tuple[str, Iterator[tuple[int, dict[str, Any]]]]:
    """JSON lines, one array of objects, or one object with a list for each column, whatever the name says.

    Returns "line" or "row", and the number and object of each.

    broken: given the error of each line that is no JSON object, which is then left out; None: it is raised.
    """
    name = str(text.path)
    numbered = ((number, line) for number, line in enumerate(text.lines(), 1) if line.strip())
    number, first = next(numbered, (1, ""))
    second = next(numbered, None)
    begin = first.lstrip()[:1]
    if begin == "[" or (begin == "{" and (second is None or goes_on(first, second[1]))):
        value = decoded("".join(text.lines()), name, 1)
        if isinstance(value, list):
            return "row", ((n, an_object(row, f"{name}, row {n}")) for n, row in enumerate(value, 1))
        if second is None and any(not isinstance(cell, (list, dict)) for cell in value.values()):
            return "line", iter([(number, value)])
        return "row", enumerate(columns_as_rows(value, name), 1)
    lines = itertools.chain([(number, first)], [second] if second else [], numbered)
    return "line", objects_of(lines, name, broken)


def objects_of(
    lines: Iterator[tuple[int, str]], name: str, broken: Callable[[UserError], object] | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in lines:
        try:
            yield number, an_object(decoded(line, name, number), f"{name}, line {number}")
        except UserError as error:
            if broken is None:
                raise
            broken(error)


def goes_on(first: str, second: str) -> bool:
    """Whether a JSON object continues after its first line."""
    try:
        DECODER.decode(first)
    except json.JSONDecodeError as error:
        return error.pos >= len(first.rstrip()) and not second.lstrip().startswith("{")
    except (ValueError, RecursionError):
        pass  # said when the line is read
    return False


def an_object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a JSON object with the columns as keys, got {quoted(value)}")
    return value


def columns_as_rows(value: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """The rows of one object that holds a list for each column."""
    lists = {key: cells for key, cells in value.items() if isinstance(cells, list)}
    lengths = {key: len(cells) for key, cells in lists.items()}
    of_objects = [key for key, cells in lists.items() if cells and all(isinstance(cell, dict) for cell in cells)]
    if len(lists) < len(value) or of_objects or len(set(lengths.values())) != 1:
        found = f"an object with the keys {quoted_each(value, 8)}"
        if of_objects:
            repair = f"save the list under {quoted(of_objects[0])} by itself"
        elif value and len(lists) == len(value):
            found, repair = f"lists of {quoted_each(lengths.values(), 8)} cells", "correct the shorter ones"
        else:
            repair = "with pandas: to_json(orient='records')"
        raise UserError(
            f"{name}: expected one JSON object a line, one array of objects, or one object with a list a column, "
            f"got {found}; {repair}"
        )
    return (dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True))
