"""The settings of a run, a dataclass a command. Python keywords, command-line options and `run.json` come from it."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from contrastill.errors import UserError

__all__ = [
    "CacheBuild",
    "Contrast",
    "Corpus",
    "DataSource",
    "Distillation",
    "EmbeddingDistillation",
    "Evaluation",
    "Finetuning",
    "Pretraining",
    "Settings",
    "SuiteEvaluation",
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
        MISSING, "folder for the run: student/, metrics.json, run.json, checkpoints/, log.jsonl", "Output"
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
