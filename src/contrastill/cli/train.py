"""Commands that train: finetune, distill, pretrain, contrast."""

from pathlib import Path
from typing import Any

import typer

from contrastill.cli.options import AS_JSON, FROM, RESUME, Kind, command, option_in, settings_of
from contrastill.cli.show import print_run, reporting
from contrastill.results import RunRecord
from contrastill.settings import (
    EMBEDDING_METHODS,
    Contrast,
    Distillation,
    EmbeddingDistillation,
    Finetuning,
    Pretraining,
)

__all__ = ["ON_A_TASK", "register"]

FINETUNE = """Train a model on labels: a teacher, or any classifier, regressor or tagger.

    Examples:

    contrastill finetune --model bert-base-uncased --data glue/mrpc --out runs/teacher

    contrastill finetune --model ./encoder --data intents.csv --text query --label intent --out runs/teacher
    """
DISTILL = """Distil a fine-tuned teacher into a small student, on the data of its task.

    Examples:

    contrastill distill --teacher runs/teacher/model --data glue/mrpc --out runs/student

    contrastill distill --teacher runs/teacher/model --data intents.csv --method kd --set temperature=4 --out runs/kd

    contrastill distill --teacher runs/teacher/model --data intents.csv --unlabelled more.txt --out runs/more

    contrastill distill --teacher runs/teacher/model --data intents.csv --student as-is --start ORG/ENCODER --out runs/o

    contrastill distill --teacher-outputs answers.jsonl --data intents.csv --student as-is --start ORG/ENCODER --out r

    contrastill distill --resume runs/student

    contrastill distill --from runs/student/run.json --seed 1 --out runs/student-1
    """
DISTILL_EMBEDDINGS = """Distil a sentence-embedding teacher into a small student, on any texts.

    Examples:

    contrastill distill --method disco --teacher ORG/EMBEDDER --texts sentences.txt.xz --out runs/disco

    contrastill distill --method leaf --teacher ORG/EMBEDDER --texts sentences.txt.xz --dev glue/stsb --out runs/leaf

    contrastill distill --method disco --teacher-outputs vectors.jsonl --student as-is --start ORG/ENCODER --out runs/o
    """
PRETRAIN = """Distil an encoder layer by layer on any texts, into a general student from which students of tasks start.

    Examples:

    contrastill pretrain --teacher sentence-transformers/all-mpnet-base-v2 --texts sentences.txt.xz --out runs/general

    contrastill distill --teacher runs/teacher/model --data glue/mrpc --start runs/general/student --out runs/student
    """
CONTRAST = """Train a sentence-embedding model contrastively, on pairs of texts or on texts alone.

    Examples:

    contrastill contrast --model runs/disco/student --pairs nli.csv --dev glue/stsb --out runs/contrast

    contrastill contrast --model runs/disco/student --pairs sentences.txt --unsupervised --out runs/simcse
    """


def embeds(words: list[str]) -> bool:
    """Whether a command line asks for sentence embeddings: by its method, else by texts where data would be."""
    method = option_in(words, "--method")
    if method is None or ":" in method:
        return option_in(words, "--texts") is not None
    return method in EMBEDDING_METHODS


ON_A_TASK = Kind(Distillation, DISTILL, "a distillation on a task", "--method lrc_bert")
OF_EMBEDDINGS = Kind(
    EmbeddingDistillation, DISTILL_EMBEDDINGS, "a distillation of sentence embeddings", "--method disco", embeds
)


def distillation_of(options: dict[str, Any], from_: Path | None, resume: Path | None) -> type:
    """The settings of the distillation that is asked for: its method, given or in the run it repeats, decides."""
    method, record = options["method"], resume / "run.json" if resume else from_
    if method is None and record is not None:
        method = RunRecord.read(record).setting("method", str)
    if method is None:
        return Distillation
    from contrastill.training import distillation

    return distillation(method)


def training_command(app: typer.Typer, name: str, *kinds: Kind) -> None:
    """`finetune`, `distill` and their like: the same steps around functions of those names."""

    def run(as_json: bool, from_: Path | None, resume: Path | None, **options: Any) -> None:
        with reporting(as_json) as show:
            settings = kinds[0].settings if len(kinds) == 1 else distillation_of(options, from_, resume)
            chosen = settings_of(settings, options, from_, resume, kinds)
            from contrastill import training

            made = getattr(training, name)(resume=resume is not None, **vars(chosen))
            result = {"folder": str(made.folder), "saved": str(made.model), **made.metrics}
            show(result, lambda: print_run(made.folder, made.model, made.result))

    run.__name__ = name
    command(app, run, kinds, AS_JSON, FROM, RESUME)


def register(app: typer.Typer) -> None:
    training_command(app, "finetune", Kind(Finetuning, FINETUNE))
    training_command(app, "distill", ON_A_TASK, OF_EMBEDDINGS)
    training_command(app, "pretrain", Kind(Pretraining, PRETRAIN))
    training_command(app, "contrast", Kind(Contrast, CONTRAST))
