"""Seconds a step of `distill --method gkd`, beside TRL's GKDTrainer; and whether both train the same weights. CPU.

    python benchmarks/language_step.py --peer-python trl/bin/python        (benchmarks/peers/gkd_trl.py tells how)

Random Llamas (teacher 4 layers of 256, student 2 of 128, 4 096 words), conversations of random words: 8 rows a step,
prompts of 4 to 24 tokens and answers of 32. Given answers and the student's own (of 32 tokens at most), TRL at its
defaults and without gradient checkpointing, which lets it generate with a key-value cache. The sides take turns within
a round. A figure is the mean of a round's steps behind the fourth (of ours: two runs' difference), of several rounds
their median. Then both train on the same eight rows for 20 steps at one constant rate: the greatest difference of a
weight is compared with how far weights have moved.

Writes results/language_step.json beside this file, unless --out says otherwise.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from markdown_parts import machine, table
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from contrastill import distill
from contrastill.machine import describe_machine

WORDS = ["<pad>", "<eos>", "<unk>", ":", *(f"w{n}" for n in range(4092))]
TEMPLATE = (
    "{% for message in messages %}{{ message.content }} {% if message.role == 'assistant' %}<eos>{% else %}: "
    "{% endif %}{% endfor %}"
)
SIDES = {
    "contrastill": {},
    "TRL, its defaults": {"checkpointing": True},
    "TRL, without checkpointing": {"checkpointing": False},
}
WARM = 4  # steps that are not timed
TEXTS = {"given answers": 0, "own answers": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, required=True, help="python of an environment with TRL")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "language_step.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="language-step-") as work:
        result = {
            "command": "python benchmarks/language_step.py --peer-python trl/bin/python",
            "machine": describe_machine(),
            "pace": pace(args, Path(work)),
            "same_weights": same_weights(args, Path(work)),
        }
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(section(result))


def make(folder: Path, rows: int) -> None:
    """Teacher, student and conversations."""
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>", "model_max_length": 256}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, **special)
    tokenizer.chat_template = TEMPLATE
    for name, layers, width in (("teacher", 4, 256), ("student", 2, 128)):
        torch.manual_seed(layers)
        sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
        ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
        config = LlamaConfig(vocab_size=len(WORDS), num_attention_heads=4, initializer_range=0.1, **sizes, **ids)
        LlamaForCausalLM(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    draw = random.Random(0)
    with (folder / "train.jsonl").open("w", encoding="utf-8") as file:
        for _ in range(rows):
            said = (("user", draw.randint(3, 23)), ("assistant", 31))
            messages = [{"role": who, "content": " ".join(draw.choices(WORDS[4:], k=k))} for who, k in said]
            file.write(json.dumps({"messages": messages}) + "\n")


def ours(folder: Path, out: Path, steps: int, own: int) -> float:
    """The seconds of a run's training."""
    made = distill(
        method="gkd",
        teacher=str(folder / "teacher"),
        student="as-is",
        start=str(folder / "student"),
        data=str(folder / "train.jsonl"),
        out=str(out),
        dev_share=0,
        epochs=steps * 8 / sum(1 for _ in (folder / "train.jsonl").open()),
        batch_size=8,
        learning_rate=1e-3,
        schedule="constant",
        warmup=0,
        checks=1,
        precision="fp32",
        cache="none",  # TRL's teacher runs in every step
        set={"source": "student"} if own else {},
    )
    return float(made.result.seconds["training"])


def theirs(args: argparse.Namespace, folder: Path, steps: int, own: int, **more: Any) -> dict[str, Any]:
    out, save = folder / "trl.json", more.get("save")
    words = ["--folder", folder, "--steps", steps, "--own", own, "--out", out]
    words += ["--checkpointing" if more.get("checkpointing") else "--no-checkpointing"]
    words += ["--save", save] if save else []
    script = Path(__file__).parent / "peers" / "gkd_trl.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [args.peer_python, script, *map(str, words)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def pace(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    folder = work / "pace"
    folder.mkdir()
    make(folder, 8 * args.steps)
    found: dict[str, dict[str, list[float]]] = {text: {side: [] for side in SIDES} for text in TEXTS}
    for n in range(args.rounds):
        for text, own in TEXTS.items():
            for side, more in SIDES.items():
                if side == "contrastill":
                    long, short = (
                        ours(folder, work / f"ours-{n}-{own}-{steps}", steps, own) for steps in (args.steps, WARM)
                    )
                    found[text][side].append((long - short) / (args.steps - WARM))
                else:
                    some = theirs(args, folder, args.steps, own, **more)["seconds"]
                    found[text][side].append(statistics.mean(some[WARM - 1 :]))
    return {
        text: {side: {"seconds": each, "median": statistics.median(each)} for side, each in sides.items()}
        for text, sides in found.items()
    }


def same_weights(args: argparse.Namespace, work: Path, steps: int = 20) -> dict[str, float]:
    """The greatest difference of a weight after so many steps on one batch, and the greatest way of one from its
    start."""
    folder = work / "same"
    folder.mkdir()
    make(folder, 8)
    ours(folder, work / "same-ours", steps, 0)
    theirs(args, folder, steps, 0, checkpointing=False, save=work / "same-theirs")
    places = (work / "same-ours" / "student", work / "same-theirs", folder / "student")
    first, second, start = (AutoModelForCausalLM.from_pretrained(place).state_dict() for place in places)
    return {
        "steps": steps,
        "difference": max(float((first[name] - second[name]).abs().max()) for name in first),
        "moved": max(float((first[name] - start[name]).abs().max()) for name in first),
    }


def section(result: dict[str, Any]) -> str:
    rows = []
    for text, sides in result["pace"].items():
        base = sides["contrastill"]["median"]
        rows += [
            [text, side, f"{found['median']:.3f}", f"{found['median'] / base:.2f}"] for side, found in sides.items()
        ]
    same = result["same_weights"]
    steps, difference, moved = (same[name] for name in ("steps", "difference", "moved"))
    return (
        "## A step of a language model beside TRL\n\n`distill --method gkd` and TRL 1.16's GKDTrainer on random Llamas "
        "(teacher 4 layers of 256, student 2 of 128, 4,096 words), 8 conversations a step, answers of 32 tokens, one "
        "thread, beside other work. At its defaults TRL checkpoints gradients, and so generates without a key-value "
        f"cache. {machine(result)}\n\n{table(['answers', '', 'seconds a step', 'of ours'], rows)}\n"
        f"After {steps} steps on the same eight given answers the greatest difference of a weight is {difference:.1e}; "
        f"the farthest has moved by {moved:.1e}.\n"
    )


if __name__ == "__main__":
    main()
