"""A whole classifier and a whole embedder, tiny, and data that both read."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(35))]
SIZES: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 24,
}


def write_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=24,
    ).save_pretrained(folder)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole classifier, a whole embedder, and data that both read."""
    home = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    BertForSequenceClassification(BertConfig(**SIZES, num_labels=2)).save_pretrained(home / "classifier")
    write_tokenizer(home / "classifier")
    BertModel(BertConfig(**SIZES)).save_pretrained(home / "encoder")
    write_tokenizer(home / "encoder")
    modules = [Transformer(str(home / "encoder")), Pooling(8), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(home / "embedder"))
    rows = [(f"w{n % 35} w{n % 7} w{n % 3}", f"LABEL_{n % 2}") for n in range(40)]
    (home / "data.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    (home / "texts.txt").write_text("".join(f"{text}\n" for text, _ in rows))
    (home / "pairs.csv").write_text(
        "anchor,positive\n" + "".join(f"{t},w{n} w{n % 5}\n" for n, (t, _) in enumerate(rows[:30]))
    )
    return home
