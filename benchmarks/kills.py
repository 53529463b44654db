"""Does a run survive being killed? SIGKILL at random moments, resume, and compare the student bit by bit.

    python benchmarks/kills.py --kills 20
    python benchmarks/kills.py --kills 20 --teacher runs/teacher/model --data intents.csv -- --student 3L --epochs 2

A run is made once without interruption. Then, for each trial, it is started anew and killed at a uniformly random
moment of its expected duration; what is left is resumed by the command line, and killed again in one of three cases,
until it has finished. Its student must have the sha256 of the uninterrupted one's.

Without --teacher and --data, a tiny teacher and its data are made. What follows `--` goes to `contrastill distill`.

Writes results/kills.json beside this file, unless --result says otherwise, and prints a table.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CLI = [sys.executable, "-m", "contrastill"]
QUICK = """
    --student 2/16/4/32 --method lrc_bert --set queue=64 --set negatives=8 --perturb l2-per-token --epsilon 0.1
    --batch-size 8 --epochs 30 --checks 40 --learning-rate 0.003 --precision fp32 --max-length 24
"""
TEACHER = "--batch-size 8 --epochs 8 --checks 2 --learning-rate 0.003 --precision fp32 --max-length 24"
AGAIN = 1 / 3  # how often a resumed run is killed as well
PATIENCE = 20  # kills of one trial before it is left to finish


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="at least so many SIGKILLs, over all trials")
    parser.add_argument("--teacher", help="a fine-tuned teacher; without one, a tiny one is made")
    parser.add_argument("--data", help="the teacher's data")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--work", type=Path, help="folder for the runs; default: a temporary one")
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "kills.json")
    parser.add_argument("options", nargs="*", help="after --: options of `contrastill distill`")
    args = parser.parse_args()
    if (args.teacher is None) != (args.data is None):
        parser.error("give --teacher and --data together, or neither")
    work = args.work or Path(tempfile.mkdtemp(prefix="kills-"))
    work.mkdir(parents=True, exist_ok=True)
    try:
        result = trials(args, work)
    finally:
        if args.work is None:
            shutil.rmtree(work, ignore_errors=True)
    args.result.parent.mkdir(parents=True, exist_ok=True)
    args.result.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"\n{result['equal']} of {result['trials']} runs, killed {result['kills']} times, ended with the reference's")
    print(f"student (sha256 {result['reference_sha256'][:12]}…); {args.result}")
    sys.exit(result["equal"] != result["trials"])


def trials(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    from contrastill.machine import describe_machine

    if args.teacher is None:
        teacher, data = tiny_task(work)
        options = args.options or QUICK.split()
    else:
        teacher, data, options = args.teacher, args.data, args.options
    command = [*CLI, "distill", "--teacher", str(teacher), "--data", str(data), *options]

    reference = work / "reference"
    seconds = whole = finish([*command, "--out", str(reference), "--cache", str(work / "cache")])
    expected = sha256(reference)
    print(f"uninterrupted: {seconds:.1f} s, student {expected[:12]}")
    print(f"{'trial':>5} {'kill at':>9} {'hit while':<28} {'left to resume from':<22} equal")

    rng, records, kills = random.Random(args.seed), [], 0
    while kills < args.kills:
        out = work / f"trial-{len(records) + 1}"
        trial: dict[str, Any] = {"kills": []}
        cache = ["--cache", str(out.with_suffix(".cache"))]  # empty: the teacher's pass is killed too
        start, moment = [*command, "--out", str(out), *cache], rng.uniform(0, seconds)
        while moment is not None:
            elapsed, killed = kill(start, out, moment)
            if not killed:  # it had finished before the moment came: the machine has become quicker
                seconds = min(seconds, elapsed)
                break
            trial["kills"].append(killed)
            kills += 1
            if (out / "run.json").is_file() and (out / "run.json").stat().st_size:
                start = [*CLI, "distill", "--resume", str(out)]
            elif out.exists():  # killed before there was anything to resume
                shutil.rmtree(out)
            again = rng.random() < AGAIN and len(trial["kills"]) < PATIENCE
            moment = rng.uniform(0, seconds) if again else None
        if not finished(out):
            finish(start)
        if not trial["kills"]:
            shutil.rmtree(out)
            continue
        trial["equal"] = finished(out) and sha256(out) == expected
        for n, killed in enumerate(trial["kills"]):
            equal = ("yes" if trial["equal"] else "NO") if n == len(trial["kills"]) - 1 else ""
            at, left = f"{killed['seconds']:.2f} s", str(killed["resumes_from"])
            print(f"{len(records) + 1:>5} {at:>9} {killed['phase']:<28} {left:<22} {equal}", flush=True)
        records.append(trial)
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(out.with_suffix(".cache"), ignore_errors=True)
    return {
        "command": ["contrastill", "distill", *options],
        "task": "tiny, made here" if args.teacher is None else "given",
        "seed": args.seed,
        "reference_seconds": round(whole, 2),
        "reference_sha256": expected,
        "trials": len(records),
        "kills": kills,
        "equal": sum(trial["equal"] for trial in records),
        "records": records,
        "machine": describe_machine(),
    }


def kill(command: list[str], out: Path, moment: float) -> tuple[float, dict[str, Any] | None]:
    """Starts the command and kills it after so many seconds: when it ended, what was hit (None: it had finished)."""
    begin = time.perf_counter()
    with open(os.devnull, "w") as nowhere, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=nowhere, stderr=errors)
        try:
            code = process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            elapsed = time.perf_counter() - begin
            return elapsed, {"seconds": round(elapsed, 2), **state(out)}
        if code:
            errors.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{errors.read()[-3000:]}")
    return time.perf_counter() - begin, None


def state(out: Path) -> dict[str, Any]:
    """What the kill hit, as the files tell it, and where a resumed run begins."""
    from contrastill.training.checkpoints import last_good_checkpoint

    checkpoints = sorted((out / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    torn = [p.name for p in checkpoints if not (p / "complete.json").is_file()]
    good = last_good_checkpoint(out / "checkpoints")
    if finished(out):
        phase = "after the end"
    elif (out / "student.part").exists() or (out / "student").exists():
        phase = "saving the student"
    elif torn:
        phase = f"saving {torn[-1]}"
    elif good is not None:
        phase = f"training after step {good.name.split('-')[1]}"
    elif (out / "checkpoints").exists():
        phase = "training, nothing saved yet"
    else:
        phase = "loading and checking" if out.exists() else "before the folder"
    return {"phase": phase, "resumes_from": good.name if good else None}


def finished(out: Path) -> bool:
    try:
        return json.loads((out / "run.json").read_text(encoding="utf-8"))["status"] == "finished"
    except (OSError, ValueError, KeyError):
        return False


def finish(command: list[str]) -> float:
    """Runs the command to its end; seconds."""
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return time.perf_counter() - begin


def sha256(out: Path) -> str:
    return hashlib.sha256((out / "student" / "model.safetensors").read_bytes()).hexdigest()


# ---- a tiny task and its teacher -----------------------------------------------------------------------------------

TOPICS = {"food": "soup bread cheese apple rice salt", "music": "song drum piano choir tune violin"}
FILLERS = [f"word{n}" for n in range(60)]


def tiny_task(work: Path) -> tuple[Path, Path]:
    """A folder of train, dev and test files, and a BERT of 2 layers and width 32 fine-tuned on it."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    rng, data, encoder = random.Random(0), work / "data", work / "encoder"
    data.mkdir()
    for split, count in {"train": 128, "dev": 40, "test": 40}.items():
        with (data / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["text", "label"])
            for n in range(count):
                topic = list(TOPICS)[n % 2]
                words = rng.choices(FILLERS, k=rng.randint(3, 12)) + rng.choices(TOPICS[topic].split(), k=2)
                rng.shuffle(words)
                rows.writerow([" ".join(words), topic])

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *FILLERS, *(w for topic in TOPICS.values() for w in topic.split())]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=40
    ).save_pretrained(encoder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
        initializer_range=0.15,  # at this width 0.02 takes hundreds of steps to leave
    )
    BertForSequenceClassification(config).save_pretrained(encoder)
    finish(
        [
            *CLI,
            "finetune",
            "--model",
            str(encoder),
            "--data",
            str(data),
            "--out",
            str(work / "teacher"),
            *TEACHER.split(),
        ]
    )
    return work / "teacher" / "model", data


if __name__ == "__main__":
    main()
