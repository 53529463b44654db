"""Taggers: a teacher of each corpus, students by finetune, kd and lrc_bert at equal start and steps, three seeds.

    python benchmarks/tagging.py --harvey FOLDER --mobie FOLDER --english MODEL --multilingual MODEL --runs RUNS
        -> benchmarks/results/tagging.json

`contrastill finetune` makes a teacher of each corpus, `contrastill distill` its students. A student of finetune learns
the labels alone, from the same start, on the same rows in the same order, in as many steps. Scores are F1 of entities
(start, end and type exact) on test; checkpoints are chosen on dev. Cells that are there are not made again.
"""

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any

from contrastill.machine import describe_machine
from contrastill.studies import Cells
from contrastill.training import distill, finetune

METHODS = ("finetune", "kd", "lrc_bert")
EPOCHS = {"harvey": (5, 10), "mobie": (8, 8)}
"""Corpus -> passes of the teacher and of its students over the training rows."""
KEPT = ("f1", "precision", "recall", "f1_macro")


def figures(metrics: dict[str, Any], name: str) -> dict[str, Any]:
    model = metrics[name]
    found = {split: {key: round(model[split]["metrics"][key], 5) for key in KEPT} for split in ("dev", "test")}
    found |= {"interval": model["test"]["interval"], "parameters": model["parameters"], "size_mb": model["size_mb"]}
    return found | {"steps": metrics["steps"], "checkpoint": metrics["checkpoint"], "seconds": metrics["seconds"]}


def by_row(run: Path) -> dict[str, Any]:
    """The parts of F1 of each test text: 2 x right, and answered + true."""
    kept = json.loads((run / "evidence.json").read_text(encoding="utf-8"))["by_row"]["test"]
    return {"of": kept["of"], "ours": kept["ours"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--harvey", help="folder of tweets.train.bio, …")
    parser.add_argument("--mobie", help="folder of train.conll2003, …")
    parser.add_argument("--english", help="encoder of HarveyNER's teacher")
    parser.add_argument("--multilingual", help="encoder of MobIE's teacher")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--students", nargs="+", default=["4L-312"])
    parser.add_argument("--epochs", type=float, help="of teachers and students [default: as published here]")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "tagging.json")
    args = parser.parse_args()
    folders = "--harvey FOLDER --mobie FOLDER --english MODEL --multilingual MODEL --runs RUNS"
    command = f"python benchmarks/tagging.py {folders}"
    cells = Cells(args.out, {"command": command, "machine": describe_machine()})
    sets = {"harvey": (args.harvey, args.english), "mobie": (args.mobie, args.multilingual)}
    for name, (data, model) in sets.items():
        if not data:
            continue
        of_teacher, of_student = (args.epochs or epochs for epochs in EPOCHS[name])
        place = args.runs / f"{name}-teacher"

        def teacher(data: str = data, model: str = model, place: Path = place, epochs: float = of_teacher) -> Any:
            made = finetune(model=model, data=data, out=str(place), epochs=epochs, resume=(place / "run.json").exists())
            return figures(made.metrics, "model")

        row = cells.once({"set": name, "way": "teacher", "seed": 0}, teacher)
        print(name, "teacher", row["test"], flush=True)
        for seed in args.seeds:
            for shape in args.students:
                for method in args.methods:
                    run = args.runs / f"{name}-{shape}-{method}-{seed}"

                    def student(
                        run: Path = run, place: Path = place, method: str = method, shape: str = shape,
                        seed: int = seed, epochs: float = of_student,
                    ) -> Any:  # fmt: skip
                        made = distill(
                            teacher=str(place), method=method, student=shape, epochs=epochs, seed=seed, out=str(run),
                            resume=(run / "run.json").exists(),
                        )  # fmt: skip
                        kept = made.metrics.get("kept")
                        return figures(made.metrics, "student") | {"kept": kept, "by_row": by_row(run)}

                    row = cells.once({"set": name, "way": method, "student": shape, "seed": seed}, student)
                    print(name, shape, method, seed, row["test"], flush=True)
    rows = cells.read()["rows"]
    for name in sets:
        for method in METHODS:
            scores = [row["test"]["f1"] for row in rows if (row["set"], row["way"]) == (name, method)]
            if scores:
                print(name, method, f"{statistics.mean(scores):.4f}", scores)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
