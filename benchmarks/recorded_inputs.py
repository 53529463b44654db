"""Models, data and settings of recorded_runs.py: BERTs of 2 layers and width 32, sentences of made-up words.

    python benchmarks/recorded_inputs.py FOLDER        makes them, in seconds

encoder/, plain-encoder/ (without dropout), embedder/, plain-embedder/; topics/ (classes), moods/ (classes of pairs),
shares/ (scores), each with train, dev and test; texts.txt, pairs.csv, triples.csv, and dev.csv (scored pairs).
"""

import csv
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

CLASSES = {
    "food": ["soup", "bread", "cheese", "apple", "rice", "salt"],
    "music": ["song", "drum", "piano", "choir", "tune", "violin"],
    "sport": ["goal", "race", "team", "ball", "swim", "medal"],
}
MOODS = {"sad": ["bad", "awful", "poor", "dull", "nasty"], "glad": ["good", "great", "fine", "lovely", "superb"]}
FILLERS = [f"word{n}" for n in range(60)]
KEYWORDS = [word for words in (*CLASSES.values(), *MOODS.values()) for word in words]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *FILLERS, *KEYWORDS]
SPLITS = {"train": 64, "dev": 30, "test": 36}
TEXTS, ROWS = 300, 36
Row = dict[str, Any]


# ---- settings -------------------------------------------------------------------------------------------------------

# A value "inputs:NAME" is a file or model of RECORD/inputs, "own:NAME" one of the call's own folder.
QUICK: dict[str, Any] = {"batch_size": 8, "epochs": 4, "checks": 4, "learning_rate": 3e-3, "precision": "fp32"}
TASK: dict[str, Any] = {**QUICK, "student": "2/16/4/32", "max_length": 32}
ON_TOPICS: dict[str, Any] = {**TASK, "teacher": "inputs:teacher-topics", "data": "inputs:topics"}
VECTORS: dict[str, Any] = {
    **TASK,
    "epochs": 1,
    "teacher": ["inputs:embedder"],
    "texts": ["inputs:texts.txt"],
    "cache": "own:cache",
}
CONTRAST: dict[str, Any] = {
    **QUICK,
    "epochs": 2,
    "learning_rate": 1e-3,
    "max_length": 32,
    "batch_size": 6,
    "model": "inputs:plain-embedder",
    "pairs": "inputs:pairs.csv",
}
LONG: dict[str, Any] = {"checks": 20}  # long enough to be interrupted after the first checkpoint
FINETUNE: dict[str, Any] = {**QUICK, "epochs": 20, "max_length": 32, "model": "inputs:encoder"}

TEACHERS: dict[str, dict[str, Any]] = {
    name: {**FINETUNE, "data": f"inputs:{name}"} for name in ("topics", "moods", "shares")
}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "lrc_bert": ("distill", {**ON_TOPICS, **LONG, "epochs": 40, "method": "lrc_bert", "cache": "own:cache"}),
    "lrc_bert-queue-perturb-unlabelled": (
        "distill",
        {
            **ON_TOPICS,
            "method": "lrc_bert",
            "set": {"queue": 64, "negatives": 8},
            "perturb": "l2-per-token",
            "epsilon": 0.1,
            "unlabelled": "inputs:texts.txt",
            "cache": "none",
        },
    ),
    "kd-accumulate": ("distill", {**ON_TOPICS, "method": "kd", "accumulate": 2, "cache": "own:cache"}),
    "pkd-pairs": (
        "distill",
        {**TASK, "method": "pkd", "teacher": "inputs:teacher-moods", "data": "inputs:moods", "cache": "none"},
    ),
    "tinybert-scores": (
        "distill",
        {
            **TASK,
            "method": "tinybert",
            "teacher": "inputs:teacher-shares",
            "data": "inputs:shares",
            "start": "random",
            "cache": "own:cache",
            "cache_dtype": "float32",
        },
    ),
    "disco-queue": (
        "distill",
        {
            **VECTORS,
            **LONG,
            "epochs": 8,
            "method": "disco",
            "set": {"queue": 32},
            "projection": "keep",
            "dev": "inputs:dev.csv",
        },
    ),
    "mse_kd-cls": (
        "distill",
        {**VECTORS, "method": "mse_kd", "projection": "drop", "pooling": "cls", "dev": "inputs:dev.csv"},
    ),
    "congen-two-teachers": (
        "distill",
        {
            **VECTORS,
            "method": "congen",
            "set": {"queue": 32},
            "dropout": 0.1,
            "cache_dtype": "float32",
            "teacher": ["inputs:embedder", "inputs:plain-embedder"],
        },
    ),
    "rrd-queue": ("distill", {**VECTORS, "method": "rrd", "set": {"queue": 32}, "start": "random"}),
    "leaf": ("distill", {**VECTORS, "method": "leaf", "cache_dtype": "int8", "epochs": 1.5}),
    "contrast-dev": ("contrast", {**CONTRAST, "dev": "inputs:dev.csv"}),
    "contrast-triples-anchor": (
        "contrast",
        {**CONTRAST, "pairs": "inputs:triples.csv", "anchor": "inputs:embedder", "cache": "own:cache"},
    ),
    "contrast-chunk": ("contrast", {**CONTRAST, "chunk": 2}),
    "contrast-unsupervised": (
        "contrast",
        {**CONTRAST, "model": "inputs:embedder", "pairs": "inputs:texts.txt", "unsupervised": True, "epochs": 0.5},
    ),
    "contrast-without-warmup": ("contrast", {**CONTRAST, "epochs": 20, "learning_rate": 1e-4, "warmup": 0.0}),
    "contrast-long": ("contrast", {**CONTRAST, **LONG, "epochs": 60, "learning_rate": 1e-4}),
    "pretrain": (
        "pretrain",
        {**TASK, "teacher": "inputs:encoder", "texts": ["inputs:texts.txt"], "epochs": 1, "cache": "own:cache"},
    ),
}


# ---- models and data ------------------------------------------------------------------------------------------------


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    make_inputs(Path(sys.argv[1]))


def make_inputs(folder: Path) -> None:
    for name, rows in {"topics": topics, "moods": moods, "shares": shares}.items():
        write_splits(folder / name, rows)
    rng, names = random.Random(5), list(CLASSES)
    (folder / "texts.txt").write_text("".join(f"{topic(rng, names[n % 3])}\n" for n in range(TEXTS)), encoding="utf-8")
    triples = [
        {"anchor": topic(rng, names[n % 3]), "positive": topic(rng, names[n % 3]), "negative": topic(rng, names[n % 2])}
        for n in range(ROWS)
    ]
    write_csv(folder / "triples.csv", triples)
    write_csv(folder / "pairs.csv", [{key: row[key] for key in ("anchor", "positive")} for row in triples])
    write_csv(folder / "dev.csv", scored_pairs(40))
    plain = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    write_models(folder / "encoder", folder / "embedder", seed=0)
    write_models(folder / "plain-encoder", folder / "plain-embedder", seed=1, **plain)


def sentence(rng: random.Random, keywords: Sequence[str]) -> str:
    words = [*rng.choices(FILLERS, k=rng.randint(2, 9)), *keywords]
    rng.shuffle(words)
    return " ".join(words)


def topic(rng: random.Random, name: str) -> str:
    return sentence(rng, rng.choices(CLASSES[name], k=3))


def topics(rng: random.Random, n: int) -> Row:
    name = list(CLASSES)[n % 3]
    return {"text": topic(rng, name), "label": name}


def moods(rng: random.Random, n: int) -> Row:
    """The label is the mood of the second text."""
    mood = list(MOODS)[n % 2]
    return {
        "sentence1": topic(rng, "food"),
        "sentence2": sentence(rng, rng.choices(MOODS[mood], k=2)),
        "label": mood,
    }


def shares(rng: random.Random, n: int) -> Row:
    """The score is the share of good words among the words of mood; all scores differ."""
    good = rng.randint(0, 4)
    words = rng.choices(MOODS["glad"], k=good) + rng.choices(MOODS["sad"], k=4 - good)
    return {"text": sentence(rng, words), "score": good / 4 + n / 10_000}


def scored_pairs(count: int) -> list[Row]:
    rng, names = random.Random(6), list(CLASSES)
    rows = []
    for n in range(count):
        one, two = names[n % 3], names[(n // 3) % 3]
        rows.append({"sentence1": topic(rng, one), "sentence2": topic(rng, two), "score": (one == two) + n / 1000})
    return rows


def write_splits(folder: Path, row: Callable[[random.Random, int], Row]) -> None:
    for seed, (split, count) in enumerate(SPLITS.items()):
        rng = random.Random(seed)
        write_csv(folder / f"{split}.csv", [row(rng, n) for n in range(count)])


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_models(encoder: Path, embedder: Path, seed: int, **changes: Any) -> None:
    """An untrained BERT with its word tokenizer, and the sentence-embedding model made of it."""
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
        num_labels=2,
        initializer_range=0.15,  # at this width 0.02 takes hundreds of steps to leave
        **changes,
    )
    BertForSequenceClassification(config).save_pretrained(encoder)
    write_tokenizer(encoder)
    SentenceTransformer(str(encoder), device="cpu").save(str(embedder))


def write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", WORDS.index("[CLS]")), ("[SEP]", WORDS.index("[SEP]"))],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=40,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)


if __name__ == "__main__":
    main()
