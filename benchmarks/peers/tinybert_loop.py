"""A plain PyTorch loop in the shape of TinyBERT's task_distill.py, from text to trained student. CPU, float32.

    python -m venv textbrewer && textbrewer/bin/pip install -r benchmarks/peers/requirements-textbrewer.txt
    textbrewer/bin/python benchmarks/peers/tinybert_loop.py --teacher T --student S --train train.tsv --dev dev.tsv \\
        --epochs 3 --out tinybert.json             # every batch padded to 128, as theirs
    (the same with --pad longest, --group-by-length)       # kinder than theirs

Files as GLUE's MRPC. As theirs: a live teacher without gradient, the mean squared error of the embeddings and of every
k-th layer through one linear map (padding counted), the soft cross-entropy as a mean over texts and classes, Adam.
Not as theirs: see ADAPTED.
"""

import argparse
import csv
import json
import math
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, mse_loss, softmax
from torch.utils.data import DataLoader, RandomSampler
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    get_linear_schedule_with_warmup,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

CANNOT = [
    "Runs the teacher on every batch of every epoch: nothing of it is kept.",
    "Runs in float32.",
    "Does not go on after an interruption.",
]
ADAPTED = [
    "One run with both losses; the authors make two, layers first, then soft labels, each with a live teacher.",
    "No attention matches, so attention weights need not be returned.",
    "Adam with warm-up and linear decay in both terms, for their BertAdam, which is constant while layers are learnt;"
    " gradients are clipped together, not tensor by tensor.",
    "The last, smaller batch of an epoch is used; the authors skip it.",
    "No evaluation on dev data while training; the authors' comes every 50 steps.",
]


def read(path: Path, limit: int | None = None) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[:limit]


def tokenise(tokenizer: Any, pairs: list[dict[str, str]], max_length: int) -> list[dict[str, Any]]:
    first, second = [pair["#1 String"] for pair in pairs], [pair["#2 String"] for pair in pairs]
    columns = tokenizer(first, second, truncation=True, max_length=max_length)
    columns["labels"] = [int(pair["Quality"]) for pair in pairs]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def model(folder: Path) -> PreTrainedModel:
    made = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    made.config.output_hidden_states = True
    return made


def distil_loss(student: Any, teacher: Any, fit: torch.nn.Linear, temperature: float) -> Tensor:
    step = (len(teacher.hidden_states) - 1) // (len(student.hidden_states) - 1)
    pairs = zip(student.hidden_states, teacher.hidden_states[::step], strict=True)
    layers = torch.stack([mse_loss(fit(ours), theirs) for ours, theirs in pairs]).sum()
    soft = -(softmax(teacher.logits / temperature, -1) * log_softmax(student.logits / temperature, -1)).mean()
    return layers + soft


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
    parser.add_argument("--pad", choices=["max_length", "longest"], default="max_length")
    parser.add_argument("--group-by-length", action="store_true")
    parser.add_argument("--temperature", type=float, default=1.0, help="the authors' default")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--limit", type=int, help="training rows")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    start = time.perf_counter()
    pairs = read(args.train, args.limit)
    tokenizer = AutoTokenizer.from_pretrained(args.student)
    teacher, student = model(args.teacher).eval(), model(args.student)
    if teacher.config.num_hidden_layers % student.config.num_hidden_layers:
        parser.error("the teacher's layers must be a multiple of the student's")
    loaded = time.perf_counter()

    rows = tokenise(tokenizer, pairs, args.max_length)
    tokenised = time.perf_counter()

    pad = DataCollatorWithPadding(tokenizer, padding=args.pad, max_length=args.max_length)
    lengths = [len(row["input_ids"]) for row in rows]
    order = LengthGroupedSampler(args.batch_size, lengths=lengths) if args.group_by_length else RandomSampler(rows)
    loader = DataLoader(rows, args.batch_size, sampler=order, collate_fn=pad)
    steps = len(loader) * args.epochs
    fit = torch.nn.Linear(student.config.hidden_size, teacher.config.hidden_size)
    parameters = [*student.parameters(), *fit.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=args.learning_rate, fused=True)
    schedule = get_linear_schedule_with_warmup(optimiser, math.ceil(0.05 * steps), steps)
    marks = [time.perf_counter()]
    for _ in range(args.epochs):
        student.train()
        for batch in loader:
            with torch.no_grad():
                theirs = teacher(**batch)
            loss = distil_loss(student(**batch), theirs, fit, args.temperature)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
        marks.append(time.perf_counter())

    pad_dev = DataCollatorWithPadding(tokenizer)
    dev = tokenise(tokenizer, read(args.dev), args.max_length)
    result = {
        "peer": f"TinyBERT-style loop, live teacher, padded to {args.pad}",
        "version": {name: version(name) for name in ("torch", "transformers")},
        "settings": {k: v.name if isinstance(v, Path) else v for k, v in vars(args).items() if k != "out"},
        "seconds": {
            "load": loaded - start,
            "tokenise": tokenised - loaded,
            "teacher": None,  # inside train
            "train": marks[-1] - tokenised,
            "total": marks[-1] - start,
        },
        "epoch_seconds": [after - before for before, after in pairwise(marks)],
        "dev": score(student, DataLoader(dev, 64, collate_fn=pad_dev)),
        "rows": len(rows),
        "cannot": CANNOT,
        "adapted": ADAPTED,
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: result[key] for key in ("seconds", "epoch_seconds", "dev")}))


if __name__ == "__main__":
    main()
