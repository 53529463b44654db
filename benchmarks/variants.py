"""Dev scores of variants of a run, one settings file in, one JSON out: how defaults are chosen.

    python benchmarks/variants.py benchmarks/banking77_dev.json --teacher demo/runs/teacher/model \
        --data demo/banking77/train.csv.gz --out benchmarks/results/banking77_dev.json

The settings file maps a variant's name to settings of `contrastill distill`. Rows are added to the output as they are
made; variants and seeds that it already holds are not run again. Test splits are never looked at.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from contrastill.machine import describe_machine
from contrastill.training import distill


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", type=Path, help="JSON: variant name -> settings")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="names of variants to run (default: all)")
    args = parser.parse_args()
    variants: dict[str, dict[str, Any]] = json.loads(args.variants.read_text())
    rows = json.loads(args.out.read_text())["rows"] if args.out.exists() else []
    done = {(row["name"], row["seed"]) for row in rows}
    for name, settings in variants.items():
        for seed in range(args.seeds):
            if (name, seed) in done or (args.only and name not in args.only):
                continue
            with tempfile.TemporaryDirectory() as folder:
                run = distill(
                    teacher=args.teacher, data=args.data, out=folder + "/run", seed=seed, checks=3, **settings
                )
            dev = run.metrics["student"]["dev"]
            row = {
                "name": name,
                "seed": seed,
                "metric": run.metrics["metric"],
                "dev": dev["metrics"][run.metrics["metric"]],
                "interval": dev["interval"],
                "kept": run.metrics["kept"]["dev"],
                "steps": run.metrics["steps"],
                "seconds": run.metrics["seconds"],
                "settings": settings,
            }
            rows.append(row)
            args.out.parent.mkdir(exist_ok=True)
            args.out.write_text(json.dumps({"machine": describe_machine(), "rows": rows}, indent=1) + "\n")
            print(f"{name}, seed {seed}: {row['metric']} {row['dev']:.4f} on dev, {row['kept']:.1%} of the teacher")


if __name__ == "__main__":
    main()
