"""Any number of labels a text, on real text: which kinds of entity a German traffic report names.

    python benchmarks/multilabel.py --mobie FOLDER/mobie-traffic --model multilingual-e5-small --runs FOLDER
        -> benchmarks/results/multilabel.json

MobIE (Hennig et al. 2021, CC BY 4.0): its sentences, official splits, each labelled with the types of the entities in
it (20 types, of which some have one sentence; a quarter of the sentences has none). multilingual-e5-small (12 x 384)
is fine-tuned as the teacher, from a head that logistic regression fitted on the frozen encoder (LP-FT: Kumar et al.,
2022; with a head of random weights it knew little more than the labels' shares after 400 steps). A student of three of
its layers learns from it by `lrc_bert` and `kd`, beside `finetune`, on the labels alone: the same rows, steps, and at
each seed the same start. The learning rate of each method is the best of three on dev, at seed 0. Dev selects
checkpoints and thresholds too; the test split is scored after all of that. The first seed's lrc_bert student is
exported in int8, and what the gate lets through is scored on test as well.

Thresholds, on the teacher's answers to dev alone: chosen on a part of dev, scored on the rest, for several sizes of the
part and ways to choose, also where the answers are badly calibrated.

Whatever the runs' folder or the JSON holds already is not made again.
"""

import argparse
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from contrastill.bundle import megabytes
from contrastill.data.labels import align_labels
from contrastill.evaluation.labels import best_thresholds, label_scores, paired_label_interval
from contrastill.exporting import export
from contrastill.exporting.verify import verify
from contrastill.loading import load_classifier, load_tokenizer
from contrastill.machine import describe_machine
from contrastill.studies import Cells
from contrastill.tasks import LabelledTask, load_rows, output_names, task_of
from contrastill.training import distill, evaluate, finetune
from contrastill.training.examples import Examples

METHODS = ("lrc_bert", "kd", "finetune")
RATES, TEACHER_RATE = (1e-4, 3e-4, 1e-3), 1e-4
SPLITS = ("train", "dev", "test")
SHOWN = ("map", "f1_micro", "f1_macro", "f1_samples")
SMALL, STRENGTH = 0.3, 0.05  # of the pooler's weights; C of logistic regression
PARTS, DRAWS = (50, 100, 200, 400), 20  # rows that thresholds are chosen on; how often they are drawn

Array = np.ndarray[Any, Any]


def sentences(file: Path) -> Iterator[dict[str, Any]]:
    """Sentences of a CoNLL file (word, …, tag), with the types of the entities in them."""
    words: list[tuple[str, str]] = []
    for line in [*file.read_text(encoding="utf-8").splitlines(), ""]:
        fields = line.split()
        if fields and fields[0] != "-DOCSTART-":
            words.append((fields[0], fields[-1]))
        elif words:
            yield {
                "text": " ".join(word for word, _ in words),
                "labels": sorted({tag[2:] for _, tag in words if tag != "O"}),
            }
            words = []


def write_splits(mobie: Path, folder: Path, names: tuple[str, ...]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        rows = sentences(mobie / "conll" / f"{name}.conll2003")
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


def answers(model: Path, data: Path, split: str, length: int) -> tuple[LabelledTask, Array, Array]:
    """The task with the model's thresholds, the model's answers (N, C) in float32, and the labels (N, C)."""
    network, tokenizer = load_classifier(str(model)), load_tokenizer(str(model))
    names = output_names(network.config)
    rows = align_labels(load_rows(str(data), task="multilabel", labels=names), names)
    task = task_of(rows.schema).with_config(network.config)
    examples = Examples(rows.splits[split], task, tokenizer, length)
    return task, task.answers(examples.logits(network)), examples.labels


def once(cells: Cells, part: str, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The row of this part and name, made unless the file holds it."""

    def made() -> dict[str, Any]:
        row = make()
        print(f"{part} {name}: {json.dumps(row)[:300]}", flush=True)
        return row

    return cells.once({"part": part, "name": name}, made)


def probed(model: str, data: Path, length: int, out: Path) -> Path:
    """A classifier whose head is fitted on the frozen encoder: the pooler passes on, the layer after it is the fit."""
    rows = load_rows(str(data), task="multilabel")
    task = task_of(rows.schema)
    tokenizer, network = load_tokenizer(model), load_classifier(model, **task.head())
    pooler, head = network.bert.pooler.dense, network.classifier
    train = Examples(rows.splits["train"], task, tokenizer, length)
    with torch.no_grad():
        pooler.weight.copy_(SMALL * torch.eye(len(pooler.weight)))  # where tanh is all but linear
        pooler.bias.zero_()
        network.classifier = torch.nn.Identity()
        features = train.logits(network)
        network.classifier = head
        mean, spread = features.mean(0), features.std(0)
        for label, there in enumerate(train.labels.T):
            fitted = LogisticRegression(C=STRENGTH, max_iter=1000).fit((features - mean) / spread, there)
            weight = fitted.coef_[0] / spread
            head.weight[label] = torch.from_numpy(weight)
            head.bias[label] = float(fitted.intercept_[0] - weight @ mean)
    network.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def measured(run: Any) -> dict[str, Any]:
    dev = run.metrics[run.model.name]["dev"]
    return {"dev": dev["metrics"], "steps": run.metrics["steps"], "seconds": run.metrics["seconds"]}


def students(args: argparse.Namespace, cells: Cells, tuned: Path, teacher: Path) -> dict[str, tuple[float, Path]]:
    """Each method at every seed -> the best of its rates, and the run's folder."""

    def run(method: str, rate: float, seed: int) -> tuple[float, Path]:
        """Its score on dev, and its folder."""
        out = args.runs / f"{method}-{rate:g}-{seed}"

        def make() -> dict[str, Any]:
            return measured(
                distill(
                    teacher=str(teacher),
                    data=str(tuned),
                    method=method,
                    student=args.student,
                    out=str(out),
                    cache=str(args.runs / "cache"),
                    max_length=args.length,
                    epochs=args.epochs,
                    learning_rate=rate,
                    seed=seed,
                    checks=3,
                    overwrite=True,
                )
            )

        return once(cells, "runs", f"{method}, {rate:g}, seed {seed}", make)["dev"]["map"], out

    found = {}
    for method in METHODS:
        best = max(RATES, key=lambda rate: run(method, rate, 0)[0])
        found |= {f"{method}, seed {seed}": (best, run(method, best, seed)[1]) for seed in range(args.seeds)}
    return found


def final(args: argparse.Namespace, cells: Cells, whole: Path, models: dict[str, tuple[float, Path]]) -> None:
    """Scores on test of every chosen model, and differences between models of a seed on the same resampled rows."""
    said = {}
    for name, (rate, folder) in models.items():
        task, probabilities, labels = answers(folder, whole, "test", args.length)
        said[name] = (probabilities, task.thresholds)

        def score(
            rate: float = rate, task: LabelledTask = task, probabilities: Array = probabilities, labels: Array = labels
        ) -> dict[str, Any]:
            return {
                "rate": rate,
                "test": task.score(probabilities, labels, SHOWN),
                "interval": {metric: list(task.interval(probabilities, labels, metric)) for metric in SHOWN},
                "at_half": label_scores(probabilities, labels, SHOWN, np.full(labels.shape[1], 0.5)),
                "chance": {metric: task.chance(labels, metric) for metric in SHOWN},
                "rows": len(labels),
            }

        once(cells, "test", name, score)
    for seed in range(args.seeds):
        for a, b in itertools.combinations(METHODS, 2):
            ours, theirs = said[f"{a}, seed {seed}"], said[f"{b}, seed {seed}"]
            for metric in ("map", "f1_micro"):

                def difference(ours: Any = ours, theirs: Any = theirs, metric: str = metric) -> dict[str, Any]:
                    return {"found": list(paired_label_interval(ours, theirs, labels, metric))}

                once(cells, "differences", f"{metric}: {a} - {b}, seed {seed}", difference)


def deployed(args: argparse.Namespace, cells: Cells, run: Path, whole: Path) -> None:
    def make() -> dict[str, Any]:
        made = export(model=str(run), to="onnx", precision=args.precision, overwrite=True)
        gate = {key: value for key, value in made.metadata["gate"].items() if key != "latency_ms"}
        on_test = verify(bundle=str(made.folder), data=str(whole / "test.jsonl"))
        return {"gate": gate, "test": on_test, "mb": megabytes(made.metadata)}

    once(cells, "bundle", f"lrc_bert, seed 0, {args.precision}", make)


def thresholds(args: argparse.Namespace, cells: Cells, tuned: Path, teacher: Path) -> None:
    """F1 on the rest of dev, of thresholds chosen on parts of it: the mean over draws.

    Of the teacher's answers, and of the same ones badly calibrated: all logits less 2, or each label's moved by chance.
    """
    _, probabilities, labels = answers(teacher, tuned, "dev", args.length)
    logits = np.log(probabilities / (1 - probabilities))
    moved = {
        "teacher": 0.0,
        "teacher, all logits less 2": -2.0,
        "teacher, each label's logits moved": np.random.default_rng(0).normal(0.0, 1.5, labels.shape[1]),
    }
    ways: dict[str, Callable[[Array, Array], Array]] = {
        "0.5": lambda p, truth: np.full(truth.shape[1], 0.5),
        "common": lambda p, truth: best_thresholds(p, truth, doubt=1e9),
        "each": lambda p, truth: best_thresholds(p, truth, doubt=0),
        **{f"between, {n}": lambda p, truth, n=n: best_thresholds(p, truth, doubt=n) for n in (5, 10, 20, 40)},
    }

    def make(given: Array) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for rows in PARTS:
            scores: dict[str, list[list[float]]] = {way: [] for way in ways}
            for draw in range(DRAWS):
                order = np.random.default_rng(draw).permutation(len(labels))
                part, rest = order[:rows], order[rows:]
                for way, choose in ways.items():
                    chosen = choose(given[part], labels[part])
                    found = label_scores(given[rest], labels[rest], ("f1_micro", "f1_macro"), chosen)
                    scores[way].append(list(found.values()))
            table[str(rows)] = {way: np.mean(found, axis=0).tolist() for way, found in scores.items()}
        return {"metrics": ["f1_micro", "f1_macro"], "draws": DRAWS, "by_rows": table}

    for name, by in moved.items():
        once(cells, "thresholds", name, lambda by=by: make(1 / (1 + np.exp(-logits - by))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mobie", type=Path, required=True)
    parser.add_argument("--model", required=True, help="folder of the encoder that becomes the teacher")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--student", default="3L")
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", default="int8", help="of the bundle")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "multilabel.json")
    args = parser.parse_args()
    tuned = write_splits(args.mobie, args.runs / "tuned", SPLITS[:2])
    whole = write_splits(args.mobie, args.runs / "whole", SPLITS)
    facts = {
        "command": "python benchmarks/multilabel.py --mobie mobie-traffic --model multilingual-e5-small --runs runs",
        "splits": {name: len((whole / f"{name}.jsonl").read_text().splitlines()) for name in SPLITS},
        "student": args.student,
        "epochs": args.epochs,
        "seeds": args.seeds,
        "machine": describe_machine(),
    }
    cells = Cells(args.out, facts)
    out = args.runs / "teacher"

    def make() -> dict[str, Any]:
        start = probed(args.model, tuned, args.length, args.runs / "start")
        return {"start": evaluate(model=str(start), data=str(tuned), split="dev")["metrics"]} | measured(
            finetune(
                model=str(start),
                data=str(tuned),
                out=str(out),
                max_length=args.length,
                epochs=args.epochs,
                learning_rate=TEACHER_RATE,
                schedule="linear",
                checks=3,
                overwrite=True,
            )
        )

    once(cells, "runs", "teacher", make)
    teacher = out / "model"
    thresholds(args, cells, tuned, teacher)
    runs = students(args, cells, tuned, teacher)
    deployed(args, cells, runs["lrc_bert, seed 0"][1], whole)
    models = {name: (rate, folder / "student") for name, (rate, folder) in runs.items()}
    final(args, cells, whole, {"teacher": (TEACHER_RATE, teacher)} | models)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
