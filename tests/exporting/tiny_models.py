"""Tiny models with a WordPiece tokenizer, saved as their libraries do, and rows that they can read."""

import csv
import random
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = ["red", "green", "blue", "cat", "dog", "runs", "sleeps", "very", "small", "old"]
LETTERS = ["a", "b", "d", "e", "g", "l", "n", "r", "s", "t", "u"]
PIECES = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
PIECES += [f"word{n}" for n in range(50 - len(PIECES))]
CLASSES = ["cold", "mild", "hot"]


def write_tokenizer(folder: Path, model: Any = None) -> None:
    kind = model or models.WordPiece({piece: n for n, piece in enumerate(PIECES)}, unk_token="[UNK]")
    tokenizer = Tokenizer(kind)
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
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
        mask_token="[MASK]",
        model_max_length=30,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)


def sentences(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 9))) for _ in range(count)]


def write_rows(path: Path, count: int = 60, pairs: bool = False, scores: bool = False) -> Path:
    rng = random.Random(7)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sentence1", "sentence2", "label"] if pairs else ["text", "label"])
        for n, text in enumerate(sentences(count)):
            label = rng.random() if scores else CLASSES[n % 3]
            writer.writerow([text, sentences(1, n)[0], label] if pairs else [text, label])
    return path
