"""Texts of a corpus, a few at a time."""

import gzip
import json
import lzma

import pytest

from contrastill.data.stream import stream_texts
from contrastill.errors import UserError

TEXTS = ["one two", "drei – vier", "5"]


@pytest.mark.parametrize(("suffix", "opener"), [("", open), (".gz", gzip.open), (".xz", lzma.open)])
def test_lines_are_read_plain_and_packed_without_the_empty_ones(tmp_path, suffix, opener):
    path = tmp_path / f"corpus.txt{suffix}"
    with opener(path, "wt", encoding="utf-8") as file:
        file.write("\ufeffone two\n\n   \n  drei – vier\r\n5")
    assert list(stream_texts(str(path))) == TEXTS


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".csv.gz"])
def test_a_column_of_a_file_is_streamed(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    separator = "\t" if suffix == ".tsv" else ","
    if suffix == ".jsonl":
        content = "".join(json.dumps({"id": n, "query": text}) + "\n" for n, text in enumerate(TEXTS))
    else:
        content = separator.join(["id", "query"]) + "\n" + "".join(f"{n}{separator}{t}\n" for n, t in enumerate(TEXTS))
    with gzip.open(path, "wt") if suffix.endswith("gz") else path.open("w") as file:
        file.write(content)
    if suffix == ".jsonl":
        assert list(stream_texts(str(path), text="query")) == TEXTS
    else:
        assert list(stream_texts(str(path), text="query"))[:2] == TEXTS[:2]
    with pytest.raises(UserError, match=r"--text.*'id', 'query'"):
        list(stream_texts(str(path)))


def test_it_is_read_as_it_is_asked_for(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("a\n" * 10 + "\n")
    stream = stream_texts(str(path))
    assert [next(stream) for _ in range(3)] == ["a"] * 3
    stream.close()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cut.txt.xz", lzma.compress(b"a line\n" * 9999)[:-30], "copy or pack it again"),
        ("cut.txt.gz", gzip.compress(b"a line\n" * 9999, mtime=0)[:-9], "copy or pack it again"),
        ("latin.txt", "größer\n".encode("latin-1"), "--encoding"),
        ("image.png", b"x", "check the path"),
    ],
)
def test_what_cannot_be_read_is_said_with_the_files_name(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        list(stream_texts(str(tmp_path / name)))
    assert name in str(error.value)


def test_no_file_and_no_encoding(tmp_path):
    with pytest.raises(UserError, match="check the path"):
        next(stream_texts(str(tmp_path / "none.txt")))
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(UserError, match="encoding"):
        next(stream_texts(str(tmp_path / "a.txt"), encoding="klingon"))
