"""Variants to time: each model in each runtime and precision that exists, exported here if need be."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from contrastill.bundle import METADATA, is_bundle, read_metadata
from contrastill.errors import UserError
from contrastill.results import PROMPT_KINDS, RunRecord
from contrastill.settings import Bench, DataSource, Prompts

__all__ = ["Variant", "named_models", "texts_of", "variants"]

logger = logging.getLogger(__name__)

RUNTIMES = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}
"""As an option -> as a row."""
EXIST = {"torch": ("fp32", "bf16"), "onnx": ("fp32", "int8"), "openvino": ("fp32", "bf16", "int8")}
WHY_NOT = {
    ("torch", "int8"): "PyTorch has no int8 for text encoders that is kept up",
    ("onnx", "bf16"): "ONNX Runtime computes no bfloat16 on CPU",
}
RANDOM = "random:"
TEXTS, PROMPTS = 256, 32  # that are timed, of encoders and of language models, which are slower
READ = 10_000  # texts among which those that are timed are drawn
CALIBRATION = 64  # texts that int8 is calibrated on: enough for the speed, which is the same whatever they say
Text = str | tuple[str, str]


@dataclass(frozen=True)
class Variant:
    """A row's model, before its lengths and batches."""

    model: str
    role: str  # teacher: the first model; or student
    runtime: str
    precision: str
    workers: int
    source: str
    file_mb: float | None
    exported: bool  # for the occasion, without a gate
    new_tokens: int = 0  # that it writes after each text; 0: it is no language model

    @property
    def key(self) -> tuple[str, str, str, int]:
        return self.model, self.runtime, self.precision, self.workers

    def __str__(self) -> str:
        streams = f", {self.workers} streams" if self.workers > 1 else ""
        return f"{self.model}, {self.runtime} {self.precision}{streams}"


# ---- what was asked for


def named_models(asked: Bench) -> list[tuple[str, str]]:
    """(name, folder or Hub name) of each model; several bundles may share a name.

    Raises:
        UserError: none is given, the run cannot be read, or two models have one name.
    """
    found = of_run(Path(asked.run).expanduser()) if asked.run else []
    for given in asked.model or []:
        name, equals, source = given.partition("=")
        if not equals or Path(given).exists():
            name, source = name_of(given), given
        if not name or not source:
            raise UserError(f"--model: expected FOLDER, NAME=FOLDER or random:SHAPE, got {given!r}")
        found.append((name, source))
    if not found:
        raise UserError("expected models to time, got none; give each with --model, or a run with --run")
    for name, _ in found:
        same = {other for called, other in found if called == name and not is_bundle(other)}
        if len(same) > 1:
            raise UserError(
                f"expected each model to have a name of its own, got {name!r} for {' and '.join(sorted(same))}; "
                "write --model NAME=FOLDER"
            )
    return list(dict.fromkeys(found))


def of_run(folder: Path) -> list[tuple[str, str]]:
    """A run's teacher and what it trained, and the bundles that lie in its folder."""
    record, trained = RunRecord.read(folder), trained_in(folder)
    teachers = record.setting("teacher", str, list) or []
    teachers = [teachers] if isinstance(teachers, str) else teachers
    if len(teachers) > 1:
        logger.warning("the run has %d teachers: left out, a text needs all of them", len(teachers))
    found = [("teacher", teachers[0])] if len(teachers) == 1 else []
    places = [path.parent.relative_to(folder) for path in folder.rglob(METADATA) if path.parent != folder]
    bundles = sorted(folder / place for place in places if not any(part.startswith(".") for part in place.parts))
    return [*found, (trained, str(folder / trained)), *((trained, str(bundle)) for bundle in bundles)]


def trained_in(run: Path) -> str:
    """The name of the trained model's folder.

    Raises:
        UserError: there is none.
    """
    trained = next((name for name in ("student", "model") if (run / name).is_dir()), None)
    if trained is None:
        raise UserError(f"{run}: expected a finished run with a student/ or model/, found neither; finish it first")
    return trained


def name_of(source: str) -> str:
    if source.startswith(RANDOM):
        return source.removeprefix(RANDOM)
    if is_bundle(source):
        return str(read_metadata(Path(source).expanduser()).get("name") or Path(source).name)
    from contrastill.exporting.source import own_name

    return own_name(source)


def texts_of(asked: Bench, models: Sequence[tuple[str, str]]) -> list[Text]:
    """The texts that these models are timed on, drawn from the file or the run's own dev texts; none: lengths alone."""
    if asked.texts is None and asked.run is None:
        return []
    from contrastill.data.corpus import several_texts
    from contrastill.exporting.source import told_by_run
    from contrastill.tasks import load_rows

    found: list[Text] = []
    record = RunRecord("", {}) if asked.run is None else RunRecord.read(asked.run)
    data = record.facts.get("data")
    if asked.texts is None and isinstance(data, dict) and data.get("kind") in PROMPT_KINDS:
        found = list(prompts_of(Path(asked.run or "").expanduser(), record))
    elif asked.texts is not None or record.setting("texts", list):
        if asked.texts is not None:
            sources, column, encoding, delimiter = [asked.texts], asked.text, asked.encoding, asked.delimiter
        else:
            sources, column, encoding = (
                record.setting("texts", list),
                record.setting("text", str),
                record.setting("encoding", str) or "utf-8",
            )
            delimiter = record.setting("delimiter", str)
        with told_by_run(asked.texts is None, "--texts"):
            for some in several_texts(sources, text=column, encoding=encoding, delimiter=delimiter, limit=READ):
                found += some
    elif record.setting("data", str):
        with told_by_run(True, "--texts"):
            source = DataSource(**DataSource.among(record.settings))
            splits = load_rows(source.data, **source.reading()).splits
        rows = splits.get("dev") or splits.get("test") or splits["train"]
        pairs = "text_pair" in rows.column_names
        found = list(zip(rows["text"], rows["text_pair"], strict=True)) if pairs else list(rows["text"])
    else:
        raise UserError("--run: this kind of run has no texts of its own to time; give some with --texts")
    if not found:
        raise UserError(f"expected texts to time in {asked.texts or asked.run}, got none")
    limit = asked.limit or (PROMPTS if any(writes_text(source) for _, source in models) else TEXTS)
    drawn = np.random.default_rng(0).permutation(len(found))[:limit]
    return [found[row] for row in drawn]


def writes_text(source: str) -> bool:
    """Whether it is a language model."""
    from contrastill.loading import writes

    return not source.startswith(RANDOM) and not is_bundle(source) and writes(source)


def prompts_of(run: Path, record: RunRecord) -> Iterator[str]:
    """The prompts of a language model's run, of dev if it has some, as the model reads them."""
    from contrastill.data.prompt_batches import texts_of_prompts
    from contrastill.data.prompts import load_prompts
    from contrastill.exporting.source import told_by_run
    from contrastill.loading import load_tokenizer

    with told_by_run(True, "--texts"):
        source = Prompts(**Prompts.among(record.settings))
        splits = load_prompts(source.data, **source.reading(), seed=record.setting("seed", int) or 0).splits
    rows = splits.get("dev") or splits.get("test") or splits["train"]
    tokenizer = load_tokenizer(str(run / trained_in(run)))
    yield from filter(None, islice(texts_of_prompts(rows, tokenizer, chat=source.chat), 0, None, 2))


# ---- what there is to time


def variants(
    asked: Bench, models: Sequence[tuple[str, str]], texts: Sequence[Text], threads: int, home: Path
) -> tuple[list[Variant], list[str]]:
    """What is timed, and a sentence for each thing that was asked for and is not. Exports go to `home`.

    A bundle is timed as it is; a model in every runtime and precision that was asked for and exists.
    """
    from contrastill.loading import load_causal_model, model_folder
    from contrastill.machine import bf16_pays

    found: dict[tuple[str, str, str, int], Variant] = {}
    left_out: list[str] = []

    def add(
        model: str,
        runtime: str,
        precision: str,
        source: str,
        file_mb: float | None,
        exported: bool,
        new_tokens: int = 0,
    ) -> None:
        role = "teacher" if model == models[0][0] else "student"
        streams = [1, threads] if asked.streams and runtime == "openvino" and max(asked.batch) > 1 < threads else [1]
        for workers in streams:
            one = Variant(model, role, runtime, precision, workers, source, file_mb, exported, new_tokens)
            if one.key in found:
                other = Path(source).name
                left_out.append(f"{one}: given twice, so {other} is not timed; give it a name with --model NAME=FOLDER")
            found.setdefault(one.key, one)

    for name, source in models:
        if is_bundle(source):
            metadata = read_metadata(Path(source).expanduser())
            graph = sum(facts["bytes"] for file, facts in metadata["files"].items() if file.startswith("model."))
            add(name, metadata["runtime"], metadata["precision"], str(Path(source).expanduser()), graph / 1e6, False)
    for number, (name, source) in enumerate(models):
        if is_bundle(source):
            continue
        place = home / str(number)
        folder = random_model(source, place / "model") if source.startswith(RANDOM) else model_folder(source)
        exports, new_tokens = Exports(name, folder, place, texts), 0
        if writes_text(folder):
            load_causal_model(folder)
            new_tokens = asked.new_tokens
        elif not source.startswith(RANDOM):
            _ = exports.loaded  # what is no model is refused, and one of the Hub fetched, before anything is timed
        for runtime in asked.runtime or (["torch"] if asked.run else list(EXIST)):
            for precision in asked.precision:
                what = f"{RUNTIMES[runtime]} {precision}"
                if precision not in EXIST[runtime]:
                    left_out.append(f"{what}: {WHY_NOT[runtime, precision]}")
                elif precision == "bf16" and not bf16_pays():
                    left_out.append(f"{what}: this processor has no bfloat16 instructions")
                elif runtime == "torch":
                    add(name, "torch", precision, folder, weights_mb(folder), False, new_tokens)
                elif new_tokens:
                    left_out.append(f"{name}, {RUNTIMES[runtime]}: a language model, which is timed in PyTorch alone")
                elif (name, RUNTIMES[runtime], precision, 1) not in found:
                    try:
                        bundle = exports.bundle(runtime, precision)
                    except Exception as error:  # of the exporters too: what others can do is timed all the same
                        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                        left_out.append(f"{name}, {what}: {' '.join(text.split())[:300]}")
                    else:
                        graph = sum(file.stat().st_size for file in bundle.glob("model.*"))
                        add(name, RUNTIMES[runtime], precision, str(bundle), graph / 1e6, True)
    if not found:
        raise UserError("expected something to time, found nothing:\n" + "\n".join(left_out))
    return in_order(found.values(), [name for name, _ in models]), list(dict.fromkeys(left_out))


def in_order(found: Iterable[Variant], names: list[str]) -> list[Variant]:
    runtimes, precisions = [*RUNTIMES.values()], ["fp32", "bf16", "int8"]
    return sorted(
        found,
        key=lambda v: (names.index(v.model), runtimes.index(v.runtime), precisions.index(v.precision), v.workers),
    )


def weights_mb(folder: str) -> float | None:
    """The weights as they lie on disk; None for a model of the Hub, whose tensors are counted instead."""
    files = list(Path(folder).expanduser().rglob("*.safetensors"))
    return sum(file.stat().st_size for file in files) / 1e6 if files else None


class Exports:
    """Bundles of one model, made for the occasion without a gate; it is loaded and traced once, if at all."""

    def __init__(self, name: str, source: str, place: Path, texts: Sequence[Text]) -> None:
        self.name, self.source, self.place, self.texts = name, source, place, texts

    def bundle(self, runtime: str, precision: str) -> Path:
        """The folder.

        Raises:
            UserError: a package is missing, or the model cannot be exported.
        """
        from contrastill.exporting.graph import needed
        from contrastill.exporting.probes import Probes
        from contrastill.exporting.write import recipes_for, write_bundle

        needed(*(("openvino",) if runtime == "openvino" else ()), *(("nncf",) if precision == "int8" else ()))
        recipe = recipes_for(runtime, None)[0] if precision == "int8" else None
        folder = self.place / f"{runtime}-{precision}"
        logger.info("exporting %s for %s, %s", self.name, RUNTIMES[runtime], precision)
        probes = Probes(self.loaded.random_texts(1), "made-up texts")  # it must answer; nobody verifies it
        samples = self.samples if recipe else []
        write_bundle(self.loaded, self.graph, folder, runtime, precision, recipe, samples, probes)
        return folder

    @cached_property
    def loaded(self) -> Any:
        from contrastill.exporting import exportable

        return exportable(self.source, pairs=bool(self.texts) and not isinstance(self.texts[0], str))

    @cached_property
    def graph(self) -> Path:
        """In float32, as every export begins."""
        from contrastill.exporting.graph import to_onnx

        self.place.mkdir(exist_ok=True)
        to_onnx(self.loaded, self.place / "graph.fp32")
        return self.place / "graph.fp32"

    @cached_property
    def samples(self) -> list[Any]:
        """Texts to calibrate int8 on."""
        from contrastill.exporting.quantize import calibration

        texts: Any = self.texts or random_texts(self.loaded.tokenizer)
        return calibration(self.loaded, texts, CALIBRATION)


def random_texts(tokenizer: Any) -> list[str]:
    words = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
    drawn = np.random.default_rng(0).choice(words, (CALIBRATION, 32))
    return tokenizer.batch_decode(drawn.tolist())


def random_model(shape: str, folder: Path) -> str:
    """A classifier of two classes of this shape with random weights, BERT's vocabulary size, and made-up words.

    Raises:
        UserError: no shape that can be had.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForSequenceClassification, BertConfig, PreTrainedTokenizerFast, set_seed

    from contrastill.students import parse_shape, student_config

    base, wanted = BertConfig(), shape.removeprefix(RANDOM)
    config = base if wanted == "bert-base" else student_config(base, parse_shape(wanted, base))
    set_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = {word: n for n, word in enumerate([*special, *(f"w{n}" for n in range(base.vocab_size - len(special)))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {f"{token[1:-1].lower()}_token": token for token in special}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **names, model_max_length=base.max_position_embeddings
    ).save_pretrained(folder)
    return str(folder)
