"""`contrastill export`: the graph, the gate, the choice among int8 recipes, and a folder that is complete or absent."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import torch

from contrastill.answers import only_classes
from contrastill.bundle import Bundle, available, is_bundle, open_bundle
from contrastill.data.corpus import several_texts
from contrastill.data.pairs import load_pairs
from contrastill.errors import CheckFailed, UserError
from contrastill.evaluation.selective import LEVEL, not_reached, rows_needed, target_in_words, threshold_for
from contrastill.exporting.card import bundle_card
from contrastill.exporting.gate import (
    STEADY,
    Examples,
    compare,
    examples_of_pairs,
    examples_of_task,
    examples_of_texts,
    measure,
    scored,
    texts_of,
    worst_type,
)
from contrastill.exporting.graph import check_opset, needed, to_onnx
from contrastill.exporting.probes import NotFinite, Probes, chosen, made_up
from contrastill.exporting.quantize import Recipe, calibration
from contrastill.exporting.source import Exportable, Texts, exportable, run_record, told_by_run
from contrastill.exporting.vocabulary import trimmed
from contrastill.exporting.write import recipes_for, write_bundle, write_metadata
from contrastill.loading import model_folder
from contrastill.locks import locked
from contrastill.machine import doubt
from contrastill.report import leave_report
from contrastill.results import RunRecord
from contrastill.settings import DataSource, Evaluation, Export
from contrastill.tasks import Classification, load_rows

__all__ = ["Exported", "export"]

logger = logging.getLogger(__name__)

GOOD = 0.25
"""The share of the allowed drop within which a recipe is taken without trying a more careful one."""
READ, HELD, FEWEST = 50_000, 500, 8
"""Texts that are looked at for calibration; texts held out of them where nothing else can be compared on, at most and
at least."""
NO_RECORD = RunRecord("", {})
MADE_UP = "made-up texts"
UNFINISHED, FORMER = ".export-", "former"
"""How the name of a folder begins in which a bundle is being made; in it, what the bundle replaces."""


@dataclass(frozen=True)
class Exported:
    """Result of an export: the bundle's folder and its metadata."""

    folder: Path
    metadata: dict[str, Any]


def export(**settings: Any) -> Exported:
    """Exports a model as a deployable bundle. Settings: see `Export`.

    Raises:
        UserError: bad settings, model or data; no room on the disk.
        CheckFailed: more of the metric was lost than `max_drop` allows. Nothing is left behind.
    """
    load = psutil.getloadavg()[0]  # before this export puts load on it
    asked = Export.given(settings)
    needed("onnx", "onnxscript", "onnxruntime", *(["openvino"] if asked.to == "openvino" else []))
    if asked.precision == "int8":
        needed("nncf")
    check_opset(asked.opset)
    recipes: list[Recipe | None] = [*recipes_for(asked.to, asked.recipe)] if asked.precision == "int8" else [None]
    out = free_folder(asked)
    source, examples, test, texts = prepare(asked)
    if asked.target is not None:
        check_target(asked.target, source, examples)
    need, free = 12 * source.parameters, shutil.disk_usage(existing_parent(out)).free
    if need > free:
        raise UserError(
            f"expected {need / 1e6:.0f} MB free at {out} for temporary files, got {free / 1e6:.0f} MB; free some "
            "space, or choose another --out"
        )
    cut, about = len(texts) - min(HELD, len(texts) // 2), "texts without scores"
    if examples is not None:
        held = examples.texts
    elif len(texts) - cut >= FEWEST:  # judged on other texts than it is calibrated on
        held, texts = texts[cut:], texts[:cut]
    else:
        held, about = source.random_texts(64), MADE_UP
    torch_answers = source.run(held)
    if not source.answer.finite(torch_answers).all():
        raise UserError(f"{asked.model}: the model itself answers NaN or infinity; train it again")
    if examples is None and source.answer.vector:
        examples = examples_of_texts(held, torch_answers, about)
    if asked.probes == "data" and about != MADE_UP:
        probes = chosen(source, held, torch_answers, examples.data if examples is not None else about)
    else:
        probes = made_up(source)
    report = None
    if asked.trim:
        source, report = trimmed(source, texts, held)
        logger.info("%s", report)
    samples = calibration(source, texts, asked.calibration, asked.seed) if asked.precision == "int8" else []
    goal = out.resolve()  # a link stays one
    try:
        with workplace(goal.parent) as place:
            best, metadata = attempt(asked, source, examples, torch_answers, samples, recipes, probes, place, load)
            if report is not None:
                metadata = write_metadata(best, {"vocabulary": asdict(report)})
            if asked.target is not None:
                metadata = write_metadata(
                    best, {"abstain": abstaining(open_bundle(best, check=False), examples, asked)}
                )
            if test is not None:
                metadata = write_metadata(best, {"test": scored(open_bundle(best, check=False), test)})
            (best / "README.md").write_text(bundle_card(metadata), encoding="utf-8")
            free_folder(asked)  # still?
            exchange(best, goal, place / FORMER)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{out}: no space left on the disk; nothing was kept. Free some and export again") from None
        raise UserError(f"{out} could not be written ({error}); choose another --out") from error
    run = Path(model_folder(asked.model)).parent
    if (run / "run.json").is_file() and out.resolve().is_relative_to(run.resolve()):
        leave_report(run)
    return Exported(out, metadata)


@contextmanager
def workplace(parent: Path) -> Iterator[Path]:
    """A folder to make a bundle in, beside its place; gone at the end, and with it what killed exports left."""
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f"{UNFINISHED}*"):
        if not abandoned(left):
            continue
        if (left / FORMER).exists():  # killed between the two steps of `exchange`
            logger.warning("%s holds a bundle that a killed export was about to replace; move or delete it", left)
        else:
            shutil.rmtree(left, ignore_errors=True)
    with (
        TemporaryDirectory(dir=parent, prefix=UNFINISHED) as place,
        (Path(place) / "lock").open("wb") as lock,
    ):
        locked(lock)
        yield Path(place)


def abandoned(folder: Path) -> bool:
    """Whether the export that made the folder has ended: the system releases its lock with the process."""
    try:
        with (folder / "lock").open("r+b") as lock:
            return time.time() - folder.stat().st_mtime > 60 and locked(lock)
    except OSError:
        return False


def exchange(new: Path, goal: Path, former: Path) -> None:
    """Puts a bundle in its place; what was there goes to `former`, and comes back if that fails."""
    try:
        if goal.exists():
            goal.rename(former)
        new.rename(goal)
    except BaseException:
        if former.exists() and not goal.exists():
            former.rename(goal)
        raise


def attempt(
    asked: Export,
    source: Exportable,
    examples: Examples | None,
    torch_answers: Any,
    samples: list[Any],
    recipes: list[Recipe | None],
    probes: Probes,
    place: Path,
    load: float,
) -> tuple[Path, dict[str, Any]]:
    """The first recipe with a negligible loss, else the one with the smallest loss, if `max_drop` allows it."""
    graph = place / "graph.fp32"
    logger.info("tracing %s (%s parameters)", source.name, f"{source.parameters:,}")
    to_onnx(source, graph, asked.opset)
    tried: dict[str, tuple[Path, dict[str, Any] | None]] = {}
    infinite: list[str] = []
    threads = max(1, torch.get_num_threads())
    for recipe in recipes:
        name = recipe.name if recipe else asked.precision
        folder = place / name
        gate = None
        try:
            write_bundle(source, graph, folder, asked.to, asked.precision, recipe, samples, probes)
            if examples is not None:
                gate = compare(source, open_bundle(folder, threads=threads, check=False), examples, torch_answers)
        except NotFinite as error:
            infinite.append(name)
            logger.warning("%s: left out, as %s", name, error)
            continue
        if gate is not None:
            gate |= {"max_drop": asked.max_drop, "max_drop_type": asked.max_drop_type}
            pace = gate["latency_ms"]
            pace |= {"load_average": round(load, 2), "doubt": doubt(load, available(), pace["spread"])}
            logger.info("%s: %s", name, says(gate))
        tried[name] = folder, gate
        if gate is not None and not gate["padding_cosine_min"] >= STEADY:
            del tried[name]
            logger.warning("%s: left out, as the runtime's answers change when a text is padded", name)
        elif gate is None or (gate["drop_points"] <= GOOD * asked.max_drop and types_hold(gate)):
            break
    if not tried and len(infinite) == len(recipes):
        raise CheckFailed(
            f"{asked.to}, {asked.precision}: the exported file answers NaN or infinity ({', '.join(infinite)}), the "
            "model in torch does not; nothing was written. Try another --precision or --to"
        )
    if not tried:
        raise CheckFailed(
            f"{asked.to}, {asked.precision}: answers change when a text is padded (cosine below {STEADY}), a fault "
            "of the runtime on this processor; nothing was written. Try another --precision, --to or runtime version"
        )

    def order(name: str) -> tuple[bool, float]:
        gate = tried[name][1]
        return (not types_hold(gate), gate["drop_points"]) if gate else (False, 0.0)

    best = min(tried, key=order)
    folder, gate = tried[best]
    if gate is not None and not (gate["drop_points"] <= asked.max_drop and types_hold(gate)):
        raise CheckFailed(refusal(asked, tried, gate))
    others = {name: {"drop_points": g["drop_points"], **g["agreement"]} for name, (_, g) in tried.items() if g}
    return folder, write_metadata(folder, {"gate": gate, "tried": others})


def abstaining(bundle: Bundle, examples: Examples | None, asked: Export) -> dict[str, Any]:
    """The entry "abstain" of bundle.json: the threshold below which an answer abstains, and what it covers.

    Raises:
        CheckFailed: no threshold reaches the target.
    """
    assert examples is not None
    assert examples.task is not None
    assert examples.labels is not None
    assert asked.target is not None
    judged = examples.task.judgements(measure(bundle, examples), examples.labels)
    found = threshold_for(*judged, asked.target)
    if found is None:
        raise CheckFailed(
            f"--target {asked.target:g}: no threshold reaches it on {examples.data}: "
            f"{not_reached(*judged, asked.target)}; nothing was written. Give more rows (--data), or a lower target"
        )
    logger.info("%s", target_in_words(asked.target, found))
    return {"target": asked.target, "level": LEVEL, "data": examples.data, **found.to_json()}


def types_hold(gate: dict[str, Any]) -> bool:
    """Whether no type of entity loses more than --max-drop-type."""
    worst, allowed = worst_type(gate), gate["max_drop_type"]
    return worst is None or allowed is None or worst[1] <= allowed


def says(gate: dict[str, Any]) -> str:
    low_high = " ({:+.2f} to {:+.2f})".format(*gate["drop_interval"]) if "drop_interval" in gate else ""
    same, pace, worst = gate["agreement"]["equal_labels"], gate["latency_ms"], worst_type(gate)
    longer = "read in parts" if "types" in gate else "cut"
    return (
        f"{gate['metric']} {100 * gate['bundle']:.2f} of {100 * gate['torch']:.2f} in torch on {gate['rows']:,} texts "
        f"({gate['cut_share']:.1%} of them {longer}), {gate['drop_points']:.2f} points lost{low_high}"
        + (f"; most by {worst[0]}, {worst[1]:.2f}" if worst is not None and worst[1] > 0 else "")
        + (f"; {same:.2%} of the labels equal" if same is not None else "")
        + (
            "; calibration error {:.1%}, of torch's answers {:.1%}".format(
                *(gate["calibration"][who]["error"] for who in ("bundle", "torch"))
            )
            if "calibration" in gate
            else ""
        )
        + "; "
        + (f"speed not stated, as {pace['doubt']}" if pace["doubt"] else f"{pace['ratio']:.1f} x the pace of torch")
    )


def refusal(asked: Export, tried: dict[str, Any], gate: dict[str, Any]) -> str:
    """gate: of the best recipe tried."""
    lost = ", ".join(f"{name} {gate['drop_points']:.2f}" for name, (_, gate) in tried.items())
    advice = {
        "int8": "more calibration texts like those to be served (--calibration, --texts), "
        + ("--precision bf16" if asked.to == "openvino" else "--to openvino, or --precision fp32"),
        "bf16": "--precision fp32",
        "fp32": "",
    }[asked.precision]
    if asked.trim:
        advice = "more texts whose words to keep (--texts), no --trim" + (f", {advice}" if advice else "")
    worst = worst_type(gate)
    if gate["drop_points"] <= asked.max_drop and worst is not None:
        return (
            f"the exported file loses {worst[1]:.2f} points of the F1 of {worst[0]!r}, more than --max-drop-type "
            f"{asked.max_drop_type:g}; nothing was written. "
            + (f"Try {advice}, or allow" if advice else "Allow")
            + " more with --max-drop-type"
        )
    return (
        f"the exported file loses more than --max-drop {asked.max_drop:g} points of the metric (lost: {lost}); nothing "
        "was written. " + (f"Try {advice}, or allow" if advice else "Allow") + " more with --max-drop"
    )


# ---- what goes in


def check_target(target: float, source: Exportable, examples: Examples | None) -> None:
    """Checks that a threshold can be chosen for a target.

    Raises:
        UserError: another task, no rows that the model was not trained on, or too few.
    """
    if source.task != Classification.name:
        raise UserError(only_classes("--target", source.answer.words))
    if examples is None or examples.split == "train":
        got = "none" if examples is None else f"{examples.data}, from which the model may have learnt"
        raise UserError(
            f"--target: expected labelled dev rows to choose a threshold on, got {got}; give --data, or --dev"
        )
    if len(examples.texts) < (least := rows_needed(target)):
        raise UserError(
            f"--target {target:g}: expected at least {least:,} rows to show it on, got {len(examples.texts):,} "
            f"({examples.data}); give more with --data, or a lower target"
        )


def free_folder(asked: Export) -> Path:
    """The folder of the new bundle; it must be empty or a bundle to be replaced."""
    if asked.out is not None:
        out = Path(asked.out).expanduser()
    else:
        model = Path(model_folder(asked.model))
        if not (model.parent / "run.json").is_file():
            raise UserError("missing --out: a folder for the bundle (only a run's model has a default)")
        out = model.parent / "exports" / f"{asked.to}-{asked.precision}"
    if out.is_file():
        raise UserError(f"--out: expected a folder, got the file {out}")
    if out.resolve() == Path.cwd() or os.path.ismount(out):
        raise UserError(f"--out: expected a folder that can be replaced, got {out}; name one inside it")
    place = existing_parent(out)
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise UserError(f"cannot write to {out}: {place} is not a folder, or is read-only; choose another --out")
    if out.exists() and any(out.iterdir()):
        if not asked.overwrite:
            raise UserError(f"{out} holds something already; pass --overwrite to replace it, or another --out")
        if not is_bundle(out):
            raise UserError(
                f"--overwrite replaces a bundle alone, and {out} holds something else; choose another --out"
            )
    return out


def existing_parent(path: Path) -> Path:
    return next(parent for parent in path.resolve().parents if parent.exists())


def prepare(asked: Export) -> tuple[Exportable, Examples | None, Examples | None, Texts]:
    """The model, the examples of the gate and those of the run's test split (None: there are none), and the texts to
    calibrate on."""
    record = run_record(asked.model)
    source = exportable(asked.model, max_length=asked.max_length)
    if not source.answer.per_word:
        refuse(asked, ("max_drop_type",), f"expected a tagger with it, got a model that answers {source.answer.words}")
    if source.answer.vector:
        refuse(asked, ("text_pair", "label", "metric"), "expected a classifier with it, got a sentence-embedding model")
        scored = asked.data or asked.dev or record.setting("dev", str)
        with told_by_run(not asked.data and not asked.dev, "--data"):
            encoding, delimiter = reading(asked, record)
            examples = examples_of_pairs(scored, encoding, delimiter) if scored else None
        return source, examples, None, corpus(asked, record)
    task = task_source(asked, record)
    if task is None:
        return source, None, None, corpus(asked)
    if source.answer.several or source.answer.per_word:
        task = replace(task, task=task.task or source.task)
    with told_by_run(asked.data is None, "--data"):
        data = load_rows(task.data, **task.reading(), of_model=source.answer.classes or ["score"])
    pairs = data.schema.text_pair is not None
    source = replace(source, texts=2 if pairs else 1)
    examples = examples_of_task(data, source, task.split)
    own = asked.data is None and data.test is not None
    test = examples_of_task(data, source, "test", data.schema.metrics[0]) if own else None
    if asked.texts:
        return source, examples, test, corpus(asked)
    if data.train is None:
        if asked.precision == "int8":
            raise UserError(f"{task.data}: expected training texts to calibrate int8 on, found none; give --texts")
        return source, examples, test, []
    return source, examples, test, texts_of(data.train, pairs)


def task_source(asked: Export, record: RunRecord) -> Evaluation | None:
    """The run's data, with what was asked for in its place; None where no data is known."""
    given = {
        name: getattr(asked, name)
        for name in ("data", "text", "text_pair", "label", "separator", "metric", "encoding", "delimiter", "dev")
        if getattr(asked, name) is not None
    }
    if "data" not in given:
        known = DataSource.among(record.settings)
        if not Path(known.get("test", ".")).expanduser().exists():  # no reason to fail: the gate judges on dev
            del known["test"]
        given = known | given
    if "data" not in given:
        refuse(asked, ("text_pair", "label", "metric", "dev"), "expected --data with it, got none")
    return Evaluation(model=asked.model, **given) if "data" in given else None


def refuse(asked: Export, names: Sequence[str], why: str) -> None:
    """Raises a UserError if an option was given that would have no effect."""
    for name in names:
        if getattr(asked, name) is not None:
            raise UserError(f"--{name.replace('_', '-')}: {why}")


def reading(asked: Export, record: RunRecord) -> tuple[str, str | None]:
    """The encoding and the delimiter of text files: as given, else as in the run."""
    own = None if asked.texts or asked.data or asked.dev else record.setting("delimiter", str)
    return asked.encoding or record.setting("encoding", str) or "utf-8", asked.delimiter or own


def corpus(asked: Export, record: RunRecord = NO_RECORD) -> list[str]:
    """Texts of --texts, else of the run that made the model; the first `READ` different ones, shuffled."""
    sources = asked.texts or record.setting("texts", list) or []
    encoding, delimiter = reading(asked, record)
    found: dict[str, None] = {}
    if sources:
        column = asked.text if asked.texts else record.setting("text", str)
        with told_by_run(not asked.texts, "--texts"):
            for some in several_texts(sources, text=column, encoding=encoding, delimiter=delimiter, limit=READ):
                found.update(dict.fromkeys(some))
    elif pairs := record.setting("pairs", str):
        with told_by_run(True, "--texts"):
            rows, _ = load_pairs(
                pairs, columns=record.setting("columns", list), limit=READ, encoding=encoding,
                delimiter=delimiter, unsupervised=bool(record.setting("unsupervised", bool)),
            )  # fmt: skip
        found.update(dict.fromkeys(text for column in rows.column_names for text in rows[column][:]))
    elif asked.precision == "int8":
        raise UserError("int8 needs texts to calibrate on, and the model's run records none; give --texts")
    texts = list(found)
    order = np.random.default_rng(asked.seed).permutation(len(texts))
    return [texts[row] for row in order]
