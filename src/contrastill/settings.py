"""The settings of a run, a dataclass a command. Python keywords, command-line options and `run.json` come from it."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from contrastill.errors import UserError

__all__ = [
    "Bench",
    "CacheBuild",
    "Contrast",
    "Corpus",
    "DataSource",
    "Distillation",
    "EmbeddingDistillation",
    "Evaluation",
    "Export",
    "Finetuning",
    "Pretraining",
    "Serving",
    "Settings",
    "SuiteEvaluation",
    "Verification",
]


def option(default: Any, help: str, panel: str = "Training") -> Any:
    return field(default=default, metadata={"help": help, "panel": panel})


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """Where the examples come from."""

    data: str = option(
        MISSING,
        "glue/TASK, a Hub data set, a folder (GLUE's, or train/dev/test files), or a file (csv, tsv, jsonl, parquet)",
        "Data",
    )
    text: str | None = option(None, "column of the (first) text", "Data")
    text_pair: str | None = option(None, "column of the second text, for pairs", "Data")
    label: str | None = option(None, "column of the label or score", "Data")
    kind: str | None = option(None, "'classification' or 'regression', if it cannot be told from the labels", "Data")
    labels: list[str] | None = option(None, "class names in the order of their ids; once for each class", "Data")
    metric: str | None = option(None, "the metric that selects checkpoints, if not the task's first", "Data")
    dev: str | None = option(None, "file of development examples; without one, a share of train is held out", "Data")
    test: str | None = option(None, "file of test examples; evaluated once, at the end", "Data")
    dev_share: float = option(0.1, "share of train held out when there is no dev file", "Data")
    limit: int | None = option(None, "use at most this many training examples", "Data")
    encoding: str = option("utf-8", "encoding of the text files", "Data")
    max_length: int = option(128, "longest input in tokens; longer ones are cut", "Data")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every training run has."""

    out: str = option(
        MISSING, "folder for the run: student/, report.html, metrics.json, run.json, checkpoints/, log.jsonl", "Output"
    )
    epochs: float = option(4.0, "passes over the training texts")
    batch_size: int = option(32, "examples a step, over all processes")
    accumulate: int = option(1, "split each batch into this many parts, to save memory")
    learning_rate: float = option(5e-5, "highest learning rate")
    schedule: str = option("stages", "'stages' (hold, decay in the last stage), 'linear' or 'constant'")
    warmup: float = option(0.05, "share of the steps over which the learning rate rises")
    weight_decay: float = option(0.01, "AdamW's weight decay")
    max_grad_norm: float = option(1.0, "gradient clipping; 0: none")
    checks: int = option(10, "how often a run is evaluated on dev and saved")
    seed: int = option(0, "seed of the start, the order and dropout")
    precision: str = option("auto", "'bf16', 'fp32', or 'auto' (bf16 where the machine gains by it)")
    report_to: str = option("none", "tensorboard, wandb, mlflow, trackio… (as transformers' report_to)", "Output")
    overwrite: bool = option(False, "replace what the output folder holds", "Output")
    force: bool = option(False, "go on although a check before training failed", "Output")

    def __post_init__(self) -> None:
        for name, ok, wanted in (
            ("learning_rate", self.learning_rate > 0, "above 0"),
            ("warmup", 0 <= self.warmup < 1, "from 0 to below 1"),
            ("weight_decay", self.weight_decay >= 0, "of at least 0"),
            ("max_grad_norm", self.max_grad_norm >= 0, "of at least 0"),
            ("seed", 0 <= self.seed < 2**32, "from 0 to 2^32 - 1"),
        ):
            if not ok:
                raise UserError(f"expected a {name} {wanted}, got {getattr(self, name)}")

    def record(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, path: str | Path, **changes: Any) -> Self:
        """The settings in a `run.json`, some of them changed."""
        try:
            stored = json.loads(Path(path).read_text(encoding="utf-8"))["settings"]
            given: Mapping[str, Any] = {**stored, **changes}
            unknown = set(given) - {f.name for f in fields(cls)}
            required = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: expected the run.json of a finished or interrupted run ({error!r})") from None
        if unknown:
            raise UserError(f"{path}: settings that {cls.__name__.lower()} does not have: {sorted(unknown)}")
        if missing := required - set(given):
            raise UserError(f"{path}: expected the settings {sorted(missing)} too, found none")
        return cls(**given)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Where unlabelled texts come from."""

    texts: list[str] = option(
        MISSING,
        "file of texts (a line each; or .csv .tsv .jsonl .parquet with --text; .gz .xz), or Hub data set; once for "
        "each source",
        "Data",
    )
    text: str | None = option(None, "column of the texts, if the file has columns", "Data")
    limit: int | None = option(None, "read at most this many texts", "Data")
    encoding: str = option("utf-8", "encoding of the text files", "Data")
    max_length: int = option(128, "longest input in tokens; longer ones are cut", "Data")


@dataclass(frozen=True, kw_only=True)
class Finetuning(DataSource, Settings):
    """Train a model on labels: a teacher, or any classifier or regressor."""

    model: str = option(MISSING, "Hub name or folder of the model to fine-tune", "Models")


@dataclass(frozen=True, kw_only=True)
class Distillation(DataSource, Settings):
    """Make a small student of a fine-tuned teacher."""

    teacher: str = option(MISSING, "Hub name or folder of the fine-tuned teacher", "Models")
    method: str = option("lrc_bert", "distillation method (see `contrastill methods`)", "Models")
    student: str = option(
        "4L-312", "shape: 4L-312, 6L-768, 3L (layers of the teacher's width), or layers/hidden/heads/ffn", "Models"
    )
    start: str = option("inherit", "random, copy, inherit, or the folder of a distilled student", "Models")
    set: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "a setting of the method, as name=value", "panel": "Method"}
    )
    stages: dict[str, float] = field(
        default_factory=dict, metadata={"help": "a stage's share of the run, as name=share", "panel": "Method"}
    )
    perturb: str | None = option(
        None, "perturb the embeddings along the gradient: 'none' (as it is) or 'l2-per-token'", "Method"
    )
    epsilon: float = option(1.0, "size of the perturbation", "Method")
    unlabelled: str | None = option(
        None, "file of further texts without labels; they take part in every term but the hard one", "Data"
    )
    cache: str | None = option(
        None,
        "folder of stored teacher outputs, shared by all runs ($CONTRASTILL_CACHE, else ~/.cache/contrastill); "
        "'none': run the teacher in every step",
        "Cache",
    )
    cache_dtype: str = option("float16", "type they are stored in: float16, bfloat16, int8 or float32", "Cache")
    learning_rate: float = option(3e-4, "highest learning rate")


@dataclass(frozen=True, kw_only=True)
class EmbeddingDistillation(Corpus, Settings):
    """Make a small sentence-embedding student, on texts without labels."""

    teacher: list[str] = option(
        MISSING,
        "Hub name or folder of a sentence-embedding model; of several, the vectors are laid side by side",
        "Models",
    )
    method: str = option("disco", "distillation method (see `contrastill methods`)", "Models")
    student: str = option(
        "4L-312",
        "shape: 4L-312, 6L-768, 3L (layers of the teacher's width), or layers/hidden/heads/ffn; or, with a folder or "
        "Hub name as --start, 'as-is'",
        "Models",
    )
    start: str = option(
        "inherit",
        "random, copy, inherit, the folder of a pre-trained student, or with --student as-is any encoder",
        "Models",
    )
    pooling: str = option("mean", "a text's vector: 'mean' of its tokens, or 'cls'", "Models")
    projection: str = option(
        "compact",
        "what becomes of the projection to the teacher's space: 'compact' (the student's width, the angles of the "
        "teacher's space), 'keep' (the teacher's space: search the teacher's index), 'drop' (DisCo's code)",
        "Models",
    )
    set: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "a setting of the method, as name=value", "panel": "Method"}
    )
    dropout: float = option(0.0, "the student's dropout while it learns", "Method")
    dev: str | None = option(
        None,
        "scored pairs that select the checkpoint (glue/stsb, a folder or a file: two texts and a score); without them "
        "texts held out, and how many of the teacher's nearest neighbours among them are the student's too",
        "Data",
    )
    sts: str | None = option(
        None, "'hub', or a folder with the seven STS sets: the table beside the student at the end", "Data"
    )
    cache: str | None = option(
        None, "folder of the teacher's vectors [default: $CONTRASTILL_CACHE or ~/.cache/contrastill]", "Cache"
    )
    cache_dtype: str = option("float16", "type they are stored in: float16, bfloat16, int8 or float32", "Cache")
    epochs: float = option(1.0, "passes over the training texts")
    batch_size: int = option(128, "examples a step, over all processes")
    learning_rate: float = option(1e-3, "highest learning rate")
    schedule: str = option("linear", "'stages' (hold, decay in the last stage), 'linear' or 'constant'")


@dataclass(frozen=True, kw_only=True)
class Pretraining(Corpus, Settings):
    """Make a general student: an encoder distilled, layer by layer, on texts without labels."""

    teacher: str = option(MISSING, "Hub name or folder of an encoder (a sentence-embedding model is one too)", "Models")
    method: str = option("lrc_bert", "lrc_bert or tinybert: their terms that need no labels", "Models")
    student: str = option("4L-312", "shape: 4L-312, 6L-768, 3L, or layers/hidden/heads/ffn", "Models")
    start: str = option("inherit", "random, copy, inherit, or the folder of a student to go on with", "Models")
    set: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "a setting of the method, as name=value", "panel": "Method"}
    )
    dropout: float = option(0.0, "the student's dropout while it learns", "Method")
    cache: str | None = option(
        None, "folder of the student's start [default: $CONTRASTILL_CACHE or ~/.cache/contrastill]", "Cache"
    )
    half: bool = option(False, "save the weights as float16 (half the size; loads as float32)", "Output")
    epochs: float = option(1.0, "passes over the training texts")
    batch_size: int = option(128, "examples a step, over all processes")
    learning_rate: float = option(5e-4, "highest learning rate")
    schedule: str = option("linear", "'stages' (hold, decay in the last stage), 'linear' or 'constant'")


@dataclass(frozen=True, kw_only=True)
class Contrast(Settings):
    """Train a sentence-embedding model contrastively on pairs or triples, or without labels."""

    model: str = option(MISSING, "Hub name or folder of the sentence-embedding model", "Models")
    pairs: str = option(
        MISSING,
        "file (.csv .tsv .jsonl .parquet; .gz .xz) or Hub data set of texts that belong together: anchor, positive "
        "and, if there is one, hard negative; with --unsupervised a corpus of texts",
        "Data",
    )
    columns: list[str] | None = option(
        None,
        "their columns, in that order; once for each [default: the usual names]",
        "Data",
    )
    unsupervised: bool = option(False, "SimCSE: a text's positive is the text itself, under other dropout", "Method")
    scale: float = option(20.0, "what cosines are multiplied by (1 / temperature)", "Method")
    chunk: int | None = option(
        None, "texts in memory at once: large batches through a gradient cache, same gradient", "Method"
    )
    anchor: str | None = option(
        None, "keep to this teacher while learning (Hub name or folder; the start itself will do)", "Method"
    )
    anchor_weight: float = option(1.0, "weight of the anchor's term", "Method")
    cache: str | None = option(
        None, "folder of the anchor's vectors [default: $CONTRASTILL_CACHE or ~/.cache/contrastill]", "Cache"
    )
    dev: str | None = option(None, "scored pairs that select the checkpoint; without them the last one is kept", "Data")
    sts: str | None = option(
        None, "'hub', or a folder with the seven STS sets: the table beside the model at the end", "Data"
    )
    limit: int | None = option(None, "use at most this many rows", "Data")
    encoding: str = option("utf-8", "encoding of the text files", "Data")
    max_length: int = option(128, "longest input in tokens; longer ones are cut", "Data")
    epochs: float = option(1.0, "passes over the pairs")
    batch_size: int = option(128, "pairs a step, over all processes")
    schedule: str = option("linear", "'linear' or 'constant'")


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
class GateData:
    """Where the examples come from that say whether an exported file still answers right."""

    data: str | None = option(
        None, "labelled data (glue/TASK, folder, file), or scored pairs for an embedding model [default: the run's]",
        "Data",
    )  # fmt: skip
    text: str | None = option(None, "column of the (first) text", "Data")
    text_pair: str | None = option(None, "column of the second text, for pairs", "Data")
    label: str | None = option(None, "column of the label or score", "Data")
    metric: str | None = option(None, "the metric that is compared, if not the task's first", "Data")
    encoding: str | None = option(None, "encoding of the text files", "Data")


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
