"""STS of sentence-embedding students: one file of variants in, one JSON out; docs/embeddings.md is made of it.

    python benchmarks/embeddings.py benchmarks/embeddings.variants.json --only disco leaf --seeds 3 \
        --teacher sentence-transformers/all-mpnet-base-v2 --texts sentences.txt.xz --sts FOLDER --runs RUNS

The file maps a variant's name to its command and settings: "distill" (what `contrastill distill` takes) or "contrast",
which goes on from the student of another variant ("of") with the same seed. `{sts}` and `{texts}` in a setting are the
folder of the sets and the texts. Rows are added as they are made; what the output already holds is not run again.
Checkpoints are selected on STS-B dev alone. With --part 1/2 and --part 2/2, two processes share the work.
"""

import argparse
import fcntl
import json
import sys
import time
from pathlib import Path
from typing import Any

import contrastill
from contrastill.machine import describe_machine

GROUPS = {
    "Methods": "The same start, 30 000 Wikipedia sentences, one pass, batches of 128 and schedule; learning rate "
    "1e-3, the better of two on STS-B dev for each (benchmarks/results/embeddings_dev.json).",
    "Sentences": "How many different sentences, in one pass.",
    "Choices": "One thing changed at a time, of `disco` above.",
    "Stage 2": "Contrast on pairs: from which start, with which data.",
    "Longest": "One seed. The short texts are captions (Multi30k), NLI sentences, QQP, MNLI and QNLI texts, without "
    "labels (`benchmarks/texts.py`). 90 of them also stand, word for word, in the seven sets, and the "
    "captions are of collections from which STS14, STS15, STS-B and SICK took theirs: these are students "
    "that know the domain. `disco` began from a temperature of 1/e; it was stopped after step 1 456, "
    "where that had come to 0.097, and went on with its floor of 0.1 (the seconds are of that second "
    "part).",
}
RESULT = Path(__file__).parent / "results" / "embeddings.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", type=Path)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--texts", required=True)
    parser.add_argument("--sts", required=True, help="folder with the seven sets, and glue/STS-B for dev")
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs' own folders")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="names of variants to run (default: all)")
    parser.add_argument("--part", default="1/1")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    variants: dict[str, dict[str, Any]] = json.loads(args.variants.read_text())
    part, parts = map(int, args.part.split("/"))
    asked = [(name, seed) for seed in range(args.seeds) for name in variants if not args.only or name in args.only]
    for name, seed in asked[part - 1 :: parts]:
        if any((row["name"], row["seed"]) == (name, seed) for row in rows(args.out)):
            continue
        add(args.out, run(name, seed, variants, args))


def run(name: str, seed: int, variants: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    variant, out = variants[name], args.runs / f"{name}-{seed}"
    settings = json.loads(json.dumps(variant["settings"]).replace("{sts}", args.sts).replace("{texts}", args.texts))
    shared = {"out": str(out), "seed": seed, "sts": args.sts, "dev": f"{args.sts}/glue/STS-B", "overwrite": True}
    began = time.time()
    if variant["command"] == "distill":
        settings = {"teacher": [args.teacher], "texts": [args.texts], **settings}
        made = contrastill.distill(**shared, **settings)
        scores, dev = made.metrics["sts"]["student"], 100 * made.metrics["student"]["spearman"]
    else:
        model = args.runs / f"{variant['of']}-{seed}" / "student"
        settings = {"model": str(model), **settings, **({"anchor": args.teacher} if variant.get("anchored") else {})}
        made = contrastill.contrast(**shared, **settings)
        scores, dev = made.metrics["sts"]["after"], made.metrics["dev"]["after"]
    row = {
        "name": name,
        "seed": seed,
        "sts": scores,
        "dev": dev,
        "rows": made.metrics["train_rows"],
        "steps": made.metrics["steps"],
        "seconds": {**made.metrics["seconds"], "all": time.time() - began},
        "variant": variant,
        "machine": describe_machine(),
    }
    print(f"{name}, seed {seed}: dev {row['dev']:.2f}, mean of 7 {scores['mean']:.2f}")
    return row


def rows(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["rows"] if path.exists() else []


def add(path: Path, row: dict[str, Any]) -> None:
    """Adds a row; two processes may do so."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = {
            "command": "python benchmarks/embeddings.py benchmarks/embeddings.variants.json --seeds 3",
            "machine": describe_machine(),
            "groups": GROUPS,
            "rows": sorted([*rows(path), row], key=lambda r: (r["name"], r["seed"])),
        }
        part = path.with_suffix(".part")
        part.write_text(json.dumps(result, indent=1) + "\n")
        part.rename(path)


if __name__ == "__main__":
    sys.exit(main())
