"""A newcomer's first model: `contrastill finetune` as it is, beside what else the trade knows for the same file.

    python benchmarks/first_hour.py --data DATA --models MODELS --runs RUNS
        -> benchmarks/results/first_hour.json

Each set is cut to a number of training rows (drawn by the seed, every class at least once), of which as many are dev as
`finetune` holds out; test rows are the set's own, 2,000 at most. On the same rows, at the same length of 128 tokens:

common   the class that most training rows have, for every row
default  `contrastill finetune --model M --data F --out R`, nothing else given; the linear probe it began at
probe    logistic regression on the frozen encoder's mean vectors, standardised; of a pair on |u - v| and u * v
plain    transformers' Trainer, a new head, its defaults but for the learning rate (5e-5, 1e-4, 3e-4), as many steps as
         `default`, the best of ten checkpoints on dev
rate     `default` at other learning rates (5e-5, 1e-4, 2e-4, 3e-4)
best     `default` with --preset best
student  `contrastill distill --teacher R --data F --out S` of that model, nothing else given; and at three learning
         rates and two lengths
setfit   SetFit's Trainer, its defaults, as many steps as `default` and pairs of as many texts; single texts alone

The best of the three plain rates is the best on test: the comparison leans to that side. Whatever the JSON holds
already is not made again. All of it runs on a GPU where there is one: --workers trains so many models at once.
"""

import argparse
import csv
import itertools
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from contrastill.data.division import dev_rows
from contrastill.evaluation import bootstrap_interval, score
from contrastill.machine import bf16_pays, describe_machine
from contrastill.studies import Cells
from contrastill.training import distill, finetune
from contrastill.training.budget import PRESETS

RATES, OTHER_RATES = (5e-5, 1e-4, 3e-4), (5e-5, 1e-4, 2e-4, 3e-4)
STUDENT_RATES, LENGTHS = (1e-4, 3e-4, 1e-3), ("quick", "good")
METRICS = ("accuracy", "f1", "matthews")
BATCH, LENGTH, TESTED = 32, 128, 2_000
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

Frame = pd.DataFrame


def table(file: Path, **options: Any) -> Frame:
    return pd.read_csv(file, sep="\t", quoting=csv.QUOTE_NONE, dtype=str, keep_default_na=False, **options)


def frame(text: pd.Series, label: pd.Series, pair: pd.Series | None = None) -> Frame:
    columns = {"text": text, **({} if pair is None else {"text_pair": pair}), "label": label}
    return Frame({name: list(column) for name, column in columns.items()})


def yes_or_no(column: pd.Series) -> pd.Series:
    return column.map({"0": "no", "1": "yes"})


def rows_of(name: str, data: Path) -> tuple[Frame, Frame]:
    """A set's training and test rows."""
    glue = data / "glue"
    files: dict[str, tuple[Callable[[Path], Frame], Path, Path]] = {
        "banking77": (
            lambda file: frame(*(pd.read_csv(file, dtype=str, keep_default_na=False)[c] for c in ("text", "category"))),
            data / "classification/banking77/train.csv",
            data / "classification/banking77/test.csv",
        ),
        "traffic-tweets": (
            lambda file: (lambda t: frame(t[2], t[0].map({"0": "none", "1": "incident", "2": "information"})))(
                table(file, header=None)
            ),
            data / "classification/traffic-tweets/train.tsv",
            data / "classification/traffic-tweets/test.tsv",
        ),
        "cola": (
            lambda file: (lambda t: frame(t[3], yes_or_no(t[1])))(table(file, header=None)),
            glue / "CoLA/train.tsv",
            glue / "CoLA/dev.tsv",
        ),
        "sst2": (
            lambda file: (lambda t: frame(t.sentence, yes_or_no(t.label)))(table(file)),
            glue / "SST-2/train.tsv",
            glue / "SST-2/test_labelled_senteval.tsv",
        ),
        "mrpc": (
            lambda file: (lambda t: frame(t["#1 String"], yes_or_no(t.iloc[:, 0]), t["#2 String"]))(table(file)),
            glue / "MRPC/train.tsv",
            glue / "MRPC/test_labelled.tsv",
        ),
        "rte": (
            lambda file: (lambda t: frame(t.sentence1, t.label, t.sentence2))(table(file)),
            glue / "RTE/train.tsv",
            glue / "RTE/dev.tsv",
        ),
        "qnli": (
            lambda file: (lambda t: frame(t.question, t.label, t.sentence))(table(file)),
            glue / "QNLI/subset_train_8999.tsv",
            glue / "QNLI/dev.tsv",
        ),
        "qqp": (
            lambda file: (lambda t: frame(t.question1, yes_or_no(t.is_duplicate), t.question2))(table(file)),
            glue / "QQP/train_union.tsv",
            glue / "QQP/subset_dev_1000.tsv",
        ),
        "mnli": (
            lambda file: (lambda t: frame(t.sentence1, t.label, t.sentence2))(table(file)),
            glue / "MNLI/subset_train_8999.tsv",
            glue / "MNLI/subset_dev_1000.tsv",
        ),
        "sick": (
            lambda file: (lambda t: frame(t.sentence_A, t.entailment_judgment.str.lower(), t.sentence_B))(table(file)),
            data / "sts/SICK/SICK_train.txt",
            data / "sts/SICK/SICK_test_annotated.txt",
        ),
    }
    read, train, test = files[name]
    return read(train), read(test)


def write_set(name: str, rows: int | None, data: Path, folder: Path, seed: int) -> Path:
    """A folder with train, dev and test files, of so many rows of training (and dev)."""
    place = folder / "data" / f"{name}-{rows or 'all'}-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    train, test = rows_of(name, data)
    train = train.drop_duplicates([c for c in train if c != "label"]).sample(frac=1, random_state=seed)
    first = train.drop_duplicates("label")  # every class at least once
    train = pd.concat([first, train.drop(first.index)])[:rows]
    held = dev_rows(len(train), None)
    parts = {"train": train[:-held], "dev": train[-held:], "test": test.sample(frac=1, random_state=0)[:TESTED]}
    for part, chosen in parts.items():
        chosen.to_csv(place / f"{part}.csv", index=False)
    return place


def texts_of(rows: Frame) -> list[list[str]]:
    return [list(rows[name]) for name in ("text", "text_pair") if name in rows]


class Cell:
    """One set at one size for one model, and the ways to train on it."""

    def __init__(self, model: Path, place: Path, runs: Path, seed: int) -> None:
        self.model, self.place, self.seed = model, place, seed
        self.runs = runs / "runs" / f"{model.name}-{place.name}"
        self.splits = {
            part: pd.read_csv(place / f"{part}.csv", keep_default_na=False) for part in ("train", "dev", "test")
        }
        self.classes = sorted(set(self.splits["train"].label))
        self.ids = {
            part: np.array([self.classes.index(one) for one in rows.label]) for part, rows in self.splits.items()
        }
        self.steps = PRESETS["good"].steps(max(1, len(self.splits["train"]) // BATCH))

    def scored(self, logits: np.ndarray, **more: Any) -> dict[str, Any]:
        labels = self.ids["test"]
        found = score(logits, labels, METRICS)
        return {**found, "interval": list(bootstrap_interval(logits, labels, "accuracy")), **more}

    def common(self, out: Path) -> dict[str, Any]:
        most = np.bincount(self.ids["train"]).argmax()
        return self.scored(np.tile(np.arange(len(self.classes)) == most, (len(self.ids["test"]), 1)).astype(float))

    def default(self, out: Path, **changes: Any) -> dict[str, Any]:
        asked = {"model": str(self.model), "data": str(self.place), "out": str(out), "seed": self.seed}
        found = finetune(**asked, max_length=LENGTH, overwrite=True, **changes).metrics

        def of(name: str) -> dict[str, Any]:
            split = found[name]["test"]
            scores = {metric: value for metric, value in split["metrics"].items() if metric in METRICS}
            dev = found[name].get("dev", {}).get("metrics", {}).get("accuracy")
            return scores | {"interval": split["interval"], "dev": dev}

        kept = {key: found[key] for key in ("steps", "checkpoint", "seconds")}
        return {**of("model"), "began_at": of("probe") if "probe" in found else None, **kept}

    def student(self, out: Path, **changes: Any) -> dict[str, Any]:
        asked = {"teacher": str(self.runs / "default/model"), "data": str(self.place), "out": str(out)}
        found = distill(**asked, seed=self.seed, overwrite=True, **changes).metrics
        split = found["student"]["test"]
        kept = {key: found[key] for key in ("steps", "checkpoint", "seconds", "kept")}
        return {"accuracy": split["metrics"]["accuracy"], "interval": split["interval"], **kept}

    def probe(self, out: Path) -> dict[str, Any]:
        from sentence_transformers import SentenceTransformer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        encoder = SentenceTransformer(str(self.model), device=DEVICE)
        encoder.max_seq_length = LENGTH

        def features(part: str) -> np.ndarray:
            vectors = [encoder.encode(texts, normalize_embeddings=True) for texts in texts_of(self.splits[part])]
            if len(vectors) == 1:
                return vectors[0]
            return np.concatenate([abs(vectors[0] - vectors[1]), vectors[0] * vectors[1]], 1)

        fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        fitted.fit(features("train"), self.ids["train"])
        return self.scored(fitted.predict_proba(features("test")))

    def plain(self, out: Path, rate: float) -> dict[str, Any]:
        from datasets import Dataset
        from transformers import (
            AutoModelForSequenceClassification,
            AutoTokenizer,
            DataCollatorWithPadding,
            Trainer,
            TrainingArguments,
        )

        tokenizer = AutoTokenizer.from_pretrained(self.model)
        network = AutoModelForSequenceClassification.from_pretrained(self.model, num_labels=len(self.classes))
        sets = {
            part: Dataset.from_dict(
                {**tokenizer(*texts_of(rows), truncation=True, max_length=LENGTH), "label": self.ids[part]}
            )
            for part, rows in self.splits.items()
        }
        every = max(1, self.steps // 10)
        args = TrainingArguments(
            output_dir=str(out),
            max_steps=self.steps,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=64,
            learning_rate=rate,
            bf16=bf16_pays(),
            use_cpu=DEVICE == "cpu",
            seed=self.seed,
            eval_strategy="steps",
            eval_steps=every,
            save_strategy="steps",
            save_steps=every,
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
        )
        trainer = Trainer(
            network,
            args,
            train_dataset=sets["train"],
            eval_dataset=sets["dev"],
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda found: {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())},
        )
        trainer.train()
        return self.scored(trainer.predict(sets["test"]).predictions)

    def setfit(self, out: Path) -> dict[str, Any]:
        from datasets import Dataset
        from setfit import SetFitModel, Trainer, TrainingArguments

        network = SetFitModel.from_pretrained(str(self.model), device=DEVICE)
        network.model_body.max_seq_length = LENGTH
        rows = Dataset.from_dict({"text": list(self.splits["train"].text), "label": self.ids["train"]})
        args = TrainingArguments(output_dir=str(out), max_steps=self.steps, seed=self.seed, report_to="none")
        Trainer(model=network, args=args, train_dataset=rows).train()
        return self.scored(np.asarray(network.predict_proba(list(self.splits["test"].text), as_numpy=True)))


def ways_of(cell: Cell) -> dict[str, Callable[[Path], dict[str, Any]]]:
    ways: dict[str, Callable[[Path], dict[str, Any]]] = {
        "common": cell.common,
        "default": cell.default,
        "probe": cell.probe,
    }
    ways |= {f"plain {rate:g}": partial(cell.plain, rate=rate) for rate in RATES}
    if "text_pair" not in cell.splits["train"]:
        ways["setfit"] = cell.setfit
    ways |= {f"rate {rate:g}": partial(cell.default, learning_rate=rate) for rate in OTHER_RATES}
    ways |= {"best": partial(cell.default, preset="best"), "student": cell.student}
    for rate, preset in itertools.product(STUDENT_RATES, LENGTHS):
        ways[f"student {rate:g} {preset}"] = partial(cell.student, learning_rate=rate, preset=preset)
    return ways


@dataclass(frozen=True)
class Job:
    """One way to train one model on one cut of one set."""

    key: dict[str, Any]
    model: Path
    place: Path
    runs: Path

    def __call__(self) -> dict[str, Any]:
        cell = Cell(self.model, self.place, self.runs, self.key["seed"])
        way = self.key["way"]
        folder, begun = cell.runs / way.replace(" ", "-"), time.perf_counter()
        row = ways_of(cell)[way](folder)
        if way != "default":  # whose model is the students' teacher
            shutil.rmtree(folder, ignore_errors=True)
        return row | {"minutes": round((time.perf_counter() - begun) / 60, 2)}


def jobs_of(args: argparse.Namespace) -> Iterator[Job]:
    for size, seed, name in itertools.product(args.sizes.split(","), args.seeds, args.sets.split(",")):
        place = write_set(name, None if size == "all" else int(size), args.data, args.runs, seed)
        for way in ways_of(Cell(args.models / args.model, place, args.runs, seed)):
            if way.split()[0] in args.ways.split(","):
                key = {"model": args.model, "set": name, "rows": size, "seed": seed, "way": way}
                yield Job(key, args.models / args.model, place, args.runs)


def made(jobs: list[Job], workers: int) -> Iterator[tuple[Job, dict[str, Any] | Exception]]:
    """Each job's row or error, as they come."""
    if workers == 1:
        for job in jobs:
            try:
                yield job, job()
            except Exception as error:
                yield job, error
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        asked = {pool.submit(job): job for job in jobs}
        for done in as_completed(asked):
            error = done.exception()
            yield asked[done], done.result() if error is None else Exception(f"{type(error).__name__}: {error}")


def run(jobs: list[Job], cells: Cells, workers: int) -> bool:
    """Adds a row for each job that has none; whether all went well."""
    well = True
    for job, row in made([job for job in jobs if cells.find(job.key) is None], workers):
        if isinstance(row, Exception):
            print(*job.key.values(), repr(row), flush=True)
            well = False
        else:
            cells.once(job.key, lambda row=row: row)
            print(*job.key.values(), row["accuracy"], row["minutes"], flush=True)
    return well


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with classification/, glue/ and sts/")
    parser.add_argument("--models", type=Path, required=True, help="folder of models")
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--sets", default="banking77,sst2,mrpc,traffic-tweets,cola,qnli,qqp,rte,mnli,sick")
    parser.add_argument("--sizes", default="300,3000", help="numbers of rows, or 'all'")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--ways", default="common,default,probe,plain,setfit")
    parser.add_argument("--workers", type=int, default=1, help="processes that train side by side")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "first_hour.json")
    return parser.parse_args(words)


def cells_of(args: argparse.Namespace) -> Cells:
    command = "python benchmarks/first_hour.py --data DATA --models MODELS --runs RUNS"
    return Cells(args.out, {"command": command, "machine": describe_machine() | {"processes": args.workers}})


def main() -> None:
    args = parsed()
    jobs, well = list(jobs_of(args)), True
    for late in (False, True):  # the students' teachers come first
        wave = [job for job in jobs if job.key["way"].startswith("student") == late]
        well = run(wave, cells_of(args), args.workers) and well
    raise SystemExit(not well)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
