"""One reader: what a file means does not depend on who reads it, and each kind of trouble is named."""

import errno
import gzip
import json
import lzma
import os
import socket
from pathlib import Path

import datasets
import pandas as pd
import pytest

from contrastill.data.columns import WIDEST
from contrastill.data.corpus import several_texts
from contrastill.data.delimited import LONGEST, Grid
from contrastill.data.files import HEAD, look_up, open_text
from contrastill.data.load import load_task
from contrastill.data.pairs import load_pairs
from contrastill.data.read import read_lines, read_table
from contrastill.data.stream import stream_texts
from contrastill.errors import UserError

ROWS = [("größer – 5 €", "yes"), ("two, thanks", "no"), ("a | b", "yes"), ("12", "no")]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows_of(separator=",", rows=ROWS, header=("text", "label")):
    def cell(text):
        return f'"{text}"' if separator in text else text

    return "".join(separator.join(map(cell, row)) + "\n" for row in (header, *rows))


def table_and_stream(path, column="text", **options):
    """The rows of a file by both readers, which must agree, and the notes on it."""
    notes, encoding = [], options.pop("encoding", "utf-8")
    table = read_table(path, encoding, **options)
    cells = table.frame[column].to_list()
    streamed = list(stream_texts(str(path), text=column, encoding=encoding, say=notes.append, **options))
    assert streamed == [cell.strip() for cell in cells]
    assert notes == list(table.notes)
    return list(table.frame.itertuples(index=False, name=None)), notes


# ---- the same rows, however they are written

CSV = rows_of()
VARIANTS = {
    "a_byte_order_mark": ("a.csv", b"\xef\xbb\xbf" + CSV.encode(), []),
    "windows_line_ends": ("a.csv", CSV.replace("\n", "\r\n"), []),
    "old_mac_line_ends": ("a.csv", CSV.replace("\n", "\r"), ["carriage returns alone"]),
    "no_line_end_at_the_end": ("a.csv", CSV.rstrip("\n"), []),
    "blank_lines": ("a.csv", "\n" + CSV.replace("\n", "\n\n"), []),
    "every_cell_quoted": ("a.csv", pd.DataFrame(ROWS, columns=["text", "label"]).to_csv(index=False, quoting=1), []),
    "utf_16": ("a.csv", CSV.encode("utf-16"), ["read as utf-16"]),
    "utf_16_big_end_first": ("a.csv", b"\xfe\xff" + CSV.encode("utf-16-be"), ["read as utf-16"]),
    "utf_32": ("a.csv", CSV.encode("utf-32"), ["read as utf-32"]),
    "semicolons": ("a.csv", rows_of(";"), ["delimited by semicolon, not comma"]),
    "tabs_in_a_csv": ("a.csv", rows_of("\t"), ["delimited by tab, not comma"]),
    "bars_in_a_csv": ("a.csv", rows_of("|"), ["delimited by vertical bar"]),
    "commas_in_a_tsv": ("a.tsv", CSV, ["delimited by comma, not tab"]),
    "a_word_of_the_spreadsheet": ("a.csv", "sep=;\n" + rows_of(";"), ["as its first line says"]),
    "unicode_text_of_a_spreadsheet": ("a.csv", rows_of("\t").encode("utf-16"), ["read as utf-16", "delimited by tab"]),
    "empty_columns_at_the_end": ("a.csv", CSV.replace("\n", ",, \n"), ["2 empty columns at the end"]),
    "names_with_space_around": ("a.csv", CSV.replace("text,label", " text , label"), []),
    "a_tsv": ("a.tsv", rows_of("\t"), []),
    "json_lines": ("a.jsonl", "".join(json.dumps({"text": t, "label": n}) + "\n" for t, n in ROWS), []),
    "json_lines_of_old_mac": (
        "a.jsonl",
        "".join(json.dumps({"text": t, "label": n}) + "\r" for t, n in ROWS),
        ["carriage returns alone"],
    ),
    "an_array_in_a_jsonl": ("a.jsonl", json.dumps([{"text": t, "label": n} for t, n in ROWS], indent=1), []),
    "lists_under_keys": ("a.json", json.dumps(dict(zip(["text", "label"], zip(*ROWS, strict=True), strict=True))), []),
    "lists_under_keys_over_lines": (
        "a.json",
        json.dumps(dict(zip(["text", "label"], zip(*ROWS, strict=True), strict=True)), indent=2),
        [],
    ),
    "several_gzip_members": ("a.csv.gz", gzip.compress(CSV.encode()[:30]) + gzip.compress(CSV.encode()[30:]), []),
    "several_xz_streams_and_padding": (
        "a.csv.xz",
        lzma.compress(CSV.encode()[:30]) + b"\0" * 8 + lzma.compress(CSV.encode()[30:]) + b"\0" * 4,
        [],
    ),
}


@pytest.mark.parametrize("case", VARIANTS)
def test_a_table_and_a_stream_of_a_file_are_the_same_rows(tmp_path, case):
    name, content, words = VARIANTS[case]
    found, notes = table_and_stream(write(tmp_path / name, content))
    assert found == ROWS
    assert len(notes) == len(words)
    assert all(word in note for word, note in zip(words, notes, strict=True))


@pytest.mark.parametrize("pack", [".gz", ".xz", ""])
def test_parquet_is_streamed_as_it_is_tabled_class_names_and_all(tmp_path, pack):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = datasets.Dataset.from_dict({"text": [t for t, _ in ROWS], "label": [n for _, n in ROWS]}, features)
    rows.to_parquet(tmp_path / "plain.parquet")
    packed = {".gz": gzip.compress, ".xz": lzma.compress, "": bytes}[pack]
    path = write(tmp_path / f"a.parquet{pack}", packed((tmp_path / "plain.parquet").read_bytes()))
    assert table_and_stream(path)[0] == ROWS
    assert list(stream_texts(str(path), text="label")) == [name for _, name in ROWS]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_alike_for_every_reader_and_nowhere_else(tmp_path, end):
    lines = ["one\u2028two", "three\x0bfour\x0cfive", "six\x85seven", "eight\x1ceight", "nine"]
    path = write(tmp_path / "a.txt", end.join([*lines, ""]))
    assert list(stream_texts(str(path))) == read_lines(path, "utf-8")[0] == lines
    csv = write(tmp_path / "a.csv", end.join(["text,label", *(f"{line},x" for line in lines), ""]))
    assert [text for text, _ in table_and_stream(csv)[0]] == lines


def test_a_carriage_return_within_a_line_is_white_space(tmp_path):
    path = write(tmp_path / "a.csv", 'text,label\n"one\rtwo",x\nthree\rfour,y\n')
    assert table_and_stream(path)[0] == [("one two", "x"), ("three four", "y")]


def test_line_ends_within_quotes_keep_their_rows_and_lines_their_numbers(tmp_path):
    path = write(tmp_path / "a.csv", 'text,label\r\n"one\r\ntwo",x\r\nthree,y\r\n')
    assert table_and_stream(path)[0] == [("one\ntwo", "x"), ("three", "y")]
    assert read_table(path, "utf-8").frame.index.to_list() == [2, 4]


def test_a_named_delimiter_is_used_and_tab_may_be_spelt(tmp_path):
    assert table_and_stream(write(tmp_path / "a.csv", rows_of(";")), delimiter=";")[0] == ROWS
    for spelt in ("tab", "\\t", "\t"):
        assert table_and_stream(write(tmp_path / "b.csv", rows_of("\t")), delimiter=spelt)[0] == ROWS
    caret = write(tmp_path / "c.tsv", "text^label\na,b^x\nc;d^y\n")
    assert table_and_stream(caret, delimiter="^")[0] == [("a,b", "x"), ("c;d", "y")]
    assert len(load_task(caret, delimiter="^", dev_share=0).train) == 2
    assert len(load_pairs(str(caret), columns=["text", "label"], delimiter="^")[0]) == 2
    for wrong in ("", "ab", "a", '"', "\n", ";;"):
        with pytest.raises(UserError, match="--delimiter"):
            read_table(caret, "utf-8", delimiter=wrong)


def test_a_delimiter_for_files_without_fields_is_refused(tmp_path):
    jsonl, txt = write(tmp_path / "a.jsonl", '{"text": "a", "label": "x"}\n'), write(tmp_path / "a.txt", "a\nb\n")
    csv = write(tmp_path / "a.csv", "text;label\na;x\nb;y\n")
    for read in (
        lambda: load_task(jsonl, delimiter=";"),
        lambda: load_pairs(str(jsonl), delimiter=";"),
        lambda: list(stream_texts(str(txt), delimiter=";")),
        lambda: list(several_texts([str(txt), str(jsonl)], delimiter=";")),
    ):
        with pytest.raises(UserError, match=r"--delimiter ';' is for \.csv and \.tsv"):
            read()
    assert list(several_texts([str(txt), str(csv)], text="text", delimiter=";")) == [["a", "b", "a", "b"]]


def test_a_column_for_lines_is_refused_unless_another_source_has_columns(tmp_path):
    txt, csv = write(tmp_path / "a.txt", "a\nb\n"), write(tmp_path / "a.csv", "query,label\nc,x\n")
    for read in (lambda: stream_texts(str(txt), text="query"), lambda: several_texts([str(txt)], text="query")):
        with pytest.raises(UserError, match=r"a\.txt: expected no column.*'query'.*--text"):
            list(read())
    with pytest.raises(UserError, match=r"a\.txt: expected no column"):
        load_pairs(str(txt), unsupervised=True, columns=["query"])
    assert list(several_texts([str(txt), str(csv)], text="query")) == [["a", "b", "c"]]


def test_lines_are_lines_under_each_of_their_suffixes(tmp_path):
    rows = write(tmp_path / "a.csv", CSV)
    for name in ("more.txt", "more.text", "more.lines", "more"):
        more = write(tmp_path / name, "one\ntwo\n")
        assert list(stream_texts(str(more))) == ["one", "two"]
        assert load_task(rows, unlabelled=more, dev_share=0).train["text"][-2:] == ["one", "two"]


def test_decisions_of_reading_are_kept_with_the_task(tmp_path):
    data = load_task(write(tmp_path / "a.csv", rows_of(";").encode("utf-16")), dev_share=0)
    assert "utf-16, by its byte order mark" in data.decisions["reading"]
    assert "delimited by semicolon" in data.decisions["reading"]


def test_what_a_stream_leaves_out_is_counted_and_said(tmp_path):
    lines = ['{"text": "a"}', "", '{"text": " "}', '{"text": null}', '{"id": 1}', '{"text": 5}', '{"text": "\\ud83d"}']
    notes = []
    path = write(tmp_path / "a.jsonl", "\n".join([*lines, '{"text": "b"}']))
    assert list(stream_texts(str(path), say=notes.append)) == ["a", "b"]
    assert notes == [f"{path}: left out 3 lines without text and 2 cells with something else, the first on line 3"]
    with pytest.raises(UserError, match=r"expected texts, got none \(2 lines without text, the first on line 1\)"):
        list(stream_texts(str(write(tmp_path / "b.jsonl", '{"text": ""}\n{"text": " "}'))))
    stream = stream_texts(str(path), say=notes.append)
    assert [next(stream), next(stream)] == ["a", "b"]
    stream.close()
    assert len(notes) == 2  # a stream that is left early has its say too


def test_a_column_may_be_absent_from_the_first_objects(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"id": 1}\n{"id": 2, "query": "a"}\n{"query": "b"}\n')
    assert list(stream_texts(str(path), text="query", say=lambda note: None)) == ["a", "b"]


def test_a_stream_takes_no_more_memory_for_a_longer_file(tmp_path):
    path = write(tmp_path / "a.csv", "text\n" + f"{'long ' * 200}\n" * 20_000)  # 20 MB
    import tracemalloc

    tracemalloc.start()
    assert sum(1 for _ in stream_texts(str(path))) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * HEAD


# ---- trouble, by name

ENCODED = {
    "cp1252": ("text,label\nit’s €5,x\nb,y\n".encode("cp1252"), "--encoding cp1252 fits", 2),
    "latin_1": ("text,label\na,x\ngrößer,y\n".encode("latin-1"), "--encoding latin-1 fits", 3),
    "utf_16_without_a_mark": (CSV.encode("utf-16-le"), "--encoding utf-16-le fits", 1),
    "utf_16_be_without_a_mark": (CSV.encode("utf-16-be"), "--encoding utf-16-be fits", 1),
    "utf_32_without_a_mark": (CSV.encode("utf-32-be"), "--encoding utf-32-be fits", 1),
    "cyrillic": ("text,label\nпривет мир,x\n".encode("cp1251"), "none of utf-8, utf-16, cp1252 and latin-1", 2),
    "chinese": ("text,label\n你好世界你好,x\n".encode("gbk"), "none of utf-8", 2),
    "japanese": ("text,label\nこんにちは、世界,x\n".encode("shift_jis"), "none of utf-8", 2),
    "a_damaged_place": ("text,label\ngrößer,x\nüber\n".encode() + b"b\xff,y\n", "one place is damaged: correct", 4),
    "a_cut_character": ("text,label\ngrößer,x\nbé".encode()[:-1], "damaged", 3),
    "a_zero_byte": (b"text,label\na,x\nb\0,y\n", "none of utf-8", 3),
    "control_characters_of_latin_1": (b"text,label\na\x81\x9d\x8d b,x\n", "none of utf-8", 2),
}


@pytest.mark.parametrize("case", ENCODED)
def test_an_encoding_is_named_only_if_the_whole_file_decodes_so(tmp_path, case):
    content, words, line = ENCODED[case]
    path = write(tmp_path / "a.csv", content)
    for read in (lambda: read_table(path, "utf-8"), lambda: list(stream_texts(str(path)))):
        with pytest.raises(UserError, match=rf"a\.csv: .* on line {line} \(byte \d+\); .*{words}"):
            read()
    if "--encoding" in words:
        codec = words.split()[1]
        assert table_and_stream(path, encoding=codec)[0] == read_rows_of(content.decode(codec))


def read_rows_of(text):
    return [tuple(row) for row in pd.read_csv(__import__("io").StringIO(text), dtype=str).itertuples(index=False)]


def test_the_place_of_a_wrong_byte_is_right_far_into_a_file(tmp_path):
    path = write(tmp_path / "a.txt", "größer\n".encode() * 200_000 + b"\xff\n")
    with pytest.raises(UserError, match=r"line 200001 \(byte 1800000\)"):
        list(stream_texts(str(path)))


def test_a_byte_order_mark_against_the_named_encoding_is_an_error(tmp_path):
    for content, asked in ((b"\xef\xbb\xbf" + CSV.encode(), "cp1252"), (CSV.encode("utf-16"), "utf-8-sig")):
        path = write(tmp_path / "a.csv", content)
        if asked == "cp1252":
            with pytest.raises(UserError, match="byte order mark of utf-8; pass --encoding utf-8"):
                open_text(path, asked)
        else:
            assert open_text(path, asked).codec == "utf-16"
    with pytest.raises(UserError, match="byte order mark of utf-16; pass --encoding utf-16"):
        open_text(path, "utf-16-be")
    assert open_text(write(tmp_path / "b.csv", CSV.encode("utf-16-be")), "utf-16").codec == "utf-16-be"
    with pytest.raises(UserError, match="utf-16-le or utf-16-be"):
        open_text(write(tmp_path / "c.csv", "你好".encode("utf-16-be")), "utf-16")


@pytest.mark.parametrize("name", ["klingon", "", "undefined", "idna", "rot13", "base64", "a\0", "ü", "unicode_escape"])
def test_no_encoding_of_files(tmp_path, name):
    with pytest.raises(UserError, match="expected the name of an encoding"):
        open_text(write(tmp_path / "a.txt", "a"), name)


TROUBLE = {
    "a_spreadsheet": ("a.xlsx", b"PK\x03\x04", "save the sheet as .csv"),
    "a_spreadsheet_called_csv": ("a.csv", b"PK\x03\x04....xl/workbook.xml", "a spreadsheet; save the sheet as .csv"),
    "an_old_spreadsheet": ("a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1", "old Office file"),
    "zstandard": ("a.csv.zst", b"(\xb5/\xfd", "unpack it first"),
    "zstandard_called_csv": ("a.csv", b"(\xb5/\xfd\0\0", "Zstandard file; unpack it"),
    "bzip2": ("a.jsonl.bz2", b"BZh91AY", "unpack it first"),
    "bzip2_called_csv": ("a.csv", b"BZh91AY&SY\0\1", "bzip2 file; unpack it"),
    "zip": ("a.csv", b"PK\x03\x04\0\0a.txt", "a zip file; unpack it"),
    "gzip_called_csv": ("a.csv", gzip.compress(CSV.encode()), "a gzip file; let its name end in .gz"),
    "xz_called_csv": ("a.csv", lzma.compress(CSV.encode()), "an xz file; let its name end in .xz"),
    "csv_called_gzip": ("a.csv.gz", CSV, "whole .gz file, got something else"),
    "xz_called_gzip": ("a.csv.gz", lzma.compress(CSV.encode()), "got an xz file"),
    "an_empty_gzip": ("a.csv.gz", b"", "whole .gz file, got an empty file"),
    "garbage_behind_gzip": ("a.csv.gz", gzip.compress(CSV.encode()) + b"garbage", "copy or pack it again"),
    "garbage_behind_xz": ("a.csv.xz", lzma.compress(CSV.encode()) + b"garbage", "copy or pack it again"),
    "a_second_xz_stream_cut": ("a.csv.xz", lzma.compress(CSV.encode()) * 2 + b"\xfd7zXZ\0", "copy or pack it again"),
    "csv_called_parquet": ("a.parquet", CSV, "expected a parquet file, got something else"),
    "parquet_called_csv": ("a.csv", b"PAR1\x15\x04\0\0", "a parquet file; let its name end in .parquet"),
    "parquet_within_gzip_called_csv": ("a.csv.gz", gzip.compress(b"PAR1\x15\x04\0\0"), "got a parquet file"),
    "a_cut_parquet": ("a.parquet", b"PAR1\x15\x04\0\0", "expected a parquet file, got something else"),
    "a_pointer_of_git_lfs": ("a.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
    "a_web_page": ("a.csv", "\n<!DOCTYPE html>\n<html>", "a web page; download the file itself"),
    "a_web_page_of_lines": ("a.txt", "<HTML lang=en>", "a web page"),
    "an_empty_file": ("a.jsonl", b"", "got an empty file"),
    "blank_lines_alone": ("a.tsv", "\n \t\r\n", "got an empty file"),
    "a_byte_order_mark_alone": ("a.csv", "\ufeff", "got an empty file"),
    "a_header_alone": ("a.csv", "text,label\n", "a header only"),
    "semicolons_in_some_rows": (
        "a.csv",
        "text;label\na;x\nb;c;y\n",
        r"--delimiter ';' \(.*line 3: expected 2 fields",
    ),
    "a_header_of_two_delimiters": ("a.csv", "text;a|b\na;x|y\n", "--delimiter ';' or --delimiter '|'"),
    "commas_within_semicolons": ("a.csv", "text;label, or so\na;x\n", "or pass --delimiter ';'"),
    "cells_below_no_name": ("a.csv", "text,label,\na,x,\nb,y,z\n", "line 3: expected empty cells .* got 'z'"),
    "cells_below_no_name_in_quotes": ("a.tsv", '"text"\t""\n"a"\t"1"\n', "line 2: expected empty cells .* got '1'"),
    "no_names_at_all": ("a.csv", ",,\na,b,c\n", "names of the columns"),
    "names_alike_but_for_space": ("a.csv", "text,text \na,b\n", "more than once"),
    "columns_without_end": ("a.csv", "a," * WIDEST + "a\n", "at most 10,000 columns, got 10,001"),
    "keys_without_end": (
        "a.jsonl",
        "".join(json.dumps({f"{n}-{m}": 1 for m in range(101)}) + "\n" for n in range(100)),
        "at most 10,000 columns",
    ),
    "a_quote_left_open": ("a.csv", 'text,label\n"a,x\nb,y\nc,z\n', r"line 2: .*runs on to line 4.*correct its quotes"),
    "an_object_by_itself": ("a.json", '{"data": [{"text": "a"}],\n"version": 1}', "save the list under 'data'"),
    "an_object_of_objects": ("a.json", '{\n"text": {"0": "a"}, "label": {"0": "x"}}', "orient='records'"),
    "lists_of_unequal_length": ("a.json", '{"text": ["a", "b"], "label": ["x"]}', "lists of 2, 1 cells"),
    "objects_over_lines": ("a.jsonl", '{\n "text": "a"\n}\n{\n "text": "b"\n}\n', "one JSON object a line"),
    "an_array_behind_objects": ("a.jsonl", '{"text": "a"}\n[1]\n', "line 2: expected a JSON object"),
    "a_key_twice": ("a.jsonl", '{"text": "a", "text": "b"}\n', "line 1: expected each key once .* 'text' twice"),
    "deep_lists": ("a.jsonl", '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}\n", "line 1: .*nested too deeply"),
    "deep_lists_in_an_array": ("a.json", '[{"text": ' + "[" * 100_000 + "]" * 100_000 + "}]", "nested too deeply"),
    "deep_objects": ("a.jsonl", '{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
    "brackets_without_end": ("a.jsonl", "[" * 100_000, "nested too deeply"),
    "an_integer_without_end": ("a.jsonl", '{"text": "a", "label": ' + "9" * 5_000 + "}\n", "at most 4,300 digits"),
    "a_cut_line_first": ("a.jsonl", '{"text": "a",\n{"text": "b"}\n', "line 1: expected one JSON object"),
}


@pytest.mark.parametrize("case", TROUBLE)
def test_trouble_is_named_by_table_and_stream_alike_and_in_short(tmp_path, case):
    name, content, words = TROUBLE[case]
    path = write(tmp_path / name, content)
    reads = [lambda: list(stream_texts(str(path), text=None if ".txt" in name else "text"))]
    if ".txt" not in name:
        reads.append(lambda: read_table(path, "utf-8"))
    if case == "keys_without_end":  # a stream holds one object at a time
        del reads[0]
    for read in reads:
        with pytest.raises(UserError, match=words) as error:
            read()
        assert name in str(error.value)
        assert len(str(error.value)) < 1_000


def test_a_cell_has_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr("contrastill.data.delimited.LONGEST", 1_000)
    path = write(tmp_path / "a.csv", 'text,label\na,x\n"' + "b\n" * 2_000)
    with pytest.raises(UserError, match=r"line 3: .*field larger than field limit"):
        read_table(path, "utf-8")
    assert LONGEST > 10_000_000


@pytest.mark.parametrize("asked", ["Text", " text", "TEXT "])
def test_a_column_of_almost_that_name_is_proposed(tmp_path, asked):
    path = write(tmp_path / "a.csv", "text,label\na,x\nb,y\n")
    for read in (
        lambda: list(stream_texts(str(path), text=asked)),
        lambda: load_task(path, text=asked, label="label"),
        lambda: load_pairs(str(path), columns=[asked, "label"]),
    ):
        with pytest.raises(UserError, match="do you mean 'text'"):
            read()


def test_the_usual_column_is_found_in_any_case(tmp_path):
    assert list(stream_texts(str(write(tmp_path / "a.csv", "id,Text\n1,a\n")))) == ["a"]
    with pytest.raises(UserError, match="--text"):
        list(stream_texts(str(write(tmp_path / "b.csv", "id,query\n1,a\n"))))


# ---- places that are no files


def test_places_that_are_no_files_are_named(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)
        listening.bind("socket.csv")
    (tmp_path / "nowhere.csv").symlink_to("gone.csv")
    (tmp_path / "ring.csv").symlink_to("ring.csv")
    (tmp_path / "folder.csv").mkdir()
    cases = {
        str(tmp_path / "pipe.csv"): "a pipe, socket or device",
        str(tmp_path / "socket.csv"): "a pipe, socket or device",
        str(tmp_path / "nowhere.csv"): "a link to 'gone.csv', which is not there",
        str(tmp_path / "ring.csv"): "check the path",
        "x" * 300 + ".csv": "File name too long",
        "a\0.csv": "check the path",
        "~nobody-of-this-name/a.csv": "check the path",
    }
    for source, words in cases.items():
        for read in (
            lambda: list(stream_texts(source)),  # noqa: B023
            lambda: load_task(source),  # noqa: B023
            lambda: load_task(write(tmp_path / "a.csv", CSV), dev=source),  # noqa: B023
            lambda: load_pairs(source),  # noqa: B023
        ):
            with pytest.raises(UserError, match=words) as error:
                read()
            assert len(str(error.value)) < 600
    with pytest.raises(UserError, match="got the folder"):
        list(stream_texts(str(tmp_path / "folder.csv")))
    with pytest.raises(UserError, match="is a folder"):
        load_task(write(tmp_path / "a.csv", CSV), dev=tmp_path / "folder.csv")
    assert look_up(tmp_path / "none")[1] == ""


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(self, *mode):  # as the system does, but for the superuser too
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    path = write(tmp_path / "a.csv", CSV)
    monkeypatch.setattr(Path, "open", refuse)
    for read in (lambda: read_table(path, "utf-8"), lambda: list(stream_texts(str(path))), lambda: load_task(path)):
        with pytest.raises(UserError, match=r"a\.csv: could not be read \(Permission denied\); check its permissions"):
            read()


# ---- the Hub


def test_hub_data_sets_are_streamed_and_their_troubles_named(monkeypatch):
    def fake(rows, names=None):
        class Rows:
            column_names = names

            def __iter__(self):
                for row in rows:
                    if isinstance(row, Exception):
                        raise row
                    yield row

        monkeypatch.setattr(datasets, "load_dataset", lambda *where, **options: Rows())

    fake([{"text": " a "}, {"text": None}, {"text": "b"}])
    assert list(stream_texts("org/data.v2", say=lambda note: None)) == ["a", "b"]
    for rows, words in (
        ([], "expected rows, got none"),
        ([{"text": "a"}, ConnectionError("cut")], r"beyond row 1 \(ConnectionError: cut\)"),
        ([OSError("gone")], "got OSError: gone"),
        ([{"id": 1}], r"--text.*'id'"),
    ):
        fake(rows)
        with pytest.raises(UserError, match=words):
            list(stream_texts("org/data"))


def test_detection_reads_the_file_twice_and_no_oftener(tmp_path, monkeypatch):
    passes = []
    lines = type(open_text(write(tmp_path / "a.csv", rows_of(";")), "utf-8")).lines
    monkeypatch.setattr("contrastill.data.files.Text.lines", lambda self: (passes.append(1), lines(self))[1])
    list(Grid.of(tmp_path / "a.csv", "utf-8", None).rows())
    assert len(passes) == 3  # its first line, every line once to judge, every line once to read
