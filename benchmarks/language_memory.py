"""Memory of a step's loss at a vocabulary of 49,152 words (SmolLM2's): in parts, as `gkd` has it, and whole. CPU.

    python benchmarks/language_memory.py

Random Llamas of one layer of 64 (so that logits are nearly all there is), 8 rows, prompts of 32 tokens, answers of
64, 256 and 1,024. *Whole*: the logits of every token of both models, as GKD trainers usually have them, then the same
KL divergence. A figure is what the process's greatest resident memory rises by in one loss with its gradient, after
such a step on one short row; each in a process of its own.

Writes results/language_memory.json beside this file, unless --out says otherwise.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from markdown_parts import machine, table
from transformers import LlamaConfig, LlamaForCausalLM

from contrastill.machine import describe_machine
from contrastill.methods import METHODS
from contrastill.tasks import Language

ROWS, PROMPT, WORDS = 8, 32, 49_152
SIDES = {"parts": "in parts", "whole": "whole"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, nargs="+", default=[64, 256, 1024], help="tokens of an answer")
    parser.add_argument("--words", type=int, default=WORDS)
    parser.add_argument("--side", choices=SIDES, help="measure this side alone, of one length, in this process")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "language_memory.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.side:
        print(json.dumps(measure(args.side, args.answers[0], args.words)))
        return
    found = {str(tokens): {side: alone(side, tokens, args.words) for side in SIDES} for tokens in args.answers}
    result = {
        "command": "python benchmarks/language_memory.py",
        "machine": describe_machine(),
        "words": args.words,
        "answers": found,
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(section(result))


def alone(side: str, tokens: int, words: int) -> dict[str, float]:
    options = ["--side", side, "--answers", str(tokens), "--words", str(words)]
    done = subprocess.run([sys.executable, __file__, *options], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(side: str, tokens: int, words: int) -> dict[str, float]:
    """Megabytes that a step adds, and its loss."""
    models = []
    for seed in range(2):
        torch.manual_seed(seed)
        sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
        models.append(LlamaForCausalLM(LlamaConfig(vocab_size=words, initializer_range=0.3, **sizes)))
    student, teacher = models
    method: Any = METHODS["gkd"](student, teacher, Language((1,), 0, PROMPT, tokens, 0))
    method.set_stage(0, 1)
    step = method_loss if side == "parts" else whole_loss
    step(method, batch(1, 8, words)).backward()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loss = step(method, batch(ROWS, tokens, words))
    loss.backward()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"mb": (peak - before) / 1000, "loss": loss.item()}


def batch(rows: int, tokens: int, words: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    sizes = {"prompt": PROMPT, "answer": tokens}
    found = {name: torch.randint(2, words, (rows, size), generator=draw) for name, size in sizes.items()}
    masks = {f"{name}_mask": torch.ones_like(ids, dtype=torch.bool) for name, ids in found.items()}
    return {**found, **masks, "key": torch.arange(rows)}


def method_loss(method: Any, read: dict[str, torch.Tensor]) -> torch.Tensor:
    loss: torch.Tensor = method(**read)["loss"]
    return loss


def whole_loss(method: Any, read: dict[str, torch.Tensor]) -> torch.Tensor:
    ids, length = torch.cat([read["prompt"], read["answer"]], 1), read["prompt"].shape[1]
    student = method.student.model(input_ids=ids, use_cache=False).logits[:, length - 1 : -1].log_softmax(-1)
    with torch.no_grad():
        teacher = method.teacher.lm.model(input_ids=ids, use_cache=False).logits[:, length - 1 : -1].log_softmax(-1)
    loss = torch.nn.functional.kl_div(student, teacher, reduction="none", log_target=True)
    return loss.sum(-1).mean()


def section(result: dict[str, Any]) -> str:
    rows = []
    for tokens, sides in result["answers"].items():
        rows.append([tokens, *(f"{sides[side]['mb']:,.0f}" for side in SIDES), f"{sides['parts']['loss']:.4f}"])
    return (
        f"## Memory of a language model's loss\n\nOne step of `gkd` at {result['words']:,} words, 8 rows: megabytes "
        "that its loss and gradient add, with the logits formed in parts, as Contrastill does, and with those of every "
        "token at once; both losses agree. Parts of 2^24 numbers; up to twice as many are one part, whose logits are "
        f"formed once. {machine(result)}\n\n"
        f"{table(['tokens of an answer', *SIDES.values(), 'loss'], rows)}\n"
    )


if __name__ == "__main__":
    main()
