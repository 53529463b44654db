"""TextBrewer on pairs of sentences, from text to trained student. CPU, float32.

    python -m venv textbrewer && textbrewer/bin/pip install -r benchmarks/peers/requirements-textbrewer.txt
    textbrewer/bin/python benchmarks/peers/textbrewer_distil.py --teacher T --student S --train train.tsv \\
        --dev dev.tsv --epochs 3 --out textbrewer.json         # live teacher: hidden states and soft labels
    (the same with --cached-logits)                            # teacher once: soft labels alone

Files as GLUE's MRPC. The library's code is used as released. Optimiser, schedule, batches and padding are the user's
to bring: fused AdamW, padding to the batch's longest and, on request, batches of like length.
"""

import argparse
import csv
import json
import logging
import math
import random
import tempfile
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from textbrewer import BasicDistiller, DistillationConfig, GeneralDistiller, TrainingConfig
from torch.utils.data import DataLoader, RandomSampler
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    get_linear_schedule_with_warmup,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

CANNOT_LIVE = [
    "Runs the teacher on every batch of every epoch: GeneralDistiller, the one that matches hidden states, sets"
    " is_caching_logits to False without a word.",
    "Makes no cache of hidden states (its batches may carry one that the user has computed, stored and collated).",
]
CANNOT_CACHED = [
    "Matches no hidden states or attention: only BasicDistiller (and MultiTeacherDistiller) caches, and only logits.",
    "Draws the batches once: their order is shuffled in each epoch, the rows in a batch stay together.",
    "Keeps the cache in memory for one run: nothing on disk, and the teacher runs again in the next run.",
    "Caches only when told a number of epochs, not of steps.",
]
CANNOT_BOTH = [
    "Runs in float32: its one reduced precision is float16 through NVIDIA's apex.",
    "Saves the student's weights alone: an interrupted run starts over.",
    "Keeps no best checkpoint: scores on dev data are the user's callback.",
]
ADAPTED: list[str] = []  # nothing of the library's was changed


class Clock(logging.Handler):
    """When each message was logged: epochs begin and end in the log; the library's callback comes with a save."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.at[record.getMessage()] = time.perf_counter()


def read(path: Path, limit: int | None = None) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[:limit]


def tokenise(tokenizer: Any, pairs: list[dict[str, str]], max_length: int) -> list[dict[str, Any]]:
    first, second = [pair["#1 String"] for pair in pairs], [pair["#2 String"] for pair in pairs]
    columns = tokenizer(first, second, truncation=True, max_length=max_length)
    columns["labels"] = [int(pair["Quality"]) for pair in pairs]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def model(folder: Path, hidden: bool) -> PreTrainedModel:
    made = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    made.config.output_hidden_states = hidden
    return made


def adaptor(batch: dict[str, Any], outputs: Any) -> dict[str, Any]:
    found = {"logits": outputs.logits, "losses": outputs.loss, "inputs_mask": batch["attention_mask"]}
    return found | ({"hidden": outputs.hidden_states} if outputs.hidden_states else {})


def hidden_matches(student: PreTrainedModel, teacher: PreTrainedModel) -> list[dict[str, Any]]:
    """Embeddings to embeddings, then layers in even steps, each with a projection: the library's documented example."""
    layers, teacher_layers = student.config.num_hidden_layers, teacher.config.num_hidden_layers
    widths = [student.config.hidden_size, teacher.config.hidden_size]
    same = {"feature": "hidden", "loss": "hidden_mse", "weight": 1}
    return [
        {"layer_T": n * teacher_layers // layers, "layer_S": n, "proj": ["linear", *widths], **same}
        for n in range(layers + 1)
    ]


@torch.no_grad()
def score(made: PreTrainedModel, loader: DataLoader[Any]) -> dict[str, float]:
    made.eval()
    pairs = [(made(**batch).logits.argmax(-1), batch["labels"]) for batch in loader]
    guess, truth = torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])
    hits = int(((guess == 1) & (truth == 1)).sum())
    f1 = 2 * hits / max(1, int((guess == 1).sum() + (truth == 1).sum()))
    return {"accuracy": float((guess == truth).float().mean()), "f1": f1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--teacher", "--student", "--train", "--dev", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=4.0, help="the library's default")
    parser.add_argument("--hard-weight", type=float, default=0.0, help="of the labels; the library's default")
    parser.add_argument("--cached-logits", action="store_true")
    parser.add_argument("--group-by-length", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--limit", type=int, help="training rows")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    clock = Clock()
    log = logging.getLogger("Distillation")
    log.setLevel(logging.INFO)
    log.addHandler(clock)

    start = time.perf_counter()
    pairs = read(args.train, args.limit)
    tokenizer = AutoTokenizer.from_pretrained(args.student)
    teacher, student = (model(folder, hidden=not args.cached_logits) for folder in (args.teacher, args.student))
    loaded = time.perf_counter()

    rows = tokenise(tokenizer, pairs, args.max_length)
    tokenised = time.perf_counter()

    pad = DataCollatorWithPadding(tokenizer)
    lengths = [len(row["input_ids"]) for row in rows]
    order = LengthGroupedSampler(args.batch_size, lengths=lengths) if args.group_by_length else RandomSampler(rows)
    loader = DataLoader(rows, args.batch_size, sampler=order, collate_fn=lambda batch: dict(pad(batch)))
    steps = len(loader) * args.epochs
    matches = None if args.cached_logits else hidden_matches(student, teacher)
    config = DistillationConfig(
        temperature=args.temperature,
        hard_label_weight=args.hard_weight,
        intermediate_matches=matches,
        is_caching_logits=args.cached_logits,
    )
    with tempfile.TemporaryDirectory() as folder:
        # one checkpoint, at the end
        training = TrainingConfig(device="cpu", output_dir=folder, ckpt_epoch_frequency=args.epochs)
        kind = BasicDistiller if args.cached_logits else GeneralDistiller
        distiller = kind(training, config, teacher, student, adaptor, adaptor)
        optimiser = torch.optim.AdamW(student.parameters(), lr=args.learning_rate, weight_decay=0.01, fused=True)
        with distiller:
            distiller.train(
                optimiser,
                loader,
                num_epochs=args.epochs,
                scheduler_class=get_linear_schedule_with_warmup,
                scheduler_args={"num_warmup_steps": math.ceil(0.05 * steps), "num_training_steps": steps},
                max_grad_norm=1.0,
            )
    trained = time.perf_counter()

    marks = [clock.at["Epoch 1"], *(clock.at[f"Epoch {n + 1} finished"] for n in range(args.epochs))]
    dev = tokenise(tokenizer, read(args.dev), args.max_length)
    result = {
        "peer": "TextBrewer, " + ("cached logits" if args.cached_logits else "live teacher, hidden states and logits"),
        "version": {name: version(name) for name in ("textbrewer", "torch", "transformers")},
        "settings": {k: v.name if isinstance(v, Path) else v for k, v in vars(args).items() if k != "out"},
        "seconds": {
            "load": loaded - start,
            "tokenise": tokenised - loaded,
            "teacher": marks[0] - tokenised if args.cached_logits else None,  # None: inside train
            "train": trained - (marks[0] if args.cached_logits else tokenised),
            "total": trained - start,
        },
        "epoch_seconds": [after - before for before, after in pairwise(marks)],
        "dev": score(student, DataLoader(dev, 64, collate_fn=lambda batch: dict(pad(batch)))),
        "rows": len(rows),
        "cannot": (CANNOT_CACHED if args.cached_logits else CANNOT_LIVE) + CANNOT_BOTH,
        "adapted": ADAPTED,
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: result[key] for key in ("seconds", "epoch_seconds", "dev")}))


if __name__ == "__main__":
    main()
