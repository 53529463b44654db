"""Changed files: each is read as a slow and obvious reader reads it, or refused in a short message."""

import gzip
import io
import json
import lzma
import math
import re
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from contrastill.data.read import read_lines, read_table
from contrastill.data.stream import stream_texts
from contrastill.errors import UserError
from fuzz.files import mutations

MARKS = {
    b"\xef\xbb\xbf": "utf-8",
    b"\xff\xfe\x00\x00": "utf-32-le",
    b"\x00\x00\xfe\xff": "utf-32-be",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}


# ---- the slow reader


def unpacked(data, suffix):
    if suffix.endswith(".gz"):
        return gzip.decompress(data)
    data = data.rstrip(b"\0") if suffix.endswith(".xz") else data  # padding
    return lzma.decompress(data) if suffix.endswith(".xz") else data


def decoded(data):
    for mark, codec in MARKS.items():
        if data.startswith(mark):
            return data[len(mark) :].decode(codec)
    return data.decode()


def lines_of(text):
    ends = re.search(r"\r+\n|\r|\n", text)
    if ends and ends[0] == "\r" and ends.end() < len(text):
        return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line.rstrip("\r").replace("\r", " ") for line in text.split("\n")]


def fields(text, delimiter, quotes):
    """Rows of cells, cell by cell."""
    rows, at = [], 0
    while at < len(text):
        row = []
        while True:
            if quotes and text[at : at + 1] == '"':
                found = re.compile(r'"((?:[^"]|"")*)"').match(text, at)
                if found is None:
                    raise ValueError("a quote is open")
                cell, at = found[1].replace('""', '"'), found.end()
                if text[at : at + 1] not in (delimiter, "\n", ""):
                    raise ValueError("text behind a quote")
            else:
                found = re.compile(f"[^\n{re.escape(delimiter)}]*").match(text, at)
                cell, at = found[0], found.end()
            row.append(cell)
            if text[at : at + 1] != delimiter:
                break
            at += 1
        line_end = text[at : at + 1]
        at += 1
        if row != [""] or text[at - 2 : at - 1] == '"' or not line_end:
            rows.append(row)
    return [row for row in rows if row != [""]] if len(rows[0]) > 1 else rows


def alike(rows):
    return len({len(row) for row in rows}) == 1


def delimited(text, own):
    lines = lines_of(text)
    first = next(line for line in lines if line)
    if told := re.fullmatch(r'"?sep=(.)"?[;,]*\s*', first):
        own, lines = told[1], lines[lines.index(first) + 1 :]
        first = next((line for line in lines if line), "")
    text = "\n".join(lines)

    def rows(delimiter):
        if delimiter != "\t":
            return fields(text, delimiter, True)
        try:
            each = [fields(line, "\t", True) for line in lines if line]
            if all(len(found) == 1 for found in each) and alike([found[0] for found in each]):
                return [found[0] for found in each]
        except ValueError:
            pass
        return fields(text, "\t", False)

    if own not in first and any(other in first for other in ",;\t|") and not told:
        fitting = []
        for other in ",;\t|":
            try:
                if other != own and other in first and alike(rows(other)):
                    fitting.append(other)
            except ValueError:
                pass
        (own,) = fitting
    header, *body = rows(own)
    names = [name.strip() for name in header]
    while not names[-1]:
        names.pop()
    assert all(len(row) == len(header) and not "".join(row[len(names) :]).strip() for row in body)
    return [dict(zip(names, row, strict=False)) for row in body]


def objects(text):
    text = "\n".join(lines_of(text))
    if text.lstrip().startswith("["):
        return json.loads(text)
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    if all(isinstance(cells, list) for cells in whole.values()):
        return [dict(zip(whole, cells, strict=True)) for cells in zip(*whole.values(), strict=True)]
    return [whole]


def slowly(data, suffix):
    data, kind = unpacked(data, suffix), suffix.split(".")[1]
    if kind == "parquet":
        return pq.read_table(io.BytesIO(data)).to_pylist()
    text = decoded(data)
    if kind == "txt":
        return [{"text": line} for line in lines_of(text) if line.strip()]
    return objects(text) if kind.startswith("json") else delimited(text, "\t" if kind == "tsv" else ",")


# ---- the test


def attempt(read):
    """What is read, or the error; it may take 5 seconds and say 2,000 characters."""
    start = time.process_time()
    try:
        found = read()
    except UserError as error:
        found = error
    assert time.process_time() - start < 5
    assert not isinstance(found, UserError) or 20 < len(str(found)) < 2_000
    return found


def texts(cells):
    def is_text(cell):
        return isinstance(cell, str) and cell.strip() and not re.search("[\ud800-\udfff]", cell)

    return [cell.strip() for cell in cells if is_text(cell)]


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_file_is_read_as_the_slow_reader_reads_it_or_refused(tmp_path, seed):
    read = 0
    for name, data, suffix in mutations(seed, 60):
        path = tmp_path / f"file{suffix}"
        path.write_bytes(data)
        read += check(path, name)
    assert read > 15  # not all of them are refused


def check(path: Path, name: str) -> bool:
    suffix = path.name[4:]
    if suffix.startswith(".txt"):
        lines = attempt(lambda: read_lines(path, "utf-8")[0])
        rows = lines if isinstance(lines, UserError) else [{"text": line} for line in lines]
    else:
        table = attempt(lambda: read_table(path, "utf-8"))
        rows = table if isinstance(table, UserError) else table.frame.to_dict("records")
    column = None if suffix.startswith(".txt") else "text"
    streamed = attempt(lambda: list(stream_texts(str(path), text=column)))
    if isinstance(rows, UserError):  # a stream of parquet does not look at other columns
        assert isinstance(streamed, UserError) or ".parquet" in suffix, (name, rows, streamed)
        return False
    expected = slowly(path.read_bytes(), suffix)
    missing = [{key: math.nan for key in rows[0] if key not in row} for row in expected]
    assert list(map(in_words, rows)) == [in_words(row | more) for row, more in zip(expected, missing, strict=True)], (
        name
    )
    found = texts(row.get("text") for row in rows)
    assert found == ([] if isinstance(streamed, UserError) else streamed), (name, streamed)
    return True


def in_words(row):
    return sorted((key, repr(cell)) for key, cell in row.items())
