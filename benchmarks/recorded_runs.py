"""Do runs end with the weights that they ended with before a change, and does what was made before it still open?

    PYTHONPATH=BEFORE/src python benchmarks/recorded_runs.py --out RECORD
    PYTHONPATH=AFTER/src  python benchmarks/recorded_runs.py --out NEW --compare RECORD

The first call makes tiny models and data (seeded, nothing is downloaded) and runs on them, one thread, float32: five
distillations on tasks, five of sentence embeddings, five contrastive runs, a pre-training, and the fine-tuning of the
three teachers. RECORD/record.json has the sha256 of each saved model and its metrics. It leaves what users have on
disk as well: the run folders, a cache, two bundles, and three runs that SIGTERM interrupted.

The second call makes the runs again on the models and data of RECORD and compares the saved weights and every logged
loss: bit by bit; of contrastive runs the weights to 1e-6 of the largest one. Then it opens what RECORD holds (bundles,
models, cache, runs to be resumed, repeated, exported and put on one page), on copies where it would be changed.
NEW/comparison.json has everything; exit code 1 if a row is not as it should be. `--only contrast leaf` makes the runs
whose names begin so, and opens nothing.

Both calls belong on one machine with the same libraries. Only commands and keywords that users have are used.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from recorded_inputs import RUNS, TEACHERS, make_inputs

CLI = [sys.executable, "-m", "contrastill"]
TOLERANCE = 1e-6  # of contrastive runs, in parts of the largest weight
WAIT = 300.0  # seconds for the first checkpoint of a run that is to be interrupted
MOMENTARY = ("seconds", "page", "teacher_forwards")  # metrics that may differ between equal runs

INTERRUPTED = ("lrc_bert", "disco-queue", "contrast-long")
MACHINE = (
    "cpu",
    "bf16_instructions",
    "bf16_pays",
    "torch",
    "transformers",
    "torch_threads",
)  # decide a run's last bits
UNBOUND = (
    "contrast-long",  # warms up, as runs of 20 steps and more do: the old trainer's first rate was 0, ours is not
    "contrast-unsupervised",  # its one difference is dropout, which the two engines draw in another order
)
ROUNDED = {"contrast-triples-anchor": 1e-3}  # the anchor's vectors were rounded to float16 once more before
BUNDLES = {"lrc_bert": "int8", "disco-queue": "fp32"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="empty or new folder for the runs")
    parser.add_argument("--compare", type=Path, metavar="RECORD", help="the --out of an earlier call")
    parser.add_argument("--only", nargs="+", help="with --compare: how the names of the runs begin; opens nothing")
    args = parser.parse_args()
    out = args.out.absolute()
    if out.exists() and any(out.iterdir()):
        parser.error(f"expected an empty folder, got {out}")
    out.mkdir(parents=True, exist_ok=True)

    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    import torch  # from here on: it reads the first of them

    torch.set_num_threads(1)
    if args.compare is None:
        record(out)
    elif not compare(args.compare.absolute(), out, tuple(args.only or ())):
        raise SystemExit(1)


def record(out: Path) -> None:
    """All runs on models and data made here, and what is to be opened later."""
    inputs = out / "inputs"
    make_inputs(inputs)
    made = run_all(inputs, out, keep_teachers=True)
    for name, precision in BUNDLES.items():
        words = ["--to", "onnx", "--precision", precision, "--max-drop", 100, "--out", out / "bundles" / name]
        must(call("export", out / "runs" / name, *words))
    for name in INTERRUPTED:
        interrupt(name, inputs, out)
    write_json(out / "record.json", made)
    print(f"{len(made['runs'])} runs, {len(BUNDLES)} bundles, {len(INTERRUPTED)} interrupted runs: {out}")


def run_all(inputs: Path, out: Path, keep_teachers: bool = False, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """Makes the runs in `out`/runs: of each the sha256 of its weights and its metrics.

    keep_teachers: of a record: teachers become inputs, and a run that fails ends it; elsewhere its error is kept.
    """
    from contrastill.machine import describe_machine

    runs, teachers = {}, {f"finetune-{name}": ("finetune", settings) for name, settings in TEACHERS.items()}
    for name, (command, settings) in (teachers | RUNS).items():
        if only and not name.startswith(only):
            continue
        try:
            runs[name] = run(command, settings, inputs, out, name)
        except Exception as error:
            if keep_teachers:
                raise
            runs[name] = {"error": f"{type(error).__name__}: {error}"}
        if keep_teachers and name in teachers:
            shutil.copytree(out / "runs" / name / "model", inputs / name.replace("finetune", "teacher"))
    return {"runs": runs, "machine": describe_machine()}


def run(command: str, settings: dict[str, Any], inputs: Path, out: Path, name: str, **changes: Any) -> dict[str, Any]:
    import contrastill

    folder, begin = out / "runs" / name, time.perf_counter()
    getattr(contrastill, command)(**placed({**settings, **changes}, inputs, out), out=str(folder))
    result = {
        "weights": {str(file.relative_to(folder)): sha256(file) for file in weights_of(folder)},
        "metrics": json.loads((folder / "metrics.json").read_text(encoding="utf-8")),
        "seconds": round(time.perf_counter() - begin, 1),
    }
    print(f"{name:<36} {result['seconds']:>6.1f} s  {' '.join(each[:12] for each in result['weights'].values())}")
    return result


def placed(value: Any, inputs: Path, own: Path) -> Any:
    """The settings with their placeholders replaced by paths."""
    if isinstance(value, dict):
        return {key: placed(each, inputs, own) for key, each in value.items()}
    if isinstance(value, list):
        return [placed(each, inputs, own) for each in value]
    kind, _, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    return str({"inputs": inputs, "own": own}[kind] / name) if name else value


def weights_of(folder: Path) -> list[Path]:
    """The files of weights of the model that a run has saved; of an embedder one a module."""
    found = sorted(file for place in ("student", "model") for file in (folder / place).rglob("*.safetensors"))
    assert found, folder
    return found


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# ---- the command line -----------------------------------------------------------------------------------------------


def call(*words: Any) -> dict[str, Any]:
    """`contrastill WORDS --json`: its exit code, its result, and the end of what it said."""
    done = subprocess.run([*CLI, *map(str, words), "--json"], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.strip().splitlines() if line.strip()]
    try:
        result = json.loads(done.stdout)
    except ValueError:
        result = None
    return {"code": done.returncode, "result": result, "said": " ".join(said[-6:])[-600:]}


def must(answer: dict[str, Any]) -> dict[str, Any]:
    if answer["code"]:
        sys.exit(f"exit code {answer['code']}: {answer['said']}")
    return answer


def options(settings: dict[str, Any]) -> Iterable[str]:
    """Settings as words of the command line."""
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, dict):
            for key, each in value.items():
                yield from (flag, f"{key}={each}")
        elif isinstance(value, list):
            for each in value:
                yield from (flag, str(each))
        else:
            yield from [flag] if value is True else (flag, str(value))


def interrupt(name: str, inputs: Path, out: Path) -> None:
    """A run that SIGTERM ends after its first checkpoint."""
    command, settings = RUNS[name]
    folder = out / "interrupted" / name
    words = [*CLI, command, *options(placed(settings, inputs, out)), "--out", str(folder)]
    with (out / f"interrupted-{name}.log").open("w") as log:
        process, begin = subprocess.Popen(words, stdout=log, stderr=log), time.monotonic()
        while not any((folder / "checkpoints").glob("checkpoint-*/complete.json")):
            if process.poll() is not None or time.monotonic() - begin > WAIT:
                process.kill()
                sys.exit(f"{name}: no checkpoint to interrupt it after; see {log.name}")
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        if (code := process.wait(timeout=WAIT)) != 130:
            sys.exit(f"{name}: expected an interrupted run, got exit code {code}; see {log.name}")
    print(f"{name:<36} interrupted")


# ---- comparing ------------------------------------------------------------------------------------------------------


def compare(before: Path, out: Path, only: tuple[str, ...] = ()) -> bool:
    """Makes the runs again and opens what was made before. Returns whether everything is as it should be."""
    was = json.loads((before / "record.json").read_text(encoding="utf-8"))
    now = run_all(before / "inputs", out, only=only)
    write_json(out / "record.json", now)
    rows = {name: compared(name, was["runs"][name], found, before, out) for name, found in now["runs"].items()}
    opened = {} if only else {name: tried(look) for name, look in openings(before, out, was).items()}

    print(f"\n{'run':<36} {'weights':<8} {'largest difference':>18} {'of the losses':>14}  metrics")
    for name, row in rows.items():
        verdict = "equal" if row["equal"] else "ok" if row["ok"] else "DIFFER"
        differing = f"{len(row['metrics_differ'])} of {row['metrics']} differ" if row["metrics_differ"] else "equal"
        figures = f"{row['difference']:>18.2e} {row['losses_differ']:>14.2e}"
        print(f"{name:<36} {verdict:<8} {figures}  {row.get('error', differing)}")
    if opened:
        print(f"\n{'made before':<52} opens")
    for name, found in opened.items():
        print(f"{name:<52} {'yes' if found['ok'] else 'NO':<4} {found['said']}")

    ok = all(each["ok"] for each in [*rows.values(), *opened.values()])
    changed = {key: [was["machine"].get(key), now["machine"].get(key)] for key in MACHINE}
    changed = {key: two for key, two in changed.items() if two[0] != two[1]}
    if changed:
        print(f"\nthe two records are not of one machine, and may differ for that: {changed}")
    result = {"ok": ok, "runs": rows, "opened": opened, "machine_changed": changed, "machine": now["machine"]}
    write_json(out / "comparison.json", result)
    return ok


def compared(name: str, was: dict[str, Any], now: dict[str, Any], before: Path, out: Path) -> dict[str, Any]:
    """One run's weights, losses and metrics. difference: the largest of a weight, in parts of the largest weight."""
    never = float("inf")
    if "error" in now:
        failed = {"ok": False, "equal": False, "difference": never, "losses_differ": never}
        return {**failed, "metrics": 0, "metrics_differ": {}, **now}
    two = before / "runs" / name, out / "runs" / name
    equal = was["weights"] == now["weights"]
    contrastive = name.startswith("contrast")
    allowed = never if name in UNBOUND else ROUNDED.get(name, TOLERANCE) if contrastive else 0.0
    difference = 0.0 if equal else largest_difference(*two, noise=contrastive)
    losses = losses_differ(*two)
    old, new = flat(was["metrics"]), flat(now["metrics"])
    return {
        "ok": difference <= allowed and (equal or contrastive) and (losses == 0 or contrastive),
        "equal": equal,
        "difference": difference,
        "losses_differ": losses,
        "metrics": len(old.keys() & new.keys()),
        "metrics_differ": {key: [old[key], new[key]] for key in old.keys() & new.keys() if old[key] != new[key]},
        "metrics_gone": sorted(old.keys() - new.keys()),
        "metrics_new": sorted(new.keys() - old.keys()),
        "seconds": [was["seconds"], now["seconds"]],
    }


def losses_differ(before: Path, after: Path, resumed: bool = False) -> float:
    """The largest difference of a logged loss, in parts of it: of all steps, the saved weights may be early ones.

    resumed: `after` was interrupted, and has logged that step too; the next figure is a mean of fewer steps for it.
    """
    old, new = losses_of(before), losses_of(after)
    if resumed:
        for step in new.keys() - old.keys():
            old.pop(min((later for later in old if later > step), default=step), None)
        new = {step: loss for step, loss in new.items() if step in old}
    if old.keys() != new.keys():
        return float("inf")
    return max(abs(old[step] - new[step]) / abs(old[step]) for step in old)


def losses_of(run: Path) -> dict[int, float]:
    rows = map(json.loads, (run / "log.jsonl").read_text(encoding="utf-8").splitlines())
    found = {row["step"]: row["loss"] for row in rows if "loss" in row}
    assert found, run
    return found


def largest_difference(before: Path, after: Path, noise: bool = False) -> float:
    """noise: leave out the keys' biases, which softmax does not see: Adam makes steps of their gradients' rounding."""
    from safetensors.torch import load_file

    worst = 0.0
    for file in weights_of(before):
        twin = after / file.relative_to(before)
        if not twin.is_file():
            return float("inf")
        old, new = load_file(file), load_file(twin)
        if old.keys() != new.keys() or any(old[key].shape != new[key].shape for key in old):
            return float("inf")
        largest = max(float(tensor.abs().max()) for tensor in old.values())
        compared = [key for key in old if not (noise and key.endswith("key.bias"))]
        worst = max(worst, *(float((old[key] - new[key]).abs().max()) / largest for key in compared))
    return worst


def flat(metrics: Any, path: str = "") -> dict[str, float]:
    """The numbers in nested metrics by their paths, without those of the moment."""
    if isinstance(metrics, dict):
        parts = [flat(value, f"{path}{key}.") for key, value in metrics.items() if key not in MOMENTARY]
    elif isinstance(metrics, list):
        parts = [flat(value, f"{path}{n}.") for n, value in enumerate(metrics)]
    else:
        return {path.rstrip("."): metrics} if isinstance(metrics, int | float) else {}
    return {key: value for part in parts for key, value in part.items()}


def openings(before: Path, out: Path, was: dict[str, Any]) -> dict[str, Callable[[], dict[str, Any]]]:
    """What RECORD holds, each with a function that opens it and says whether it is as it was."""
    runs = before / "runs"

    def command(*words: Any, check: Callable[[Any], bool] = lambda result: True) -> dict[str, Any]:
        answer = call(*words)
        ok = answer["code"] == 0 and answer["result"] is not None and check(answer["result"])
        return {"ok": ok, "said": "" if ok else answer["said"] or str(answer["result"])[:300]}

    def score(name: str) -> dict[str, Any]:
        side = "model" if name.startswith("finetune") else "student"
        data = RUNS[name][1]["data"] if name in RUNS else TEACHERS[name.removeprefix("finetune-")]["data"]
        dev = was["runs"][name]["metrics"][side]["dev"]["metrics"]
        words = ["--data", placed(data, before / "inputs", before), "--split", "dev", "--max-length", 32]
        return command("evaluate", "--model", runs / name / side, *words, check=lambda got: got["metrics"] == dev)

    def again(name: str) -> dict[str, Any]:
        """A new run on a copy of the old cache: no pass of the teacher, and the same weights."""
        cache = out / "old-cache"
        if not cache.exists():
            shutil.copytree(before / "cache", cache)
        kind, settings = RUNS[name]
        found = run(kind, {**settings, "cache": str(cache)}, before / "inputs", out, f"{name}-old-cache")
        forwards = found["metrics"].get("teacher_forwards")
        same = list(found["weights"].values()) == list(was["runs"][name]["weights"].values())
        return {"ok": forwards == 0 and same, "said": f"teacher forwards {forwards}, weights equal: {same}"}

    def resumed(name: str) -> dict[str, Any]:
        """To the end that it had uninterrupted; or refused by a message that tells of its version."""
        folder = out / "runs" / f"{name}-resumed"
        shutil.copytree(before / "interrupted" / name, folder)
        answer = call(RUNS[name][0], "--resume", folder)
        if answer["code"]:
            return {"ok": answer["code"] == 2 and "version" in answer["said"], "said": answer["said"]}
        difference, losses = largest_difference(runs / name, folder), losses_differ(runs / name, folder, resumed=True)
        equal = name in UNBOUND or difference == losses == 0
        return {"ok": equal, "said": f"largest difference {difference:.2e}, of the losses {losses:.2e}"}

    def started() -> dict[str, Any]:
        settings = {**RUNS["kd-accumulate"][1], "start": str(runs / "pretrain" / "student"), "cache": "none"}
        found = run("distill", settings, before / "inputs", out, "started-from-pretrain")
        return {"ok": found["metrics"]["student"]["dev"]["rows"] > 0, "said": ""}

    labelled = ["finetune-topics", *(name for name, (_, settings) in RUNS.items() if "data" in settings)]
    cached = [name for name in ("kd-accumulate", "tinybert-scores", "leaf") if name in RUNS]
    every = [runs / name for name in was["runs"]]
    repeat = ["--from", runs / "kd-accumulate" / "run.json", "--epochs", 1, "--out", out / "runs" / "repeated"]
    fp32 = ["--to", "onnx", "--precision", "fp32", "--max-drop", 100, "--out"]
    return {
        **{f"bundle {n}: verify": lambda n=n: command("verify", before / "bundles" / n) for n in BUNDLES},
        **{f"model of {n}: evaluate": lambda n=n: score(n) for n in labelled},
        **{f"run {n}: export": lambda n=n: command("export", runs / n, *fp32, out / "bundles" / n) for n in BUNDLES},
        **{f"cache of {n}": lambda n=n: again(n) for n in cached},
        "cache: list": lambda: command("cache", "list", "--cache", before / "cache"),
        "cache: verify": lambda: command("cache", "verify", "--cache", before / "cache"),
        **{f"interrupted {n}: --resume": lambda n=n: resumed(n) for n in INTERRUPTED},
        "run kd-accumulate: --from": lambda: command("distill", *repeat),
        "all runs: compare": lambda: command("compare", *every, "--out", out / "old-runs.html"),
        **({"student of pretrain: --start": started} if "pretrain" in RUNS else {}),
    }


def tried(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return look()
    except Exception as error:
        return {"ok": False, "said": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    main()
