"""Files as people meet them and worse: seeded changes of sound csv, tsv, json, jsonl, parquet and txt files."""

import gzip
import io
import json
import lzma
import random
from collections.abc import Callable, Iterator

import pandas as pd

__all__ = ["mutations", "sound"]

WORDS = [
    "card",
    "lost",
    "größe",
    "北京",
    "naïve",
    "€5",
    "a,b",
    "x;y",
    "p|q",
    "it's",
    "12",
    "3.5",
    "null",
    "NA",
    "-1",
    "\u2028",
    "\x0b",
    "\x85",
    "\x0c",
    "émile",
    "🙂",
    "\xa0",
]
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1", "gbk", "cp1251")
ODD = (
    *(
        b"\x00",
        b"\xff",
        b"\xfe\xff",
        b"\x81",
        b"\x93",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\r\n",
    ),
    *(
        b'"',
        b'""',
        b'"\n',
        b",",
        b";",
        b"\t",
        b"|",
        b"\\",
        b"\x1a",
        b"\xc2\x85",
        b"\xe2\x80\xa8",
        b"\x0c",
        b"{",
        b"[",
        b"]",
    ),
    *(
        b"}",
        b":",
        b"NaN",
        b"-Infinity",
        b"\\ud83d",
        b"\\u0000",
        b"1e999",
        b"sep=;\n",
        b"<!DOCTYPE html>",
        b"PK\x03\x04",
    ),
    b"PAR1",
    b"version https://git-lfs.github.com/spec/v1\n",
)
KINDS = ("csv", "tsv", "json", "jsonl", "parquet", "txt")


def sound(kind: str, random: random.Random) -> bytes:
    """A file of 1 to 12 rows of the columns text and label; a .txt has the texts alone."""
    rows = [
        (f"{n} " + " ".join(random.choices(WORDS, k=random.randint(1, 6))) + " end", random.choice(["yes", "no", "1"]))
        for n in range(random.randint(1, 12))
    ]
    frame = pd.DataFrame(rows, columns=["text", "label"])
    if kind == "parquet":
        file = io.BytesIO()
        frame.to_parquet(file)
        return file.getvalue()
    if kind == "txt":
        return "".join(text + "\n" for text, _ in rows).encode()
    if kind in ("json", "jsonl"):
        shape = random.choice(["rows", "rows", "indented", "columns"]) if kind == "json" else "rows"
        if shape == "columns":
            return json.dumps(frame.to_dict("list")).encode()
        objects = frame.to_dict("records")
        if kind == "jsonl":
            return "".join(json.dumps(row, ensure_ascii=random.random() < 0.5) + "\n" for row in objects).encode()
        return json.dumps(objects, indent=2 if shape == "indented" else None).encode()
    return frame.to_csv(index=False, sep="," if kind == "csv" else "\t", quoting=random.randint(0, 1)).encode()


def flip(data: bytes, random: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(random.randint(1, 4)):
        found[random.randrange(len(found))] ^= 1 << random.randrange(8)
    return bytes(found)


def cut(data: bytes, random: random.Random) -> bytes:
    return data[: random.randrange(len(data))]


def insert(data: bytes, random: random.Random) -> bytes:
    for _ in range(random.randint(1, 3)):
        at = random.choice([0, len(data), random.randrange(len(data) + 1)])
        data = data[:at] + random.choice(ODD) + data[at:]
    return data


def leave_out(data: bytes, random: random.Random) -> bytes:
    start = random.randrange(len(data))
    return data[:start] + data[start + random.randint(1, 20) :]


def double(data: bytes, random: random.Random) -> bytes:
    lines = data.split(b"\n")
    at = random.randrange(len(lines))
    return b"\n".join(lines[: at + 1] + lines[at:])


def line_ends(data: bytes, random: random.Random) -> bytes:
    return data.replace(b"\n", random.choice([b"\r\n", b"\r", b"\r\r\n", b"\n\n", b"\n\r"]))


def encode(data: bytes, random: random.Random) -> bytes:
    try:
        return data.decode().encode(random.choice(ENCODINGS), "replace")
    except UnicodeDecodeError:
        return data


def delimit(data: bytes, random: random.Random) -> bytes:
    return data.replace(random.choice([b",", b"\t"]), random.choice([b";", b"\t", b"|", b",", b" "]))


def more_columns(data: bytes, random: random.Random) -> bytes:
    """Further cells in every line: empty ones, those of a column that is there, or very many."""
    lines = data.split(b"\n")
    added = random.choice([b",", b",,", b"\t", b",label", b",text", b",Text ", b"," * 20_000])
    header_only = random.random() < 0.3
    return b"\n".join(line + added if line and not (n and header_only) else line for n, line in enumerate(lines))


def long_cell(data: bytes, random: random.Random) -> bytes:
    at = random.randrange(len(data) + 1)
    return (
        data[:at]
        + random.choice([b"x", b"9", b" ", b"a ", "ß".encode()]) * random.choice([300, 5_000, 200_000])
        + data[at:]
    )


def nest(data: bytes, random: random.Random) -> bytes:
    depth = random.choice([50, 2_000, 100_000])
    deep = random.choice([b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth])
    at = random.choice([0, len(data), data.find(b":") + 1])
    return data[:at] + deep + data[at:]


def numbers(data: bytes, random: random.Random) -> bytes:
    number = random.choice(
        [b"9" * 5_000, b"1e400", b"-0", b"NaN", b"0x10", b"1_000", b"00012", b"1.0", b"1,5", b"\xc2\xbd"]
    )
    return data.replace(random.choice([b'"yes"', b"yes", b"no", b"1"]), number, random.randint(1, 3))


def keys(data: bytes, random: random.Random) -> bytes:
    """Columns of one name, of none, or of almost the same."""
    return data.replace(
        b"label", random.choice([b"text", b"", b" label", b"Label", b"LABEL ", b'lab"el', b"label\x00"]), 1
    )


def other(data: bytes, random: random.Random) -> bytes:
    """The bytes of another kind of file under this one's name."""
    return random.choice(
        [
            lambda: sound(random.choice(KINDS), random),
            lambda: gzip.compress(data, mtime=0),
            lambda: lzma.compress(data),
            lambda: b"",
            lambda: b"\n \n",
            lambda: random.randbytes(random.randint(1, 3_000)),
        ]
    )()


CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip,
    cut,
    insert,
    leave_out,
    double,
    line_ends,
    encode,
    delimit,
    more_columns,
    long_cell,
    nest,
    numbers,
    keys,
    other,
)


def mutations(seed: int, count: int) -> Iterator[tuple[str, bytes, str]]:
    """`count` changed files: a name that says what was done, the bytes, and the suffix they are to be read under.

    A packed file is changed before it is packed, or after. Equal seeds give equal files, one by one: the file of a
    number does not depend on `count`.
    """
    for number in range(count):
        draw = random.Random(f"{seed}/{number}")
        kind = draw.choice(KINDS)
        pack = draw.choice(["", "", "", ".gz", ".xz"])
        data, said = sound(kind, draw), []
        after = bool(pack) and draw.random() < 0.4
        packed = {"": bytes, ".gz": lambda data: gzip.compress(data, mtime=0), ".xz": lzma.compress}[pack]
        if after:
            data = packed(data)
        for change in draw.choices(CHANGES, k=draw.choice([0, 1, 1, 1, 2, 3])):
            if data:
                said.append(change.__name__)
                data = change(data, draw)
        if pack and not after:
            data = packed(data)
        if pack and draw.random() < 0.1:
            said.append("more behind")
            data += draw.choice([b"garbage", b"\0" * 8, packed(b"text,label\nmore,yes\n")])
        yield f"{seed}-{number}-{kind}{pack}-{'-'.join(said) or 'sound'}", data, f".{kind}{pack}"
