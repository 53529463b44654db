"""The student's training step: ours, beside transformers' Trainer as it comes and with its best flags.

    pip install '.[demo]'; python benchmarks/step.py                -> benchmarks/results/step.json

A `4L-312` BERT classifier on its labels alone (the same work for all), batches of 32 texts of exactly 16, 32, 64 and
128 tokens, cut from BANKING77's training texts (in BERT's uncased words, which the demo's model has too); dropout 0.1,
AdamW, gradient clipping. The sides take turns in one process; a side's figure is the median over its turns of samples
a second.

trainer         Trainer(model): float32, sdpa attention, all else as it comes.
trainer bf16    bf16=True.
trainer best    bf16=True and eager attention: the fastest that flags give on a CPU.
ours            DistillationTrainer as `contrastill finetune` runs it; then with each of its savings taken away.

Share of the matrix rate: floating-point operations of the layers' products (forward and twice that backward), over what
this machine does on 2048 x 2048 bfloat16 matrices, measured in every turn.
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback
from transformers import TrainingArguments as Arguments

from contrastill import forward
from contrastill.loading import load_tokenizer
from contrastill.machine import describe_machine
from contrastill.methods import Finetune
from contrastill.studies.demo import base_model
from contrastill.tasks import Classification
from contrastill.training.order import GroupedByLength
from contrastill.training.trainer import DistillationTrainer
from contrastill.training.vocabulary import only_occurring_words

BATCH, CLASSES, WARM = 32, 77, 3
LENGTHS = (16, 32, 64, 128)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def model(attention: str) -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        num_hidden_layers=4, hidden_size=312, num_attention_heads=12, intermediate_size=1200, num_labels=CLASSES
    )
    config._attn_implementation = attention
    return BertForSequenceClassification(config)


def rows(ids: np.ndarray, length: int, count: int) -> Dataset:
    """Real texts end to end, cut into `count` pieces of one length."""
    pieces = np.resize(ids, count * length).reshape(count, length)
    columns: dict[str, Any] = {"input_ids": pieces.tolist(), "labels": (np.arange(count) % CLASSES).tolist()}
    return Dataset.from_dict(columns | {"text_key": list(range(count)), "index": list(range(count))})


def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    ids = torch.tensor([row["input_ids"] for row in batch])
    found = {key: torch.tensor([row[key] for row in batch]) for key in ("labels", "text_key", "index")}
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **found}


def collate_plain(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in collate(batch).items() if key not in ("text_key", "index")}


class Stopwatch(TrainerCallback):
    """Time from the end of step `WARM` to the end of the last."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        self.last = time.perf_counter()
        if state.global_step == WARM:
            self.first = self.last


def arguments(folder: str, steps: int, **more: Any) -> Arguments:
    return Arguments(
        output_dir=folder,
        max_steps=steps + WARM,
        per_device_train_batch_size=BATCH,
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,
        use_cpu=DEVICE == "cpu",
        disable_tqdm=True,
        logging_steps=1000,
        **more,
    )


def plain(data: Dataset, steps: int, attention: str, **flags: Any) -> float:
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model(attention),
            arguments(folder, steps, **flags),
            train_dataset=data,
            data_collator=collate_plain,
            callbacks=[watch],
        )
        trainer.train()
    return BATCH * steps / (watch.last - watch.first)


def ours(data: Dataset, steps: int, *, rare_words: bool = False, without: tuple[Any, ...] = ()) -> float:
    watch, student = Stopwatch(), model("eager" if DEVICE == "cpu" else "sdpa")
    used = np.arange(30522) if rare_words else np.unique(np.concatenate(data["input_ids"][:]))
    method = Finetune(student, None, Classification([str(n) for n in range(CLASSES)]))
    with tempfile.TemporaryDirectory() as folder, only_occurring_words(student, used), contextlib.ExitStack() as stack:
        for change in without:
            stack.enter_context(change())
        trainer = DistillationTrainer(
            method,
            method,
            arguments(folder, steps, bf16=True, label_names=["labels"], dataloader_drop_last=True),
            data,
            GroupedByLength(np.full(len(data), len(data[0]["input_ids"])), BATCH, seed=42, whole=True),
            collate,
            check=None,
            record=lambda _: None,
            schedule="linear",
            warmup=0.0,
        )
        trainer.add_callback(watch)
        trainer.train_or_resume(None)
    return BATCH * steps / (watch.last - watch.first)


@contextlib.contextmanager
def dear_dropout() -> Iterator[None]:
    with mock.patch.object(
        forward.CheapDropout, "__init__", lambda self, enabled=True: setattr(self, "enabled", False)
    ):
        yield


@contextlib.contextmanager
def no_single_cast() -> Iterator[None]:
    with mock.patch.object(forward, "autocasting", return_value=False):
        yield


SIDES = {
    "trainer": lambda data, steps: plain(data, steps, "sdpa"),
    "trainer bf16": lambda data, steps: plain(data, steps, "sdpa", bf16=True),
    "trainer best": lambda data, steps: plain(data, steps, "eager" if DEVICE == "cpu" else "sdpa", bf16=True),
    "ours": ours,
    "ours, every word": lambda data, steps: ours(data, steps, rare_words=True),
    "ours, torch's dropout": lambda data, steps: ours(data, steps, without=(dear_dropout,)),
    "ours, autocast alone": lambda data, steps: ours(data, steps, without=(no_single_cast,)),
}


def operations(length: int) -> float:
    """Of one text: products of the layers, forward and backward."""
    weights = 4 * (4 * 312 * 312 + 2 * 312 * 1200)
    return 3 * (2 * weights * length + 4 * 2 * 2 * length * length * 312)


def matrix_rate() -> float:
    a, b = (torch.randn(2048, 2048, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        a @ b
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", help="folder [that of the demo's model]")
    parser.add_argument("--data", type=Path, default=Path("demo/banking77/train.csv.gz"))
    parser.add_argument("--seconds", type=float, default=4.0, help="of training in each turn, about")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lengths", type=int, nargs="*", default=LENGTHS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "step.json")
    args = parser.parse_args()
    tokenizer = load_tokenizer(args.tokenizer or str(base_model()))
    texts = pd.read_csv(args.data)["text"].tolist()
    ids = np.concatenate(tokenizer(texts)["input_ids"])
    table: dict[str, Any] = {}
    for length in args.lengths:
        data = rows(ids, length, 2048)
        turns: dict[str, list[float]] = {name: [] for name in SIDES}
        rates = []
        for turn in range(args.rounds):
            rates.append(matrix_rate())
            for name in sorted(SIDES, reverse=bool(turn % 2)):
                pace = turns[name][-1] if turns[name] else 4000 / length
                turns[name].append(SIDES[name](data, max(4, round(args.seconds * pace / BATCH))))
        rate = statistics.median(rates)
        medians = {name: statistics.median(values) for name, values in turns.items()}
        table[str(length)] = {
            "samples_per_s": medians,
            "over_trainer": {name: value / medians["trainer"] for name, value in medians.items()},
            "over_trainer_best": {name: value / medians["trainer best"] for name, value in medians.items()},
            "share_of_matrix_rate": {name: value * operations(length) / rate for name, value in medians.items()},
            "matrix_rate_tflops": rate / 1e12,
            "turns": turns,
        }
        print(length, {k: round(v) for k, v in medians.items()}, f"{rate / 1e12:.2f} TFLOP/s", flush=True)
    result = {
        "command": f"python benchmarks/step.py --rounds {args.rounds} --seconds {args.seconds:g}",
        "words_that_occur": len(np.unique(ids)),
        "lengths": table,
        "machine": describe_machine(),
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
