"""What our training step costs beside a bare PyTorch loop doing the same arithmetic.

    python benchmarks/overhead.py            -> benchmarks/results/overhead.json

LRC-BERT's second stage (every term), teacher 6 x 384, student 4L-312, batches of 32 texts of 8 to 24 tokens, the same
in both. The bare loop is what one would write by hand: forward, backward, clip, fused AdamW, schedule. The two take
turns in one process; the figure is the ratio of their medians. Peak memory is each side's own process.
"""

import argparse
import json
import multiprocessing
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

from contrastill.machine import bf16_pays, describe_machine
from contrastill.methods import LRCBert
from contrastill.tasks import Classification
from contrastill.training.order import GroupedByLength
from contrastill.training.trainer import DistillationTrainer

BATCH, CLASSES = 32, 77


def model(layers: int, width: int, ffn: int) -> BertForSequenceClassification:
    config = BertConfig(
        num_hidden_layers=layers, hidden_size=width, num_attention_heads=12, intermediate_size=ffn, num_labels=CLASSES
    )
    config._attn_implementation = "eager"
    return BertForSequenceClassification(config)


def rows(count: int) -> Dataset:
    random = np.random.default_rng(0)
    lengths = random.integers(8, 25, count)
    return Dataset.from_dict(
        {
            "input_ids": [random.integers(1000, 30000, n).tolist() for n in lengths],
            "labels": random.integers(0, CLASSES, count).tolist(),
            "text_key": list(range(count)),
            "index": list(range(count)),
        }
    )


def lengths_of(data: Dataset) -> np.ndarray:
    return np.array([len(ids) for ids in data["input_ids"]])


class Pad:
    """The collator of a run, without a tokenizer to build."""

    def __call__(self, batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.int64)
        for n, row in enumerate(batch):
            ids[n, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        others = {key: torch.tensor([row[key] for row in batch]) for key in ("labels", "text_key", "index")}
        return {"input_ids": ids, "attention_mask": (ids != 0).long(), **others}


def method() -> LRCBert:
    torch.manual_seed(0)
    made = LRCBert(model(4, 312, 1200), model(6, 384, 1536), Classification([str(n) for n in range(CLASSES)]))
    made.with_shares({"representation": 0.0, "joint": 1.0})
    return made


def ours(data: Dataset, steps: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=BATCH,
            learning_rate=1e-4,
            weight_decay=0.01,
            optim="adamw_torch_fused",
            bf16=bf16_pays(),
            use_cpu=not torch.accelerator.is_available(),
            save_strategy="no",
            logging_steps=max(1, steps // 5),
            logging_nan_inf_filter=False,
            report_to="none",
            remove_unused_columns=False,
            label_names=["labels"],
            dataloader_drop_last=True,
            dataloader_pin_memory=False,
            disable_tqdm=True,
        )
        made = method()
        trainer = DistillationTrainer(
            made,
            made,
            args,
            data,
            GroupedByLength(lengths_of(data), BATCH, 42, whole=True),
            Pad(),
            check=None,
            record=lambda _: None,
            schedule="stages",
            warmup=0.0,
        )
        start = time.perf_counter()
        trainer.train_or_resume(None)
        return time.perf_counter() - start


def bare(data: Dataset, steps: int) -> float:
    made = method().train()
    made.set_stage(0, 1)
    start = time.perf_counter()
    optimiser = torch.optim.AdamW(made.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    done, epoch = 0, 0
    while done < steps:
        order = GroupedByLength(lengths_of(data), BATCH, 42, whole=True)
        order.set_epoch(epoch)
        loader = torch.utils.data.DataLoader(data, BATCH, sampler=order, collate_fn=Pad(), drop_last=True)
        for batch in loader:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16_pays()):
                loss = made(**batch)["loss"]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(made.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            done += 1
            if done == steps:
                break
        epoch += 1
    return time.perf_counter() - start


def peak_mb(side: str) -> float:
    """Highest resident size of a process that does nothing but 20 steps of one side."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (side,))


def _peak(side: str) -> float:
    {"ours": ours, "bare": bare}[side](rows(640), 20)
    status = Path("/proc/self/status").read_text()  # ru_maxrss would be the parent's, which exec passes on
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "overhead.json")
    args = parser.parse_args()
    data = rows(BATCH * args.steps)
    sides = {"ours": ours, "bare": bare}
    for run in sides.values():
        run(data, 5)  # not timed
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(args.rounds):
        for name in sorted(sides, reverse=bool(turn % 2)):
            seconds[name].append(sides[name](data, args.steps))
    per_s = {name: BATCH * args.steps / statistics.median(times) for name, times in seconds.items()}
    result = {
        "command": f"python benchmarks/overhead.py --steps {args.steps} --rounds {args.rounds}",
        "samples_per_s": per_s,
        "overhead": statistics.median(seconds["ours"]) / statistics.median(seconds["bare"]) - 1,
        "peak_mb": {name: peak_mb(name) for name in sides},
        "seconds": seconds,
        "machine": describe_machine(),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({k: result[k] for k in ("samples_per_s", "overhead", "peak_mb")}, indent=2))


if __name__ == "__main__":
    main()
