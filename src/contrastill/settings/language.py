"""The settings of runs on language models."""

from dataclasses import MISSING, dataclass
from typing import Any

from contrastill.errors import UserError
from contrastill.settings.base import ROWS, STORED, Checked, delimiter_option, length_option, option
from contrastill.settings.data import DEV_SHARE, ENCODING, TENTH
from contrastill.settings.training import EPOCHS, METHOD, RATE, VOCABULARY, Finetuning, Settings
from contrastill.shapes import AS_IS, STARTS

__all__ = ["LANGUAGE_METHODS", "LanguageDistillation", "LanguageFinetuning", "Prompts", "finetuning"]

LANGUAGE_METHODS = ("atkd", "distillm", "gkd", "okd", "sft", "skd")
"""Methods for language models, so that a help need not import them."""
OF_TEACHER, OF_MODEL = 5e-4, 1e-4
"""Default learning rates: of a student that is made of its teacher, and of a language model as it is."""
METRICS = ("kl", "perplexity", "exact_match", "rouge_l", "own_nats")
LOGARITHMS: dict[str, Any] = {
    "help": "type the logarithms of its probabilities are stored in: float16, bfloat16 or float32",
    "choices": ("float16", "bfloat16", "float32"),
}
PIECES: dict[str, Any] = {
    "help": "pieces of words that student and teacher know from the first step on: 'all' of the tokenizer's, or "
    "those of the 'texts' of train, dev and test and single characters"
}
SELECT: dict[str, Any] = {"panel": "Data", "choices": METRICS}


@dataclass(frozen=True, kw_only=True)
class Prompts(Checked):
    """The source of prompts with answers."""

    data: str = option(
        MISSING,
        "prompts and answers: a Hub data set, a folder with train/dev/test files, or a file (csv, tsv, jsonl, parquet)",
        "Data",
        path=True,
        rows=True,
    )
    prompt: str | None = option(None, "column of the prompt", "Data")
    answer: str | None = option(None, "column of the answer", "Data")
    messages: str | None = option(
        None, "column of whole conversations (role, content); the last message is the answer", "Data"
    )
    chat: bool = option(False, "write prompts and answers by the tokenizer's chat template", "Data")
    dev: str | None = option(
        None, "file of development examples [default: a share of train is held out]", "Data", path=True, rows=True
    )
    test: str | None = option(None, "file of test examples, scored once, at the end", "Data", path=True, rows=True)
    dev_share: float | None = option(None, **(DEV_SHARE | {"help": f"{DEV_SHARE['help']} [default: {TENTH}]"}))
    limit: int | None = option(None, "use at most this many training examples", "Data", **ROWS)
    encoding: str = option("utf-8", **ENCODING)
    delimiter: str | None = delimiter_option()
    max_length: int | None = length_option(512)
    new_tokens: int | None = option(
        None,
        "longest answer that is written, in tokens [default: that of the training answers]",
        "Data",
        at_least=1,
        at_most=100_000,
        unit="tokens",
    )

    def reading(self) -> dict[str, Any]:
        """The keywords of `data.load_prompts` that are settings, without the source."""
        names = ("prompt", "answer", "messages", "dev", "test", "dev_share", "limit", "encoding", "delimiter")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class LanguageFinetuning(Prompts, Settings):
    """Train a language model on prompts with answers."""

    model: str = option(MISSING, "Hub name or folder of the language model to fine-tune", "Models", path=True)
    task: str = option("language", "'language'", "Data", choices=("language",))
    select: str = option("perplexity", "metric on dev that selects the checkpoint", **SELECT)
    epochs: float = option(3.0, "passes over the training texts", **EPOCHS)
    learning_rate: float = option(OF_MODEL, "highest learning rate", **RATE)

    def check_together(self) -> None:
        super().check_together()
        if self.select in ("kl", "own_nats"):
            raise UserError(
                f"--select {self.select}: expected a run with a teacher; choose perplexity, exact_match or rouge_l"
            )


@dataclass(frozen=True, kw_only=True)
class LanguageDistillation(Prompts, Settings):
    """Make a smaller language model of a language model."""

    teacher: str = option(MISSING, "Hub name or folder of the language model that teaches", "Models", path=True)
    method: str = option("gkd", METHOD, "Models")
    student: str = option(
        AS_IS,
        "number of the teacher's layers, taken evenly, such as 8L; layers/hidden/heads/ffn, with --start inherit or "
        "random; or 'as-is', with a folder or Hub name as --start",
        "Models",
    )
    start: str | None = option(
        None,
        "inherit (the teacher's weights, reduced to the student's shape), copy (whole layers of them), random, or with "
        "--student as-is any language model [default: inherit where the teacher's layers are known, else copy]",
        "Models",
        path=True,
    )
    vocabulary: str = option("all", **(VOCABULARY | PIECES))
    set: dict[str, Any] = option({}, "a setting of the method, as name=value", "Method")
    stages: dict[str, float] = option({}, "a stage's share of the run, as name=share", "Method", at_least=0, at_most=1)
    with_baseline: bool = option(
        False,
        "train the same student on the given answers alone too (sft), in OUT/baseline: same start, rows, order and "
        "steps; scores, samples and page have it beside the student (with --resume, of a finished run too)",
        "Method",
    )
    cache: str | None = option(
        None,
        "folder of stored teacher outputs, shared by all runs ($CONTRASTILL_CACHE, else ~/.cache/contrastill, for more "
        "than one pass over given answers); 'none': run the teacher in every step",
        "Cache",
        path=True,
    )
    cache_dtype: str = option("float16", **(STORED | LOGARITHMS))
    top_k: int = option(
        64,
        "likeliest words of the teacher that are stored for each token of a given answer, with the mass of all others; "
        "0: all words",
        "Cache",
        at_least=0,
        at_most=10_000_000,
        unit="words",
    )
    select: str = option("kl", "metric on dev that selects the checkpoint", **SELECT)
    epochs: float = option(3.0, "passes over the training texts", **EPOCHS)
    learning_rate: float | None = option(
        None,
        f"highest learning rate [default: {OF_TEACHER:g} for a student made of the teacher, {OF_MODEL:g} for one as it "
        "is]",
        **RATE,
    )

    @property
    def usual_rate(self) -> float:
        """The learning rate where none is given."""
        return OF_MODEL if self.student == AS_IS else OF_TEACHER

    def check_together(self) -> None:
        super().check_together()
        if self.student == AS_IS and self.start in (None, *STARTS):
            raise UserError(
                f"--student {AS_IS} takes a language model as it is: name its folder or Hub name with --start, got "
                f"{self.start or 'none'}; or give the number of layers to keep, such as --student 8L"
            )
        if self.student != AS_IS and self.start not in (None, *STARTS):
            raise UserError(
                f"--student {self.student}: expected --start copy, inherit or random, got {self.start!r}; with "
                f"--student {AS_IS} any language model can be the start"
            )
        if self.with_baseline and self.method == "sft":
            raise UserError("--with-baseline: expected a method that distils, got 'sft', the baseline itself")


def finetuning(task: Any) -> type[Finetuning] | type[LanguageFinetuning]:
    """The settings that a run of `finetune` on this task has."""
    return LanguageFinetuning if task == "language" else Finetuning
