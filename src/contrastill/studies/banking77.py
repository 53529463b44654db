"""The demo: an intent classifier distilled, with all labels of BANKING77 and with 300.

    make demo        (python -m contrastill.studies.banking77 --data demo/banking77 --out demo/runs)

all-MiniLM-L6-v2 (6 x 384) is fine-tuned on all training texts, then distilled to `4L-312` by LRC-BERT, beside the two
yardsticks with the same student and start: soft labels (kd) and the labels alone (finetune). First on all texts with
their labels, the same steps for all three; then with 300 labels, where LRC-BERT and kd also read the other texts
without theirs: what a team has whose teacher came without its data. A tenth of the training texts is held out to select
checkpoints; the official test split is scored once a model, at its end. The LRC-BERT student of all texts is then
exported in int8 for ONNX Runtime and OpenVINO, and its page is written.
"""

import contextlib
import io
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from contrastill.bundle import Bundle
from contrastill.errors import counted
from contrastill.screen import Screen
from contrastill.studies import demo
from contrastill.studies.demo import console, step
from contrastill.studies.neighbours import plain
from contrastill.studies.run import markdown_table

TEACHER: dict[str, Any] = {"epochs": 2.0, "checks": 2}
STUDENT: dict[str, Any] = {"student": "4L-312", "checks": 2}
METHODS = ("lrc_bert", "kd", "finetune")
ALL: dict[str, Any] = {"epochs": 2.0}
FEW = 300  # labels of the second regime
UNLABELLED: dict[str, Any] = {"epochs": 1.0}  # of a run that also reads the other questions, without their labels


def run(data: Path, out: Path) -> dict[str, Any]:
    """Makes the runs and result.{json,md} below `out`; returns what result.json holds."""
    from contrastill.machine import describe_machine
    from contrastill.training import finetune

    began = time.perf_counter()
    texts: dict[str, Any] = {"data": str(data / "train.csv.gz"), "max_length": 64, "overwrite": True}
    step("fine-tuning the teacher on all texts")
    teacher = finetune(model=str(demo.base_model()), out=str(out / "teacher"), **texts, **TEACHER)
    runs = students(teacher.model, texts, write_unlabelled(data / "train.csv.gz", out), out)
    step("exporting the LRC-BERT student of all texts in int8")
    student = runs["all", "lrc_bert"].folder
    bundles = demo.exported(student)
    step("scoring all of them on the test texts, and timing them side by side")
    models = {("all", "teacher"): teacher, **runs}
    speeds = timed({"teacher": teacher.model} | {m: runs["all", m].model for m in METHODS}, bundles, data)
    rows = scored(models, bundles, data / "test.csv.gz", speeds)
    demo.leave_figures(student, speeds, "lrc_bert", bundles)
    summary = {
        "wall_s": round(time.perf_counter() - began, 1),
        "machine": describe_machine(),
        "metric": "accuracy on the official test split, with a 95 % bootstrap interval over its texts; one seed",
        "rows": rows,
    }
    demo.leave(out, "result", summary, markdown(summary))
    return summary


def write_unlabelled(train: Path, out: Path) -> Path:
    """The training questions that are not among the few labelled ones, a line each."""
    from contrastill.data.load import load_task

    labelled, every = (load_task(train, limit=limit).splits["train"] for limit in (FEW, None))
    known = set(labelled["text"])
    lines = [plain(text) for text in every["text"] if text not in known]
    file = out / "unlabelled.txt"
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def students(teacher: Path, texts: dict[str, Any], unlabelled: Path, out: Path) -> dict[tuple[str, str], Any]:
    """(regime, method) -> the run of its student."""
    from contrastill.settings import Distillation
    from contrastill.training import plan_distillation

    more = {"unlabelled": str(unlabelled), **UNLABELLED}
    regimes: dict[str, dict[str, dict[str, Any]]] = {
        "all": dict.fromkeys(METHODS, ALL),
        "few": {method: {"limit": FEW, **({} if method == "finetune" else more)} for method in METHODS},
    }
    jobs = {
        (regime, method): {
            "teacher": str(teacher),
            "method": method,
            "out": str(out / f"{method}-{regime}"),
            "cache": str(out / "cache"),
            **texts,
            **STUDENT,
            **settings,
        }
        for regime, methods in regimes.items()
        for method, settings in methods.items()
    }
    step("running the teacher on all texts, once for all students")
    plan_distillation(Distillation(**jobs["all", "lrc_bert"])).use_cache()
    step("distilling six students, two at a time")
    return dict(zip(jobs, side_by_side(distilled, jobs.values()), strict=True))


def scored(
    models: dict[tuple[str, str], Any], bundles: dict[str, Bundle], test: Path, speeds: dict[str, dict[str, float]]
) -> list[dict[str, Any]]:
    """A row for each model, the teacher first, and for each bundle behind the model that it was made of."""
    from contrastill.exporting.verify import verify

    asked = [{"model": str(made.model), "data": str(test), "max_length": 64} for made in models.values()]
    rows: list[dict[str, Any]] = []

    def row(name: str, texts: int, accuracy: float, interval: Any, **more: Any) -> dict[str, Any]:
        kept = accuracy / rows[0]["accuracy"] if rows else 1.0
        known = {"name": name, "texts": texts, "accuracy": accuracy, "interval": interval, "kept": kept}
        return {**known, **more}

    for ((regime, name), made), scores in zip(models.items(), side_by_side(evaluated, asked), strict=True):
        sizes = {key: scores[key] for key in ("parameters", "size_mb")}
        read = made.metrics["train_rows"]
        texts = min(read, FEW) if regime == "few" else read
        more = {"unlabelled": read - texts} if read > texts else {}
        rows.append(
            row(name, texts, scores["metrics"]["accuracy"], scores["interval"], **more, **sizes, **speeds[name])
        )
    for name, bundle in bundles.items():
        scores = verify(bundle=str(bundle.folder), data=str(test))
        sizes = {"parameters": bundle.metadata["parameters"], "size_mb": demo.graph_mb(bundle)}
        known = {**sizes, "gate": bundle.metadata["gate"], **speeds[name]}
        rows.insert(2, row(f"lrc_bert, {name}", rows[1]["texts"], scores["value"], scores["interval"], **known))
    return rows


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
    demo.quiet()


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
    from contrastill.loading import load_classifier, load_tokenizer

    tokenizer = load_tokenizer(str(models["teacher"]))
    rows = load_task(data / "train.csv.gz", test=data / "test.csv.gz").splits["test"]
    tokens = tokenise(rows.shuffle(seed=0).select(range(256)), tokenizer, 64)
    collate = Collate(tokenizer)
    return demo.speeds_of(
        {name: load_classifier(str(path)) for name, path in models.items()},
        bundles,
        [collate([one]) for one in tokens.to_list()],
        [collate(tokens.select(range(n, n + 32)).to_list()) for n in range(0, 256, 32)],
        seconds=2.0,
    )


# ---- showing it

HEAD = ("model", "texts", "accuracy", "interval", "kept", *demo.SPEED)


def cells(row: dict[str, Any], teacher: dict[str, Any]) -> list[str]:
    low, high = row["interval"]
    return [
        row["name"],
        f"{row['texts']:,}" + (f" + {row['unlabelled']:,}" if row.get("unlabelled") else ""),
        f"{row['accuracy']:.2%}",
        f"{low:.1%} to {high:.1%}",
        f"{row['kept']:.1%}",
        *demo.speed_cells(row, teacher),
    ]


def headline(rows: list[dict[str, Any]]) -> str:
    """Seconds for 1,000 texts before and after, in the runtime that one would deploy."""
    teacher, fastest = rows[0], max(rows, key=lambda row: row["throughput_per_s"])
    before, after = (1000 / row["throughput_per_s"] for row in (teacher, fastest))
    return (
        f"1,000 questions: {before:.1f} s with the teacher in PyTorch, {after:.2f} s with {fastest['name']} "
        f"({before / after:.1f} times faster), at {fastest['accuracy']:.2%} of {teacher['accuracy']:.2%} accuracy."
    )


def markdown(summary: dict[str, Any]) -> str:
    rows, machine = summary["rows"], summary["machine"]
    return "\n".join(
        [
            "# BANKING77: all-MiniLM-L6-v2 to `4L-312`",
            "",
            f"`make demo`, {summary['wall_s'] / 60:.1f} minutes without the installation, on {machine['cpu']}, "
            f"{counted(rows[0]['threads'], 'thread')}; {summary['metric']}.",
            "",
            *markdown_table(HEAD, (cells(row, rows[0]) for row in rows)),
            "",
            headline(rows),
            "",
            "`texts`: how many labelled training texts the row saw, + how many without their labels; the teacher of",
            "every student saw all labels. `finetune` is the same student, from the same start, on the labels alone;",
            "`kd` adds the teacher's soft labels, `lrc_bert` its layers: both learn from texts without labels too.",
            "`int8` is the student exported. Speed: PyTorch in float32 or the named runtime, texts as they come,",
            "tokenisation not counted; throughput in batches of 32.",
            "",
        ]
    )


def show(summary: dict[str, Any]) -> None:
    rows = summary["rows"]
    title = "BANKING77, official test split"
    screen = Screen()
    screen.print(demo.screen_table(title, HEAD, (cells(row, rows[0]) for row in rows)))
    screen.print(headline(rows))


def main() -> None:
    parser = demo.demo_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo/runs"), help="folder for the runs and their result")
    args = parser.parse_args()
    demo.finish(run, show, stopped="stopped", **vars(args))
    shutil.rmtree(args.out / "cache")
    print(f"the student's page, to be opened in a browser: {args.out / 'lrc_bert-all' / 'report.html'}")
    print(f"written: {args.out / 'result.md'}, {args.out / 'result.json'}; models below {args.out}")


if __name__ == "__main__":
    main()
