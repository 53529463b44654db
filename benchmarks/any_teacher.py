"""Any teacher, any student: a teacher's stored answers beside the live teacher, other tokenizers, other structures.

    python benchmarks/any_teacher.py --english MODEL --multilingual MODEL --runs RUNS
        -> benchmarks/results/any_teacher.json

BANKING77, `demo/banking77`: a tenth of the training questions is dev, and selects checkpoints; scores are of the
official test split. `contrastill finetune` makes a teacher of each model, of all labels. Students, all in one pass over
the training questions (281 steps of 32), three seeds:

answers     1,000 of the questions have their label, the others a teacher alone: live, or a file of what it answered:
            all probabilities, the five largest (the others together), the likeliest class with its probability, that
            class alone. All by kd from `models/4L-312` as it is; "labels" is the same student of the 1,000 labels.
tokenizers  all questions have their label. Students of the multilingual teacher: kin (its weights reduced to 4L-312) or
            with another tokenizer (`models/4L-312` as it is), by kd, by lrc_bert on the layers' means, and by lrc_bert
            token by token, aligned. "english, kin" is the same start with the tokenizer of its teacher.
structures  kd of the English teacher with all labels: 4L-312, a narrower word table, one layer's weights for all, both,
            and word vectors alone (static-256).
"""

import argparse
import csv
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from contrastill.prediction import predict
from contrastill.studies import Cells, Study
from contrastill.tasks import load_rows
from contrastill.training import distill, finetune

LABELS, BATCH, LENGTH = 1_000, 32, 64
TOP = 5
HERE = Path(__file__).parents[1]
STRUCTURES = ("4L-312", "4L-312+e128", "4L-312+shared", "4L-312+e128+shared", "static-256")


def write_data(source: Path, folder: Path) -> None:
    """train, dev and test; the first rows with their labels (every class is among them), and the others' texts."""
    folder.mkdir(parents=True, exist_ok=True)
    every, few = (
        load_rows(str(source / "train.csv.gz"), test=str(source / "test.csv.gz"), limit=limit)
        for limit in (None, LABELS)
    )
    parts = {**every.splits, "labelled": few.splits["train"]}
    for name, rows in parts.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows([row["text"], every.schema.labels[row["label"]]] for row in rows)
    known = set(few.splits["train"]["text"])
    with (folder / "unlabelled.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(
            json.dumps({"text": text}) + "\n" for text in every.splits["train"]["text"] if text not in known
        )


def write_answers(teacher: Path, folder: Path) -> None:
    """What the teacher says of the training texts, in four forms."""
    every = folder / "probabilities.jsonl"
    if not every.exists():
        predict(model=str(teacher), data=str(folder / "train.csv"), keep=["text"], probabilities=True, out=str(every))
    answers = [json.loads(line) for line in every.read_text(encoding="utf-8").splitlines()]
    forms: dict[str, Callable[[dict[str, float]], dict[str, Any]]] = {
        "top": lambda found: {"probabilities": dict(sorted(found.items(), key=lambda one: -one[1])[:TOP])},
        "confidence": lambda found: {"label": max(found, key=found.__getitem__), "confidence": max(found.values())},
        "label": lambda found: {"label": max(found, key=found.__getitem__)},
    }
    for name, form in forms.items():
        lines = [json.dumps({"text": one["text"], **form(one["probabilities"])}) for one in answers]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def trained(*, by: str = "distill", **settings: Any) -> dict[str, Any]:
    """Trains, or goes on with, a run; its row."""
    begun = (Path(settings["out"]) / "run.json").is_file()
    run = {"distill": distill, "finetune": finetune}[by](**settings, resume=begun)
    ours = run.metrics["student" if by == "distill" else "model"]
    found = {split: ours[split]["metrics"]["accuracy"] for split in ("dev", "test")}
    return {
        "metric": "accuracy",
        **found,
        "interval": ours["test"]["interval"],
        "parameters": ours["parameters"],
        "size_mb": ours["size_mb"],
        "steps": run.metrics["steps"],
        "seconds": run.metrics["seconds"],
    }


def variants(steps: int) -> dict[str, dict[str, Any]]:
    """Name -> settings of each student. steps: of a pass over all training rows."""
    labelled: dict[str, Any] = {"data": "{data}/labelled.csv", "dev": "{data}/dev.csv", "test": "{data}/test.csv"}
    mixed = {**labelled, "unlabelled": "{data}/unlabelled.jsonl", "method": "kd"}
    own = {"student": "as-is", "start": "{start}"}
    every = {**labelled, "data": "{data}/train.csv"}
    english, other = {**every, "teacher": "{english}"}, {**every, "teacher": "{multilingual}"}
    means = {"method": "lrc_bert", "set": {"granularity": "mean"}}
    found: dict[str, dict[str, Any]] = {
        "labels": {
            **labelled,
            **own,
            "teacher": "{english}",
            "method": "finetune",
            "epochs": steps / (LABELS // BATCH),
        },
        "live": {**mixed, **own, "teacher": "{english}"},
        **{
            name: {**mixed, **own, "teacher_outputs": f"{{data}}/{file}.jsonl"}
            for name, file in (
                ("all probabilities", "probabilities"),
                (f"top {TOP} and the rest", "top"),
                ("label and probability", "confidence"),
                ("label alone", "label"),
            )
        },
        "multilingual, kin, kd": {**other, "method": "kd", "student": "4L-312"},
        "multilingual, kin, lrc_bert": {**other, "method": "lrc_bert", "student": "4L-312"},
        "multilingual, other tokens, kd": {**other, **own, "method": "kd"},
        "multilingual, other tokens, lrc_bert of means": {**other, **own, **means},
        "multilingual, other tokens, lrc_bert aligned": {**other, **own, "method": "lrc_bert"},
        "english, kin, lrc_bert": {**english, **own, "method": "lrc_bert"},
    }
    return found | {f"structure {shape}": {**english, "method": "kd", "student": shape} for shape in STRUCTURES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=HERE / "demo/banking77", help="folder of train.csv.gz, test.csv.gz"
    )
    parser.add_argument("--english", help="encoder of a teacher")
    parser.add_argument("--multilingual", help="encoder of the other teacher")
    parser.add_argument("--start", type=Path, default=HERE / "models/4L-312")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], help="variants whose names begin so")
    parser.add_argument("--out", type=Path, default=HERE / "benchmarks/results/any_teacher.json")
    args = parser.parse_args()
    data = args.runs / "data"
    if not (data / "unlabelled.jsonl").exists():
        write_data(args.data, data)
    facts = {"command": "python benchmarks/any_teacher.py --english MODEL --multilingual MODEL --runs RUNS"}
    with (data / "train.csv").open(encoding="utf-8", newline="") as file:
        steps = -(-sum(1 for _ in csv.DictReader(file)) // BATCH)
    every = variants(steps)
    chosen = [name for name in every if not args.only or any(name.startswith(only) for only in args.only)]
    about = {"dev": str(data / "dev.csv"), "test": str(data / "test.csv"), "max_length": LENGTH}
    places = {"data": data, "start": args.start}
    for name, model in {"english": args.english, "multilingual": args.multilingual}.items():
        run = args.runs / f"{name}-teacher"
        places[name] = run / "model"
        if any(every[one].get("teacher") == f"{{{name}}}" for one in chosen):
            made = partial(trained, by="finetune", model=model, data=str(data / "train.csv"), out=str(run),
                           epochs=2.0, checks=4, **about)  # fmt: skip
            row = Cells(args.out, facts).once({"name": f"{name} teacher", "seed": 0}, made)
            print(name, "teacher", row["test"], flush=True)
    write_answers(places["english"], data)
    shared = {"command": trained, "epochs": 1.0, "checks": 2, "max_length": LENGTH, "batch_size": BATCH}
    study = Study(every, args.out, shared=shared, seeds=args.seeds, places=places, runs=args.runs, facts=facts)
    study.run(only=chosen)
    print(study.markdown())


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
