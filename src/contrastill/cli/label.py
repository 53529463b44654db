"""Commands that make training data: labels from a language model, further texts."""

from typing import Any

import typer

from contrastill.cli.options import AS_JSON, Kind, command, settings_of
from contrastill.cli.show import print_augmented, print_labelled, reporting
from contrastill.settings import Augmentation, Labelling

__all__ = ["register"]

LABEL = """Ask a language model for the class of each text of a file: an API like OpenAI's, vLLM, llama.cpp, Ollama.

    Each answer is written when it comes; the same call goes on where an earlier one ended. The key is read from
    $OPENAI_API_KEY. Exit code 1 if texts are left.

    Examples:

    contrastill label --data q.txt --labels classes.txt --endpoint http://localhost:11434/v1 --model M --out o.jsonl

    contrastill label --data q.csv --labels classes.txt --endpoint https://api.openai.com/v1 --model M --out o.jsonl

    contrastill label --data q.csv --text query --endpoint http://localhost:8000/predict --out o.jsonl
    """
AUGMENT = """Make further texts of training texts, by other words in place of some, for `distill --unlabelled`.

    They have no labels: the teacher labels them. The same call goes on where a killed one ended.

    Examples:

    contrastill augment --data intents.csv --model bert-base-uncased --out more.csv

    contrastill augment --model runs/teacher/model --copies 5 --out more.csv

    contrastill distill --teacher runs/teacher/model --unlabelled more.csv --method tinybert --out runs/student
    """


def label(as_json: bool, **options: Any) -> None:
    with reporting(as_json, transformers=False) as show:
        chosen = settings_of(Labelling, options)
        from contrastill.labelling import label as run

        made = run(**vars(chosen))
        show(made.to_json(), lambda: print_labelled(made))
        if made.left and not chosen.dry_run:
            raise typer.Exit(1)


def augment(as_json: bool, **options: Any) -> None:
    with reporting(as_json) as show:
        chosen = settings_of(Augmentation, options)
        from contrastill.augmenting import augment as run

        made = run(**vars(chosen))
        show(made.to_json(), lambda: print_augmented(made))


def register(app: typer.Typer) -> None:
    command(app, augment, Kind(Augmentation, AUGMENT), AS_JSON)
    command(app, label, Kind(Labelling, LABEL), AS_JSON)
