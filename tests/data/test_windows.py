"""Tagged texts as training rows: windows, labels at first word pieces, tokenizers that split words."""

import numpy as np
import pytest
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from contrastill import UserError
from contrastill.data.collate import Collate
from contrastill.data.windows import inexact_share, windows_of
from contrastill.loading import split_words
from contrastill.spans import Scheme
from contrastill.tasks import Tagging

BIO = Scheme.bio(["LOC"])


def tokenizer_of(pieces, pre, unk="<unk>"):
    model = models.Unigram([("<pad>", 0.0), ("<s>", 0.0), ("</s>", 0.0), (unk, -20.0), *pieces], unk_id=3)
    made = Tokenizer(model)
    made.pre_tokenizer = pre
    made.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 1), ("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token=unk,
        model_max_length=64, model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


@pytest.fixture
def words():
    """One piece a word, and "Soltau" in two."""
    names = ["a7", "Sol", "tau", "jam", "near", "at"]
    pieces = [(f"▁{name}", -1.0) for name in names] + [("tau", -1.0), ("▁", -9.0)] + [(c, -9.0) for c in "aSoltujmner7"]
    return tokenizer_of(pieces, pre_tokenizers.Metaspace())


@pytest.fixture
def joined():
    """Pieces of several Chinese characters, as large vocabularies have them."""
    pieces = [(one, -1.0) for one in ("▁在中国", "银行，", "工作")] + [(one, -8.0) for one in "▁在中国银行，工作"]
    return tokenizer_of(pieces, pre_tokenizers.Metaspace())


def rows(*pairs):
    return Dataset.from_list([{"text": text, "label": label} for text, label in pairs])


def test_a_words_label_stands_at_its_first_piece_alone(words):
    found = windows_of(rows(("jam near Soltau at a7", [9, 15, 0, 19, 21, 0])), words, 32, BIO).rows[0]
    tokens = words.convert_ids_to_tokens(found["input_ids"])
    assert tokens == ["<s>", "▁jam", "▁near", "▁Sol", "tau", "▁at", "▁a7", "</s>"]
    assert found["labels"] == [-100, 0, 0, 1, -100, 0, 1, -100]
    assert found["answered"] == [0, 1, 1, 1, 0, 1, 1, 0]


def test_an_unlabelled_text_has_units_and_no_labels_and_one_without_entities_has_labels(words):
    first, second = windows_of(rows(("jam at a7", [-100]), ("jam at a7", [])), words, 32, BIO).rows
    assert first["labels"] == [-100] * 5
    assert first["answered"] == [0, 1, 1, 1, 0]
    assert second["labels"] == [-100, 0, 0, 0, -100]


def test_an_entity_that_a_window_cuts_has_its_labels_in_the_window_that_shows_it_whole(words):
    text = "jam jam jam jam jam near Soltau at a7 jam jam"
    start = text.index("near")
    found = list(windows_of(rows((text, [start, text.index(" jam", start), 0])), words, 9, BIO).rows)
    whole = [row for row in found if 1 in row["labels"]]
    assert len(found) > 1
    assert len(whole) == 1
    assert [label for label in whole[0]["labels"] if label > 0] == [1, 2, 2, 2]
    parts = [label for row in found if row is not whole[0] for label in row["labels"]]
    assert set(parts) <= {0, -100}


def test_an_entity_longer_than_every_window_keeps_its_labels(words):
    text = " ".join(["a7"] * 30)
    found = windows_of(rows((text, [0, len(text), 0])), words, 8, BIO)
    assert all(set(row["labels"]) <= {-100, 1, 2} and 2 in row["labels"] for row in found.rows)


def test_windows_of_a_text_are_one_text_to_the_contrastive_loss(words):
    found = windows_of(rows((" ".join(["a7"] * 30), []), ("jam", [])), words, 8, BIO).rows
    keys = found["text_key"]
    assert len(set(keys[:-1])) == 1
    assert keys[-1] not in keys[:-1]


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_batch_pads_labels_and_units_as_it_pads_tokens(words, side):
    words.padding_side = side
    found = windows_of(rows(("jam", []), ("jam near Soltau", [9, 15, 0])), words, 32, BIO)
    batch = Collate(words)(found.rows.to_list())
    assert batch["labels"].shape == batch["answered"].shape == batch["input_ids"].shape == (2, 6)
    real = batch["attention_mask"].bool()
    assert (batch["labels"][~real] == -100).all()
    assert not batch["answered"][~real].any()
    assert batch["labels"][0][real[0]].tolist() == [-100, 0, -100]
    assert batch["labels"][1].tolist() == [-100, 0, 0, 1, -100, -100]


def test_a_length_without_room_for_text_is_refused(words):
    for length in (2, 65):
        with pytest.raises(UserError, match="expected a max_length"):
            windows_of(rows(("jam", [])), words, length, BIO)


def test_a_tokenizer_that_joins_words_is_made_to_split_them(joined):
    data = rows(("在中国银行，工作", [1, 3, 0, 1, 5, 0][:3]), ("在中国银行，工作", [3, 5, 0]))
    assert inexact_share(data, joined, 32) == 1
    made, said = Tagging(["LOC"]).fit_tokenizer(joined, data, 32)
    assert inexact_share(data, made, 32) == 0
    assert said is not None
    assert "100.0% of the entities began or ended inside a token, now 0.0%" in said
    assert made.tokenize("在中国") == ["▁", "在", "中", "国"]
    assert joined.tokenize("在中国") == ["▁在中国"]  # the one it was made of is as it was
    labels = windows_of(data, made, 32, BIO).rows[0]["labels"]
    assert [n for n in labels if n != -100] == [0, 1, 2, 0, 0, 0, 0, 0]


def test_a_tokenizer_whose_tokens_fit_is_left_alone(words):
    data = rows(("jam near Soltau at a7", [9, 15, 0]))
    made, said = Tagging(["LOC"]).fit_tokenizer(words, data, 32)
    assert made is words
    assert said is None


def test_a_split_tokenizer_is_the_same_when_it_is_loaded_again(joined, tmp_path):
    made = split_words(joined)
    made.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert again("在中国银行，工作")["input_ids"] == made("在中国银行，工作")["input_ids"]


def test_byte_level_tokenizers_are_split_before_bytes():
    alphabet = {sign: n + 4 for n, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE({"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, **alphabet}, [], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", model_max_length=64)
    split = split_words(tokenizer)
    pieces = [piece for piece, _ in split._tokenizer.pre_tokenizer.pre_tokenize_str("在中")]
    assert len(pieces) == 2


def test_entities_inside_a_unit_are_missed_and_counted(words):
    data = rows(("jam near Soltau", [9, 12, 0]))  # "Sol"
    assert inexact_share(data, words, 32) == 1
    task = Tagging(["LOC"])
    labels = task.labels_of(data)
    read = task.read(data, words, 32)
    logits = np.eye(3)[np.maximum(np.array(read.rows[0]["labels"]), 0)] * 9
    answers = task.answers(task.gathered([logits], np.array([0]), read))
    assert task.score(answers, labels) == {"f1": 0, "precision": 0, "recall": 0, "f1_macro": 0}
