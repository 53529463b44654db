"""From text to a trained student: wall time beside TextBrewer and a live-teacher loop, at the same work.

    python benchmarks/distil.py --teacher FOLDER --student FOLDER --data glue/mrpc:FOLDER --peer-python PATH
        -> benchmarks/results/distil.json

The same fine-tuned teacher, student start, rows, batch size, epochs and learning rate for all, two threads, each run a
process of its own into an empty folder (ours: an empty cache). Runs of 1 and of 3 epochs take turns over the sides.
`--rows` shortens the training file, so that peers which run a 109 M teacher in every step can be measured at all. From
these runs the parts are taken (start, the teacher's pass, an epoch), and what the whole file would take for 1, 3 and 18
epochs is computed from them ("computed_s"). Peers in an environment of their own:
benchmarks/peers/requirements-textbrewer.txt.

ours              lrc_bert: hidden states and soft labels from the cache, bfloat16; and the same in float32.
textbrewer        GeneralDistiller: hidden states and soft labels, live teacher, float32 (it has no bfloat16).
textbrewer cached BasicDistiller, is_caching_logits: soft labels alone (it cannot store hidden states), float32.
tinybert loop     hidden states and soft labels, live teacher, float32, padded as its authors' code pads (128).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from contrastill.machine import describe_machine

OURS = """
import json, sys, time
from contrastill.training import distill
options = json.loads(sys.argv[1])
start = time.perf_counter()
run = distill(**options)
found = {"seconds": time.perf_counter() - start, "phases": run.metrics["seconds"]}
found |= {"dev": run.metrics["student"]["dev"]["metrics"], "teacher_forwards": run.metrics["teacher_forwards"]}
print(json.dumps(found))
"""
SIDES = ("ours", "ours float32", "textbrewer", "textbrewer cached", "tinybert loop")
EPOCHS = (1, 3, 18)


def ours(args: argparse.Namespace, data: Path, epochs: int, folder: Path, **more: Any) -> dict[str, Any]:
    options = {
        "teacher": args.teacher,
        "data": str(data),
        "start": args.student,
        "out": str(folder / "run"),
        "cache": str(folder / "cache"),
        "epochs": float(epochs),
        "checks": 1,
        "learning_rate": args.learning_rate,
        "schedule": "linear",
        **more,
    }
    done = subprocess.run([sys.executable, "-c", OURS, json.dumps(options)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def peer(args: argparse.Namespace, data: Path, epochs: int, folder: Path, script: str, *more: str) -> dict[str, Any]:
    out = folder / "out.json"
    command = [args.peer_python, str(Path(__file__).parent / "peers" / script), "--teacher", args.teacher]
    command += ["--student", args.student, "--train", str(data / "train.tsv"), "--dev", str(data / "dev.tsv")]
    command += ["--epochs", str(epochs), "--learning-rate", str(args.learning_rate), "--threads", str(args.threads)]
    subprocess.run([*command, "--out", str(out), *more], check=True, capture_output=True)
    found = json.loads(out.read_text())
    return {"seconds": found["seconds"]["total"], "phases": found["seconds"], "dev": found["dev"], **cannot(found)}


def cannot(found: dict[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in ("cannot", "version") if key in found}


def once(side: str, args: argparse.Namespace, data: Path, epochs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if side.startswith("ours"):
            more = {"precision": "fp32"} if side.endswith("float32") else {}
            return ours(args, data, epochs, folder, **more)
        if side == "tinybert loop":
            return peer(args, data, epochs, folder, "tinybert_loop.py")
        flags = ["--cached-logits"] if side.endswith("cached") else []
        return peer(args, data, epochs, folder, "textbrewer_distil.py", "--group-by-length", *flags)


def summary(runs: dict[str, dict[str, list[dict[str, Any]]]], rows: int, whole: int) -> dict[str, Any]:
    """From runs of 1 and 3 epochs over `rows` rows: what the parts take, and what E epochs over `whole` rows would.

    start: all that does not grow with the rows; teacher: its pass, where there is one before training. Scores on dev
    and, of ours, the checks before training (the teacher's score, a dry run of every stage) are left out on all sides.
    """
    table: dict[str, Any] = {}
    for side, found in runs.items():

        def median(epochs: str, part: str, found: Any = found) -> float:
            return statistics.median(parts(run)[part] for run in found[epochs])

        epoch = (median("3", "train") - median("1", "train")) / 2
        teacher = statistics.median(parts(run)["teacher"] for runs_of in found.values() for run in runs_of)
        start = median("1", "start") + max(0.0, median("1", "train") - epoch)
        table[side] = {
            "measured_s": {epochs: statistics.median(run["seconds"] for run in found[epochs]) for epochs in found},
            "start_s": start,
            "teacher_s": teacher,
            "epoch_s": epoch,
            "computed_s": {str(e): start + (teacher + e * epoch) * whole / rows for e in EPOCHS},
            "dev": {epochs: [run["dev"] for run in found[epochs]] for epochs in found},
            **cannot(found["1"][0]),
        }
    for facts in table.values():
        ours = table["ours"]["computed_s"]
        facts["times_ours"] = {epochs: s / ours[epochs] for epochs, s in facts["computed_s"].items()}
    return table


def parts(run: dict[str, Any]) -> dict[str, float]:
    phases = run["phases"]
    if "preparation" in phases:
        return {"start": phases["preparation"], "teacher": phases["teacher outputs"], "train": phases["training"]}
    teacher = phases.get("teacher") or 0.0
    return {
        "start": (phases["load"] or 0.0) + (phases["tokenise"] or 0.0),
        "teacher": teacher,
        "train": phases["train"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--student", required=True, help="folder of the student's start")
    parser.add_argument("--data", type=Path, required=True, help="folder of MRPC's train.tsv and dev.tsv")
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--rows", type=int, default=480, help="training rows used")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sides", nargs="*", default=SIDES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "distil.json")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {side: {"1": [], "3": []} for side in args.sides}
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "MRPC"
        data.mkdir()
        lines = (args.data / "train.tsv").read_text(encoding="utf-8-sig").splitlines(keepends=True)
        (data / "train.tsv").write_text("".join(lines[: args.rows + 1]))
        (data / "dev.tsv").write_text((args.data / "dev.tsv").read_text(encoding="utf-8-sig"))
        for _ in range(args.rounds):
            for epochs in (1, 3):
                for side in args.sides:
                    start = time.perf_counter()
                    runs[side][str(epochs)].append(once(side, args, data, epochs))
                    last = runs[side][str(epochs)][-1]
                    print(f"{side}, {epochs} epochs: {last['seconds']:.1f} s ({last['dev']})", flush=True)
                    last["with_imports_s"] = time.perf_counter() - start
    table = summary(runs, args.rows, len(lines) - 1)
    result = {
        "command": f"python benchmarks/distil.py --rows {args.rows} --rounds {args.rounds} --threads {args.threads}",
        "rows": args.rows,
        "whole": len(lines) - 1,
        "batch_size": 32,
        "learning_rate": args.learning_rate,
        "sides": table,
        "runs": runs,
        "machine": describe_machine(),
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({side: facts["computed_s"] for side, facts in table.items()}, indent=2))


if __name__ == "__main__":
    main()
