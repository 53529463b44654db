"""What a step of each method for labels costs beside one on labels alone.

    pip install '.[demo]'; OMP_NUM_THREADS=1 python benchmarks/method_steps.py   -> benchmarks/results/method_steps.json

Short runs of `contrastill distill` in batches of 32 texts of BANKING77, a `4L-312` from random weights; the teacher is
all-MiniLM-L6-v2, fine-tuned in one pass over them, and its outputs are stored. The methods take turns in one process,
round by round; a round's figure is the seconds of a method's step over those of `finetune` in the same round. A round
before the first fills the cache and is not reported.
"""

import argparse
import contextlib
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from markdown_parts import machine, table

from contrastill import distill, finetune
from contrastill.machine import describe_machine
from contrastill.studies.demo import base_model
from contrastill.studies.run import measured

HERE = Path(__file__).parent
METHODS = tuple(json.loads((HERE / "methods.variants.json").read_text())["axes"]["method"])
LABELS = "finetune"
CHECKED = 32  # texts of dev


def write_rows(source: Path, folder: Path, count: int) -> None:
    """train.csv, texts drawn from the source, and dev.csv, further ones with a class of train's."""
    drawn = pd.read_csv(source).sample(frac=1, random_state=0)
    train, behind = drawn[:count], drawn[count:]
    train.to_csv(folder / "train.csv", index=False)
    label = drawn.columns[-1]
    behind[behind[label].isin(train[label])][:CHECKED].to_csv(folder / "dev.csv", index=False)


def seconds_of_a_step(method: str, **settings: Any) -> float:
    with tempfile.TemporaryDirectory() as folder:
        row = measured(distill(method=method, out=f"{folder}/run", checks=1, **settings))
    return row["seconds"]["training"] / row["steps"]


def timed(rounds: int, **settings: Any) -> dict[str, list[float]]:
    """Method -> seconds of a step in each round."""
    turns: dict[str, list[float]] = {method: [] for method in METHODS}
    for turn in range(-1, rounds):
        for method in METHODS[:: -1 if turn % 2 else 1]:
            pace = seconds_of_a_step(method, **settings)
            print(f"round {turn + 1}, {method}: {1000 * pace:.0f} ms", flush=True)
            if turn >= 0:
                turns[method].append(pace)
    return turns


def beside_labels(turns: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    found = {}
    for method, paces in turns.items():
        ratios = [pace / labels for pace, labels in zip(paces, turns[LABELS], strict=True)]
        found[method] = {
            "ms": 1000 * statistics.median(paces),
            "to_labels": statistics.median(ratios),
            "least": min(ratios),
            "most": max(ratios),
        }
    return found


def section(result: dict[str, Any]) -> str:
    rows = [
        [f"`{name}`", f"{found['ms']:.0f}", f"{found['to_labels']:.2f}", f"{found['least']:.2f} to {found['most']:.2f}"]
        for name, found in result["methods"].items()
    ]
    return (
        "## A step of each method\n\nA `4L-312` of all-MiniLM-L6-v2 on texts of BANKING77, batches of 32, by the "
        "defaults of each method; the teacher's outputs are stored. Median of "
        f"{len(result['turns'][LABELS])} rounds.\n\n"
        + table(["", "ms", "beside labels alone", "least and most of a round"], rows)
        + f"\n{machine(result)}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="an encoder, to be the teacher [that of the demo]")
    parser.add_argument("--data", type=Path, default=Path("demo/banking77/train.csv.gz"))
    parser.add_argument("--rows", type=int, default=640)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--student", default="4L-312", help="its shape")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "method_steps.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_rows(args.data, folder, args.rows)
        teacher = finetune(model=args.model or str(base_model()), data=place, out=folder / "teacher", epochs=1)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            turns = timed(
                args.rounds,
                teacher=teacher.model,
                data=place,
                student=args.student,
                start="random",
                epochs=args.epochs,
                cache=folder / "cache",
            )
    result = {
        "command": f"OMP_NUM_THREADS=1 python benchmarks/method_steps.py --rounds {args.rounds}",
        "rows": args.rows,
        "methods": beside_labels(turns),
        "turns": turns,
        "machine": describe_machine(),
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
