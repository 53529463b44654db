"""Commands that train: finetune, distill, pretrain, contrast."""

from pathlib import Path
from typing import Any

import typer

from contrastill.cli.options import AS_JSON, FROM, RESUME, Kind, command, option_in, settings_of
from contrastill.cli.show import print_run, reporting
from contrastill.results import RunRecord
from contrastill.settings import (
    EMBEDDING_METHODS,
    LANGUAGE_METHODS,
    Contrast,
    Distillation,
    EmbeddingDistillation,
    Finetuning,
    LanguageDistillation,
    LanguageFinetuning,
    Pretraining,
    finetuning,
)

__all__ = ["ON_A_TASK", "register"]

FINETUNE = """Train a model on labels: a teacher, or any classifier, regressor or tagger.

    Examples:

    contrastill finetune --model bert-base-uncased --data glue/mrpc --out runs/teacher

    contrastill finetune --model ./encoder --data intents.csv --text query --label intent --out runs/teacher
    """
FINETUNE_LANGUAGE = """Train a language model on prompts with answers.

    Examples:

    contrastill finetune --task language --model ORG/LM --data dialogues.jsonl --chat --out runs/teacher

    contrastill finetune --task language --model ./lm --data qa.csv --prompt question --answer reply --out runs/teacher
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
DISTILL_LANGUAGE = """Distil a language model into a smaller one with the same tokenizer, on prompts with answers.

    Examples:

    contrastill distill --method gkd --teacher runs/teacher/model --student 8L --data qa.jsonl --out runs/student

    contrastill distill --method skd --teacher ORG/LM --student as-is --start ORG/SMALLER-LM --data qa.jsonl --out r
    """
PRETRAIN = """Distil an encoder layer by layer on any texts, into a general student from which students of tasks start.

    Examples:

    contrastill pretrain --teacher sentence-transformers/all-mpnet-base-v2 --texts sentences.txt.xz --out runs/general

    contrastill distill --teacher runs/teacher/model --data glue/mrpc --start runs/general/student --out runs/student

    contrastill pretrain --teacher ORG/ENCODER --student as-is --start ORG/SMALL-ENCODER --texts sentences.txt --out r
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


def speaks(words: list[str]) -> bool:
    """Whether a command line asks for a language model: by its task, or by its method."""
    return option_in(words, "--task") == "language" or option_in(words, "--method") in LANGUAGE_METHODS


ON_A_TASK = Kind(Distillation, DISTILL, "a distillation on a task", "--method lrc_bert")
OF_EMBEDDINGS = Kind(
    EmbeddingDistillation, DISTILL_EMBEDDINGS, "a distillation of sentence embeddings", "--method disco", embeds
)
OF_LANGUAGE = Kind(LanguageDistillation, DISTILL_LANGUAGE, "a distillation of a language model", "--method gkd", speaks)
ON_LABELS = Kind(Finetuning, FINETUNE, "a training on labels", "--task classification")
ON_ANSWERS = Kind(LanguageFinetuning, FINETUNE_LANGUAGE, "a training of a language model", "--task language", speaks)


def settings_asked_for(command: str, options: dict[str, Any], from_: Path | None, resume: Path | None) -> type:
    """The settings of the run that is asked for: its task or method, given or in the run it repeats, decides."""
    name, record = {"finetune": "task", "distill": "method"}[command], resume / "run.json" if resume else from_
    value = options[name]
    if value is None and record is not None:
        value = RunRecord.read(record).setting(name, str)
    if command == "finetune":
        return finetuning(value)
    if value is None:
        return Distillation
    from contrastill.training import distillation

    return distillation(value)


def training_command(app: typer.Typer, name: str, *kinds: Kind) -> None:
    """`finetune`, `distill` and their like: the same steps around functions of those names."""

    def run(as_json: bool, from_: Path | None, resume: Path | None, **options: Any) -> None:
        with reporting(as_json) as show:
            settings = kinds[0].settings if len(kinds) == 1 else settings_asked_for(name, options, from_, resume)
            chosen = settings_of(settings, options, from_, resume, kinds)
            from contrastill import training

            made = getattr(training, name)(resume=resume is not None, **vars(chosen))
            result = {"folder": str(made.folder), "saved": str(made.model), **made.metrics}
            show(result, lambda: print_run(made.folder, made.model, made.result))

    run.__name__ = name
    command(app, run, kinds, AS_JSON, FROM, RESUME)


def register(app: typer.Typer) -> None:
    training_command(app, "finetune", ON_LABELS, ON_ANSWERS)
    training_command(app, "distill", ON_A_TASK, OF_EMBEDDINGS, OF_LANGUAGE)
    training_command(app, "pretrain", Kind(Pretraining, PRETRAIN))
    training_command(app, "contrast", Kind(Contrast, CONTRAST))
