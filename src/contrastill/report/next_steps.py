"""What to do next with a run: at most three commands that fit what it has and lacks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from contrastill.report.latency import timings
from contrastill.report.record import warnings
from contrastill.report.results import models, name_of
from contrastill.report.run import RunFiles, dig
from contrastill.results import PROMPT_KINDS

__all__ = ["Step", "next_steps", "unmeasured"]

MOST = 3
WIDE = 0.06  # of a score's 95 % interval, from end to end: beyond it, more rows to score on are worth having
ADVICE = re.compile(r"(?<![\w-])--([a-z][a-z-]+)(?: ([\w./-]*[\w/]))?")
FACTORS = {"learning_rate": 1 / 3, "epochs": 2.0}
"""Settings that an advice names without a value -> what turns the run's own value into the one to try."""
RAISE = re.compile(r"\b(raise|higher|larger|increase)\b")
CAPITALS = re.compile(r"[A-Z]+(\.csv)?")
TRAINS = ("finetune", "distill", "pretrain", "contrast")


@dataclass(frozen=True)
class Step:
    """A command and its purpose. The reader replaces the words in capitals."""

    why: str
    command: str

    @property
    def open(self) -> bool:
        """Whether it has words in capitals."""
        return any(CAPITALS.fullmatch(word) for word in shlex.split(self.command))


def next_steps(run: RunFiles) -> list[Step]:
    """What to do next, the most urgent first."""
    steps = {step.command: step for step in every_step(run)}
    return list(steps.values())[:MOST]


def every_step(run: RunFiles) -> Iterator[Step]:
    if run.command not in TRAINS:
        return
    if run.record.get("status") != "finished":
        yield Step("Continue from the last checkpoint:", command(run.command, "--resume", folder_of(run)))
        return
    for said in warnings(run):
        if changed := change(run, said):
            yield Step(f"Try the change that a doubt suggests ({said.partition(';')[0].strip()}):", changed)
    place = folder_of(run)
    if of_prompts(run):
        if run.command == "finetune":
            smaller = command("distill", "--method", "gkd", "--teacher", inside(run, "model"), "--student", "NL")
            rows = shlex.quote(str(run.settings.get("data")))
            why = "Distil it into a smaller one, which keeps N of its layers:"
            yield Step(why, f"{smaller} --data {rows} --out {beside(run, 'student')}")
        yield from time_it(run)
        return
    if run.command == "pretrain":
        own = ["--student", "as-is"] if run.settings.get("student") == "as-is" else []
        start = ["--start", inside(run, "student")]
        general = command("distill", "--teacher", "TEACHER", "--data", "DATA.csv", *own, *start)
        yield Step(
            "Distil a student for a task, starting from this encoder:", f"{general} --out {beside(run, 'student')}"
        )
        return
    data = run.settings.get("data")
    if run.command == "finetune" and isinstance(data, str) and " passed in Python, " not in data:
        smaller = command("distill", "--teacher", place)
        yield Step("Distil it into a small student:", f"{smaller} --out {beside(run, 'student')}")
    if embeds(run) and not run.result.sts:
        suite = command("evaluate", "--suite", "sts", "--model", inside(run, model_of(run)))
        yield Step("Score it on pairs judged by people, the seven STS sets (from the Hub, or --data FOLDER):", suite)
    if not any(bundle.get("precision") == "int8" for bundle in run.bundles):
        exported = command("export", place, "--to", "onnx", "--precision", "int8")
        where = "" if embeds(run) and not run.settings.get("dev") else " on dev"
        yield Step(f"Export it in 8-bit integers, smaller and faster, checked against the original{where}:", exported)
    yield from time_it(run)
    if uncertain(run):
        more = command("evaluate", "--model", place, "--data", "MORE.csv")
        yield Step("Score it on more labelled rows, because the interval of its score is wide:", more)
    for bundle in run.bundles:
        which = f" ({name_of(bundle)})" if len(run.bundles) > 1 else ""
        yield Step(f"Serve it over HTTP{which}:", command("serve", inside(run, str(bundle["path"]))))


def time_it(run: RunFiles) -> Iterator[Step]:
    if not timings(run) and not unmeasured(run):
        timed = command("bench", "--run", folder_of(run))
        yield Step("Time its models on this machine; this page then shows the times:", timed)


def embeds(run: RunFiles) -> bool:
    """Whether the run made a sentence-embedding model."""
    return run.command == "contrast" or (run.command == "distill" and bool(run.settings.get("texts")))


def model_of(run: RunFiles) -> str:
    """The trained model's folder in the run's."""
    return "student" if run.command == "distill" else "model"


def unmeasured(run: RunFiles) -> bool:
    """Whether `contrastill bench --run` has no texts of the run to time."""
    return not any(run.settings.get(name) for name in ("data", "texts"))


def of_prompts(run: RunFiles) -> bool:
    """Whether the run made a language model, which no other command exports or scores."""
    return dig(run.record, "data", "kind") in PROMPT_KINDS


def uncertain(run: RunFiles) -> bool:
    """Whether the score of the headline has a wide interval, and is one that `contrastill evaluate` gives."""
    score = next((model.score for model in models(run) if model.kind == "trained"), None)
    if score is None or score.low is None or score.high is None or not run.settings.get("data"):
        return False
    return score.high - score.low > WIDE


def change(run: RunFiles, said: str) -> str | None:
    """The command that repeats the run with the first change that a warning suggests; None if it suggests none."""
    advice = said.rpartition(";")[2] or said
    for found in ADVICE.finditer(advice):
        name, value = found[1].replace("-", "_"), found[2]
        if name not in run.settings:
            continue
        own = run.settings[name]
        named = value is not None and (value.isupper() or any(letter.isdigit() for letter in value))
        if not named and name in FACTORS and isinstance(own, int | float) and not isinstance(own, bool):
            rises = name == "learning_rate" and RAISE.search(advice[: found.start()])
            value = f"{own / FACTORS[name] if rises else own * FACTORS[name]:.2g}"
        elif not named:
            continue
        again = command(run.command, "--from", inside(run, "run.json"), f"--{found[1]}", value)
        return f"{again} --out {beside(run, '2')}"
    return None


# ---- commands in a shell's words


def command(*words: str) -> str:
    return "contrastill " + " ".join(shlex.quote(word) for word in words)


def folder_of(run: RunFiles) -> str:
    """The run's folder as the user named it, written so that no command takes it for an option."""
    name = str(run.folder)
    return f"./{name}" if name.startswith("-") else name


def inside(run: RunFiles, name: str) -> str:
    return f"{folder_of(run)}/{name}"


def beside(run: RunFiles, what: str) -> str:
    """A free folder named after the run, with an ending."""
    place = folder_of(run)
    wanted = [f"{place}-{what}", *(f"{place}-{what}-{n}" for n in range(2, 100))]
    return shlex.quote(next((one for one in wanted if not Path(one).exists()), wanted[0]))
