"""The students of a study on texts with typos and with words left out, and how unsteady their loss was.

python benchmarks/robustness.py benchmarks/glue.variants.json --rows benchmarks/results/glue.jsonl --runs RUNS \
    --place mpnet=M --place glue=FOLDER --place start=models/4L-312 [--only "CoLA, kd" …]

Scores on dev, as it is and changed in four ways, the same for every student: a letter of 50 or of 20 is wrong (swapped
with the next, left out, doubled or another), a word of 20 or of 10 is left out. A student's row has the scores of the
whole, and how much of the loss's spread from one logged step to the next is left in its last stage: the standard
deviation of the differences, over the mean. A cell whose run is not in RUNS is left out. Rows go to --out as they come.
"""

import argparse
import itertools
import json
import random
import statistics
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contrastill import Study, evaluate
from contrastill.cli.options import pairs_of
from contrastill.data.load import load_task
from contrastill.studies import Cells
from contrastill.studies.axes import filled

HERE = Path(__file__).parent


def typos(text: str, share: float, chance: random.Random) -> str:
    """A text in which each letter goes wrong with this probability."""
    found, letters = list(text), string.ascii_lowercase
    for n, letter in enumerate(text):
        if letter.isalpha() and chance.random() < share:
            kind = chance.randrange(4)
            if kind == 0 and n + 1 < len(text):
                found[n], found[n + 1] = found[n + 1], found[n]
            else:
                found[n] = ("", letter * 2, chance.choice(letters))[kind % 3]
    return "".join(found)


def dropped(text: str, share: float, chance: random.Random) -> str:
    """A text without some of its words; one always stays."""
    words = text.split()
    kept = [word for word in words if chance.random() >= share]
    return " ".join(kept or words[:1])


NOISE: dict[str, Callable[[str, random.Random], str]] = {
    "as it is": lambda text, chance: text,
    "typos 2 %": lambda text, chance: typos(text, 0.02, chance),
    "typos 5 %": lambda text, chance: typos(text, 0.05, chance),
    "dropped 5 %": lambda text, chance: dropped(text, 0.05, chance),
    "dropped 10 %": lambda text, chance: dropped(text, 0.10, chance),
}


def dev_rows(data: str, noise: str) -> list[dict[str, Any]]:
    """The dev rows of a data set of texts or pairs, changed."""
    chance, task = random.Random(noise), load_task(data)
    assert task.dev is not None
    columns = ["text", "text_pair"] if task.schema.text_pair else ["text"]
    names = task.schema.labels
    return [
        {column: NOISE[noise](row[column], chance) for column in columns}
        | {"label": names[row["label"]] if names else row["label"]}
        for row in task.dev
    ]


def unsteadiness(log: Path) -> float:
    """Of the last stage's losses: the standard deviation from one to the next, over their mean."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    last = max(row["stage"] for row in rows if "stage" in row)
    losses = [row["loss"] for row in rows if row.get("stage") == last and "loss" in row]
    return statistics.stdev(b - a for a, b in itertools.pairwise(losses)) / statistics.mean(losses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", type=Path)
    parser.add_argument("--rows", type=Path, required=True, help="the file of the study's rows")
    parser.add_argument("--runs", type=Path, required=True, help="its folder of runs")
    parser.add_argument("--place", action="append", default=[])
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "robustness.jsonl")
    args = parser.parse_args()
    places = pairs_of(args.place, "place")
    study = Study.of(args.variants, args.rows, places=places, runs=args.runs, seeds=100)
    out = Cells(args.out, {"command": f"python benchmarks/robustness.py {args.variants} --rows {args.rows}"})
    for row in study.rows():
        if not (run := study.folder((row["name"], row["seed"]))).is_dir():
            continue
        if args.only and row["name"] not in args.only:
            continue
        data = filled(row["settings"]["data"], places)

        def made(row: dict[str, Any] = row, run: Path = run, data: str = data) -> dict[str, Any]:
            scored = {
                noise: evaluate(model=run / "student", data=dev_rows(data, noise), metric=row["metric"])["metrics"]
                for noise in NOISE
            }
            found = {noise: scores[row["metric"]] for noise, scores in scored.items()}
            same = {name: row[name] for name in ("name", "seed", "axes", "metric", "machine")}
            return {**same, "noise": found, "unsteadiness": unsteadiness(run / "log.jsonl")}

        found = out.once({"cell": row["cell"]}, made)
        print(row["name"], row["seed"], {name: round(value, 4) for name, value in found["noise"].items()}, flush=True)


if __name__ == "__main__":
    main()
