"""From rows to padded tensors."""

import pickle

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from contrastill.data.collate import Collate, Known, flat, known_tokens, tokenise, truncated_share
from contrastill.data.load import text_key
from contrastill.errors import UserError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(100))]


def tokenizer(**options) -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ["input_ids", "token_type_ids", "attention_mask"]
    options = {"pad_token": "[PAD]", "unk_token": "[UNK]", "model_input_names": names, **options}
    return PreTrainedTokenizerFast(tokenizer_object=words, **options)


def words(first: int, count: int) -> str:
    return " ".join(f"w{i}" for i in range(first, first + count))


def single(labels=(0, 1, -100)) -> Dataset:
    return Dataset.from_dict({"text": [words(0, 1), words(1, 4), words(5, 2)], "label": list(labels)})


def pairs() -> Dataset:
    return Dataset.from_dict(
        {"text": [words(0, 2), words(0, 8)], "text_pair": [words(2, 1), words(8, 3)], "label": [0.5, float("nan")]}
    )


def test_tokenised_rows_are_unpadded_and_know_their_text_and_place():
    rows = tokenise(single(), tokenizer(), 8)
    assert rows.column_names == ["input_ids", "token_type_ids", "labels", "text_key", "content", "index"]
    assert rows["input_ids"][0] == [2, 4, 3]
    assert [len(ids) for ids in rows["input_ids"]] == [3, 6, 4]
    assert rows["text_key"][1] == text_key(words(1, 4))
    assert rows["index"][:] == [0, 1, 2]
    assert rows["labels"][:] == [0, 1, -100]
    assert not rows.cache_files


def test_many_rows_are_one_table_in_their_order(monkeypatch):
    monkeypatch.setattr("contrastill.data.collate.CHUNK", 2)
    rows = tokenise(single(), tokenizer(), 8)
    assert rows["index"][:] == [0, 1, 2]
    assert [ids[1] for ids in rows["input_ids"]] == [4, 5, 9]


def test_a_tokenizer_without_token_types_makes_no_such_column():
    rows = tokenise(single(), tokenizer(model_input_names=["input_ids", "attention_mask"]), 8)
    assert "token_type_ids" not in rows.column_names
    assert "token_type_ids" not in Collate(tokenizer())(rows.to_list())


def test_the_longer_text_of_a_pair_is_cut_first():
    rows = tokenise(pairs(), tokenizer(), 10)
    assert rows["input_ids"][1] == [2, 4, 5, 6, 7, 3, 12, 13, 14, 3]
    assert rows["token_type_ids"][1] == [0] * 6 + [1] * 4
    assert rows["text_key"][0] == text_key(words(0, 2), words(2, 1))


def test_the_truncated_share_counts_rows_that_do_not_fit():
    assert truncated_share(single(), tokenizer(), 6) == 0
    assert truncated_share(single(), tokenizer(), 5) == pytest.approx(1 / 3)
    assert truncated_share(pairs(), tokenizer(), 10) == 0.5


@pytest.mark.parametrize(("max_length", "said"), [(2, "special tokens"), (100, "at most 64")])
def test_a_length_that_cannot_work_is_an_error(max_length, said):
    with pytest.raises(UserError, match=said):
        tokenise(single(), tokenizer(model_max_length=64), max_length)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_equals_the_tokenizers_own_padding(side):
    slow = tokenizer(padding_side=side, pad_token="w99", pad_token_type_id=1)
    data = pairs()
    batch = Collate(slow, torch.float32)(tokenise(data, slow, 16).to_list())
    expected = slow(data["text"][:], data["text_pair"][:], truncation=True, max_length=16, padding=True)
    for name in ("input_ids", "token_type_ids", "attention_mask"):
        assert batch[name].dtype == torch.int64
        assert batch[name].tolist() == expected[name]


def test_labels_are_ids_or_floats():
    one = Collate(tokenizer())(tokenise(single(), tokenizer(), 8).to_list())
    assert (one["labels"].dtype, one["labels"].tolist()) == (torch.int64, [0, 1, -100])
    two = Collate(tokenizer(), torch.float32)(tokenise(pairs(), tokenizer(), 16).to_list())
    assert two["labels"].dtype == torch.float32
    assert two["labels"][1].isnan()


def test_a_batch_keeps_all_63_bits_of_the_text_keys():
    batch = Collate(tokenizer())(tokenise(single(), tokenizer(), 8).to_list())
    assert batch["text_key"].dtype == batch["index"].dtype == torch.int64
    assert batch["text_key"].tolist() == [text_key(text) for text in single()["text"]]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_loader_batches_the_rows(workers):
    collate = pickle.loads(pickle.dumps(Collate(tokenizer())))
    loader = DataLoader(
        tokenise(single(), tokenizer(), 8),
        batch_size=2,
        collate_fn=collate,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )
    batches = list(loader)
    assert [batch["input_ids"].shape for batch in batches] == [(2, 6), (1, 4)]
    assert batches[0]["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]


def test_a_tokenizer_without_padding_is_an_error():
    with pytest.raises(UserError, match=r"set tokenizer\.pad_token"):
        Collate(tokenizer(pad_token=None))


def known(texts: list[str], reader: PreTrainedTokenizerFast) -> Known:
    return known_tokens(*flat(reader(texts)["input_ids"]), reader)


NAMES = {"cls_token": "[CLS]", "sep_token": "[SEP]"}


def test_unknown_tokens_and_texts_without_a_known_one_are_counted_without_marks():
    assert known(["w1 w2 never", "w3", "never seen", ""], tokenizer(**NAMES)) == Known(6, 3, 4, 2)
    assert known(["w1", "w2"], tokenizer(**NAMES)) == Known(2, 0, 2, 0)


def test_shares_of_unknown_tokens_add_up_over_parts():
    whole = Known(6, 3, 4, 2) + Known(2, 0, 2, 0)
    assert whole == Known(8, 3, 6, 2)
    assert (whole.share, whole.worse) == (0.375, 0.375)
    assert str(whole) == "37.5% of the tokens are unknown to the tokenizer, 2 of 6 texts have none that it knows"
    assert Known(0, 0, 3, 3).worse == 1.0


@pytest.mark.parametrize("other", ["pad_token", "eos_token"])
def test_a_token_with_another_use_is_not_counted_as_unknown(other):
    assert known(["w1 never"], tokenizer(**NAMES, **{other: "[UNK]"})).unknown == 0
