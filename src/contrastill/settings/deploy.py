"""The settings of commands around training: teacher outputs, scores, bundles, servers, timing."""

from dataclasses import MISSING, dataclass
from typing import Any

from contrastill.errors import UserError
from contrastill.settings.base import (
    BATCH,
    COUNT,
    LENGTH,
    POINTS,
    ROWS,
    SECONDS,
    SEED,
    STORED,
    TARGET,
    THREADS,
    Checked,
    cache_option,
    delimiter_option,
    length_option,
    option,
)
from contrastill.settings.data import Corpus, DataSource, GateData

__all__ = ["Bench", "CacheBuild", "Evaluation", "Export", "Prediction", "Serving", "SuiteEvaluation", "Verification"]

SPLIT: dict[str, Any] = {"choices": ("train", "dev", "test")}


@dataclass(frozen=True, kw_only=True)
class CacheBuild(Corpus):
    """Run a teacher over a corpus, once."""

    teacher: str = option(
        MISSING,
        "Hub name or folder: a classifier, an encoder, or a sentence-embedding model",
        "Models",
        path=True,
    )
    fields: list[str] | None = option(
        None, "what to store: vector, logits, layer-N-tokens, layer-N-cls, layer-N-mean; once for each", "Cache"
    )
    cache: str | None = cache_option("the cache")
    cache_dtype: str = option("float16", **STORED)


@dataclass(frozen=True, kw_only=True)
class Evaluation(DataSource):
    """Score a model on labelled examples."""

    model: str = option(MISSING, "Hub name or folder of the model", "Models", path=True)
    split: str | None = option(
        None, "'train', 'dev' or 'test'; left out: test, else dev, else all of a file", "Data", **SPLIT
    )
    batch_size: int = option(64, "examples a step", "Evaluation", **BATCH)
    target: float | None = option(
        None, "share of right answers to reach: looks for the threshold below which to abstain", "Evaluation", **TARGET
    )
    oos: str | None = option(
        None, "file of texts that belong to no class: tells how well they are told apart", "Evaluation", path=True
    )
    max_length: int | None = length_option(512)


@dataclass(frozen=True, kw_only=True)
class SuiteEvaluation(Checked):
    """Score an embedding model on a suite of tasks."""

    model: str = option(MISSING, "Hub name or folder of the model", "Models", path=True)
    suite: str = option(
        MISSING, "'sts' (STS12-16, STS-B, SICK-R), or 'mteb' with --tasks", "Evaluation", choices=("sts", "mteb")
    )
    tasks: list[str] | None = option(None, "with --suite mteb: names of its tasks; once for each", "Evaluation")
    data: str | None = option(
        None, "folder of the suite's files; without one they are fetched from the Hub", "Data", path=True
    )
    batch_size: int = option(64, "texts at a time", "Evaluation", **BATCH)
    max_length: int | None = option(None, "longest input in tokens [default: the model's own]", "Data", **LENGTH)


@dataclass(frozen=True, kw_only=True)
class Serving(Checked):
    """Serve a bundle over HTTP."""

    bundle: str = option(MISSING, "folder that `contrastill export` wrote", "Model", path=True)
    threads: int | None = option(None, "CPU threads of the model [default: every core]", "Model", **THREADS)
    workers: int = option(1, "batches computed at a time; they share the threads", "Model", **THREADS)
    host: str = option(
        "127.0.0.1", "address to listen on; without a key, everyone who reaches it may send requests", "Server"
    )
    port: int = option(8000, "port to listen on; 0: any free one", "Server", at_least=0, at_most=65_535)
    api_key_file: str | None = option(
        None,
        "file of keys, one a line; each request must have one (Authorization: Bearer KEY) [default: the key in "
        "$CONTRASTILL_API_KEY, else none is needed]",
        "Server",
        path=True,
    )
    drain: float = option(30.0, "seconds to answer accepted requests after SIGTERM", "Server", **SECONDS)
    max_batch: int = option(32, "texts computed together", "Batches", **COUNT)
    max_wait_ms: float = option(
        0.0,
        "milliseconds that a text waits for others while the model is idle",
        "Batches",
        at_least=0,
        at_most=1000,
        unit="milliseconds",
    )
    max_connections: int = option(
        1000,
        "connections at a time, fewer if the process may open fewer files; beyond this, the one idle for longest is "
        "closed",
        "Limits",
        at_least=8,
        at_most=1_000_000,
    )
    max_requests: int = option(512, "requests at a time; more get a 503", "Limits", **COUNT)
    queue: int = option(256, "waiting texts; more get a 429", "Limits", **COUNT)
    max_texts: int = option(256, "texts in a request", "Limits", **COUNT)
    max_characters: int = option(20_000, "characters in a text", "Limits", **ROWS)
    max_body_mb: float = option(2.0, "size of a request's body", "Limits", above=0, at_most=1024, unit="MB")
    read_timeout: float = option(10.0, "seconds for a request's headers, and as many for its body", "Limits", **SECONDS)
    keep_alive: float = option(75.0, "seconds a connection is kept after an answer", "Limits", **SECONDS)
    timeout: float = option(
        30.0, "seconds to compute an answer, and as many for the client to read it", "Limits", **SECONDS
    )


@dataclass(frozen=True, kw_only=True)
class Export(GateData):
    """Export a model as one deployable file."""

    model: str = option(MISSING, "folder of the model or of the run that made it, or Hub name", "Model", path=True)
    to: str = option("onnx", "'onnx' (ONNX Runtime) or 'openvino'", "Model", choices=("onnx", "openvino"))
    precision: str = option("int8", "'fp32', 'bf16' (OpenVINO) or 'int8'", "Model", choices=("fp32", "bf16", "int8"))
    out: str | None = option(None, "folder of the bundle [default: RUN/exports/TO-PRECISION]", "Output", path=True)
    overwrite: bool = option(False, "replace the bundle in the output folder", "Output")
    dev: str | None = option(None, "file of development examples", "Data", path=True)
    texts: list[str] | None = option(
        None, "file of texts to calibrate on, once for each [default: the run's]", "Data", path=True
    )
    max_length: int | None = option(
        None, "longest input in tokens [default: the run's, or the model's own]", "Data", **LENGTH
    )
    max_drop: float = option(
        0.5, "largest loss in points of the metric; above it nothing is written", "Quality", **POINTS
    )
    max_drop_type: float | None = option(
        None,
        "of a tagger: largest loss in points of F1 of any type of entity; above it nothing is written [default: any]",
        "Quality",
        **POINTS,
    )
    target: float | None = option(
        None,
        "share of right answers to reach: below a threshold that is chosen on dev, answers say that they abstain",
        "Quality",
        **TARGET,
    )
    recipe: str | None = option(None, "recipe for int8 [default: the first that passes; see docs/export.md]", "Quality")
    calibration: int = option(300, "texts that int8 is calibrated on", "Quality", **COUNT)
    probes: str = option(
        "data",
        "texts kept in the bundle for `verify`: 'data' (some of the dev set) or 'made-up' words",
        "Quality",
        choices=("data", "made-up"),
    )
    trim: bool = option(False, "leave out pieces of words that occur in no calibration text", "Quality")
    opset: int = option(18, "ONNX operator set", "Model", at_least=18, at_most=99)
    seed: int = option(0, "seed of the draw of calibration texts", "Quality", **SEED)

    def check_together(self) -> None:
        if self.to == "onnx" and self.precision == "bf16":
            raise UserError(
                "--precision bf16: expected fp32 or int8 with --to onnx, as ONNX Runtime has no bfloat16 on the CPU; "
                "use --to openvino"
            )
        if self.recipe is not None and self.precision != "int8":
            raise UserError(f"--recipe: expected --precision int8 with it, got {self.precision}")


@dataclass(frozen=True, kw_only=True)
class Verification(GateData):
    """Check a bundle's files, answers and quality."""

    bundle: str = option(MISSING, "folder that `contrastill export` wrote", "Model", path=True)
    split: str | None = option(None, "'train', 'dev' or 'test'; left out: dev, else all of a file", "Data", **SPLIT)
    max_drop: float | None = option(
        None, "points the bundle may lose against the model [default: as exported]", "Quality", **POINTS
    )
    threads: int | None = option(None, "CPU threads [default: every core]", "Model", **THREADS)


@dataclass(frozen=True, kw_only=True)
class Prediction(Checked):
    """Answer the texts of a file."""

    model: str = option(
        MISSING, "bundle, folder of a model or of the run that made it, or Hub name", "Model", path=True
    )
    data: str = option(
        MISSING,
        "file of texts: a line each (.txt), or .csv .tsv .jsonl .parquet; each also as .gz .xz",
        "Data",
        path=True,
        rows=True,
    )
    text: str | None = option(None, "column of the (first) text [default: as in the model's run, else 'text']", "Data")
    text_pair: str | None = option(
        None, "column of the second text, for models of pairs [default: as in the model's run]", "Data"
    )
    keep: list[str] | None = option(
        None, "column to copy from the file to the answers; once for each [default: 'id', if there is one]", "Output"
    )
    encoding: str = option("utf-8", "encoding of the text files", "Data")
    delimiter: str | None = delimiter_option()
    skip_broken: bool = option(
        False,
        "leave out rows without a text and rows that cannot be read, and count them; each answer then has the "
        "number of its line",
        "Data",
    )
    out: str | None = option(
        None,
        "file of the answers: .jsonl, .csv, .tsv (each also as .gz .xz) or .parquet; '-': JSON lines on stdout "
        "[default: -]",
        "Output",
        path=True,
    )
    overwrite: bool = option(False, "replace an existing output file", "Output")
    top: int = option(1, "classes listed for each text, the likeliest first", "Output", **COUNT)
    probabilities: bool = option(False, "the probability of each class", "Output")
    batch_size: int = option(32, "texts computed together", "Model", **BATCH)
    max_length: int | None = option(
        None, "longest input in tokens, not for bundles [default: the run's, or the model's own]", "Model", **LENGTH
    )
    threads: int | None = option(None, "CPU threads [default: every core]", "Model", **THREADS)


@dataclass(frozen=True, kw_only=True)
class Bench(Checked):
    """Time models in turns."""

    model: list[str] | None = option(
        None,
        "Hub name or folder of a classifier, sentence-embedding model or language model, a bundle, or a shape with "
        "random weights (random:bert-base, random:4L-312); once for each, the first is the reference; NAME=FOLDER "
        "names it",
        "Models",
        path=True,
    )
    run: str | None = option(
        None,
        "a run's folder: its teacher, its student and the bundles in it, on its own dev texts",
        "Models",
        path=True,
    )
    runtime: list[str] | None = option(
        None,
        "torch, onnx, openvino; once for each [default: all three; torch and the bundles with --run]",
        "Models",
        choices=("torch", "onnx", "openvino"),
    )
    precision: list[str] = option(
        ["fp32", "bf16", "int8"],
        "fp32, bf16, int8; once for each [default: all three]",
        "Models",
        choices=("fp32", "bf16", "int8"),
    )
    streams: bool = option(
        True, "time OpenVINO's batches a second time, split over as many streams as there are threads", "Models"
    )
    texts: str | None = option(
        None, "file of texts, or Hub data set: times batches of texts as they are", "Texts", path=True
    )
    text: str | None = option(None, "column of the texts, if the file has columns", "Texts")
    encoding: str = option("utf-8", "encoding of the file", "Texts")
    delimiter: str | None = delimiter_option("Texts")
    limit: int | None = option(
        None, "texts that are drawn and timed [default: 256; of a language model's prompts 32]", "Texts", **ROWS
    )
    length: list[int] | None = option(
        None,
        "tokens of made-up texts; once for each [default: 128, or none with texts]",
        "Texts",
        **(LENGTH | {"at_least": 1}),
    )
    new_tokens: int = option(
        32,
        "tokens that a language model writes after each text, which is its prompt",
        "Texts",
        at_least=1,
        at_most=100_000,
        unit="tokens",
    )
    batch: list[int] = option([1, 32], "texts at a time; once for each [default: 1 and 32]", "Timing", **BATCH)
    threads: int | None = option(None, "CPU threads [default: every core]", "Timing", **THREADS)
    seconds: float = option(3.0, "time for each row, at least; slow models take longer", "Timing", **SECONDS)
    out: str | None = option(
        None, "file for the result as JSON [default with --run: RUN/bench.json]", "Output", path=True
    )
