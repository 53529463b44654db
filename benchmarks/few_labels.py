"""Students of few labels: what the method adds, what other texts without labels add, in equal steps.

    python benchmarks/few_labels.py --data DATA --model MODEL --runs RUNS
        -> benchmarks/results/few_labels.json

For each set and seed, 3,000 rows are drawn (`first_hour`), a tenth of them as dev, and `contrastill finetune` makes the
teacher of all of them. Its students see the labels of 300 rows, by the labels alone (finetune), by the teacher's soft
labels too (kd) or by its layers too (lrc_bert); kd and lrc_bert also with the other rows' texts, without their labels.
All take the same number of steps from the same start; nothing else is chosen. Scores are of test rows, 2,000 at most.
"""

import argparse
import csv
import os
from pathlib import Path
from typing import Any

import pandas as pd
from first_hour import BATCH, LENGTH, write_set

from contrastill.machine import describe_machine
from contrastill.studies import Cells
from contrastill.studies.neighbours import plain
from contrastill.training import distill, finetune

SETS, ROWS, LABELS, STEPS = ("banking77", "sst2", "traffic-tweets"), 3_000, 300, 200
VARIANTS = ("finetune", "kd", "lrc_bert", "kd + texts", "lrc_bert + texts")


def write_few(place: Path, folder: Path) -> tuple[dict[str, str], int]:
    """`distill`'s data, dev, test and unlabelled: the first rows, with every class, and the others' texts; the number
    of all these rows."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = pd.read_csv(place / "train.csv", keep_default_na=False)
    rows[:LABELS].to_csv(folder / "labelled.csv", index=False, quoting=csv.QUOTE_ALL)
    lines = [plain(str(text)) for text in rows[LABELS:].text]
    (folder / "texts.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    splits = {split: str(place / f"{split}.csv") for split in ("dev", "test")}
    return {"data": str(folder / "labelled.csv"), **splits, "unlabelled": str(folder / "texts.txt")}, len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with classification/ and glue/")
    parser.add_argument("--model", required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "few_labels.json")
    args = parser.parse_args()
    command = "python benchmarks/few_labels.py --data DATA --model MODEL --runs RUNS"
    cells = Cells(args.out, {"command": command, "labels": LABELS, "steps": STEPS, "machine": describe_machine()})
    for seed in args.seeds:
        for name in args.sets.split(","):
            place = write_set(name, ROWS, args.data, args.runs, seed)
            few, every = write_few(place, args.runs / "few" / place.name)
            run = args.runs / "few" / f"{place.name}-teacher"
            shared = {"seed": seed, "max_length": LENGTH, "overwrite": True}

            def teacher(place: Path = place, run: Path = run, shared: dict[str, Any] = shared) -> dict[str, Any]:
                made = finetune(model=args.model, data=str(place), out=str(run), **shared)
                return figures(made.metrics["model"])

            row = cells.once({"set": name, "seed": seed, "way": "teacher"}, teacher)
            print(name, seed, "teacher", row["test"], flush=True)
            for variant in VARIANTS:
                method, _, texts = variant.partition(" + ")
                given: dict[str, Any] = {key: file for key, file in few.items() if texts or key != "unlabelled"}
                epochs = STEPS / ((every if texts else LABELS) // BATCH)
                given |= {"method": method, "epochs": epochs, "teacher": str(run / "model")}

                def student(given: dict[str, Any] = given, run: Path = run, shared: dict[str, Any] = shared) -> Any:
                    made = distill(**given, out=f"{run}-student", **shared)
                    kept = {key: made.metrics[key] for key in ("steps", "checkpoint")}
                    return figures(made.metrics["student"]) | kept

                row = cells.once({"set": name, "seed": seed, "way": variant}, student)
                print(name, seed, variant, row["test"], row["dev"], flush=True)


def figures(scores: dict[str, Any]) -> dict[str, Any]:
    found = {split: scores[split]["metrics"]["accuracy"] for split in ("dev", "test")}
    return found | {"interval": scores["test"]["interval"]}


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
