"""Probabilities to act on: calibration before and after, what a target keeps of its promise, texts of no known class.

    python benchmarks/selective.py --data DATA --model MODEL --runs RUNS
        -> benchmarks/results/selective.json

Of each set 3,000 rows are drawn (`first_hour`), a tenth of them as dev, and `contrastill finetune` makes a classifier
with its defaults. The temperature is fitted on dev, and so is the threshold: `contrastill export --target 0.95` chooses
it in a float32 bundle. Calibration errors, and the share right at and above the threshold, are of test rows (2,000 at
most), which nothing chose. "banking77 without 15 intents" is trained without any row of 15 intents, drawn by the seed:
their test rows are the texts of no known class.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from first_hour import write_set

from contrastill.errors import CheckFailed
from contrastill.exporting import export
from contrastill.machine import describe_machine
from contrastill.studies import Cells
from contrastill.training import evaluate, finetune

SETS, ROWS, LENGTH, TARGET, HELD_OUT = ("banking77", "traffic-tweets", "sst2"), 3_000, 128, 0.95, 15
KEPT = ("error", "by_chance", "log_loss")


def without_intents(place: Path, seed: int) -> tuple[Path, Path]:
    """The set without every row of some classes; their test rows, a text a line."""
    folder = place.with_name(f"{place.name}-fewer-classes")
    folder.mkdir(exist_ok=True)
    parts = {part: pd.read_csv(place / f"{part}.csv", keep_default_na=False) for part in ("train", "dev", "test")}
    classes = sorted(set(parts["train"].label))
    out = set(np.random.default_rng(seed).choice(classes, size=HELD_OUT, replace=False))
    for part, rows in parts.items():
        rows[~rows.label.isin(out)].to_csv(folder / f"{part}.csv", index=False)
    strange = parts["test"][parts["test"].label.isin(out)]
    file = folder / "strange.txt"
    file.write_text("".join(f"{' '.join(text.split())}\n" for text in strange.text), encoding="utf-8")
    return folder, file


def measured(place: Path, model: str, run: Path, seed: int, strange: Path | None) -> dict[str, Any]:
    made = finetune(model=model, data=str(place), out=str(run), seed=seed, max_length=LENGTH,
                    resume=(run / "run.json").is_file())  # fmt: skip
    test = made.metrics["model"]["test"]
    found = test["calibration"]
    row = {
        "accuracy": test["metrics"]["accuracy"],
        "rows": test["rows"],
        "temperature": found.get("temperatures", [1.0])[0],
        "after": {name: found[name] for name in KEPT},
        "before": {name: found.get("before", found)[name] for name in KEPT},
    }
    bundle, rows = run / "bundle", {"data": str(place), "split": "test"}
    try:
        asked = {"model": str(run), "to": "onnx", "precision": "fp32", "target": TARGET, "out": str(bundle)}
        row["dev"] = export(**asked, overwrite=True).metadata["abstain"]
        row["test"] = evaluate(model=str(bundle), **rows)["abstain"]
    except CheckFailed as error:  # no threshold reaches the target on dev
        row["not_reached"] = str(error)
    if strange is not None:
        row["out_of_scope"] = evaluate(model=str(run), oos=str(strange), **rows)["out_of_scope"]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with classification/ and glue/")
    parser.add_argument("--model", required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "selective.json")
    args = parser.parse_args()
    command = "python benchmarks/selective.py --data DATA --model MODEL --runs RUNS"
    cells = Cells(args.out, {"command": command, "target": TARGET, "rows_drawn": ROWS, "machine": describe_machine()})
    for seed in args.seeds:
        for name in args.sets:
            place = write_set(name, ROWS, args.data, args.runs, seed)
            kinds: dict[str, tuple[Path, Path | None]] = {name: (place, None)}
            if name == "banking77":
                kinds[f"{name} without {HELD_OUT} intents"] = without_intents(place, seed)
            for kind, (folder, strange) in kinds.items():
                run = args.runs / "selective" / folder.name
                row = cells.once(
                    {"set": kind, "seed": seed},
                    lambda folder=folder, strange=strange, run=run, seed=seed: measured(
                        folder, args.model, run, seed, strange
                    ),
                )
                print(
                    kind, seed, {k: row[k] for k in ("accuracy", "before", "after", "test", "out_of_scope") if k in row}
                )


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
