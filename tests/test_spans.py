"""Words, windows and entities of texts, whatever is in them."""

import json
import random

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from contrastill.spans import Scheme, Tagged, decode, merged, read, words_of

SIGNS = [
    "A7", "Sperrung", "Höhe", "e\u0301tude", "AS-Soltau", "(14:30)", "#Stau", "@dpa", "👩\u200d👩\u200d👧", "👍🏽",
    "🇩🇪", "\u2764\ufe0f", "中国人民", "東京タワー", "서울", "שלום", "עיר\u05b7", "مرحبا", "हिन्दी", "สวัสดี",
    "Ὀδυσσεύς", "\u200b", "\ufeff", "ﬁn", "İstanbul", "ß", "½", "№", "x" * 130, "\U0001f9d1\u200d\U0001f680",
    "a\u0300\u0301\u0302b", "\u0301", "…", "don't", "3,5km", "\u00ad", "–",
]  # fmt: skip
BLANKS = [" ", "  ", "\t", "\n", "\u00a0", "\u3000", "", ""]


def wordpiece():
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        *"abcdefghijklmnopqrstuvwxyz0123456789",
        "stau",
        "sper",
        "##rung",
        "soltau",
    ]
    words += [f"##{one}" for one in "abcdefghijklmnopqrstuvwxyz0123456789"] + list("中国(,)#@.:-")
    made = Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    return made


def byte_bpe():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    made.train_from_iterator(["Sperrung A7 Stau 中国人民 Höhe étude"] * 9, trainer)
    made.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 0), ("</s>", 1)])
    return made


def unigram():
    made = Tokenizer(models.Unigram())
    made.normalizer, made.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>")
    made.train_from_iterator(["Sperrung A7 Stau 中国人民 中国 Höhe étude don't km"] * 9, trainer)
    made.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 0), ("</s>", 1)])
    return made


TOKENIZERS = {"wordpiece": wordpiece, "byte_bpe": byte_bpe, "unigram": unigram}


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]()


def texts(count, seed=0):
    draw = random.Random(seed)
    for _ in range(count):
        yield "".join(draw.choice(SIGNS) + draw.choice(BLANKS) for _ in range(draw.randint(0, 30)))


@pytest.mark.parametrize("length", [8, 16, 512])
def test_units_are_whole_words_in_order_and_each_is_read_once(tokenizer, length):
    for text in texts(400, seed=length):
        encoding = tokenizer.encode(text)
        reading = read(encoding, text, length)
        words = words_of(text).tolist()
        starts, ends = {a for a, _ in words}, {b for _, b in words}
        assert set(reading.starts.tolist()) <= starts
        assert set(reading.ends.tolist()) <= ends
        assert (reading.starts[1:] >= reading.ends[:-1]).all()
        assert (reading.ends > reading.starts).all()
        assert all(
            not text[a].isspace() and not text[b - 1].isspace()
            for a, b in zip(reading.starts, reading.ends, strict=True)
        )
        owned = [n for k, window in enumerate(reading.windows) for n in window.units if reading.owners[n] == k]
        assert sorted(owned) == list(range(len(reading.starts)))
        for window in reading.windows:
            assert 1 <= len(window.ids) <= length
            assert (window.places < len(window.ids)).all()
        if not reading.long:
            assert reading.windows[0].ids == encoding.ids
        kept = {n for window in reading.windows for n in window.ids}
        assert kept == set(encoding.ids)  # no token of the text is left out


def test_a_unit_reads_its_own_first_token_in_every_window(tokenizer):
    for text in texts(100, seed=5):
        encoding = tokenizer.encode(text)
        whole = read(encoding, text, 10_000)
        place = dict(zip(whole.windows[0].units.tolist(), whole.windows[0].places.tolist(), strict=True))
        for window in read(encoding, text, 12).windows:
            for unit, at in zip(window.units.tolist(), window.places.tolist(), strict=True):
                assert window.ids[at] == encoding.ids[place[unit]]


def test_marks_joiners_and_flags_are_not_torn_apart():
    text = "e\u0301tude 👩\u200d👩\u200d👧 👍🏽 🇩🇪🇫🇷 हिन्दी 中国ab"
    assert [text[a:b] for a, b in words_of(text)] == [
        "e\u0301tude", "👩\u200d👩\u200d👧", "👍🏽", "🇩🇪", "🇫🇷", "हिन्दी", "中", "国", "ab",
    ]  # fmt: skip


def test_ten_thousand_random_texts_give_spans_of_themselves(tokenizer):
    scheme, draw = Scheme.bio(["LOC", "ORG"]), np.random.default_rng(0)
    spans = 0
    for text in texts(10_000 // 3 + 1, seed=1):
        reading = read(tokenizer.encode(text), text, int(draw.integers(6, 40)))
        parts = [draw.dirichlet([0.3] * 5, len(window.units)) for window in reading.windows]
        answer = merged(reading, parts)
        found = answer.spans(scheme)
        spans += len(found)
        last = 0
        for span in found:
            assert last <= span.start < span.end <= len(text)
            assert text[span.start : span.end] == text[span.start : span.end].strip()
            assert 0 <= span.score <= 1
            last = span.end
    assert spans > 5_000


def test_the_entities_of_the_last_paragraph_of_a_long_text_are_found(tokenizer):
    text = "stau " * 5_000 + "a7 soltau"
    reading = read(tokenizer.encode(text), text, 64)
    parts = []
    for window in reading.windows:  # a model that knows the last two words
        values = np.tile([0.9, 0.05, 0.05], (len(window.units), 1))
        known = np.isin(window.units, [5_000, 5_001])
        values[known] = [0.1, 0.1, 0.8]
        parts.append(values)
    (span,) = merged(reading, parts).spans(Scheme.bio(["LOC"]))
    assert text[span.start : span.end] == "a7 soltau"


def test_an_entity_across_the_seam_of_two_windows_stays_whole(tokenizer):
    text = " ".join(f"w{n}" for n in range(40))
    reading = read(tokenizer.encode(text), text, 20)
    assert reading.long
    for first in range(38):
        parts = []
        for window in reading.windows:
            values = np.tile([1.0, 0.0, 0.0], (len(window.units), 1))
            values[window.units == first] = [0, 1, 0]
            values[np.isin(window.units, [first + 1, first + 2])] = [0, 0, 1]
            parts.append(values)
        spans = merged(reading, parts).spans(Scheme.bio(["LOC"]))
        assert [text[s.start : s.end] for s in spans] == [f"w{first} w{first + 1} w{first + 2}"]


def test_units_take_the_answer_of_the_window_that_shows_most_around_them(tokenizer):
    text = " ".join(f"w{n}" for n in range(60))
    reading = read(tokenizer.encode(text), text, 24)
    for unit, owner in enumerate(reading.owners):
        depth = []
        for n, window in enumerate(reading.windows):
            if unit in window.units:
                at = int(window.places[window.units.tolist().index(unit)])
                before = at if n else 1000
                behind = len(window.ids) - at if n < len(reading.windows) - 1 else 1000
                depth.append((min(before, behind), n))
        best = max(depth)[0]
        assert next(d for d, n in depth if n == owner) >= best - 1


# ---- schemes


def tags_of(scheme, names):
    values = np.full((len(names), len(scheme.tags)), 0.01)
    for n, name in enumerate(names):
        values[n, scheme.tags.index(name)] = 0.9
    return values


def spans_of(scheme, names):
    starts = np.arange(len(names)) * 10
    return [
        (s.start // 10, (s.end + 5) // 10, s.type) for s in decode(scheme, tags_of(scheme, names), starts, starts + 5)
    ]


CASES = [
    ("B-A I-A O B-B", [(0, 2, "A"), (3, 4, "B")]),
    ("B-A B-A", [(0, 1, "A"), (1, 2, "A")]),
    ("O I-A I-A O", [(1, 3, "A")]),  # begins without B
    ("B-A I-B", [(0, 1, "A"), (1, 2, "B")]),
    ("I-A I-A B-A", [(0, 2, "A"), (2, 3, "A")]),  # IOB1
    ("I-A O I-A", [(0, 1, "A"), (2, 3, "A")]),
    ("O O", []),
    ("", []),
]


@pytest.mark.parametrize(("names", "expected"), CASES)
def test_broken_sequences_are_repaired_as_conlleval_does(names, expected):
    assert spans_of(Scheme.bio("AB"), names.split()) == expected


@pytest.mark.parametrize(("names", "expected"), CASES)
def test_seqeval_finds_the_same_entities(names, expected):
    metrics = pytest.importorskip("seqeval.metrics.sequence_labeling")
    found = [(start, end + 1, kind) for kind, start, end in metrics.get_entities(names.split())]
    assert found == expected


def test_tags_of_other_schemes():
    bioes = Scheme(["O", "B-A", "I-A", "E-A", "S-A"])
    assert spans_of(bioes, ["B-A", "I-A", "E-A", "E-A", "S-A", "I-A"]) == [
        (0, 3, "A"), (3, 4, "A"), (4, 5, "A"), (5, 6, "A"),
    ]  # fmt: skip
    bmes = Scheme(["B-A", "M-A", "E-A", "S-A", "O"])
    assert spans_of(bmes, ["B-A", "M-A", "E-A", "O"]) == [(0, 3, "A")]
    assert bmes.outside == 4
    assert spans_of(Scheme(["O", "A", "B"]), ["A", "A", "B", "O"]) == [(0, 2, "A"), (2, 3, "B")]


@pytest.mark.parametrize(
    "tags",
    [
        ["O", "B-A", "I-A"],
        ["O", "B-A", "I-A", "E-A", "S-A"],
        ["O", "B-A", "M-A", "E-A", "S-A"],
        ["O", "B-A", "I-A", "L-A", "U-A"],
    ],
)
def test_encoding_and_decoding_are_inverse(tags):
    scheme, starts = Scheme(tags), np.arange(12) * 10
    draw = np.random.default_rng(0)
    for _ in range(200):
        places = sorted(draw.choice(13, size=2 * int(draw.integers(0, 4)), replace=False).tolist())
        spans = [(10 * a, 10 * (b - 1) + 5, 0) for a, b in zip(places[::2], places[1::2], strict=True)]
        numbers = scheme.encode(spans, starts, starts + 5)
        values = np.eye(len(tags))[numbers]
        assert [(s.start, s.end, 0) for s in decode(scheme, values, starts, starts + 5)] == spans


def test_a_spans_score_is_the_mean_probability_of_its_type():
    scheme = Scheme.bio("AB")
    values = np.array([[0.1, 0.6, 0.2, 0.1, 0.0], [0.2, 0.3, 0.5, 0.0, 0.0]])
    (span,) = decode(scheme, values, np.array([0, 4]), np.array([3, 8]))
    assert span.score == pytest.approx((0.8 + 0.8) / 2)
    assert Tagged("abc de", np.array([0, 4]), np.array([3, 6]), values).spans(scheme)[0].end == 6


def test_a_record_of_spans_is_ready_for_json():
    scheme = Scheme.bio(["A"])
    answer = Tagged("a7", np.array([0]), np.array([2]), np.array([[0.1, 0.9, 0.0]], np.float32))
    assert json.loads(json.dumps(answer.spans(scheme))) == [[0, 2, "A", pytest.approx(0.9)]]
