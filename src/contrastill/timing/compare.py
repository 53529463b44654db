"""The comparison: models take turns, one process at work at a time, for many short rounds."""

from __future__ import annotations

import json
import logging
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import MISSING, asdict, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from contrastill.bundle import available
from contrastill.data.files import check_place
from contrastill.errors import UserError, counted
from contrastill.report import leave_report
from contrastill.settings import Bench
from contrastill.timing.figures import Turns, figures, ratio
from contrastill.timing.process import Failed, Process, temporary_folder
from contrastill.timing.variants import Variant, named_models, texts_of, variants

__all__ = ["bench"]

logger = logging.getLogger(__name__)

TURN = 0.15
"""Seconds of a turn, or a single pass over its calls if that takes longer."""
LEAST = 5
"""Rounds, however slow the models."""
BUSY = 0.3
"""Load average for each core above which the machine is not quiet."""
Rows = list[dict[str, Any]]
Case = dict[str, Any]


def bench(**settings: Any) -> dict[str, Any]:
    """Times models in turns. Settings: see `Bench`. Returns what `--out` holds.

    Raises:
        UserError: a model or text that is not there, a folder that cannot be written to.
    """
    asked = Bench.given(settings)
    load = list(psutil.getloadavg())
    cores = available()
    threads = asked.threads or cores
    warnings = []
    if load[0] > BUSY * cores:
        warnings.append(
            f"the machine is busy: a load of {load[0]:.2f} on {counted(cores, 'core')} before anything was timed; "
            "figures will be too slow, ratios less so: stop what else runs and time again"
        )
    if threads > cores:
        warnings.append(
            f"{threads} threads, more than the {counted(cores, 'core')} here: they will wait for each other"
        )
    out = None if not asked.out and not asked.run else Path(asked.out or Path(asked.run or "") / "bench.json")
    models = named_models(asked)
    texts = texts_of(asked, models)
    for batch in sorted(set(asked.batch)):
        if texts and batch > len(texts):
            warnings.append(f"--batch {batch}: there are {len(texts)} texts, so these batches hold no more")
    if out is not None:
        out = out.expanduser()
        check_place(out)
    for line in warnings:
        logger.warning("%s", line)
    from contrastill.machine import describe_machine

    with temporary_folder() as home:
        found, left_out = variants(asked, models, texts, threads, home)
        for line in left_out:
            logger.warning("%s", line)
        rows = timed(found, cases(asked, texts), threads, asked.seconds)
    rule = add_ratios(rows, models[0][0])
    add_doubts(rows, rule, load[0], cores)
    result = {
        "command": command(asked),
        "machine": describe_machine(),
        "versions": versions(rows),
        "threads": threads,
        "load_average": [round(one, 2) for one in load],
        "cores": cores,
        "warnings": warnings,
        "left_out": left_out,
        "settings": {name: given for name, given in asdict(asked).items() if name not in ("out", "run", "texts")},
        "texts": len(texts),
        "int8_calibrated_on": "the texts" if texts else "random tokens",
        "yardstick": rule,
        "rows": rows,
    }
    if out is not None:
        write(out, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    if asked.run:
        leave_report(Path(asked.run).expanduser())
    return result


def cases(asked: Bench, texts: Sequence[Any]) -> list[Case]:
    """Each length and batch, the small ones first: memory is told as it grows."""
    lengths: list[int | str] = list(asked.length or ([] if texts else [128]))
    lengths = [*sorted(set(lengths), key=int), *(["data"] if texts else [])]
    return [
        {"length": length, "batch": batch, "texts": list(texts) if length == "data" else None}
        for length in lengths
        for batch in sorted(set(asked.batch))
    ]


def write(out: Path, text: str) -> None:
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:  # a disk that is full by now: what took minutes is not lost with it
        why = error.strerror or error
        raise UserError(f"{out}: the result could not be written ({why}); it is\n{text}") from None


def command(asked: Bench) -> str:
    """The command line for these settings."""
    words = ["contrastill", "bench"]
    for f in fields(asked):
        given = getattr(asked, f.name)
        default = f.default if f.default_factory is MISSING else f.default_factory()
        if given == default:
            continue
        flag = "--" + f.name.replace("_", "-")
        if isinstance(given, bool):
            words.append(flag if given else flag.replace("--", "--no-", 1))
        else:
            for one in given if isinstance(given, list) else [given]:
                words += [flag, str(one)]
    return shlex.join(words)


def versions(rows: Rows) -> dict[str, str]:
    """Of the runtimes that answered."""
    found = {}
    for name in sorted({row["runtime"] for row in rows if "error" not in row}):
        with suppress(PackageNotFoundError):  # installed under another name, such as onnxruntime-gpu
            found[name] = version(name)
    return found


# ---- rounds


def timed(found: Sequence[Variant], all_cases: Sequence[Case], threads: int, seconds: float) -> Rows:
    """The rows of all cases. A failed model gets rows with the reason; the others continue."""
    cores = sorted(os.sched_getaffinity(0))[:threads] if hasattr(os, "sched_getaffinity") else []
    rows: Rows = []
    with ExitStack() as stack:
        alive: dict[Variant, Process] = {}
        loaded: dict[Variant, dict[str, Any]] = {}
        errors: dict[Variant, str] = {}
        for variant in found:
            logger.info("loading %s", variant)
            process = stack.enter_context(Process(threads))
            about = {
                name: getattr(variant, name) for name in ("source", "runtime", "precision", "workers", "new_tokens")
            }
            try:
                loaded[variant] = process.ask("load", **about, threads=threads, cores=cores, case=all_cases[0])
                alive[variant] = process
            except Failed as error:
                errors[variant] = str(error)
        for case in all_cases:
            taking_part = [v for v in found if v.workers == 1 or case["batch"] > 1]
            prepared, turns = rounds({v: alive[v] for v in taking_part if v in alive}, case, seconds, errors)
            for variant in taking_part:
                head = {
                    "model": variant.model,
                    "role": variant.role,
                    "runtime": variant.runtime,
                    "precision": variant.precision,
                    "length": case["length"],
                    "batch": case["batch"],
                    "workers": variant.workers,
                    "new_tokens": variant.new_tokens,
                }
                if variant in turns:
                    about = facts(variant, loaded[variant], prepared[variant])
                    texts = case["texts"]
                    batch = len(texts) / -(-len(texts) // case["batch"]) if texts else case["batch"]
                    rows.append(head | figures(turns[variant], batch) | about)
                else:
                    rows.append(head | {"error": errors[variant]})
                    logger.warning("%s, %s", label(head), errors[variant])
                if variant in alive and alive[variant].process.poll() is None:
                    errors.pop(variant, None)  # it could not do this case; it may do the next
                else:
                    alive.pop(variant, None)
    for row in rows:  # operations are counted in PyTorch alone; a model's are the same everywhere
        same = [o for o in rows if all(o[name] == row[name] for name in ("model", "length", "batch"))]
        if "error" not in row:
            row["gflops"] = next((o["gflops"] for o in same if o.get("gflops") is not None), None)
    return rows


def rounds(
    alive: Mapping[Variant, Process], case: Case, seconds: float, errors: dict[Variant, str]
) -> tuple[dict[Variant, dict[str, Any]], dict[Variant, Turns]]:
    """All models on one case, in turns whose order is reversed from round to round.

    At least `LEAST` rounds, and until they have taken `seconds` for each model. Who fails leaves.
    """
    prepared: dict[Variant, dict[str, Any]] = {}
    turns: dict[Variant, Turns] = {}
    order = list(alive)

    def ask(variant: Variant, do: str, **what: Any) -> dict[str, Any] | None:
        try:
            answer = alive[variant].ask(do, **what)
        except Failed as error:
            errors[variant] = str(error)
            turns.pop(variant, None)
            order.remove(variant)
            return None
        if not answer["asleep"]:
            logger.warning("%s: its threads keep spinning between turns and disturb the others", variant)
        return answer

    logger.info("timing %s, batch %s", tokens(case["length"]), case["batch"])
    for variant in list(order):
        if answer := ask(variant, "prepare", case=case):
            prepared[variant], turns[variant] = answer, []
    stop = time.perf_counter() + seconds * len(order)
    done = 0
    while order and (done < LEAST or time.perf_counter() < stop):
        for variant in list(order):
            if answer := ask(variant, "turn", block=done, seconds=TURN):
                turns[variant].append(answer["ms"])
        order.reverse()
        done += 1
    return prepared, turns


def facts(variant: Variant, loaded: Mapping[str, Any], prepared: Mapping[str, Any]) -> dict[str, Any]:
    file_mb = variant.file_mb if variant.file_mb is not None else loaded.get("weights_mb")
    return {
        "tokens": round(prepared["tokens"], 2),
        "load_s": round(loaded["load_s"], 3),
        "imports_s": round(loaded["imports_s"], 3),
        "memory_mb": round(prepared["memory_mb"], 1),
        "imports_mb": round(loaded["imports_mb"], 1),
        "file_mb": None if file_mb is None else round(file_mb, 2),
        "parameters": loaded["parameters"],
        "gflops": None if prepared["gflops"] is None else float(f"{prepared['gflops']:.4g}"),
        "exported": variant.exported,
    }


# ---- ratios


def add_ratios(rows: Rows, first: str) -> dict[str, Any] | None:
    """ratio: times as fast as the yardstick at the same length and batch; None where the yardstick failed.
    same_ratio: as the first model in the same runtime, precision and streams. Returns the yardstick."""
    rule = yardstick(rows, first)
    for row in (row for row in rows if "error" not in row):
        own = {"model": first} | {name: row[name] for name in ("runtime", "precision", "workers")}
        for name, others in (("ratio", beside(rows, row, rule)), ("same_ratio", beside(rows, row, own))):
            row[name], row[f"{name}_interval"] = (
                ratio(others[0]["rounds_ms"], row["rounds_ms"]) if others else (None, None)
            )
    return rule


def add_doubts(rows: Rows, rule: Mapping[str, Any] | None, load: float, cores: int) -> None:
    """doubt: the reason not to quote a row's ratio; None: there is none."""
    from contrastill.machine import doubt

    for row in (row for row in rows if "error" not in row):
        base = [other["spread"] for other in beside(rows, row, rule)]
        row["doubt"] = doubt(load, cores, max([row["spread"], *base]))


def beside(rows: Rows, row: Mapping[str, Any], rule: Mapping[str, Any] | None) -> Rows:
    """The rows of these values that were timed at a row's length and batch."""
    wanted = {"length": row["length"], "batch": row["batch"], **rule} if rule is not None else None
    return [o for o in rows if wanted and "error" not in o and all(o[name] == wanted[name] for name in wanted)]


def yardstick(rows: Rows, first: str) -> dict[str, Any] | None:
    """The first model in PyTorch float32, else its first row that was timed, in whatever it runs."""
    its = [row for row in rows if row["model"] == first and "error" not in row]
    its.sort(key=lambda row: (row["runtime"], row["precision"]) != ("torch", "fp32"))
    return {name: its[0][name] for name in ("model", "runtime", "precision", "workers")} if its else None


def tokens(length: int | str) -> str:
    return "texts" if length == "data" else f"{length} tokens"


def label(row: Mapping[str, Any]) -> str:
    return f"{row['model']}, {row['runtime']} {row['precision']}, {tokens(row['length'])}, batch {row['batch']}"
