"""A corpus of texts as token ids, against the tokenizer and `Collate` on the same texts."""

import gzip
import pickle
from collections import Counter
from operator import attrgetter

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from contrastill.data import corpus as module
from contrastill.data.collate import Collate, content_key
from contrastill.data.corpus import read_corpus, several_texts
from contrastill.errors import UserError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{n}" for n in range(60)), "query", ":"]
TEXTS = ["w1 w2 w3", "w4", "w5 w6", "w7 w8 w9 w10 w11", "w12 w13 w14 w15"]
LENGTH = 6  # tokens: room for four words


def tokenizer(vocabulary=WORDS, **options) -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    given = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", **options}
    return PreTrainedTokenizerFast(tokenizer_object=words, **given)


def corpus_of(texts=TEXTS, reader=None, max_length=LENGTH, teachers=(), chunk=None):
    texts, chunk = list(texts), chunk or len(texts) or 1
    chunks = [texts[n : n + chunk] for n in range(0, len(texts), chunk)]
    return read_corpus(iter(chunks), reader or tokenizer(), max_length, teachers)


def ids_of(texts, reader, max_length=LENGTH):
    return reader(texts, truncation=True, max_length=max_length)["input_ids"]


def keys_of(texts, reader, max_length=LENGTH):
    return [content_key(ids) for ids in ids_of(texts, reader, max_length)]


def stored(corpus, teacher=0):
    return [key.tobytes() for key in corpus.keys(teacher)]


# ---- batches -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [3, 1], [1], [2, 2]])
def test_a_batch_is_what_collate_makes_of_the_same_texts(rows, side):
    reader = tokenizer(padding_side=side, pad_token="w59")
    ids = ids_of([TEXTS[row] for row in rows], reader)
    expected = Collate(reader)(
        [{"input_ids": each, "labels": 0, "text_key": 0, "index": 0, "content": content_key(each)} for each in ids]
    )
    batch = corpus_of(reader=reader).batch(rows)
    for name in ("input_ids", "attention_mask", "content"):
        assert batch[name].dtype == expected[name].dtype == torch.int64
        assert batch[name].tolist() == expected[name].tolist()
    assert batch["text_key"].tolist() == expected["content"][:, 0].tolist()
    padded = reader([TEXTS[row] for row in rows], truncation=True, max_length=LENGTH, padding=True)
    assert batch["input_ids"].tolist() == padded["input_ids"]
    assert batch["attention_mask"].tolist() == padded["attention_mask"]


def test_a_row_is_a_batch_of_one_and_a_loader_gets_whole_batches():
    corpus = corpus_of()
    torch.testing.assert_close(corpus[3], corpus.batch([3]))
    corpus = pickle.loads(pickle.dumps(corpus))
    batches = list(DataLoader(corpus, batch_size=2, collate_fn=lambda found: found[0]))
    assert [batch["input_ids"].shape for batch in batches] == [(2, 5), (2, 6), (1, 6)]


def test_lengths_keys_and_texts_are_those_of_the_rows():
    corpus, reader = corpus_of(), tokenizer()
    assert len(corpus) == 5
    assert corpus.lengths.tolist() == [5, 3, 4, 6, 6]
    assert stored(corpus) == keys_of(TEXTS, reader)
    assert corpus.texts([4, 0, 3]) == ["w12 w13 w14 w15", "w1 w2 w3", "w7 w8 w9 w10"]  # cut, as the model reads it
    assert corpus.content.shape == (5, 1, 16)


def test_chunks_do_not_matter():
    whole, parts = corpus_of(TEXTS * 3), corpus_of(TEXTS * 3, chunk=2)
    for name in ("own.tokens", "own.ends", "content", "rows"):
        assert np.array_equal(attrgetter(name)(whole), attrgetter(name)(parts))
    assert (whole.cut, whole.duplicates) == (parts.cut, parts.duplicates) == (3, 10)


def test_a_part_holds_its_rows_alone_and_parts_of_parts_too():
    corpus = corpus_of()
    part = corpus.part(np.array([4, 1, 2]))
    assert len(part) == 3
    assert part.lengths.tolist() == [6, 3, 4]
    assert stored(part) == [stored(corpus)[n] for n in (4, 1, 2)]
    assert part.texts([1]) == ["w4"]
    torch.testing.assert_close(part.batch([0, 2]), corpus.batch([4, 2]))
    again = part.part(np.array([0]))
    assert again.texts([0]) == ["w12 w13 w14 w15"]
    assert part.own is corpus.own, "nothing is copied"


# ---- texts that come again, or are cut -----------------------------------------------------------------------------


def test_a_text_seen_before_is_left_out_and_the_first_stays_in_its_place():
    texts = ["w1", "w2", "w1", "W2 ", "w3", "w1"]  # the tokenizer reads lower case
    corpus = corpus_of(texts, chunk=2)
    assert corpus.texts(range(len(corpus))) == ["w1", "w2", "w3"]
    assert corpus.duplicates == 3
    assert len(corpus.content) == 6
    assert len(set(stored(corpus))) == 3


def test_texts_that_differ_beyond_the_limit_alone_are_one_text():
    corpus = corpus_of(["w1 w2 w3 w4 w5", "w1 w2 w3 w4 w6", "w1 w2 w3 w4", "w7"])
    assert len(corpus) == 2
    assert (corpus.cut, corpus.duplicates) == (2, 2)


def test_cut_counts_what_does_not_fit_and_not_what_just_fits():
    assert corpus_of().cut == 1
    assert corpus_of(max_length=7).cut == 0
    assert corpus_of(max_length=5).cut == 2
    assert corpus_of(max_length=3).lengths.tolist() == [3] * 5


def test_a_text_of_one_word_and_one_of_ten_thousand():
    corpus = corpus_of(["w1", " ".join(f"w{n % 60}" for n in range(10_000))])
    assert corpus.lengths.tolist() == [3, 6]
    assert corpus.cut == 1
    assert corpus.batch([0, 1])["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    whole = corpus_of(["w1", " ".join(f"w{n % 60}" for n in range(10_000))], max_length=20_000)
    assert whole.lengths.tolist() == [3, 10_002]
    assert whole.cut == 0


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], "expected texts to learn from, got none"),
        (["w1 w2"], "at least two different texts to learn from, got 1 of 1"),
        (["w1", "w1", "W1"], "at least two different texts to learn from, got 1 of 3"),
    ],
)
def test_fewer_than_two_different_texts_are_refused(texts, said):
    with pytest.raises(UserError, match=said):
        corpus_of(texts)


# ---- teachers ------------------------------------------------------------------------------------------------------


def test_each_teachers_key_is_of_what_it_reads():
    student, other = tokenizer(), tokenizer(WORDS[:4] + WORDS[:3:-1])
    corpus = corpus_of(reader=student, teachers=[(student, ""), (other, "")])
    assert corpus.content.shape == (5, 2, 16)
    assert stored(corpus, 0) == keys_of(TEXTS, student)
    assert stored(corpus, 1) == keys_of(TEXTS, other) != stored(corpus, 0)
    batch = corpus.batch([2, 0])
    assert batch["content"].shape == (2, 2, 2)
    assert batch["content"][:, 1].contiguous().numpy().tobytes() == b"".join(stored(corpus, 1)[n] for n in (2, 0))
    assert batch["text_key"].tolist() == batch["content"][:, 0, 0].tolist()
    assert batch["input_ids"].tolist() == corpus_of(reader=student).batch([2, 0])["input_ids"].tolist()


def test_a_prompt_before_the_text_changes_the_key_and_not_what_the_student_reads():
    reader = tokenizer()
    plain, prompted = corpus_of(reader=reader), corpus_of(reader=reader, teachers=[(reader, "query: ")])
    assert stored(prompted) == keys_of([f"query: {text}" for text in TEXTS], reader)
    assert not set(stored(prompted)) & set(stored(plain))
    assert np.array_equal(prompted.own.tokens, plain.own.tokens)


def test_the_students_tokenizer_decides_nothing_about_the_keys_of_another_teacher():
    student, teacher = tokenizer(), tokenizer(WORDS[:4] + WORDS[:3:-1])
    corpus = corpus_of(reader=student, teachers=[(teacher, "")])
    assert corpus.content.shape == (5, 1, 16)
    assert stored(corpus) == keys_of(TEXTS, teacher)


def test_a_tokenizer_with_token_types_makes_keys_of_them_too():
    types = tokenizer(model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    keys = [content_key(ids, [0] * len(ids)) for ids in ids_of(TEXTS, types)]
    assert stored(corpus_of(reader=types)) == keys != keys_of(TEXTS, tokenizer())


# ---- sources -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sources(tmp_path):
    (tmp_path / "one.txt").write_text("w1\n\n   \nw2 w3\n")
    with gzip.open(tmp_path / "two.txt.gz", "wt") as file:
        file.write("\nw4\nw1\n")
    (tmp_path / "three.csv").write_text("id,text\n1,w5 w6\n2,\n3,w7\n")
    return [str(tmp_path / name) for name in ("one.txt", "two.txt.gz", "three.csv")]


def test_sources_follow_one_another_without_their_empty_lines(sources):
    assert [list(texts) for texts in several_texts(sources)] == [["w1", "w2 w3", "w4", "w1", "w5 w6", "w7"]]
    corpus = read_corpus(several_texts(sources), tokenizer(), LENGTH)
    assert corpus.texts(range(len(corpus))) == ["w1", "w2 w3", "w4", "w5 w6", "w7"]


@pytest.mark.parametrize("limit", [0, 1, 3, 4, 99])
def test_a_limit_is_over_all_sources_together(sources, limit):
    found = [text for texts in several_texts(sources, limit=limit) for text in texts]
    assert found == ["w1", "w2 w3", "w4", "w1", "w5 w6", "w7"][:limit]


def test_texts_come_in_chunks_of_a_bounded_size(sources, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 4)
    assert [len(texts) for texts in several_texts(sources)] == [4, 2]
    monkeypatch.setattr(module, "CHUNK", 3)
    assert [len(texts) for texts in several_texts(sources)] == [3, 3]


def test_each_chunk_is_told_of(sources, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 4)
    told = Counter()
    read_corpus(several_texts(sources), tokenizer(), LENGTH, say=lambda n: told.update(texts=n, chunks=1))
    assert told == {"texts": 6, "chunks": 2}


def test_a_source_that_is_none_is_refused_naming_it(sources):
    with pytest.raises(UserError, match=r"none\.txt"):
        list(several_texts([*sources, "none.txt"]))
    with pytest.raises(UserError, match="--text"):
        list(several_texts(sources, text="words"))


def test_what_each_tokenizer_does_not_know_is_counted():
    other = tokenizer([*WORDS[:5], *(f"x{n}" for n in range(60)), "query", ":"])
    corpus = corpus_of(["w0 w1 never", "w2 w3", "w4"], teachers=[(other, "query: ")], chunk=2)
    assert [(each.tokens, each.unknown, each.texts, each.lost) for each in corpus.known] == [
        (6, 1, 3, 0),
        (11, 4, 3, 0),
    ]
    assert corpus.part(np.array([0])).known == corpus.known
