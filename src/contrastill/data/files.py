"""A user's file: its readability, compression, encoding and line ends."""

import codecs
import gzip
import io
import itertools
import lzma
import os
import re
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from contrastill.errors import UserError, quoted
from contrastill.memory import Held, check_held

__all__ = ["CONLL", "LINES", "SUFFIXES", "Text", "check_place", "look_up", "open_bytes", "open_text", "split_name"]

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")  # of tables; each may be followed by .gz or .xz
CONLL = (".conll", ".conll2003", ".conll03", ".bio", ".iob", ".iob2", ".bioes", ".bmes", ".ner")  # a token a line
LINES = (".txt", ".text", ".lines", "")  # of files with one text a line
PACKED = (".gz", ".xz")
HEAD = 1 << 20  # bytes from which a file's kind, encoding and line ends are judged
CHUNK = 1 << 18
MEMORY = 1 << 30  # bytes that unpacking an .xz file may take
DAMAGED = (OSError, EOFError, lzma.LZMAError, zlib.error)

# How other kinds of files begin, and what to do with them.
BEGINNINGS = (
    (b"\x1f\x8b", "a gzip file", "let its name end in .gz"),
    (b"\xfd7zXZ\0", "an xz file", "let its name end in .xz"),
    (b"PAR1", "a parquet file", "let its name end in .parquet"),
    (b"(\xb5/\xfd", "a Zstandard file", "unpack it (zstd -d)"),
    (b"BZh", "a bzip2 file", "unpack it (bunzip2)"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip file", "unpack it"),
    (b"\xd0\xcf\x11\xe0", "an old Office file, such as .xls", "save the sheet as .csv"),
    (b"%PDF-", "a PDF file", "save its rows as .csv"),
    (b"SQLite format 3\0", "an SQLite data base", "export its table as .csv"),
    (b"ARROW1", "an Arrow file", "write it as .parquet"),
    (b"version https://git-lfs", "the pointer of a file in Git LFS", "fetch the file itself (git lfs pull)"),
)
WORDS = (b"PAR1", b"BZh", b"%PDF-", b"ARROW1")  # of those, the ones that a text may begin with
BINARY = re.compile(rb"[\x00-\x08]")
PAGE = re.compile(rb"\s*<(!doctype\s+html|html[\s>])", re.IGNORECASE)
FOREIGN = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods", ".numbers"), "save the sheet as .csv"),
    **dict.fromkeys((".zst", ".bz2", ".zip", ".7z", ".rar", ".tar", ".tgz", ".lz4"), "unpack it first"),
    **dict.fromkeys((".arrow", ".feather", ".orc", ".avro"), "write it as .parquet"),
    **dict.fromkeys((".pkl", ".pickle", ".npy", ".pt"), "write it as .parquet or .jsonl: pickles are never opened"),
    **dict.fromkeys((".doc", ".docx", ".pdf", ".html", ".htm", ".xml", ".odt"), "save its rows as .csv"),
}
MARKS = (  # of byte order, the longer ones first
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
NO_TEXTS = {"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape"}  # codecs, but not of files
CONTROL = re.compile("[\x00-\x08\x0e-\x19\x1b-\x1f\x7f-\x84\x86-\x9f]")  # not in any text; 1a ended files in DOS


def check_place(out: Path, data: Path | None = None) -> None:
    """Checks that a file may be written, of answers to the texts in `data` for instance.

    Raises:
        UserError: a folder or device, no folder for it or none that can be written to, the file of the texts.
    """
    if out.exists() and not out.is_file():
        raise UserError(f"--out: expected a file, got {'the folder ' if out.is_dir() else ''}{out}")
    folder = out.absolute().parent
    if not folder.is_dir():
        raise UserError(f"--out: expected a folder {out.parent} for {out.name}, found none; make it")
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"--out: {folder} cannot be written to ({why}); choose another place") from None
    if data is not None and out.exists() and out.samefile(data):
        raise UserError(f"--out: expected another file than --data, got {out} for both")


def split_name(path: Path) -> tuple[str, str]:
    """train.csv.gz -> ("train", ".csv")."""
    name = path.with_suffix("") if path.suffix.lower() in PACKED else path
    return name.stem, name.suffix.lower()


def look_up(source: str | Path) -> tuple[Path, str]:
    """The path of a source, `~` spelt out, and "file", "folder" or "" if there is nothing of that name; rows in memory
    count as a file, splits of them as a folder.

    Raises:
        UserError: the name cannot be one, cannot be looked up, or is that of a link to nothing, a pipe or a device.
    """
    if isinstance(source, Held):
        return Path(source), "file" if source.alone else "folder"
    check_held(str(source))
    try:
        path = Path(source).expanduser()
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise UserError(
                f"expected a file, got {quoted(str(path), 300)}, a link to {quoted(os.readlink(path), 300)}, "
                "which is not there; correct the link"
            ) from None
        return path, ""
    except (
        OSError,
        ValueError,
        RuntimeError,
    ) as error:  # too long, not permitted, links in a ring, a zero byte, ~nobody
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"expected a file or folder, got {quoted(str(source))} ({reason}); check the path") from None
    if stat.S_ISREG(mode):
        return path, "file"
    if stat.S_ISDIR(mode):
        return path, "folder"
    raise UserError(
        f"expected a file, got {quoted(str(path), 300)}, a pipe, socket or device, which cannot be read twice; save "
        "what it gives to a file, and pass that"
    )


def unknown(path: Path, wanted: str) -> UserError:
    """The error for a file of a type that is not read, by its name."""
    remedy = FOREIGN.get(path.suffix.lower()) or FOREIGN.get(split_name(path)[1]) or "check the path"
    return UserError(f"{path}: expected {wanted}, got {path.name}; {remedy}")


def open_bytes(path: Path) -> gzip.GzipFile | io.BufferedReader:
    """The bytes of a file, unpacked on the way if its name ends in .gz or .xz.

    Raises:
        UserError: no such file, no permission, or a file of another kind than its name says.
    """
    path, kind = look_up(path)
    if kind != "file":
        found = "which is a folder" if kind else "which does not exist"
        raise UserError(f"expected a file, got {quoted(str(path), 300)}, {found}; check the path")
    pack = path.suffix.lower()
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise UserError(f"{path}: could not be read ({error.strerror}); check its permissions") from error
    if pack in PACKED:
        if not head.startswith(BEGINNINGS[PACKED.index(pack)][0]):
            what = beginning(head) or ("something else" if head else "an empty file", "check its name")
            raise UserError(f"{path}: expected a whole {pack} file, got {what[0]}; {what[1]}")
        try:
            with unpacked(path) as file:
                head = file.read(HEAD)
        except DAMAGED as error:
            raise torn(path, error) from error
    check_kind(path, head)
    return unpacked(path) if pack in PACKED else path.open("rb")


def unpacked(path: Path) -> gzip.GzipFile | io.BufferedReader:
    if path.suffix.lower() == ".gz":
        return gzip.GzipFile(path)
    return io.BufferedReader(Xz(path.open("rb")), CHUNK)


class Xz(io.RawIOBase):
    """An .xz file unpacked, every stream of it and nothing else: `lzma.open` passes over damage after the first."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.stream, self.waiting = file, lzma.LZMADecompressor(lzma.FORMAT_XZ, MEMORY), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self.stream.eof:
                rest = self.stream.unused_data.lstrip(b"\0") or self.file.read(CHUNK).lstrip(b"\0")
                if not rest:
                    if self.file.read(1):
                        self.file.seek(-1, os.SEEK_CUR)
                        continue
                    return 0
                self.stream, self.waiting = lzma.LZMADecompressor(lzma.FORMAT_XZ, MEMORY), rest
            if self.stream.needs_input and not self.waiting:
                self.waiting = self.file.read(CHUNK)
                if not self.waiting:
                    raise EOFError("a truncated one")
            found = self.stream.decompress(self.waiting, len(buffer))
            self.waiting = b""
            if found:
                buffer[: len(found)] = found
                return len(found)

    def close(self) -> None:
        self.file.close()
        super().close()


def check_kind(path: Path, head: bytes) -> None:
    """Checks that the first bytes of the file fit the type in its name."""
    parquet = split_name(path)[1] == ".parquet"
    found = beginning(head)
    if parquet:
        if head.startswith(b"PAR1"):
            return
        found = found or ("something else", "write it again, or let its name end in what it is")
    if found:
        wanted = "a parquet file" if parquet else f"{split_name(path)[1] or 'text'} rows"
        raise UserError(f"{path}: expected {wanted}, got {found[0]}; {found[1]}")


def beginning(head: bytes) -> tuple[str, str] | None:
    """The type of a file with these first bytes, if it is not text, and what to do with it."""
    for begin, what, remedy in BEGINNINGS:
        if head.startswith(begin) and (begin not in WORDS or BINARY.search(head)):
            return what, remedy
    if head.startswith(b"PK\x03\x04"):
        sheet = b"xl/" in head or b"opendocument.spreadsheet" in head
        return ("a spreadsheet", "save the sheet as .csv") if sheet else ("a zip file", "unpack it (unzip)")
    if PAGE.match(head.removeprefix(codecs.BOM_UTF8)):
        return "a web page", "download the file itself, not the page that shows it"
    return None


def torn(path: Path, error: BaseException) -> UserError:
    """The error for a file that cannot be unpacked, or not be read from the disk."""
    what = f"a whole {path.suffix} file" if path.suffix.lower() in PACKED else "a file that can be read"
    return UserError(f"{path}: expected {what}, got {str(error)[:200]}; copy or pack it again")


@dataclass
class Text:
    """A text file, line by line and as often as wanted, whatever its size.

    A line ends with LF or CRLF, and in a file whose first line ends with CR alone (old Mac) with that too; elsewhere CR
    is white space. All other characters, U+2028 and form feeds among them, are parts of lines.
    """

    path: Path
    asked: str  # the encoding that the user named
    codec: str
    mac: bool
    notes: list[str] = field(default_factory=list)  # what was decided

    def lines(self) -> Iterator[str]:
        """Each line with a line feed behind it, the last one as it stands."""
        first = True
        try:
            # newline="\n": split there only, translate nothing; None: split at each kind and translate
            with io.TextIOWrapper(open_bytes(self.path), self.codec, newline=None if self.mac else "\n") as file:
                for line in file:
                    if first:
                        line, first = line.removeprefix("\ufeff"), False
                    if "\r" in line:
                        line = line.rstrip("\r\n").replace("\r", " ") + ("\n" if line.endswith("\n") else "")
                    if "\0" in line:
                        raise self.not_text()
                    yield line
        except UnicodeError as error:
            raise self.not_text() from error
        except DAMAGED as error:
            raise torn(self.path, error) from error

    def holds(self, character: str) -> bool:
        """Whether the file may hold an ASCII character, by a quick search of its bytes."""
        byte = character.encode()
        return any(byte in chunk for chunk in self.chunks())

    def chunks(self) -> Iterator[bytes]:
        try:
            with open_bytes(self.path) as file:
                while chunk := file.read(CHUNK):
                    yield chunk
        except DAMAGED as error:
            raise torn(self.path, error) from error

    # ---- the wrong encoding

    def not_text(self) -> UserError:
        """The error for bytes that are no text in this encoding: where they are, and an encoding that fits if any."""
        line, byte = self.first_wrong()
        return UserError(
            f"{self.path}: expected {self.asked} text, got bytes that are not, on line {line} (byte {byte}); "
            f"{self.remedy()}"
        )

    def first_wrong(self) -> tuple[int, int]:
        """The line of the first byte that does not decode or is zero, and its place in the file."""
        decoder: Any = codecs.getincrementaldecoder(self.codec)()
        line, before, end = 1, 0, "\r" if self.mac else "\n"
        for chunk in itertools.chain(self.chunks(), [b""]):
            held, failed = len(decoder.getstate()[0]), False
            try:
                text = decoder.decode(chunk, not chunk)
            except UnicodeDecodeError as error:
                text, failed = error.object[: error.start].decode(self.codec, "ignore"), True
            if failed or "\0" in text:
                sound = text.partition("\0")[0]
                return line + sound.count(end), before - held + len(sound.encode(self.codec, "ignore"))
            line, before = line + text.count(end), before + len(chunk)
        return line, before

    def remedy(self) -> str:
        """The remedy to propose, tried on the whole file before it is named."""
        with open_bytes(self.path) as file:
            wide = wide_codec(file.read(HEAD))
        high, runs, controls, good, bad = 0, 0, 0, 0, 0
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for chunk in itertools.chain(self.chunks(), [b""]):
            high += len(re.findall(rb"[\x80-\xff]", chunk))
            runs += len(re.findall(rb"[\x80-\xff](?=[\x80-\xff])", chunk))
            controls += len(re.findall(rb"[\x80-\x9f]", chunk))
            text = decoder.decode(chunk, not chunk)
            broken = text.count("\ufffd")
            bad, good = bad + broken, good + len(re.findall(r"[^\x00-\x7f]", text)) - broken
        candidates = [wide] if wide else ["utf-8"] if self.codec not in ("utf-8", "utf-8-sig") else []
        if self.codec in ("utf-8", "utf-8-sig") and bad and good >= bad and not wide:
            places = f"{bad:,} places are" if bad > 1 else "one place is"
            return f"most of the file is {self.asked}, {places} damaged: correct or remove them"
        if high and runs <= 0.6 * high:  # letters with accents stand among others without
            candidates.append("cp1252" if controls else "latin-1")
        for candidate in candidates:
            if candidate != self.codec and self.fits(candidate):
                return f"pass the file's encoding: --encoding {candidate} fits the whole file"
        return (
            "none of utf-8, utf-16, cp1252 and latin-1 fits the whole file: find out how it was written and pass "
            "--encoding, or save it as UTF-8"
        )

    def fits(self, codec: str) -> bool:
        """Whether the whole file decodes in this encoding, without control characters."""
        decoder = codecs.getincrementaldecoder(codec)()
        try:
            return not any(CONTROL.search(decoder.decode(chunk)) for chunk in self.chunks()) and not decoder.decode(
                b"", True
            )
        except UnicodeError:
            return False


def open_text(path: Path, encoding: str) -> Text:
    """Judge a text file by its beginning: its encoding and its line ends.

    A byte order mark wins over "utf-8", the default; against another encoding it is an error.

    Raises:
        UserError: an empty file, no such encoding, and whatever `open_bytes` raises.
    """
    codec = text_codec(encoding)
    try:
        with open_bytes(path) as file:
            head = file.read(HEAD)
    except DAMAGED as error:
        raise torn(path, error) from error
    notes: list[str] = []
    mark = next(((mark, name) for mark, name in MARKS if head.startswith(mark)), None)
    if mark is not None:
        codec = believed(path, encoding, codec, *mark, notes)
    elif codec in ("utf-16", "utf-32"):
        wide = wide_codec(head)
        if wide is None or not wide.startswith(codec):
            raise UserError(
                f"{path}: expected {encoding} text, got none that begins with a byte order mark; pass --encoding "
                + (wide or f"{codec}-le or {codec}-be")
            )
        codec = wide
        notes.append(f"{path}: read as {wide}, for it has no byte order mark")
    start = head.decode(codec, "ignore")
    if not start.strip("\ufeff \t\r\n\x0b\x0c") and len(head) < HEAD:
        raise UserError(f"{path}: expected rows, got an empty file; check how it was written")
    end = re.search(r"\r+\n|\r|\n", start)
    mac = end is not None and end[0] == "\r" and end.end() < len(start)
    if mac:
        notes.append(f"{path}: lines end with carriage returns alone")
    return Text(path, encoding, codec, mac, notes)


def text_codec(encoding: str) -> str:
    """The standard name of an encoding."""
    try:
        found = codecs.lookup(encoding)
        if found.name not in NO_TEXTS and getattr(found, "_is_text_encoding", True):
            return found.name
    except (LookupError, ValueError, TypeError):  # a zero or a letter beyond ASCII in the name is a ValueError
        pass
    raise UserError(f"expected the name of an encoding, got {quoted(encoding)}; try --encoding utf-8 or cp1252")


def believed(path: Path, encoding: str, codec: str, mark: bytes, name: str, notes: list[str]) -> str:
    """The codec of a file that begins with a byte order mark."""
    order = {codecs.BOM_UTF16_BE: "-be", codecs.BOM_UTF32_BE: "-be"}.get(mark, "-le")
    if codec in (name, name + order) or (name == "utf-8" and codec == "utf-8-sig"):
        return codec
    if codec in ("utf-8", "utf-8-sig"):
        notes.append(f"{path}: read as {name}, by its byte order mark")
        return name
    raise UserError(
        f"{path}: expected {encoding} text, got a file that begins with the byte order mark of {name}; pass --encoding "
        f"{name}"
    )


def wide_codec(head: bytes) -> str | None:
    """The utf-16 or utf-32 without a byte order mark that the zero bytes of mostly Western text point to."""
    zeros = [head[n::4].count(0) / max(len(head[n::4]), 1) for n in range(4)]
    many = [share > 0.4 for share in zeros]
    return {
        (False, True, True, True): "utf-32-le",
        (True, True, True, False): "utf-32-be",
        (False, True, False, True): "utf-16-le",
        (True, False, True, False): "utf-16-be",
    }.get((many[0], many[1], many[2], many[3]))
