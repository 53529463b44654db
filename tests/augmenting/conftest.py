"""Tiny masked language models with a vocabulary of pieces, and data of a hundred short texts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from short_texts import NOUNS, VERBS, sentences, write_rows
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
REST = ["the", "a", "and", "not", "кот", "пёс", "7", "2nd", "dogs", "Dog", "paint", "b", "c", ".", "'"]
CONTINUED = ["##s", "##ing", "##ed"]
PIECES = [*SPECIAL, "[unused1]", *NOUNS, *VERBS, *REST, *CONTINUED]


def write_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, mask_token="[MASK]", model_max_length=64, **names,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)  # fmt: skip


@pytest.fixture(scope="session")
def write_model() -> Callable[..., Path]:
    """write_model(folder, kind=BertForMaskedLM): a model of random weights, with its tokenizer."""

    def write(folder: Path, kind: Any = BertForMaskedLM, seed: int = 0) -> Path:
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(PIECES), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=64, initializer_range=0.5,
        )  # fmt: skip
        kind(config).save_pretrained(folder)
        write_tokenizer(folder)
        return folder

    return write


@pytest.fixture(scope="session")
def masked(write_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "masked")


@pytest.fixture(scope="session")
def encoder(write_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "encoder", BertModel)


@pytest.fixture(scope="session")
def classifier(write_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "classifier", BertForSequenceClassification)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """160 labelled texts."""
    rows = [(text, ("animal", "other")[n % 2]) for n, text in enumerate(sentences(160))]
    return write_rows(tmp_path / "data.csv", ("text", "label"), rows)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A folder of pairs with splits that share no word but those of every text."""
    for split, count in (("train", 30), ("dev", 10), ("test", 10)):
        texts = sentences(2 * count, seed=len(split))
        rows = [(f"{split} {texts[2 * n]}", texts[2 * n + 1], ("yes", "no")[n % 2]) for n in range(count)]
        write_rows(tmp_path / "pairs" / f"{split}.csv", ("premise", "hypothesis", "label"), rows)
    return tmp_path / "pairs"
