"""The settings of training runs, a dataclass a command."""

from dataclasses import MISSING, asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Self

from contrastill.errors import UserError
from contrastill.results import RunRecord
from contrastill.settings.base import (
    BATCH,
    ROWS,
    SEED,
    STORED,
    Checked,
    cache_option,
    delimiter_option,
    length_option,
    option,
)
from contrastill.settings.data import TEXTS, Columns, Corpus, DataSource, PlaceOfTeacher
from contrastill.shapes import AS_IS, check_student

__all__ = [
    "EMBEDDING_METHODS",
    "Contrast",
    "Distillation",
    "EmbeddingDistillation",
    "Finetuning",
    "Pretraining",
    "Settings",
]

EMBEDDING_METHODS = ("congen", "disco", "leaf", "mse_kd", "rrd")
"""Methods for sentence embeddings, so that a help need not import them."""

EPOCHS: dict[str, Any] = {"above": 0, "at_most": 100_000}
RATE: dict[str, Any] = {"above": 0, "at_most": 1}  # AdamW's step is of the rate's size
WEIGHT: dict[str, Any] = {"above": 0, "at_most": 1_000_000}
SHAPE = (
    "shape: 4L-312, 6L-768, 3L (layers of the teacher's width), or layers/hidden/heads/ffn; then +e128 (narrower word "
    "tables) or +shared (one layer's weights for all), or both; or static-256 (word vectors without layers)"
)
METHOD = "distillation method (see `contrastill methods`), or your own: package.module:Class"

# Options of several commands, but for their defaults.
SCHEDULE: dict[str, Any] = {
    "help": "learning rate: 'stages' (constant, then decay in the last stage), 'linear' (one decay) or 'constant'",
    "choices": ("stages", "linear", "constant"),
}
DROPOUT: dict[str, Any] = {
    "help": "dropout of the student during training",
    "panel": "Method",
    "at_least": 0,
    "below": 1,
}
PERTURB: dict[str, Any] = {
    "help": "add a step along the gradient to the embeddings: 'none' (the raw gradient) or 'l2-per-token'",
    "panel": "Method",
    "choices": ("none", "l2-per-token"),
}
EPSILON: dict[str, Any] = {
    "help": "size of the perturbation: length of a token's step, or factor of the raw gradient (1 in LRC-BERT's paper)",
    "panel": "Method",
    **WEIGHT,
}
VOCABULARY: dict[str, Any] = {
    "help": "pieces of words that the saved model knows: 'all' of its tokenizer's, or those of the training 'texts' "
    "and single characters, which makes it smaller",
    "panel": "Models",
    "choices": ("all", "texts"),
}
STS: dict[str, Any] = {
    "help": "'hub', or a folder with the seven STS sets: score them at the end",
    "panel": "Data",
    "path": True,
}


@dataclass(frozen=True, kw_only=True)
class Settings(Checked):
    """Settings of every training run."""

    out: str = option(
        MISSING,
        "folder for the run: student/, report.html, metrics.json, run.json, checkpoints/, log.jsonl",
        "Output",
        path=True,
    )
    epochs: float | None = option(1.0, "passes over the training texts", **EPOCHS)
    batch_size: int = option(32, "examples a step, over all processes", **BATCH)
    accumulate: int = option(1, "split each batch into this many parts, which saves memory", **BATCH)
    learning_rate: float | None = option(5e-5, "highest learning rate", **RATE)
    schedule: str = option("stages", **SCHEDULE)
    warmup: float = option(0.05, "share of the steps over which the learning rate rises", at_least=0, below=1)
    weight_decay: float = option(0.01, "AdamW's weight decay", at_least=0, at_most=1000)
    max_grad_norm: float = option(1.0, "gradient clipping; 0: none", at_least=0, at_most=1_000_000)
    checks: int = option(10, "number of times that the run is scored on dev and saved", at_least=1, at_most=100_000)
    patience: int | None = option(
        None,
        "end after so many checks in a row without a better dev score; only those of the last stage count. The "
        "learning rate falls as in the whole run, and has not reached 0 then",
        at_least=1,
        at_most=100_000,
        unit="checks",
    )
    seed: int = option(0, "seed of initial weights, order of texts, and dropout", **SEED)
    precision: str = option(
        "auto",
        "'bf16', 'fp32', or 'auto' (bf16 where the machine computes it faster)",
        choices=("auto", "bf16", "fp32"),
    )
    report_to: str = option(
        "none", "experiment tracker: tensorboard, wandb, mlflow, trackio, … (as transformers' report_to)", "Output"
    )
    keep_checkpoints: bool = option(
        False, "keep checkpoints/, with the optimizer's state, when the run has finished", "Output"
    )
    overwrite: bool = option(False, "replace the run in the output folder", "Output")
    force: bool = option(False, "start although a check before training failed", "Output")

    def check_together(self) -> None:
        if self.patience is not None and self.patience >= self.checks:
            raise UserError(
                f"--patience: expected fewer checks than the run makes (--checks {self.checks}), got {self.patience}: "
                "it could not end the run"
            )

    def record(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, path: str | Path, **changes: Any) -> Self:
        """The settings in a `run.json`, some of them changed."""
        stored = RunRecord.read(path).settings
        try:
            return cls.given({**stored, **changes})
        except UserError as error:
            raise UserError(f"{path} and the options given: {error}" if changes else f"{path}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Labelled(Columns, Settings):
    """What runs on labelled rows have in common: their length and learning rate follow from data and model."""

    preset: str = option(
        "good",
        "length of the run: 'quick' (one pass, at least 60 steps), 'good' (4 passes, at least 200 steps) or 'best' "
        "(10 passes, at least 600 steps)",
        choices=("quick", "good", "best"),
    )
    minutes: float | None = option(
        None, "train for about so many minutes instead", above=0, at_most=100_000, unit="minutes"
    )
    epochs: float | None = option(
        None,
        "passes over the training texts, instead of --preset or --minutes [default: as many as --preset says]",
        **EPOCHS,
    )
    learning_rate: float | None = option(
        None, "highest learning rate [default: by the width of the trained model]", **RATE
    )
    vocabulary: str = option("all", **VOCABULARY)
    class_weights: str | None = option(
        None,
        "weights of the classes in the label loss: 'balanced' (rare classes count as much as common ones), or a JSON "
        "file, {class: weight}; with several labels a text they weigh the rows that have the label",
        path=True,
    )
    average: int | None = option(
        None,
        "keep the mean of the weights at the last so many checks (of the last stage), unless the best checkpoint leads "
        "it on dev by more than a standard error",
        at_least=2,
        at_most=1000,
        unit="checks",
    )

    def check_together(self) -> None:
        super().check_together()
        if self.average is not None and self.average > self.checks:
            raise UserError(
                f"--average: expected at most as many checks as the run makes (--checks {self.checks}), got "
                f"{self.average}; raise --checks"
            )


@dataclass(frozen=True, kw_only=True)
class Finetuning(Labelled, DataSource):
    """Train a model on labels: a teacher, or any classifier or regressor."""

    model: str = option(MISSING, "Hub name or folder of the model to fine-tune", "Models", path=True)
    head: str = option(
        "probe",
        "start of a head that is made new: 'probe' (fitted on the frozen encoder, if that tells anything; where rows "
        "are few and the mean of the tokens fits better than the first one, a layer that averages them is added), "
        "'probe-cls' (no layer is added) or 'random'",
        "Models",
        choices=("probe", "probe-cls", "random"),
    )


def check_one_teacher(asked: Any) -> None:
    """Checks that there is a model or a file of its answers, and a student that can be had from it.

    Raises:
        UserError: both or neither; a file, and a student's shape.
    """
    if bool(asked.teacher) == (asked.teacher_outputs is not None):
        raise UserError(
            "expected one of --teacher (a model) and --teacher-outputs (a file of its answers), got "
            + ("both; leave one out" if asked.teacher else "neither (see --help)")
        )
    if not asked.teacher and asked.student != AS_IS:
        raise UserError(
            f"--teacher-outputs names no model that a student of the shape {asked.student} could be made of: pass "
            f"--student {AS_IS} and --start with any encoder (a smaller one of it: contrastill pretrain --teacher "
            f"ENCODER --student {asked.student}, then --start that run)"
        )


@dataclass(frozen=True, kw_only=True)
class Distillation(Labelled, PlaceOfTeacher):
    """Make a small student of a fine-tuned teacher."""

    teacher: str | None = option(
        None, "folder of the fine-tuned teacher, or of the run that made it, or Hub name", "Models", path=True
    )
    teacher_outputs: str | None = option(
        None,
        "in place of --teacher: file (.jsonl .parquet .csv .tsv; .gz .xz) with a teacher's answers: texts, and "
        "probabilities, logits, top, labels, label with confidence, score or spans (docs/teacher-outputs.md)",
        "Models",
        path=True,
        rows=True,
    )
    method: str | None = option(
        None,
        f"{METHOD} [default: lrc_bert; kd with --teacher-outputs or for a student without layers]",
        "Models",
    )
    student: str = option(
        "4L-312",
        f"{SHAPE}; or, with a folder or Hub name as --start, 'as-is'",
        "Models",
    )
    start: str = option(
        "inherit",
        "random, copy, inherit, the folder of a distilled student, or with --student as-is any encoder, with its own "
        "tokenizer",
        "Models",
        path=True,
    )
    set: dict[str, Any] = option({}, "a setting of the method, as name=value", "Method")
    stages: dict[str, float] = option({}, "a stage's share of the run, as name=share", "Method", at_least=0, at_most=1)
    perturb: str | None = option(None, **PERTURB)
    epsilon: float = option(0.1, **EPSILON)
    unlabelled: str | None = option(
        None,
        "file of further texts without labels, used by every loss except the label loss",
        "Data",
        path=True,
        rows=True,
    )
    with_baseline: bool = option(
        False,
        "train the same student on the labels alone too, in OUT/baseline: same start, labelled rows, order and steps; "
        "scores and page have it beside the student (with --resume, of a finished run too)",
        "Method",
    )
    cache: str | None = option(
        None,
        "folder of stored teacher outputs, shared by all runs ($CONTRASTILL_CACHE, else ~/.cache/contrastill); "
        "'none': run the teacher in every step",
        "Cache",
        path=True,
    )
    cache_dtype: str = option("float16", **STORED)

    def check_together(self) -> None:
        super().check_together()
        check_one_teacher(self)
        check_student(self.student, self.start)
        if self.with_baseline and self.method == "finetune":
            raise UserError("--with-baseline: expected a method that distils, got 'finetune', the baseline itself")


@dataclass(frozen=True, kw_only=True)
class EmbeddingDistillation(Corpus, Settings):
    """Make a small sentence-embedding student, on texts without labels."""

    teacher: list[str] = option(
        [],
        "Hub name or folder of a sentence-embedding model; the vectors of several are concatenated",
        "Models",
        path=True,
    )
    teacher_outputs: str | None = option(
        None,
        "in place of --teacher: file (.jsonl .parquet .csv .tsv; .gz .xz) of texts and their vectors, such as an "
        "embeddings API gave (docs/teacher-outputs.md)",
        "Models",
        path=True,
        rows=True,
    )
    texts: list[str] = option([], f"{TEXTS} [default: those of --teacher-outputs]", "Data", path=True, rows=True)
    method: str = option("disco", METHOD, "Models")
    student: str = option(
        "4L-312",
        f"{SHAPE}; or, with a folder or Hub name as --start, 'as-is'",
        "Models",
    )
    start: str = option(
        "inherit",
        "random, copy, inherit, the folder of a pre-trained student, or with --student as-is any encoder",
        "Models",
        path=True,
    )
    pooling: str = option("mean", "a text's vector: 'mean' of its tokens, or 'cls'", "Models", choices=("mean", "cls"))
    projection: str = option(
        "compact",
        "projection to the teacher's space in the saved model: 'compact' (vectors of the student's width with the "
        "cosines of the teacher's space), 'keep' (vectors in the teacher's space, for an index built by the teacher), "
        "'drop' (the student's own space)",
        "Models",
        choices=("compact", "keep", "drop"),
    )
    vocabulary: str = option("all", **VOCABULARY)
    set: dict[str, Any] = option({}, "a setting of the method, as name=value", "Method")
    dropout: float = option(0.0, **DROPOUT)
    dev: str | None = option(
        None,
        "scored pairs that select the checkpoint (glue/stsb, a folder or a file: two texts and a score); by default "
        "agreement with the teacher on the nearest neighbours among held-out texts",
        "Data",
        path=True,
        rows=True,
    )
    sts: str | None = option(None, **STS)
    cache: str | None = cache_option("the teacher's vectors")
    cache_dtype: str = option("float16", **STORED)
    epochs: float = option(1.0, "passes over the training texts", **EPOCHS)
    batch_size: int = option(128, "examples a step, over all processes", **BATCH)
    learning_rate: float = option(1e-3, "highest learning rate", **RATE)
    schedule: str = option("linear", **SCHEDULE)

    def check_together(self) -> None:
        super().check_together()
        check_one_teacher(self)
        check_student(self.student, self.start)
        if not self.texts:
            if self.teacher_outputs is None:
                raise UserError("missing --texts (see --help)")
            object.__setattr__(self, "texts", [self.teacher_outputs])


@dataclass(frozen=True, kw_only=True)
class Pretraining(Corpus, Settings):
    """Make a general student: an encoder distilled, layer by layer, on texts without labels."""

    teacher: str = option(
        MISSING, "Hub name or folder of an encoder (a sentence-embedding model is one too)", "Models", path=True
    )
    method: str = option(
        "lrc_bert", "lrc_bert, tinybert, minilm or distilbert; only their terms without labels are used", "Models"
    )
    student: str = option(
        "4L-312",
        f"{SHAPE}; or, with a folder or Hub name as --start, 'as-is'",
        "Models",
    )
    start: str = option(
        "inherit",
        "random, copy, inherit, the folder of a student to go on with, or with --student as-is any encoder, with its "
        "own tokenizer",
        "Models",
        path=True,
    )
    set: dict[str, Any] = option({}, "a setting of the method, as name=value", "Method")
    dropout: float = option(0.0, **DROPOUT)
    cache: str | None = cache_option("the student's start")
    half: bool = option(False, "save the weights as float16: half the size; they load as float32", "Output")
    epochs: float = option(1.0, "passes over the training texts", **EPOCHS)
    batch_size: int = option(128, "examples a step, over all processes", **BATCH)
    learning_rate: float = option(5e-4, "highest learning rate", **RATE)
    schedule: str = option("linear", **SCHEDULE)

    def check_together(self) -> None:
        super().check_together()
        check_student(self.student, self.start)


@dataclass(frozen=True, kw_only=True)
class Contrast(Settings):
    """Train a sentence-embedding model contrastively on pairs or triples, or without labels."""

    model: str = option(MISSING, "Hub name or folder of the sentence-embedding model", "Models", path=True)
    pairs: str = option(
        MISSING,
        "file (.csv .tsv .jsonl .parquet; .gz .xz) or Hub data set of texts that belong together: anchor, positive "
        "and, if there is one, hard negative; with --unsupervised a corpus of texts",
        "Data",
        path=True,
        rows=True,
    )
    columns: list[str] | None = option(
        None,
        "columns of anchor, positive and hard negative, in that order; once for each [default: the usual names]",
        "Data",
    )
    unsupervised: bool = option(
        False, "SimCSE: the positive of a text is the same text under another dropout mask", "Method"
    )
    method: str = option(
        "simcse",
        "'simcse', or 'distillcse', which learns the anchor's similarities with noise and at temperatures of their own",
        "Method",
        choices=("simcse", "distillcse"),
    )
    scale: float = option(20.0, "factor of the cosines (1 / temperature)", "Method", above=0, at_most=10_000)
    chunk: int | None = option(
        None,
        "texts in memory at once: large batches by a gradient cache, with the same gradient",
        "Method",
        **BATCH,
    )
    anchor: list[str] | None = option(
        None,
        "teacher whose similarities the model keeps during training (Hub name or folder; may be the model itself); "
        "those of several are averaged",
        "Method",
        path=True,
    )
    anchor_weight: float = option(1.0, "weight of the anchor's term", "Method", **WEIGHT)
    set: dict[str, Any] = option({}, "another setting of the method, such as queue, as name=value", "Method")
    perturb: str | None = option(None, **PERTURB)
    epsilon: float = option(0.1, **EPSILON)
    cache: str | None = cache_option("the anchor's vectors")
    dev: str | None = option(
        None, "scored pairs that select the checkpoint; by default the last one is kept", "Data", path=True, rows=True
    )
    dev_share: float = option(
        0.1,
        "share of the pairs held out when there is no dev file, 500 at most: the page ranks them; 0 for none",
        "Data",
        at_least=0,
        at_most=0.5,
    )
    sts: str | None = option(None, **STS)
    limit: int | None = option(None, "use at most this many rows", "Data", **(ROWS | {"at_least": 2}))
    encoding: str = option("utf-8", "encoding of the text files", "Data")
    delimiter: str | None = delimiter_option()
    max_length: int | None = length_option(128)
    epochs: float = option(1.0, "passes over the pairs", **EPOCHS)
    batch_size: int = option(128, "pairs a step, over all processes", **(BATCH | {"at_least": 2}))
    schedule: str = option("linear", "'linear' or 'constant'", choices=("linear", "constant"))

    def __post_init__(self) -> None:
        if isinstance(self.anchor, str | PathLike):  # as in records of the time when there was one
            object.__setattr__(self, "anchor", [self.anchor])
        super().__post_init__()

    def check_together(self) -> None:
        super().check_together()
        if self.method == "distillcse" and self.anchor is None:
            raise UserError(
                "--method distillcse: expected a teacher whose similarities the model keeps, got none; give --anchor "
                "MODEL (it may be the model itself), or leave out --method"
            )
