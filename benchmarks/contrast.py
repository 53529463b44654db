"""How many texts a second does contrastive training take? Of one tree, or of several, turn by turn.

    python benchmarks/contrast.py --pairs nli.csv --triples nli_triples.csv
    python benchmarks/contrast.py --pairs … --triples … --side before=OLD/src --side after=NEW/src --rounds 5

Random weights (--shape, 30 522 word pieces), real texts, dropout 0.1, `contrastill.contrast` from its settings to the
saved model. A figure comes of two runs, of --steps and of --warm steps of the same rows: the difference of their
training seconds is the steps' own, without what a run does once. Each run is a process; the sides take turns within a
round, and which comes first changes from round to round. Texts are rows times columns. The same of the processes' CPU
seconds holds on a machine that others load; it includes the scores before and after, of at most 512 rows.

Writes results/contrast.json beside this file, unless --out says otherwise, and prints a table.
"""

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from markdown_parts import machine, table

VOCABULARY = 30_522
DROPOUT = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, help="csv of anchors and positives, with a head")
    parser.add_argument("--triples", type=Path, help="csv of anchors, positives and hard negatives, with a head")
    parser.add_argument("--side", action="append", help="NAME=FOLDER of a tree's src; once for each [default: ours]")
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=("fp32", "bf16"))
    parser.add_argument("--shape", default="4/312/12/1200", help="layers/hidden/heads/ffn")
    parser.add_argument("--batch", type=int, default=128, help="rows a step")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--warm", type=int, default=8, help="steps of the run that is taken off")
    parser.add_argument("--chunk", type=int, help="texts in memory at once, through the gradient cache")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "contrast.json")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(**args.one)))
        return
    if args.pairs is None and args.triples is None:
        parser.error("expected --pairs, --triples or both")
    if not 0 < args.warm < args.steps:
        parser.error(f"expected 0 < --warm < --steps, got {args.warm} and {args.steps}")
    with tempfile.TemporaryDirectory(prefix="contrast-") as work:
        result = measure(args, Path(work))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def measure(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    from contrastill.machine import describe_machine

    sides = dict(side.split("=", 1) for side in args.side or ["ours="])
    rows = {name: read(path) for name in ("pairs", "triples") if (path := getattr(args, name))}
    most = args.steps * args.batch
    for name, found in rows.items():
        if len(found) < most:
            raise SystemExit(f"--{name}: expected {most:,} rows without a text in common, found {len(found):,}")
    model = make_model(work / "model", args.shape, [text for found in rows.values() for row in found for text in row])
    for name, found in rows.items():
        for steps in (args.warm, args.steps):
            write(work / f"{name}-{steps}.csv", found[: steps * args.batch])

    cells = [(name, precision) for name in rows for precision in args.precision]
    timed: dict[str, dict[str, list[float]]] = {f"{n}, {p}": {side: [] for side in sides} for n, p in cells}
    worked: dict[str, dict[str, list[float]]] = {cell: {side: [] for side in sides} for cell in timed}
    memory: dict[str, dict[str, float]] = {cell: dict.fromkeys(sides, 0.0) for cell in timed}
    for turn in range(args.rounds):
        for name, precision in cells:
            cell = f"{name}, {precision}"
            for side in list(sides) if turn % 2 == 0 else list(sides)[::-1]:
                settings = {"model": str(model), "precision": precision, "batch_size": args.batch, "chunk": args.chunk}
                short, long = (
                    run(sides[side], args.threads, pairs=str(work / f"{name}-{steps}.csv"), **settings)
                    for steps in (args.warm, args.steps)
                )
                texts = (long["steps"] - short["steps"]) * args.batch * len(rows[name][0])
                for figures, clock in ((timed, "seconds"), (worked, "cpu_seconds")):
                    if long[clock] <= short[clock]:
                        raise SystemExit(f"{args.steps} steps took no longer than {args.warm}: give more --steps")
                    figures[cell][side].append(texts / (long[clock] - short[clock]))
                memory[cell][side] = max(memory[cell][side], long["peak_mb"])
                print(f"round {turn + 1}  {cell:<14} {side:<10} {timed[cell][side][-1]:8.1f} texts/s", end="")
                print(f" {worked[cell][side][-1]:8.1f} texts a CPU second", flush=True)
    print(f"\n{'':<36}" + "".join(f"{side:>16}" for side in sides))
    shown = {key: getattr(args, key) for key in ("shape", "batch", "steps", "warm", "chunk", "rounds", "threads")}
    return {
        "command": "python benchmarks/contrast.py " + " ".join(command(args, sides)),
        **shown,
        "dropout": DROPOUT,
        **summary("texts_per_s", timed),
        **summary("texts_per_cpu_s", worked),
        "peak_mb": {cell: {s: round(mb) for s, mb in found.items()} for cell, found in memory.items()},
        "machine": describe_machine(),
    }


def section(result: dict[str, Any]) -> str:
    """Of docs/benchmarks.md."""
    pace, over = result["texts_per_s_median"], result["texts_per_s_over_the_first"]
    sides = list(next(iter(pace.values())))
    rows = [[name, *(f"{found[one]:.0f} ({over[name][one]:.2f} x)" for one in sides)] for name, found in pace.items()]
    return (
        "## A contrastive step\n\n"
        f"Texts a second of a {result['shape']} (layers/hidden/heads/ffn), batches of {result['batch']} rows; medians "
        f"of {result['rounds']} rounds, measured in turns. *before*: the former trainer of `contrast` "
        "(sentence-transformers'); *after*: the trainer of all runs.\n\n"
        + table(["", *sides], rows)
        + f"\n{machine(result)}\n"
    )


def command(args: argparse.Namespace, sides: dict[str, str]) -> list[str]:
    """The words that make the figures again, without the folders of this machine."""
    files = [f"--{name} {path.name}" for name in ("pairs", "triples") if (path := getattr(args, name))]
    given = [f"--{name} {getattr(args, name)}" for name in ("steps", "warm", "rounds", "threads")]
    return [*files, *(f"--side {side}=…" for side in sides if sides[side]), *given]


def summary(name: str, found: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Prints medians and their ratio to the first side's; returns them with all figures."""
    result: dict[str, Any] = {name: found, f"{name}_median": {}, f"{name}_over_the_first": {}}
    for cell, sides in found.items():
        medians = {side: statistics.median(figures) for side, figures in sides.items()}
        first = next(iter(medians.values()))
        ratios = {side: pace / first for side, pace in medians.items()}
        print(f"{cell:<16}{name:<20}" + "".join(f"{pace:9.1f} {ratios[s]:4.2f} x" for s, pace in medians.items()))
        result[f"{name}_median"][cell], result[f"{name}_over_the_first"][cell] = medians, ratios
    return result


# ---- one run --------------------------------------------------------------------------------------------------------


def run(source: str, threads: int, **settings: Any) -> dict[str, float]:
    """`one` in a process of its own, with the tree `source` ("": the one that is installed)."""
    words = [sys.executable, str(Path(__file__).absolute()), "--one", json.dumps({**settings, "threads": threads})]
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    if source:
        env["PYTHONPATH"] = str(Path(source).absolute())
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        sys.exit(f"a run failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])  # before it, what libraries print


def one(threads: int, **settings: Any) -> dict[str, float]:
    """Trains one epoch. Returns steps, seconds of training, CPU seconds of the process, and its peak memory in MB."""
    import torch

    from contrastill import contrast

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        given = {name: value for name, value in settings.items() if value is not None}
        contrast(out=f"{folder}/run", epochs=1, checks=1, **given)
        metrics = json.loads(Path(folder, "run", "metrics.json").read_text(encoding="utf-8"))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "steps": metrics["steps"],
        "seconds": metrics["seconds"]["training"],
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss / 1024,
    }


# ---- rows and the model ---------------------------------------------------------------------------------------------


def read(path: Path) -> list[list[str]]:
    """The rows of a csv file that have no text in common with an earlier one, so that any batch of them is whole."""
    seen: set[str] = set()
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        for row in list(csv.reader(file))[1:]:
            if all(row) and seen.isdisjoint(row) and len(set(row)) == len(row):
                seen.update(row)
                rows.append(row)
    return rows


def write(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["anchor", "positive", "negative"][: len(rows[0])])
        writer.writerows(rows)


def make_model(folder: Path, shape: str, texts: list[str]) -> Path:
    """A sentence-embedding model of random weights whose word pieces are learnt from the texts."""
    import torch
    from sentence_transformers import SentenceTransformer
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    layers, hidden, heads, ffn = map(int, shape.split("/"))
    pieces = BertWordPieceTokenizer()
    pieces.train_from_iterator(texts, vocab_size=VOCABULARY, min_frequency=1, show_progress=False)
    config = BertConfig(
        vocab_size=VOCABULARY, num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=heads,
        intermediate_size=ffn, hidden_dropout_prob=DROPOUT, attention_probs_dropout_prob=DROPOUT,
    )  # fmt: skip
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder / "encoder")
    tokenizer = BertTokenizerFast(tokenizer_object=pieces._tokenizer, model_max_length=512)
    tokenizer.save_pretrained(folder / "encoder")
    SentenceTransformer(str(folder / "encoder"), device="cpu").save(str(folder / "embedder"))
    return folder / "embedder"


if __name__ == "__main__":
    main()
