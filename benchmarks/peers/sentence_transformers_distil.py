"""sentence-transformers' EmbedDistillLoss on plain sentences, from text to trained student. CPU.

    python -m venv sbert && sbert/bin/pip install -r benchmarks/peers/requirements-sentence-transformers.txt
    sbert/bin/python benchmarks/peers/sentence_transformers_distil.py --teacher T --student S --train train.txt \\
        --dev dev.txt --epochs 1 --bf16 --out sbert.json

Teacher and student are SentenceTransformer folders; a plain encoder gets mean pooling. Files hold a sentence a line and
may be .xz. The teacher embeds every sentence once, as the library's documentation has it; where widths differ, the
loss's own projection brings the student's vectors to the teacher's. Dev: mean cosine to the teacher's vectors.
"""

import argparse
import json
import lzma
import tempfile
import time
from importlib.metadata import version
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import EmbedDistillLoss
from transformers import TrainerCallback

CANNOT = [
    "Learns from the teacher's sentence vectors alone: no hidden states, no attention.",
    "Leaves the projection to the teacher's width out of the saved student.",
    "Does not group sentences by length in training (the Trainer's option for it is not read); encode() does.",
    "Tokenises every sentence again in each epoch, in the collator.",
    "Keeps no teacher vectors on disk: that is the user's.",
]
ADAPTED: list[str] = []  # nothing of the library's was changed


class Clock(TrainerCallback):
    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.marks.append(time.perf_counter())

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self.marks.append(time.perf_counter())


def read(path: Path, limit: int | None = None) -> list[str]:
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return list(islice((line.strip() for line in file if line.strip()), limit))


def encoder(folder: Path, dtype: torch.dtype, max_length: int) -> SentenceTransformer:
    made = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": dtype})
    made.max_seq_length = max_length
    return made


@torch.no_grad()
def score(loss: EmbedDistillLoss, teacher: SentenceTransformer, sentences: list[str]) -> dict[str, float]:
    ours = loss.model.encode(sentences, convert_to_tensor=True).float()
    theirs = teacher.encode(sentences, convert_to_tensor=True).float()
    ours = loss.projection(ours) if loss.projection is not None else ours
    return {"cosine": float(torch.nn.functional.cosine_similarity(ours, theirs).mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--teacher", "--student", "--train", "--dev", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--distance", choices=["cosine", "l2", "mse"], default="cosine", help="the library's default")
    parser.add_argument("--bf16", action="store_true", help="a bfloat16 teacher, a student in mixed precision")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--limit", type=int, help="training sentences")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    start = time.perf_counter()
    sentences = read(args.train, args.limit)
    teacher = encoder(args.teacher, torch.bfloat16 if args.bf16 else torch.float32, args.max_length)
    student = encoder(args.student, torch.float32, args.max_length)
    loaded = time.perf_counter()

    vectors = teacher.encode(sentences, batch_size=args.batch_size, show_progress_bar=False)
    data = Dataset.from_dict({"sentence": sentences, "label": vectors})
    taught = time.perf_counter()

    widths = student.get_embedding_dimension(), teacher.get_embedding_dimension()
    loss = EmbedDistillLoss(student, args.distance, projection_dim=widths[1] if widths[0] != widths[1] else None)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        settings = SentenceTransformerTrainingArguments(
            output_dir=folder,
            num_train_epochs=args.epochs,
            per_device_train_batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            weight_decay=0.01,
            warmup_steps=0.05,  # a share of all steps
            bf16=args.bf16,
            use_cpu=True,
            seed=args.seed,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = SentenceTransformerTrainer(student, settings, train_dataset=data, loss=loss, callbacks=[clock])
        trainer.train()
    trained = time.perf_counter()

    names = ("sentence-transformers", "torch", "transformers", "accelerate", "datasets")
    result = {
        "peer": "sentence-transformers, EmbedDistillLoss",
        "version": {name: version(name) for name in names},
        "settings": {k: v.name if isinstance(v, Path) else v for k, v in vars(args).items() if k != "out"},
        "seconds": {
            "load": loaded - start,
            "tokenise": None,  # inside teacher and train
            "teacher": taught - loaded,
            "train": trained - taught,
            "total": trained - start,
        },
        "epoch_seconds": [after - before for before, after in pairwise(clock.marks)],
        "dev": score(loss, teacher, read(args.dev)),
        "rows": len(sentences),
        "cannot": CANNOT,
        "adapted": ADAPTED,
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: result[key] for key in ("seconds", "epoch_seconds", "dev")}))


if __name__ == "__main__":
    main()
