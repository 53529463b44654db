"""Seeded wrong and odd input to the whole product: command lines, run.json, data files, bundles.

`python tests/fuzz/driver.py --cases 1000 --seed 0 --json found.json`, or `make fuzz CASES=1000 SEED=0`. Each case must
end in time, done or refused in a short message: no traceback, no hang, and where it is accepted no difference from what
was given.
Everything runs in one process on tiny models; case N of a seed is the same whatever is run beside it (`--only N`).
"""

import argparse
import csv
import faulthandler
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bundles
import files
import options
import run_records

LIMIT = 60.0  # seconds of a case; a training of these models takes two
LONGEST = 2000  # characters of a message
CLASSES = {"calm": ["still", "quiet", "soft"], "loud": ["bang", "shout", "roar"]}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{n}" for n in range(20)), *(w for ws in CLASSES.values() for w in ws)]
QUICK = ["--epochs", "0.5", "--checks", "1", "--batch-size", "8", "--precision", "fp32", "--max-length", "16"]
LEARN = ["--epochs", "6", *QUICK[2:], "--learning-rate", "0.003"]
SMALL = ["--student", "1/16/4/32"]


class Hang(BaseException):
    """A case took longer than `LIMIT`."""


@dataclass
class Outcome:
    """kind: "done", "refused", "traceback", "hang" or "difference"; the last three are faults."""

    kind: str
    said: str = ""

    @property
    def fault(self) -> bool:
        return self.kind in ("traceback", "hang", "difference")


# ---- the models and files that the cases begin with -----------------------------------------------------------------


def make_world(home: Path) -> None:
    """encoder/, embedder/, data.csv, texts.txt, pairs.csv; by the command line teacher/, run/ and bundle/."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    torch.manual_seed(0)
    torch.set_num_threads(1)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(WORDS), max_position_embeddings=64, initializer_range=0.2, **shape)
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64
    )
    model = BertForSequenceClassification(config)
    model.save_pretrained(home / "encoder")
    fast.save_pretrained(home / "encoder")
    names = list(CLASSES)
    rows = [(f"w{n % 20} {CLASSES[names[n % 2]][n % 3]} w{n % 7}", names[n % 2]) for n in range(60)]
    table(home / "data.csv", ["text", "label"], rows)
    table(home / "pairs.csv", ["anchor", "positive"], [(text, f"{text} w{n % 5}") for n, (text, _) in enumerate(rows)])
    lines = [f"w{n % 20} {CLASSES[names[n % 2]][n % 3]} w{n % 7} w{n}" for n in range(60)]
    (home / "texts.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    model.bert.save_pretrained(home / "bare")
    fast.save_pretrained(home / "bare")
    inner = Transformer(str(home / "bare"), max_seq_length=32)
    SentenceTransformer(modules=[inner, Pooling(32)], device="cpu").save_pretrained(str(home / "embedder"))
    for line in (
        ["finetune", "--model", "encoder", "--data", "data.csv", "--out", "teacher", *LEARN],
        [
            "distill",
            "--teacher",
            "teacher/model",
            "--data",
            "data.csv",
            "--out",
            "run",
            "--method",
            "kd",
            *QUICK,
            *SMALL,
        ],
        ["export", "run", "--precision", "fp32", "--max-drop", "100", "--out", "bundle"],
    ):
        made = command(line, home)
        if made.kind != "done":
            raise SystemExit(f"{' '.join(line)}: {made.said}")


def table(path: Path, header: list[str], rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


# ---- one case -------------------------------------------------------------------------------------------------------


@contextmanager
def in_time() -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    faulthandler.dump_traceback_later(
        3 * LIMIT, exit=True, file=sys.__stderr__
    )  # a library that never comes back to Python
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def command(arguments: list[str], folder: Path) -> Outcome:
    """Runs a command line in `folder`, in this process."""
    from contrastill import cli

    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace") for _ in range(2))
    before, stdin, code = sys.argv, sys.stdin, 0
    try:
        with chdir(folder), open(os.devnull, encoding="utf-8") as nothing, redirect_stdout(out), redirect_stderr(err):
            sys.argv, sys.stdin = ["contrastill", *arguments], nothing
            with in_time():
                cli.main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except Hang:
        return Outcome("hang")
    finally:
        sys.argv, sys.stdin = before, stdin
    out.flush()
    err.flush()
    printed, said = (stream.buffer.getvalue().decode(errors="replace") for stream in (out, err))  # type: ignore[attr-defined]
    if "Traceback" in said or "Traceback" in printed:
        return Outcome("traceback", said[-3000:])
    if code == 0:
        return Outcome("done", printed)
    message = said[said.rfind("error:") :] if "error:" in said else said
    if code not in (1, 2) or (not message.strip() and not printed.strip()):
        return Outcome("difference", f"exit code {code} without a message")
    if len(message) > LONGEST:
        return Outcome("difference", f"a message of {len(message):,} characters: {message[:200]}")
    return Outcome("refused", message[:300])


def called(function: Callable[[], Any]) -> tuple[Outcome, Any]:
    """Calls a function of the product as a command would: a UserError is a refusal."""
    import traceback

    from contrastill import UserError

    try:
        with in_time(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            return Outcome("done"), function()
    except UserError as error:
        long = len(str(error)) > LONGEST
        return Outcome("difference" if long else "refused", str(error)[:300]), None
    except Hang:
        return Outcome("hang"), None
    except Exception:
        return Outcome("traceback", traceback.format_exc()[-3000:]), None


# ---- options --------------------------------------------------------------------------------------------------------

NEEDED: dict[str, dict[str, list[str]]] = {
    "finetune": {"model": ["encoder"], "data": ["data.csv"], "out": ["out"]},
    "distill": {"teacher": ["teacher/model"], "data": ["data.csv"], "out": ["out"], "method": ["kd"]},
    "distill of vectors": {"teacher": ["embedder"], "texts": ["texts.txt"], "out": ["out"], "method": ["leaf"]},
    "pretrain": {"teacher": ["bare"], "texts": ["texts.txt"], "out": ["out"]},
    "contrast": {"model": ["embedder"], "pairs": ["pairs.csv"], "out": ["out"]},
    "evaluate": {"model": ["teacher/model"], "data": ["data.csv"]},
    "doctor": {"teacher": ["teacher/model"], "data": ["data.csv"], "method": ["kd"]},
    "export": {"out": ["out"], "precision": ["fp32"], "max_drop": ["100"]},
    "verify": {},
    "serve": {},
    "bench": {"model": ["random:1L-16"], "length": ["4"], "batch": ["1"], "runtime": ["torch"], "seconds": ["0.01"]},
    "cache build": {"teacher": ["embedder"], "texts": ["texts.txt"]},
    "predict": {"data": ["data.csv"]},
    "label": {
        "data": ["data.csv"],
        "labels": ["a", "b"],
        "endpoint": ["http://127.0.0.1:9/v1"],
        "model": ["m"],
        "out": ["out.jsonl"],
        "retries": ["0"],
    },
    "augment": {"model": ["encoder"], "data": ["data.csv"], "out": ["out.jsonl"], "copies": ["2"]},
}
BARE = {
    "export": "teacher/model",
    "verify": "bundle",
    "serve": "none",
    "predict": "bundle",
}  # what is given without a flag


def options_case(name: str, given: list[tuple[str, str]], home: Path, folder: Path) -> Outcome:
    draw = random.Random(str((name, given)))
    kind = "distill of vectors" if name == "distill" and draw.random() < 0.3 else name
    chosen = {key: [*values] for key, values in NEEDED[kind].items()}
    if name in ("finetune", "distill", "pretrain", "contrast"):
        quick = dict(zip(QUICK[::2], QUICK[1::2], strict=True))
        chosen |= {flag[2:].replace("-", "_"): [value] for flag, value in quick.items()}
    if name in ("distill", "pretrain", "doctor"):
        chosen["student"] = [SMALL[1]]
    own: dict[str, list[str]] = {}
    switches = []
    for key, value in given:
        if value in ("", "no-") and key in SWITCHES:
            switches.append(f"--{value}{key.replace('_', '-')}")
        else:
            own.setdefault(key, []).append(value)
    chosen |= own
    where = {"encoder", "teacher/model", "data.csv", "texts.txt", "pairs.csv", "embedder", "bare", "bundle"}
    line = [*name.split()]
    if name in BARE:
        line.append(str(home / BARE[name]))
        chosen.pop("model" if name in ("export", "predict") else "bundle", None)
    for key, values in chosen.items():
        for value in values:
            line += [f"--{key.replace('_', '-')}", str(home / value) if value in where else value]
    outcome = command([*line, *switches], folder)
    if outcome.kind == "done" and name in ("finetune", "distill", "pretrain", "contrast"):
        return compare(own, folder / chosen["out"][-1], folder) or outcome
    return outcome


def switches() -> set[str]:
    import contrastill.settings as settings

    kinds = [getattr(settings, name) for names in options.COMMANDS.values() for name in names]
    return {name for kind in kinds for name, about in options.describe(kind).items() if about["type"] == "bool"}


SWITCHES = switches()


def compare(given: dict[str, list[str]], out: Path, folder: Path) -> Outcome | None:
    """A difference between the options given and those that a finished run wrote down."""
    recorded = json.loads((out / "run.json").read_text(encoding="utf-8"))["settings"]
    for name, values in given.items():
        found = recorded[name]
        last = values[-1]
        if isinstance(found, dict):
            same = {key: value for key, _, value in (one.partition("=") for one in values)}.keys() == found.keys()
        elif isinstance(found, list):
            same = [os.path.basename(one) for one in found] == [os.path.basename(one) for one in values]
        elif isinstance(found, int | float) and not isinstance(found, bool):
            same = float(found) == float(last)
        else:
            same = found in (last, os.path.normpath(folder / last)) or os.path.basename(str(found)) == os.path.basename(
                last
            )
        if not same:
            return Outcome("difference", f"--{name} {values!r} is recorded as {found!r}")
    return None


# ---- run.json -------------------------------------------------------------------------------------------------------


def records_case(content: bytes, number: int, home: Path, folder: Path) -> Outcome:
    """An edited run.json as settings of a new run, or where it lies: read, compared, exported, scored."""
    from contrastill.cli import train
    from contrastill.cli.options import settings_of

    if number % 3 == 0:
        copied = shutil.copytree(home / "run", folder / "run", ignore=shutil.ignore_patterns("checkpoints"))
        (copied / "run.json").write_bytes(content)
        data = ["--data", str(home / "data.csv")]
        lines = [
            ["compare", "run", "--out", "page.html"],
            ["evaluate", "--model", "run", *data],
            ["distill", "--resume", "run"],
            ["doctor", "--teacher", "run", *data],
        ]
        return command(lines[number // 3 % len(lines)], folder)
    (folder / "run.json").write_bytes(content)

    def read() -> Any:
        from contextlib import suppress

        options_ = {"method": None, "out": "new"}
        kind = train.distillation_of(options_, folder / "run.json", None)
        with suppress(ZeroDivisionError):
            return settings_of(kind, options_, folder / "run.json", None)

    outcome, found = called(read)
    if outcome.kind != "done":
        return outcome
    stored = json.loads(content)["settings"]
    for name, value in stored.items():
        held = getattr(found, name)
        same = held == value and isinstance(held, bool) == isinstance(value, bool)
        if name != "out" and not same and not (isinstance(value, str) and str(held).endswith(value)):
            return Outcome("difference", f"{name}: {value!r} is in force as {held!r}")
    return outcome


# ---- data files -----------------------------------------------------------------------------------------------------


def files_case(data: bytes, suffix: str, number: int, home: Path, folder: Path) -> Outcome:
    """A changed file as labelled rows, as texts, or by the command line."""
    from contrastill import load_task
    from contrastill.data.stream import stream_texts

    path = folder / f"rows{suffix}"
    path.write_bytes(data)
    if number % 6 == 0:
        return command(["evaluate", "--model", str(home / "teacher/model"), "--data", path.name, "--json"], folder)
    if number % 3 == 0:
        return called(lambda: load_task(path))[0]
    column = None if ".txt" in suffix else "text"
    outcome, found = called(lambda: list(stream_texts(str(path), text=column)))
    plain = independently(data, suffix)
    if outcome.kind == "done" and plain is not None and flat(found) != plain:
        return Outcome("difference", f"read {len(flat(found))} texts, {len(plain)} by another reader")
    return outcome


def flat(found: Any) -> list[str]:
    return [text for one in found for text in ([one] if isinstance(one, str) else one)]


def independently(data: bytes, suffix: str) -> list[str] | None:
    """The texts by Python's own readers, where the file is plain and sound for them; else None."""
    try:
        text = data.decode("utf-8")
        if "\x00" in text or "\r" in text:
            return None
        if suffix == ".csv":
            rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
            rows = [row for row in rows if row]
            if not rows or "text" not in rows[0] or any(len(row) != len(rows[0]) for row in rows):
                return None
            cells = [row[rows[0].index("text")] for row in rows[1:]]
        elif suffix == ".jsonl":
            cells = [json.loads(line)["text"] for line in text.split("\n") if line.strip()]
        elif suffix == ".json":
            cells = [row["text"] for row in json.loads(text)]
        else:
            return None
    except Exception:
        return None
    if not all(isinstance(cell, str) for cell in cells):
        return None
    return [cell.strip() for cell in cells if cell.strip()]


# ---- bundles --------------------------------------------------------------------------------------------------------


def bundles_case(number: int, seed: int, home: Path, folder: Path) -> Outcome:
    """An edited bundle.json or a changed file of a bundle."""
    import numpy as np

    from contrastill.bundle import open_bundle

    draw = random.Random(f"bundles {seed}/{number}")
    copied = shutil.copytree(home / "bundle", folder / "bundle")
    if draw.random() < 0.7:
        metadata = json.loads((copied / "bundle.json").read_text(encoding="utf-8"))
        ((_, edit),) = bundles.mutations(seed * 100_003 + number, 1)
        (copied / "bundle.json").write_text(edit(metadata), encoding="utf-8")
    else:
        path = draw.choice(sorted(one for one in copied.rglob("*") if one.is_file()))
        changed = bytearray(path.read_bytes())
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(changed) if draw.random() < 0.7 else bytes(changed[: draw.randrange(len(changed) + 1)]))
    if number % 4 == 0:
        return command(["verify", "bundle"], folder)
    texts = ["w1 still w2", "w3 roar", "bang w4 w5"]
    outcome, found = called(lambda: open_bundle(copied).run(texts, 2))
    if outcome.kind == "done" and not np.array_equal(found, open_bundle(home / "bundle").run(texts, 2)):
        return Outcome("difference", "the answers are others")
    return outcome


# ---- all of them ----------------------------------------------------------------------------------------------------

SHARES = {"options": 0.4, "run.json": 0.25, "files": 0.2, "bundles": 0.15}


def cases(home: Path, seed: int, count: int) -> Iterator[tuple[str, str, Callable[[Path], Outcome]]]:
    """`count` cases of all kinds in turn: kind, what it is, and what runs it in an empty folder."""
    counts = {kind: round(count * share) for kind, share in SHARES.items()}
    record = json.loads((home / "run" / "run.json").read_text(encoding="utf-8"))
    for name, given in options.mutations(seed, counts["options"]):
        shown = " ".join(f"--{key} {value[:40]!r}" for key, value in given)
        yield "options", f"{name} {shown}", lambda folder, n=name, g=given: options_case(n, g, home, folder)
    for number, (said, content) in enumerate(run_records.mutations(record, seed, counts["run.json"])):
        yield "run.json", said, lambda folder, n=number, c=content: records_case(c, n, home, folder)
    for number, (said, data, suffix) in enumerate(files.mutations(seed, counts["files"])):
        yield "files", said, lambda folder, n=number, d=data, s=suffix: files_case(d, s, n, home, folder)
    for number in range(counts["bundles"]):
        yield "bundles", f"bundle {number}", lambda folder, n=number: bundles_case(n, seed, home, folder)


def fuzz(home: Path, seed: int, count: int, only: int | None = None) -> dict[str, Any]:
    """Runs the cases. Returns counts by kind and outcome, and every fault in full."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in SHARES}
    faults, began = [], time.monotonic()
    for number, (kind, what, run) in enumerate(cases(home, seed, count)):
        if only is not None and number != only:
            continue
        folder = Path(tempfile.mkdtemp(prefix="case-", dir=home))
        outcome = run(folder)
        shutil.rmtree(folder, ignore_errors=True)
        counts[kind][outcome.kind] += 1
        if outcome.fault or only is not None:
            faults.append({"case": number, "kind": kind, "what": what, "outcome": outcome.kind, "said": outcome.said})
            last = re.split(r"\n(?=\S)", outcome.said.strip())[-1]
            print(f"{number} {outcome.kind}: {kind}: {what}: {last[:300]}", file=sys.stderr, flush=True)
    return {
        "seed": seed,
        "cases": sum(map(Counter.total, counts.values())),
        "seconds": round(time.monotonic() - began, 1),
        "counts": {kind: dict(found) for kind, found in counts.items()},
        "faults": faults,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="which")
    parser.add_argument("--only", type=int, help="this case alone, and what it says")
    parser.add_argument("--json", type=Path, help="file for counts and faults")
    given = parser.parse_args()
    from contrastill.machine import describe_machine

    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        os.environ["CONTRASTILL_CACHE"] = str(home / "cache")
        os.environ["COLUMNS"] = "200"
        make_world(home)
        found = fuzz(home, given.seed, given.cases, given.only)
    found |= {"command": f"make fuzz CASES={given.cases} SEED={given.seed}", "machine": describe_machine()}
    if given.json:
        given.json.write_text(json.dumps(found, indent=2, ensure_ascii=True) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in found.items() if name != "faults"}, indent=2))
    sys.exit(bool(found["faults"]) and given.only is None)


if __name__ == "__main__":
    main()
