"""Tiny tasks, and teachers that have learnt them: a BERT of 2 layers and width 32, trained here in seconds."""

import csv
import fcntl
import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from contrastill import distill, finetune

CLASSES = {
    "food": ["soup", "bread", "cheese", "apple", "rice", "salt"],
    "music": ["song", "drum", "piano", "choir", "tune", "violin"],
    "sport": ["goal", "race", "team", "ball", "swim", "medal"],
}
GOOD = ["good", "great", "fine", "lovely", "superb"]
BAD = ["bad", "awful", "poor", "dull", "nasty"]
FILLERS = [f"word{n}" for n in range(60)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, *FILLERS, *GOOD, *BAD, *(word for words in CLASSES.values() for word in words)]

# What every run of these tests shares, unless it says otherwise: 64 training rows, 8 steps an epoch, 16 in all.
QUICK: dict[str, Any] = {
    "student": "2/16/4/32",
    "batch_size": 8,
    "epochs": 2,
    "checks": 4,
    "learning_rate": 3e-3,
    "precision": "fp32",
    "keep_checkpoints": True,
    "max_length": 32,
}
Row = dict[str, Any]


def sentence(rng: random.Random, keywords: Sequence[str]) -> str:
    words = [rng.choice(FILLERS) for _ in range(rng.randint(2, 9))] + list(keywords)
    rng.shuffle(words)
    return " ".join(words)


def single_rows(count: int, seed: int) -> list[Row]:
    rng = random.Random(seed)
    names = [list(CLASSES)[n % 3] for n in range(count)]
    return [{"text": sentence(rng, rng.choices(CLASSES[name], k=2)), "label": name} for name in names]


def pair_rows(count: int, seed: int) -> list[Row]:
    """A first text about anything; the label is the mood of the second one."""
    rng = random.Random(seed)
    rows = []
    for n in range(count):
        mood = (BAD, GOOD)[n % 2]
        first = sentence(rng, rng.choices(CLASSES["food"], k=1))
        rows.append(
            {"sentence1": first, "sentence2": sentence(rng, rng.choices(mood, k=2)), "label": ("sad", "glad")[n % 2]}
        )
    return rows


def scored_rows(count: int, seed: int) -> list[Row]:
    """The score is the share of good words among the mood words."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        good = rng.randint(0, 4)
        words = rng.choices(GOOD, k=good) + rng.choices(BAD, k=4 - good)
        rows.append({"text": sentence(rng, words), "score": good / 4 + rng.uniform(0.0, 0.01)})
    return rows


def write_csv(path: Path, rows: Sequence[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_splits(folder: Path, write: Callable[[Path, int, int], None]) -> Path:
    """write(file, rows, seed): makes each split, whose rows are JSON lines."""
    for seed, (split, count) in enumerate({"train": 128, "dev": 64, "test": 40}.items()):
        write(folder / f"{split}.jsonl", count, seed)
    return folder


def write_task(folder: Path, rows: Callable[[int, int], list[Row]]) -> Path:
    for seed, (split, count) in enumerate({"train": 64, "dev": 30, "test": 36}.items()):
        write_csv(folder / f"{split}.csv", rows(count, seed))
    return folder


def write_encoder(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """An untrained BERT classifier and its word tokenizer, saved as Hugging Face does."""
    torch.manual_seed(seed)
    config = BertConfig(
        **{
            "vocab_size": len(WORDS),
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "max_position_embeddings": 40,
            "num_labels": 2,
            "initializer_range": 0.15,  # at this width 0.02 takes hundreds of steps to leave
            **changes,
        }
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    write_tokenizer(folder, WORDS)
    return folder


def write_tokenizer(folder: Path, words: Sequence[str]) -> None:
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
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
        mask_token="[MASK]",
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)


def write_pieces(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """An untrained BERT encoder without a head, and a Unigram tokenizer whose pieces are shorter than words."""
    texts = [" ".join(WORDS[n : n + 7]) for n in range(len(SPECIAL), len(WORDS))]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=90, special_tokens=special, unk_token="<unk>", max_piece_length=5, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
    )
    made.save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        **{
            "vocab_size": len(made),
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "max_position_embeddings": 80,
            "pad_token_id": 1,
            "initializer_range": 0.15,
            **changes,
        }
    )
    BertModel(config).save_pretrained(folder)
    return folder


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def snapshot(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}


class Workshop:
    """The tiny tasks (folders with train, dev and test) and a teacher of each, made when first asked for.

    The processes of one call of pytest share `root`: what one of them has made, the others take.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def making(self, name: str) -> Iterator[Path | None]:
        """The folder to be made, while others wait for it; None where it is there already."""
        folder, done = self.root / name, self.root / f"{name}.done"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (self.root / f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if done.exists():
                yield None
            else:
                yield folder
                done.touch()

    def data(self, task: str = "single") -> Path:
        rows = {"single": single_rows, "pairs": pair_rows, "scores": scored_rows}[task]
        with self.making(f"data/{task}") as folder:
            if folder:
                write_task(folder, rows)
        return self.root / "data" / task

    def encoder(self) -> Path:
        with self.making("encoder") as folder:
            if folder:
                write_encoder(folder)
        return self.root / "encoder"

    def plain_encoder(self) -> Path:
        """Without dropout: what is computed in parts, or on several processes, is the same."""
        with self.making("plain-encoder") as folder:
            if folder:
                write_encoder(folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        return self.root / "plain-encoder"

    def pieces(self) -> Path:
        """An encoder that is no kin of the others, without dropout."""
        with self.making("pieces") as folder:
            if folder:
                write_pieces(folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        return self.root / "pieces"

    def teacher(self, task: str = "single", plain: bool = False) -> Path:
        name = f"teacher-{task}" + ("-plain" if plain else "")
        model = self.plain_encoder() if plain else self.encoder()
        epochs = {"single": 16, "pairs": 18, "scores": 36}[task]
        with self.making(name) as folder:
            if folder:
                changes = {**QUICK_TEACHER, "epochs": epochs}
                finetune(model=str(model), data=str(self.data(task)), out=str(folder), **changes)
        return self.root / name / "model"

    def settings(self, out: Path, task: str = "single", plain: bool = False, **changes: Any) -> dict[str, Any]:
        """Settings of a quick distillation."""
        return {
            "teacher": str(self.teacher(task, plain)),
            "data": str(self.data(task)),
            "out": str(out),
            **QUICK,
            **changes,
        }

    def distill(self, out: Path, task: str = "single", plain: bool = False, **changes: Any) -> Any:
        return distill(**self.settings(out, task, plain, **changes))


QUICK_TEACHER = {key: value for key, value in QUICK.items() if key != "student"} | {"checks": 3}
