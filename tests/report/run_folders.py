"""Folders of runs, written by hand: what a run leaves behind, without one."""

import json
import math
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from contrastill.report.evidence import of_classes

CLASSES = ("food", "music", "sport")


def scores(accuracy: float, f1: float, rows: int) -> dict[str, Any]:
    return {"metrics": {"accuracy": accuracy, "f1": f1}, "rows": rows, "interval": [accuracy - 0.02, accuracy + 0.02]}


RECORD: dict[str, Any] = {
    "command": "distill",
    "settings": {"data": "intents.csv", "teacher": "runs/teacher/model", "method": "lrc_bert", "student": "4L-312"}
    | {"seed": 0, "set": {}, "out": "runs/student", "epochs": 2.0},
    "status": "finished",
    "data_fingerprint": "ab12",
    "teacher_fingerprint": "cd34",
    "data": {
        "task": "intents",
        "kind": "classification",
        "splits": {
            "train": {"rows": 64, "labelled": 64, "unlabelled": 0, "duplicates": 3},
            "dev": {"rows": 30, "labelled": 30, "unlabelled": 0, "duplicates": 0, "also_in_train": 1},
        },
        "notes": ["dev is 30 rows held out of train"],
    },
    "preflight": [
        {"name": "texts fit", "ok": True, "seen": "0.0% are cut at 128 tokens (mean 16)", "fatal": False},
        {"name": "splits are apart", "ok": False, "seen": "3.3% of dev texts are in train", "fatal": False},
    ],
    "stages": [
        {"name": "representation", "weights": {"cos_nce": 1.0}, "share": 0.5, "fresh": False},
        {"name": "joint", "weights": {"cos_nce": 1.0, "soft": 1.0, "hard": 3.0}, "share": 0.5, "fresh": False},
    ],
    "machine": {"system": "Linux x86_64", "torch": "2.13.0", "contrastill": "0.1.0"},
}
METRICS: dict[str, Any] = {
    "steps": 40,
    "task": "intents",
    "metric": "accuracy",
    "train_rows": 64,
    "student": {"dev": scores(0.8731, 0.8642, 30), "test": scores(0.8526, 0.8411, 36)}
    | {"parameters": 14_352_818, "size_mb": 57.411},
    "teacher": {"dev": scores(0.9312, 0.9287, 30), "test": scores(0.9173, 0.9104, 36)}
    | {"parameters": 109_488_002, "size_mb": 437.952},
    "kept": {"dev": 0.8731 / 0.9312, "test": 0.8526 / 0.9173},
    "seconds": {"preparation": 2.5, "training": 357.6, "evaluation": 3.1},
}


def log_rows(steps: int = 40) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for step in range(2, steps + 1, 2):
        falling = math.exp(-step / 20)
        rows.append(
            {"loss": 3 + falling, "grad_norm": 1 + falling, "learning_rate": 3e-4 * falling}
            | {"stage": 1 if step <= steps // 2 else 2, "cos_nce": 2 + falling, "soft": falling, "hard": falling / 2}
            | {"epoch": step / 20, "step": step}
        )
        if step % 10 == 0:
            rows.append({"eval_accuracy": 0.9 - falling / 4, "eval_f1": 0.88 - falling / 4, "step": step})
    return [*rows, {"train_runtime": 357.0, "step": steps}]


def class_evidence(
    texts: list[list[str]] | None = None, names: tuple[str, ...] = CLASSES, rows: int = 30, teacher: bool = True
) -> dict[str, Any]:
    random = np.random.default_rng(0)
    labels = np.arange(rows) % len(names)
    theirs = random.normal(size=(rows, len(names))) + 4 * np.eye(len(names))[labels]
    ours = theirs + random.normal(size=theirs.shape) * 2
    shown = texts or [[f"text number {n}"] for n in range(rows)]
    return of_classes(labels, ours, theirs if teacher else None, names, lambda picked: [shown[n] for n in picked])


def write_bundle(
    folder: Path, precision: str, accuracy: float, ms: float, size: int, test: float | None = None, **gate: Any
) -> None:
    """A bundle's metadata, as an export leaves it, with a gate on the dev rows. test: its accuracy on the test rows."""
    folder.mkdir(parents=True)
    latency = {"torch_p50": 8.0, "bundle_p50": ms, "ratio": 8.0 / ms, "threads": 2}
    known = {"data": "intents dev", "rows": 30, "metric": "accuracy", "torch": 0.8731, "bundle": accuracy}
    bundle = {
        "format": 2,
        "task": "classification",
        "runtime": "onnxruntime",
        "precision": precision,
        "parameters": 14_352_818,
        "files": {"model.onnx": {"sha256": "0", "bytes": size}, "tokenizer.json": {"sha256": "0", "bytes": 10**6}},
        "gate": {**known, "drop_points": 100 * (0.8731 - accuracy), "latency_ms": latency, **gate},
    }
    if test is not None:
        bundle["test"] = {"data": "intents test", **scores(test, test - 0.01, 36)}
    (folder / "bundle.json").write_text(json.dumps(bundle))


class Page(HTMLParser):
    """What the tests ask of a page: its text, its ids, what it refers to, its tables, that its elements are closed."""

    VOID = {"meta", "link", "br", "img", "input", "hr"}

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.words: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.refers: list[str] = []
        self.metas: dict[str | None, str | None] = {}
        self.svgs: list[dict[str, str | None]] = []
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(self.source)
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.append(tag)
        self.ids += [known["id"] or ""] if "id" in known else []
        self.refers += [str(known[key]) for key in ("src", "href", "xlink:href", "srcset", "data") if key in known]
        self.refers += [known["style"] or ""] if "style" in known else []
        if tag == "meta" and "http-equiv" in known:
            self.metas[known["http-equiv"]] = known.get("content")
        if tag == "svg":
            self.svgs.append(known)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)
            if {"td", "th"} & set(self.open) and self.rows:
                self.rows[-1][-1] += f" {data}"

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\u00a0", " ").split())

    def row(self, *begins: str, below: str | None = None) -> list[str]:
        """The first table row whose first cells are these; the first below the row that holds one name alone."""
        tidy = [[" ".join(cell.replace("\u00a0", " ").split()) for cell in row] for row in self.rows]
        start = 0 if below is None else tidy.index([below])
        return next(row for row in tidy[start:] if row[: len(begins)] == list(begins))


def chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
