"""A tokenizer's bounds: what could make much of a short text, or take long over it, is refused at once."""

import json
import time

import pytest
from tiny_models import PIECES
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from contrastill.errors import UserError
from contrastill.tokenizing import GROWTH, STEPS, encode, growth_of, read_tokenizer, steps


@pytest.fixture
def tokenizer():
    made = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


def read(tokenizer, tmp_path, **edits):
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    file.write_text(json.dumps(json.loads(file.read_text()) | edits))
    return read_tokenizer(file, 30, pairs=False)


def chained(*some):
    return normalizers.Sequence([*some])


DOUBLED = {
    "forty letters doubled": chained(*[normalizers.Replace("a", "aa")] * 40),
    "sequences in sequences": chained(*[chained(*[normalizers.Replace("a", "aa")] * 5)] * 3),
    "a pattern that matches between": chained(*[normalizers.Replace(Regex("x*"), "yy")] * 20),
    "a look ahead": chained(*[normalizers.Replace(Regex("(?=a)"), "a")] * 20),
    "one long replacement": normalizers.Replace("a", "b" * 10_000),
    "a long beginning": normalizers.Prepend("b" * 10_000),
    "bytes of bytes": chained(*[normalizers.ByteLevel()] * 20),
    "pieces of bytes": pre_tokenizers.Sequence([pre_tokenizers.ByteLevel()] * 20),
    "texts repeated": processors.Sequence([processors.TemplateProcessing("$A $A", "$A $B", [])] * 20),
}


@pytest.mark.parametrize("case", DOUBLED)
def test_a_short_text_never_becomes_a_very_long_one(case, tokenizer, tmp_path):
    kind = DOUBLED[case].__class__.__module__.rpartition(".")[2]
    name = {"normalizers": "normalizer", "pre_tokenizers": "pre_tokenizer", "processors": "post_processor"}[kind]
    setattr(tokenizer, name, DOUBLED[case])
    began = time.perf_counter()
    with pytest.raises(UserError, match=f"makes a text at most {GROWTH} times longer"):
        read(tokenizer, tmp_path)
    assert time.perf_counter() - began < 5


def test_the_steps_and_words_that_are_looked_at_are_bounded(tokenizer, tmp_path):
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase()] * (STEPS + 1))
    with pytest.raises(UserError, match=f"at most {STEPS} steps in the normalizer, got {STEPS + 1}"):
        read(tokenizer, tmp_path)
    tokenizer.normalizer = None
    tokenizer.model = models.WordPiece({"[UNK]": 0}, unk_token="[UNK]", max_input_chars_per_word=10**6)
    with pytest.raises(UserError, match="max_input_chars_per_word up to 1000, got 1000000"):
        read(tokenizer, tmp_path)


def test_a_tokenizer_that_draws_is_refused(tokenizer, tmp_path):
    tokenizer.model = models.BPE({"a": 0}, [], dropout=0.5)
    with pytest.raises(UserError, match="always gives a text the same tokens, got dropout"):
        read(tokenizer, tmp_path)


def test_a_file_beyond_all_size_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr("contrastill.tokenizing.LARGEST", 10)
    (tmp_path / "tokenizer.json").write_text("x" * 11)
    with pytest.raises(UserError, match="expected at most 10 bytes, got 11"):
        read_tokenizer(tmp_path / "tokenizer.json", 30, pairs=False)


@pytest.mark.parametrize(
    "part",
    [
        normalizers.BertNormalizer(),
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),  # Llama's, Gemma's
        normalizers.Sequence(  # XLM-R's, ALBERT's
            [
                normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD(),
                normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Replace(Regex(" {2,}"), " "),
            ]
        ),
        normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]),
        normalizers.Sequence([normalizers.Replace(Regex(f"[{letter}]"), "x") for letter in "abcdefghijklmnopqrst"]),
    ],
    ids=range(5),
)  # fmt: skip
def test_tokenizers_in_use_are_read(part, tokenizer, tmp_path):
    tokenizer.normalizer = part
    assert read(tokenizer, tmp_path)[2].encode("red cat").ids


def test_the_bound_is_one_on_real_texts(tokenizer):
    """No text of these letters grows by more than what the steps are said to allow."""
    for part in (normalizers.Replace("a", "bcd"), normalizers.Replace(Regex("b*"), "xy"), normalizers.ByteLevel()):
        allowed = 1.0
        for step in steps(part):
            allowed *= growth_of(step)
        for text in ("a", "ab" * 8, "bbbb", "é€", "\ue000"):
            assert len(part.normalize_str(text)) <= allowed * len(text) + allowed


def test_where_it_cuts_and_what_it_pads_with_are_told(tokenizer, tmp_path):
    assert read(tokenizer, tmp_path)[:2] == (None, None)
    tokenizer.enable_truncation(12)
    tokenizer.enable_padding(pad_id=1)
    cut, pad, found = read(tokenizer, tmp_path)
    assert (cut, pad, found.truncation["max_length"], found.padding) == (12, 1, 30, None)


def test_a_text_that_a_pattern_fails_on_is_an_error_and_no_panic(tokenizer):
    tokenizer.normalizer = normalizers.Replace(Regex("(b+)+c"), "x")
    with pytest.raises(UserError, match="the tokenizer gave up on a text"):
        encode(tokenizer, ["b" * 40 + "d"])
