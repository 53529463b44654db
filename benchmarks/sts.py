"""The seven STS sets on models with published figures: is our evaluator theirs?

    python benchmarks/sts.py --sts FOLDER all-MiniLM-L6-v2=PATH
    python benchmarks/sts.py --sts FOLDER --stored all-mpnet-base-v2=PATH

With --stored the vectors are those of the cache, bfloat16 where that pays, as students learn from them. What the result
holds of other models stays.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from contrastill.evaluation.sts import load_sts, sts_correlations, sts_intervals, sts_similarities
from contrastill.loading import load_embedder
from contrastill.machine import bf16_pays, describe_machine
from contrastill.teachers import CachedEmbedder, cache_root

RESULT = Path(__file__).parent / "results" / "sts.json"
# MTEB's figures. Its SICK-R has all 9 927 pairs, the files 4 927: not comparable, but for the first model on the files.
PUBLISHED = {
    "all-MiniLM-L6-v2": {"STS12": 72.37, "STS13": 80.60, "STS14": 75.59, "STS15": 85.39, "STS16": 78.99}
    | {"STS-B": 82.03, "SICK-R": 77.15},
    "all-mpnet-base-v2": {"STS12": 72.63, "STS13": 83.48, "STS14": 78.00, "STS15": 85.66, "STS16": 80.03}
    | {"STS-B": 83.42},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="NAME=PATH")
    parser.add_argument("--sts", required=True)
    parser.add_argument("--stored", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    sets = load_sts(args.sts)
    found = json.loads(args.out.read_text())["models"] if args.out.exists() else {}
    for name, _, path in (item.partition("=") for item in args.models):
        model: Any = load_embedder(path)
        if args.stored:
            model = CachedEmbedder(path, cache_root(None), 64, dtype=torch.bfloat16 if bf16_pays() else None)
        similarities = sts_similarities(model, sets)
        scores = sts_correlations(similarities, sets)
        published = PUBLISHED.get(name, {})
        found[name] = {
            "vectors": "stored, texts cut at 64 tokens" if args.stored else "float32",
            "scores": scores,
            "intervals": sts_intervals(similarities, sets),
            "published": published,
            "difference": {each: round(scores[each] - figure, 2) for each, figure in published.items()},
        }
        print(name, found[name]["scores"], found[name]["difference"])
    command = "python benchmarks/sts.py --sts FOLDER [--stored] " + " ".join(f"{name}=PATH" for name in found)
    args.out.write_text(
        json.dumps({"command": command, "machine": describe_machine(), "models": found}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
