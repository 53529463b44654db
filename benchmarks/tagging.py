"""Taggers: a teacher of each corpus, students by finetune, kd and lrc_bert at equal start and steps, three seeds.

    python benchmarks/tagging.py --harvey FOLDER --mobie FOLDER --english MODEL --multilingual MODEL --runs RUNS
        -> benchmarks/results/tagging.json

`contrastill finetune` makes a teacher of each corpus, `contrastill distill` its students. A student of finetune learns
the labels alone, from the same start, on the same rows in the same order, in as many steps. Scores are F1 of entities
(start, end and type exact) on test; checkpoints are chosen on dev. Cells that are there are not made again.

Differences between methods: the mean over the seeds of F1 on the same resampled texts, 95 % bootstrap interval over
texts. Bundles (--bundles): the teacher and its student of seed 0 by `contrastill export`; times of one text of dev are
those of its check. --longer and --vocabulary make further students, in rows of their own.
"""

import argparse
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from contrastill.exporting import export
from contrastill.machine import describe_machine
from contrastill.results import write_text
from contrastill.studies import Cells
from contrastill.training import distill, finetune

METHODS = ("finetune", "kd", "lrc_bert")
EPOCHS = {"harvey": (5, 5), "mobie": (8, 5), "cluener": (1, 1)}
"""Corpus -> passes of the teacher and of its students over the training rows."""
RUNTIMES, PRECISIONS = ("openvino", "onnx"), ("fp32", "int8")
KEPT = ("f1", "precision", "recall", "f1_macro")


def figures(metrics: dict[str, Any], name: str) -> dict[str, Any]:
    model = metrics[name]
    last = "test" if "test" in model else "dev"
    found = {split: {key: round(model[split]["metrics"][key], 5) for key in KEPT} for split in ("dev", last)}
    found |= {
        "scored": last,
        "interval": model[last]["interval"],
        "parameters": model["parameters"],
        "size_mb": model["size_mb"],
    }
    found |= {"steps": metrics["steps"], "checkpoint": metrics["checkpoint"], "seconds": metrics["seconds"]}
    return found | {"cpu": describe_machine()["cpu"]}


def by_row(run: Path) -> dict[str, Any]:
    """The parts of F1 of each test text (without test, of dev): 2 x right, and answered + true."""
    rows = json.loads((run / "evidence.json").read_text(encoding="utf-8"))["by_row"]
    kept = rows.get("test", rows["dev"])
    return {"of": kept["of"], "ours": kept["ours"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--harvey", help="folder of tweets.train.bio, …")
    parser.add_argument("--mobie", help="folder of train.conll2003, …")
    parser.add_argument("--cluener", help="folder of train.json and dev.json; scored on dev, as its test has no labels")
    parser.add_argument("--english", help="encoder of HarveyNER's teacher")
    parser.add_argument("--multilingual", help="encoder of the teachers of MobIE and CLUENER")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--students", nargs="+", default=["4L-312"])
    parser.add_argument("--bundles", nargs="?", const="lrc_bert", help="export too: the teacher, a method's student")
    parser.add_argument("--epochs", type=float, help="of teachers and students [default: as published here]")
    parser.add_argument("--vocabulary", default="all", help="of the students: all, or texts, as `distill` has it")
    parser.add_argument("--longer", type=float, help="passes of the students alone, beside those as published here")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "tagging.json")
    args = parser.parse_args()
    folders = "--harvey FOLDER --mobie FOLDER --english MODEL --multilingual MODEL --runs RUNS"
    command = f"python benchmarks/tagging.py {folders}"
    cells = Cells(args.out, {"command": command, "machine": describe_machine()})
    sets = {name: {"data": getattr(args, name), "model": args.multilingual} for name in EPOCHS}
    sets["harvey"]["model"] = args.english
    if args.cluener:
        sets["cluener"] |= {"data": f"{args.cluener}/train.json", "dev": f"{args.cluener}/dev.json"}
    for name, of in sets.items():
        if not of["data"]:
            continue
        of_teacher, of_student = (args.epochs or epochs for epochs in EPOCHS[name])
        place = args.runs / f"{name}-teacher"

        def teacher(of: dict[str, Any] = of, place: Path = place, epochs: float = of_teacher) -> Any:
            made = finetune(**of, out=str(place), epochs=epochs, resume=(place / "run.json").exists())
            decided = json.loads((place / "run.json").read_text(encoding="utf-8"))["data"]["decisions"]
            return figures(made.metrics, "model") | {"tokenizer": decided.get("tokenizer")}

        row = cells.once({"set": name, "way": "teacher", "seed": 0}, teacher)
        print(name, "teacher", row[row.get("scored", "test")], flush=True)
        for seed in args.seeds:
            for shape in args.students:
                called = shape + (", vocabulary of its texts" if args.vocabulary == "texts" else "")
                called += f", {args.longer:g} epochs" if args.longer else ""
                for method in args.methods:
                    run = args.runs / f"{name}-{called.replace(', ', '-').replace(' ', '_')}-{method}-{seed}"

                    def student(
                        run: Path = run, place: Path = place, method: str = method, shape: str = shape,
                        seed: int = seed, epochs: float = args.longer or of_student,
                    ) -> Any:  # fmt: skip
                        made = distill(
                            teacher=str(place), method=method, student=shape, epochs=epochs, seed=seed, out=str(run),
                            resume=(run / "run.json").exists(), vocabulary=args.vocabulary,
                        )  # fmt: skip
                        kept = made.metrics.get("kept")
                        return figures(made.metrics, "student") | {"kept": kept, "by_row": by_row(run)}

                    row = cells.once({"set": name, "way": method, "student": called, "seed": seed}, student)
                    print(name, called, method, seed, row[row.get("scored", "test")], flush=True)
        if args.bundles:
            for runtime in RUNTIMES:
                for precision in PRECISIONS:
                    kinds = {"teacher": place, "student": args.runs / f"{name}-{args.students[0]}-{args.bundles}-0"}
                    for kind, run in kinds.items():
                        out = args.runs / f"{name}-{kind}-{runtime}-{precision}"
                        key = {"set": name, "way": f"bundle of {kind}", "runtime": runtime, "precision": precision}
                        exported = partial(bundle_of, run, runtime, precision, out)
                        row = cells.once(key | {"method": args.bundles if kind == "student" else None}, exported)
                        print(name, kind, runtime, precision, row["test"], flush=True)
            key = {"set": name, "way": "bundle of student, trimmed", "runtime": "openvino", "precision": "int8"}
            run = args.runs / f"{name}-{args.students[0]}-{args.bundles}-0"
            out = args.runs / f"{name}-trimmed"
            row = cells.once(
                key | {"method": args.bundles}, partial(bundle_of, run, "openvino", "int8", out, trim=True)
            )
            print(name, "trimmed", row["test"], row["vocabulary"], flush=True)
    there = cells.read()
    there["differences"] = {name: found for name in sets if (found := differences(there["rows"], name))}
    write_text(args.out, json.dumps(there, indent=1) + "\n")


def bundle_of(run: Path, runtime: str, precision: str, out: Path, trim: bool = False) -> dict[str, Any]:
    settings: dict[str, Any] = {"to": runtime, "precision": precision, "trim": trim, "max_drop": 100.0}
    made = export(model=str(run), out=str(out), overwrite=True, **settings)
    gate = made.metadata["gate"]
    kept = {
        key: gate[key] for key in ("metric", "torch", "bundle", "drop_points", "drop_interval", "types", "latency_ms")
    }
    size = sum(one["bytes"] for one in made.metadata["files"].values()) / 1e6
    found = {"gate": kept, "test": made.metadata["test"], "mb": size, "recipe": made.metadata["recipe"]}
    found |= {"cpu": describe_machine()["cpu"]}
    return found | {"parameters": made.metadata["parameters"], "vocabulary": made.metadata.get("vocabulary")}


def differences(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """lrc_bert less each other method, by student, over the seeds that both have."""
    found = []
    parts: dict[tuple[str, str], dict[int, Any]] = {}
    for row in rows:
        if row["set"] == name and "by_row" in row:
            parts.setdefault((row["student"], row["way"]), {})[row["seed"]] = np.array(row["by_row"]["ours"], float)
    for student, way in parts:
        if way == "lrc_bert" or (student, "lrc_bert") not in parts:
            continue
        ours, theirs = parts[student, "lrc_bert"], parts[student, way]
        seeds = sorted(ours.keys() & theirs.keys())
        middle, low, high = apart([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])
        row = {"student": student, "of": f"lrc_bert - {way}", "seeds": seeds, "points": round(100 * middle, 2)}
        found.append(row | {"interval": [round(100 * low, 2), round(100 * high, 2)]})
    return found


def apart(ours: list[Any], theirs: list[Any], samples: int = 2000) -> tuple[float, float, float]:
    """The mean over seeds of the difference of F1, and its interval over the same resampled texts. (N, 2) each: 2 x
    right, answered + true."""
    texts = len(ours[0])
    drawn = np.random.default_rng(0).multinomial(texts, np.full(texts, 1 / texts), size=samples)

    def f1(parts: list[Any], weights: Any) -> Any:
        sums = [weights @ one for one in parts]
        return np.mean([one[..., 0] / np.maximum(one[..., 1], 1) for one in sums], 0)

    middle = float(f1(ours, np.ones(texts)) - f1(theirs, np.ones(texts)))
    low, high = np.quantile(f1(ours, drawn) - f1(theirs, drawn), [0.025, 0.975])
    return middle, float(low), float(high)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
