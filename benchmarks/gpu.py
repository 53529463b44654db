"""What the GPU path does on one card: its tests, the teacher's pass, the student's step, and how bfloat16 agrees.

    make gpu-check                 -> benchmarks/results/gpu.json      (make gpu-check PYTHON=python3: without the venv)

Without a GPU it says so, and claims nothing. All weights are random and all texts made up: nothing is downloaded. A
section that fails is recorded with its error, the others go on, and the exit code is 1.

Share of the matrix rate: operations of the linear layers and attention products over the texts' real tokens (of a step,
forward and twice that backward, and a live teacher's forward), by the time, over the rate of one bfloat16 product of
8192 x 8192 matrices measured in the same process. --tiny: small sizes, on the processor too, to rehearse it.
"""

import argparse
import contextlib
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from made_up import TINY, Sizes, Workplace, operations
from transformers import Trainer

from contrastill import distill
from contrastill.data.collate import Collate
from contrastill.data.corpus import teacher_rows
from contrastill.encoder import Wanted
from contrastill.loading import load_classifier, load_embedder
from contrastill.machine import describe_machine
from contrastill.teachers import CachedTeacher, FrozenEncoder
from contrastill.teachers.embedder import FrozenEmbedder

ROOT = Path(__file__).parents[1]
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
NOMINAL = {"H100 80GB HBM3": 989.4, "H200": 989.4, "H100 PCIe": 756.0, "H100 NVL": 835.0, "A100": 312.0, "L40S": 362.0}
"""Dense bfloat16 TFLOP/s of the makers' data sheets, by a part of the card's name."""
WARM = 20


def say(text: str) -> None:
    print(f"{time.perf_counter() - BEGAN:7.1f} s  {text}", flush=True)


BEGAN = time.perf_counter()


def synchronize() -> None:
    if CUDA:
        torch.cuda.synchronize()


@contextlib.contextmanager
def clocked() -> Iterator[dict[str, float]]:
    """Seconds until the device has done all of it, and the most memory that its allocator gave out."""
    found: dict[str, float] = {}
    synchronize()
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    yield found
    synchronize()
    found["seconds"] = time.perf_counter() - start
    found["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9 if CUDA else 0.0


# ---- sections


def tests(place: Workplace, rate: float) -> dict[str, Any]:
    """The tests that need a GPU."""
    files = [str(f) for f in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in f.read_text()]
    workers = max(1, min(8, (os.cpu_count() or 1) // 2))
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-o", "addopts=-q", f"--numprocesses={workers}"]
    start = time.perf_counter()
    quiet = {"cwd": ROOT, "env": {**os.environ, "OMP_NUM_THREADS": "1"}, "capture_output": True, "text": True}
    done = subprocess.run([*command, *files], timeout=150, check=False, **quiet)  # type: ignore[call-overload]
    lines = done.stdout.strip().splitlines()
    for line in lines if done.returncode else lines[-1:]:
        say(line)
    failed = [line.split(" - ")[0] for line in lines if line.startswith(("FAILED ", "ERROR "))]
    if done.returncode != (1 if failed else 0):
        raise RuntimeError(f"pytest ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    if failed:
        ERRORS["tests"] = f"{lines[-1]}: {', '.join(failed[:20])}"
    return {"summary": lines[-1], "failed": failed, "seconds": time.perf_counter() - start}


def teacher(place: Workplace, rate: float) -> dict[str, Any]:
    """Texts a second of the teacher: the model alone, its outputs stored, and from text to what is stored."""
    classifier, embedder = load_classifier(str(place.teacher)), load_embedder(str(place.embedder))
    found: dict[str, Any] = {"alone": alone(place, classifier, rate)}
    kinds = {"logits": (FrozenEncoder(classifier), Wanted(logits=True))}
    kinds["vectors"] = (FrozenEmbedder(embedder), Wanted(pooled=True))
    for length in ("long", "mixed"):
        count = getattr(place.sizes, length)
        texts = place.texts(count, mixed=length == "mixed", seed=3)
        start = time.perf_counter()
        rows = teacher_rows(texts, place.tokenizer, place.sizes.length)
        reading = count / (time.perf_counter() - start)
        lengths = np.array([len(row["input_ids"]) for row in rows])
        for kind, (frozen, wanted) in kinds.items():
            work = operations(classifier if kind == "logits" else embedder[0].auto_model, lengths)
            chunks = [rows[n : n + 16_384] for n in range(0, count, 16_384)]
            fill(place, frozen, wanted, [rows[:256]])  # warm
            stored = fill(place, frozen, wanted, chunks)
            read = (
                teacher_rows(texts[n : n + 16_384], place.tokenizer, place.sizes.length)
                for n in range(0, count, 16_384)
            )
            whole = fill(place, frozen, wanted, read)
            row = {"texts": count, "tokens_mean": float(lengths.mean()), "reading_texts_per_s": reading}
            for name, took in (("stored", stored), ("from_text", whole)):
                row[name] = {"texts_per_s": count / took["seconds"], "share": work / took["seconds"] / rate, **took}
            found[f"{kind}, {length}"] = row
            say(
                f"teacher: {kind}, {length}: "
                + ", ".join(f"{k} {row[k]['share']:.1%}" for k in ("stored", "from_text"))
            )
    layers = tuple(range(3, place.sizes.teacher[0] + 1, 3)) or (1, 2)
    some = teacher_rows(place.texts(place.sizes.trained, seed=4), place.tokenizer, place.sizes.length)
    took = fill(place, FrozenEncoder(classifier), Wanted(logits=True, layers=layers), [some])
    found["tokens of layers"] = {"layers": layers, "texts_per_s": len(some) / took["seconds"], **took}
    return found


def alone(place: Workplace, model: Any, rate: float) -> dict[str, Any]:
    """The live teacher's call on one large batch of long texts, under autocast, again and again."""
    frozen, size = FrozenEncoder(model), max(8, place.sizes.alone // place.sizes.length)
    rows = teacher_rows(place.texts(size, seed=2), place.tokenizer, place.sizes.length)
    batch = {name: value.to(DEVICE) for name, value in Collate(place.tokenizer)(rows).items()}
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        for _ in range(3):
            frozen(batch, {"logits"})
        with clocked() as took:
            for _ in range(20):
                frozen(batch, {"logits"})
    work = 20 * operations(model, batch["attention_mask"].sum(1).cpu().numpy())
    share = work / took["seconds"] / rate
    say(f"teacher: alone {share:.1%}")
    return {"texts_per_s": 20 * size / took["seconds"], "share": share, "batch": size, **took}


def fill(place: Workplace, frozen: Any, wanted: Wanted, chunks: Any) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=place.folder) as folder:
        cached = CachedTeacher(frozen, wanted, Path(folder), computed="bfloat16")
        with clocked() as took:
            cached.fill(chunks, Collate(place.tokenizer))
    return took


@contextlib.contextmanager
def watching() -> Iterator[dict[str, Any]]:
    """Times a run's steps from outside, from the beginning of step `WARM` to that of the last one."""
    found: dict[str, Any] = {"begun": 0, "waited": 0.0}
    step, fetch, clock = Trainer.training_step, Trainer.get_batch_samples, contextlib.ExitStack()

    def training_step(trainer: Any, *more: Any, **options: Any) -> Any:
        last = trainer.state.max_steps - 1
        if found["begun"] == min(WARM, last // 4):
            found.update(took=clock.enter_context(clocked()), trainer=trainer, steps=last - found["begun"])
        if found["begun"] == last:
            clock.close()
        found["begun"] += 1
        return step(trainer, *more, **options)

    def get_batch_samples(*more: Any, **options: Any) -> Any:
        start = time.perf_counter()
        batches = fetch(*more, **options)
        if "took" in found and "seconds" not in found["took"]:
            found["waited"] += time.perf_counter() - start
        return batches

    with (
        mock.patch.object(Trainer, "training_step", training_step),
        mock.patch.object(Trainer, "get_batch_samples", get_batch_samples),
    ):
        yield found


def run(place: Workplace, name: str, steps: int, batch: int, **settings: Any) -> Any:
    """A run of about so many steps, scored once at its end."""
    gc.collect()  # what the run before left on the device would be counted as this one's
    if CUDA:
        torch.cuda.empty_cache()
    if settings["method"] == "disco":
        source: dict[str, Any] = {"teacher": [str(place.embedder)], "texts": [str(place.corpus)]}
        rows = place.sizes.corpus
    else:
        source, rows = {"teacher": str(place.teacher), "data": str(place.data)}, place.sizes.trained
    shared = {"student": place.sizes.student, "start": "random", "max_length": place.sizes.length, "checks": 1}
    shared["force"] = True  # a random teacher has learnt nothing
    shared |= {"epochs": steps / (rows // batch), "batch_size": batch, "cache": str(place.folder / "cache")}
    return distill(**{**source, **shared, "out": str(place.folder / name), **settings})


def steps(place: Workplace, rate: float) -> dict[str, Any]:
    """The student's training step, by method, teacher and batch size."""
    plans: list[tuple[str, int, dict[str, Any]]] = []
    for batch in place.sizes.batches:
        plans += [
            ("lrc_bert, stored teacher", batch, {"method": "lrc_bert"}),
            ("lrc_bert, live teacher", batch, {"method": "lrc_bert", "cache": "none"}),
            ("kd, stored teacher", batch, {"method": "kd"}),
        ]
    queue = {"queue": place.sizes.queue}
    plans.append(("disco, stored teacher", place.sizes.batches[-1], {"method": "disco", "set": queue}))
    live, found = load_classifier(str(place.teacher)), []
    mixed = place.texts(min(4096, place.sizes.corpus), mixed=True, seed=5)
    for name, batch, settings in plans:
        count = place.sizes.steps if batch == place.sizes.batches[0] else place.sizes.steps // 2
        with watching() as seen:
            run(place, f"{name} {batch}".replace(",", "").replace(" ", "-"), count, batch, **settings)
        student, took = seen["trainer"].method.student.model, seen["took"]
        if settings["method"] == "disco":
            lengths = np.array([len(ids) for ids in place.tokenizer(mixed)["input_ids"]])
        else:
            lengths = np.full(batch, place.sizes.length)
        work = 3 * operations(student, lengths)
        work += operations(live, lengths) if settings.get("cache") == "none" else 0.0
        a_second = seen["steps"] / took["seconds"]
        row = {"name": name, "batch": batch, "tokens_mean": float(lengths.mean()), "steps": seen["steps"]}
        row |= {"steps_per_s": a_second, "texts_per_s": batch * a_second, "peak_gb": took["peak_gb"]}
        row |= {
            "share": work / len(lengths) * batch * a_second / rate,
            "loader_share": seen["waited"] / took["seconds"],
        }
        found.append(row)
        shown = f"{a_second:.1f} steps/s, share {row['share']:.1%}, loader {row['loader_share']:.1%}"
        say(f"step: {name}, {batch} texts: {shown}, {row['peak_gb']:.2f} GB")
        del seen, student
    return {"rows": found}


@torch.inference_mode()
def agreement(place: Workplace, rate: float) -> dict[str, Any]:
    """bfloat16 against float32: the teacher's outputs, and the first steps of two runs that differ in nothing else."""
    frozen, embedder = FrozenEncoder(load_classifier(str(place.teacher))), load_embedder(str(place.embedder)).eval()
    rows = teacher_rows(place.texts(64, mixed=True, seed=6), place.tokenizer, place.sizes.length)
    batch = {name: value.to(DEVICE) for name, value in Collate(place.tokenizer)(rows).items()}
    mask, embedder = batch["attention_mask"].bool(), embedder.to(DEVICE)
    given = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    exact, exact_vectors = frozen(batch, {"logits", "hidden"}), embedder(dict(given))["sentence_embedding"]
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        quick = frozen(batch, {"logits", "hidden"})
    vectors = embedder.to(torch.bfloat16)(dict(given))["sentence_embedding"]
    sides = {"logits": (quick.logits, exact.logits), "vectors": (vectors, exact_vectors)}
    sides["last layer"] = (quick.hidden[-1][mask], exact.hidden[-1][mask])
    cosines = {name: F.cosine_similarity(a.float(), b.float(), dim=-1) for name, (a, b) in sides.items()}
    found: dict[str, Any] = {
        "cosines": {name: {"mean": float(c.mean()), "least": float(c.min())} for name, c in cosines.items()}
    }
    say(f"agreement: {found['cosines']}")
    losses = {}
    with torch.inference_mode(False):
        for precision in ("fp32", "bf16"):
            settings = {"method": "lrc_bert", "cache": "none", "precision": precision}
            made = run(place, f"agreement-{precision}", place.sizes.compared, place.sizes.batches[0], **settings)
            lines = map(json.loads, (made.folder / "log.jsonl").read_text().splitlines())
            losses[precision] = [line["loss"] for line in lines if "loss" in line]
    ours, theirs = (np.array(losses[precision]) for precision in ("bf16", "fp32"))
    found["losses"] = losses
    found["largest_difference"] = float((np.abs(ours - theirs) / np.abs(theirs)).max())
    say(f"agreement: losses of {len(ours)} steps differ by at most {found['largest_difference']:.2%}")
    return found


def provider(place: Workplace, rate: float) -> dict[str, Any]:
    """The exported graph on ONNX Runtime's CUDA provider, against its processor's."""
    import onnxruntime

    about = {"onnxruntime": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}
    if "CUDAExecutionProvider" not in about["providers"]:
        say("provider: ONNX Runtime here has no CUDAExecutionProvider: not compared")
        return about
    from contrastill.exporting import export

    model = run(place, "exported", 10, place.sizes.batches[0], method="kd").model
    bundle = place.folder / "bundle"
    export(model=str(model), out=str(bundle), precision="fp32", dev=str(place.data / "dev.csv"))
    rows = teacher_rows(place.texts(64, mixed=True, seed=7), place.tokenizer, place.sizes.length)
    batch = {name: value.numpy() for name, value in Collate(place.tokenizer)(rows).items()}
    answers = {}
    for name in ("CUDAExecutionProvider", "CPUExecutionProvider"):
        session = onnxruntime.InferenceSession(str(next(bundle.glob("*.onnx"))), providers=[name])
        if session.get_providers()[0] != name:
            raise RuntimeError(f"expected {name}, got {session.get_providers()}")
        wanted = {one.name: batch[one.name] for one in session.get_inputs()}
        start = time.perf_counter()
        answers[name] = session.run(None, wanted)[0]
        about[name] = {"first_call_s": time.perf_counter() - start}
    ours, theirs = answers.values()
    about["largest_difference"] = float(np.abs(ours - theirs).max())
    about["equal_labels"] = float((ours.argmax(-1) == theirs.argmax(-1)).mean())
    return about


SECTIONS: dict[str, Callable[[Workplace, float], dict[str, Any]]] = {
    "tests": tests,
    "teacher": teacher,
    "agreement": agreement,
    "steps": steps,
    "provider": provider,
}
ERRORS: dict[str, str] = {}


def matrix_rate(size: int) -> dict[str, float]:
    """Operations a second of one bfloat16 product, of random numbers."""
    a, b = (torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    paces = []
    for turn in range(6):
        with clocked() as took:
            for _ in range(5):
                a @ b
        if turn:
            paces.append(5 * 2 * size**3 / took["seconds"])
    return {"size": size, "per_s": statistics.median(paces), "best": max(paces)}


def card() -> dict[str, Any]:
    if not CUDA:
        return {"name": "none: a rehearsal on the processor"}
    about = torch.cuda.get_device_properties(0)
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False) if shutil.which(command[0]) else None
    nominal = next((rate for name, rate in NOMINAL.items() if name in about.name), None)
    return {
        "name": about.name,
        "memory_gb": round(about.total_memory / 1e9, 1),
        "driver": asked.stdout.split("\n")[0].strip() if asked else None,
        "cuda": torch.version.cuda,
        "nominal_tflops": nominal,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small sizes, on the processor too")
    parser.add_argument("--sections", nargs="*", default=list(SECTIONS), choices=list(SECTIONS))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "gpu.json")
    args = parser.parse_args()
    if not CUDA and not args.tiny:
        print("gpu-check: no CUDA GPU here: nothing was run, and nothing is claimed")
        return
    sizes = TINY if args.tiny else Sizes()
    command = "make gpu-check" if args.sections == list(SECTIONS) else f"make gpu-check GPU='{' '.join(sys.argv[1:])}'"
    result: dict[str, Any] = {"command": command, "date": datetime.now(UTC).date().isoformat(), "card": card()}
    result |= {"machine": describe_machine(), "sizes": vars(sizes)}
    rate = result["matrix_rate"] = matrix_rate(sizes.matrix)
    say(f"{result['card']['name']}: {rate['per_s'] / 1e12:.1f} TFLOP/s of matrices {sizes.matrix} x {sizes.matrix}")
    with tempfile.TemporaryDirectory() as folder:
        place = Workplace(Path(folder), sizes)
        for name in args.sections:
            start = time.perf_counter()
            say(f"{name} begins")
            try:
                result[name] = SECTIONS[name](place, rate["per_s"])
                result[name].setdefault("seconds", time.perf_counter() - start)
            except Exception as error:
                traceback.print_exc()
                ERRORS[name] = f"{type(error).__name__}: {error}"[:2000]
            result["errors"] = ERRORS
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(result, indent=2) + "\n")
            say(
                f"{name} ends after {time.perf_counter() - start:.1f} s"
                + (f": {ERRORS[name]}" if name in ERRORS else "")
            )
    sys.exit(1 if ERRORS else 0)


if __name__ == "__main__":
    main()
