"""The settings of commands around training: teacher outputs, scores, bundles, servers, timing."""

from dataclasses import MISSING, dataclass, field

from contrastill.errors import UserError
from contrastill.settings.base import option
from contrastill.settings.data import Corpus, DataSource, GateData

__all__ = ["Bench", "CacheBuild", "Evaluation", "Export", "Serving", "SuiteEvaluation", "Verification"]


@dataclass(frozen=True, kw_only=True)
class CacheBuild(Corpus):
    """Run a teacher over a corpus, once."""

    teacher: str = option(
        MISSING, "Hub name or folder: a classifier, an encoder, or a sentence-embedding model", "Models"
    )
    fields: list[str] | None = option(
        None, "what to store: vector, logits, layer-N-tokens, layer-N-cls, layer-N-mean; once for each", "Cache"
    )
    cache: str | None = option(
        None, "folder of the cache [default: $CONTRASTILL_CACHE or ~/.cache/contrastill]", "Cache"
    )
    cache_dtype: str = option("float16", "type the outputs are stored in: float16, bfloat16, int8 or float32", "Cache")


@dataclass(frozen=True, kw_only=True)
class Evaluation(DataSource):
    """Score a model on labelled examples."""

    model: str = option(MISSING, "Hub name or folder of the model", "Models")
    split: str | None = option(None, "'train', 'dev' or 'test'; left out: test, else dev, else all of a file", "Data")
    batch_size: int = option(64, "examples a step", "Evaluation")


@dataclass(frozen=True, kw_only=True)
class SuiteEvaluation:
    """Score an embedding model on a suite of tasks."""

    model: str = option(MISSING, "Hub name or folder of the model", "Models")
    suite: str = option(MISSING, "'sts' (STS12-16, STS-B, SICK-R), or 'mteb' with --tasks", "Evaluation")
    tasks: list[str] | None = option(None, "with --suite mteb: names of its tasks; once for each", "Evaluation")
    data: str | None = option(None, "folder of the suite's files; without one they are fetched from the Hub", "Data")
    batch_size: int = option(64, "texts at a time", "Evaluation")
    max_length: int | None = option(None, "longest input in tokens [default: the model's own]", "Data")


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Serve a bundle over HTTP."""

    bundle: str = option(MISSING, "folder that `contrastill export` wrote", "Model")
    threads: int | None = option(None, "CPU threads of the model [default: every core]", "Model")
    workers: int = option(1, "batches computed at a time; they share the threads", "Model")
    host: str = option("127.0.0.1", "address to listen on; whoever reaches it may ask", "Server")
    port: int = option(8000, "port to listen on; 0: any free one", "Server")
    drain: float = option(30.0, "seconds for what has been taken, after SIGTERM", "Server")
    max_batch: int = option(32, "texts computed together", "Batches")
    max_wait_ms: float = option(0.0, "how long a text waits for others while the model is idle", "Batches")
    max_requests: int = option(512, "requests in hand at a time; more get a 503", "Limits")
    queue: int = option(256, "texts that may wait; more get a 429", "Limits")
    max_texts: int = option(256, "texts in a request", "Limits")
    max_characters: int = option(20_000, "characters in a text", "Limits")
    max_body_mb: float = option(2.0, "size of a request's body", "Limits")
    timeout: float = option(30.0, "seconds for an answer; after that a 503", "Limits")

    def __post_init__(self) -> None:
        for name in ("workers", "max_requests", "max_batch", "queue", "max_texts", "max_characters"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')}: expected 1 or more, got {getattr(self, name)}")
        for name in ("max_body_mb", "timeout", "drain"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"--{name.replace('_', '-')}: expected more than 0, got {getattr(self, name)}")
        if not 0 <= self.max_wait_ms <= 1000:
            raise UserError(f"--max-wait-ms: expected 0 to 1000, got {self.max_wait_ms}")
        if not 0 <= self.port < 65536:
            raise UserError(f"--port: expected 0 to 65535, got {self.port}")


@dataclass(frozen=True, kw_only=True)
class Export(GateData):
    """Make one deployable file of a model."""

    model: str = option(MISSING, "folder of the model or of the run that made it, or Hub name", "Model")
    to: str = option("onnx", "'onnx' (ONNX Runtime) or 'openvino'", "Model")
    precision: str = option("int8", "'fp32', 'bf16' (OpenVINO) or 'int8'", "Model")
    out: str | None = option(None, "folder of the bundle [default: RUN/exports/TO-PRECISION]", "Output")
    overwrite: bool = option(False, "replace the bundle that the output folder holds", "Output")
    dev: str | None = option(None, "file of development examples", "Data")
    texts: list[str] | None = option(None, "file of texts to calibrate on, once for each [default: the run's]", "Data")
    max_length: int | None = option(None, "longest input in tokens [default: the run's, or the model's own]", "Data")
    max_drop: float = option(0.5, "points of the metric that may be lost; more, and nothing is written", "Quality")
    recipe: str | None = option(None, "one way to int8, instead of the first good one (see docs/export.md)", "Quality")
    calibration: int = option(300, "texts that int8 is calibrated on", "Quality")
    trim: bool = option(False, "leave out words that no text to calibrate on uses (WordPiece only)", "Quality")
    opset: int = option(18, "ONNX operator set", "Model")
    seed: int = option(0, "seed of the draw of calibration texts", "Quality")

    def __post_init__(self) -> None:
        for name, known in (("to", ("onnx", "openvino")), ("precision", ("fp32", "bf16", "int8"))):
            if getattr(self, name) not in known:
                raise UserError(f"--{name}: expected {' or '.join(known)}, got {getattr(self, name)!r}")
        if self.to == "onnx" and self.precision == "bf16":
            raise UserError(
                "--precision bf16: expected fp32 or int8 with --to onnx, as ONNX Runtime has no bfloat16 on the CPU; "
                "use --to openvino"
            )
        if not 0 <= self.max_drop <= 100:
            raise UserError(f"--max-drop: expected points from 0 to 100, got {self.max_drop}")
        if self.calibration < 1:
            raise UserError(f"--calibration: expected at least 1 text, got {self.calibration}")
        if self.recipe is not None and self.precision != "int8":
            raise UserError(f"--recipe: expected --precision int8 with it, got {self.precision}")


@dataclass(frozen=True, kw_only=True)
class Verification(GateData):
    """Check that a bundle is whole and still answers right."""

    bundle: str = option(MISSING, "folder that `contrastill export` wrote", "Model")
    split: str | None = option(None, "'train', 'dev' or 'test'; left out: dev, else all of a file", "Data")
    max_drop: float | None = option(None, "points that may be lost against the model [default: as exported]", "Quality")
    threads: int | None = option(None, "CPU threads [default: every core]", "Model")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Time models side by side."""

    model: list[str] | None = option(
        None,
        "Hub name or folder of a classifier or sentence-embedding model, a bundle, or a shape with random weights "
        "(random:bert-base, random:4L-312); once for each, the first is the yardstick; NAME=FOLDER names it",
        "Models",
    )
    run: str | None = option(
        None, "a run's folder: its teacher, its student and the bundles in it, on its own dev texts", "Models"
    )
    runtime: list[str] | None = option(
        None, "torch, onnx, openvino; once for each [default: all three; torch and the bundles with --run]", "Models"
    )
    precision: list[str] = field(
        default_factory=lambda: ["fp32", "bf16", "int8"],
        metadata={"help": "fp32, bf16, int8; once for each [default: all three]", "panel": "Models"},
    )
    streams: bool = option(
        True, "OpenVINO's batches a second time, split over as many streams as there are threads", "Models"
    )
    texts: str | None = option(None, "file of texts, or Hub data set: times batches of texts as they are", "Texts")
    text: str | None = option(None, "column of the texts, if the file has columns", "Texts")
    encoding: str = option("utf-8", "encoding of the file", "Texts")
    limit: int = option(256, "texts that are drawn and timed", "Texts")
    length: list[int] | None = option(
        None, "tokens of made-up texts; once for each [default: 128, or none with texts]", "Texts"
    )
    batch: list[int] = field(
        default_factory=lambda: [1, 32],
        metadata={"help": "texts at a time; once for each [default: 1 and 32]", "panel": "Timing"},
    )
    threads: int | None = option(None, "CPU threads [default: every core]", "Timing")
    seconds: float = option(3.0, "time for each row, at least; slow models take longer", "Timing")
    out: str | None = option(None, "file for the result as JSON [default with --run: RUN/bench.json]", "Output")

    def __post_init__(self) -> None:
        for name, known in (("runtime", ("torch", "onnx", "openvino")), ("precision", ("fp32", "bf16", "int8"))):
            for one in getattr(self, name) or []:
                if one not in known:
                    raise UserError(f"--{name}: expected one of {', '.join(known)}, got {one!r}")
        for name in ("batch", "length", "threads", "limit"):
            given = getattr(self, name)
            for number in given if isinstance(given, list) else [given]:
                if number is not None and number < 1:
                    raise UserError(f"--{name}: expected 1 or more, got {number}")
        if not 0 < self.seconds < float("inf"):
            raise UserError(f"--seconds: expected more than 0, got {self.seconds}")
