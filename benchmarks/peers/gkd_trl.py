"""TRL's GKDTrainer on conversations: seconds a step, losses, and the student's weights. CPU.

    python -m venv trl && trl/bin/pip install -r benchmarks/peers/requirements-trl.txt
    trl/bin/python benchmarks/peers/gkd_trl.py --folder F --steps 20 --own 1 --out trl.json

F holds teacher, student (with a tokenizer that has a chat template) and train.jsonl with "messages", as
`benchmarks/language_step.py` makes them.
"""

import argparse
import json
import os
import time
from importlib.metadata import version
from pathlib import Path

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl.experimental.gkd import GKDConfig, GKDTrainer


class Clock(TrainerCallback):
    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: object, **__: object) -> None:
        self.ends.append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--own", type=float, default=0.0, help="share of the steps on the student's own texts (lmbda)")
    parser.add_argument("--beta", type=float, default=0.0)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, default=True, help="as TRL's default")
    parser.add_argument("--save", type=Path, help="folder for the student after the last step")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in (args.folder / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    clock = Clock()
    trainer = GKDTrainer(
        AutoModelForCausalLM.from_pretrained(args.folder / "student", dtype=torch.float32),
        AutoModelForCausalLM.from_pretrained(args.folder / "teacher", dtype=torch.float32),
        args=GKDConfig(
            output_dir=str(args.folder / "trl"),
            max_steps=args.steps,
            per_device_train_batch_size=args.batch,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            weight_decay=0.01,
            optim="adamw_torch",
            lmbda=args.own,
            beta=args.beta,
            temperature=1.0,
            max_new_tokens=args.new_tokens,
            max_length=256,
            gradient_checkpointing=args.checkpointing,
            use_cpu=True,
            bf16=False,
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            eval_strategy="no",
            disable_tqdm=True,
            seed=0,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(args.folder / "student"),
        callbacks=[clock],
    )
    trainer.train()
    if args.save is not None:
        trainer.save_model(str(args.save))
    gaps = [after - before for before, after in zip(clock.ends, clock.ends[1:], strict=False)]
    found = {
        "trl": version("trl"),
        "transformers": version("transformers"),
        "seconds": gaps,
        "losses": [row["loss"] for row in trainer.state.log_history if "loss" in row],
    }
    args.out.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
