"""The settings of `contrastill label`."""

from dataclasses import MISSING, dataclass
from typing import Any

from contrastill.errors import UserError
from contrastill.settings.base import COUNT, ROWS, SECONDS, Checked, delimiter_option, option

__all__ = ["Labelling"]

PRICE: dict[str, Any] = {"panel": "Limits", "at_least": 0, "at_most": 1_000_000}


@dataclass(frozen=True, kw_only=True)
class Labelling(Checked):
    """Ask a language model for the class of each text."""

    data: str = option(
        MISSING,
        "file of texts: a line each (.txt), or .csv .tsv .jsonl .parquet; each also as .gz .xz",
        "Data",
        path=True,
        rows=True,
    )
    text: str | None = option(None, "column of the (first) text [default: 'text']", "Data")
    text_pair: str | None = option(None, "column of the second text, for pairs", "Data")
    encoding: str = option("utf-8", "encoding of the text files", "Data")
    delimiter: str | None = delimiter_option()
    skip_broken: bool = option(
        False, "leave out rows without a text and rows that cannot be read, and count them", "Data"
    )
    limit: int | None = option(None, "ask about the first so many texts alone", "Data", **ROWS)
    max_characters: int | None = option(
        None, "leave out longer texts, and count them [default: each text is sent whole]", "Data", **ROWS
    )
    labels: list[str] | None = option(
        None,
        "class names, once for each; or one file: a name a line, its meaning behind a tab; not needed with /predict",
        "Question",
        path=True,
    )
    prompt: str | None = option(
        None,
        "file of the question: {labels} and {text} (and {text_pair}, {examples}) stand for these [default: as "
        "--dry-run shows]",
        "Question",
        path=True,
    )
    examples: str | None = option(
        None,
        "file of answered texts, shown with each question; its columns: the texts' and 'label'",
        "Question",
        path=True,
    )
    endpoint: str = option(
        MISSING,
        "address of an API like OpenAI's (https://api.openai.com/v1, http://localhost:11434/v1), or of `contrastill "
        "serve` (http://localhost:8000/predict)",
        "Model",
    )
    model: str | None = option(None, "name of the model at the endpoint; not needed with /predict", "Model")
    mode: str = option(
        "auto",
        "'logprobs' (probabilities of the classes), 'answers' (names of classes), 'schema' (names in JSON, which the "
        "endpoint holds to the classes), or 'auto' (logprobs, if the endpoint has them, else answers)",
        "Model",
        choices=("auto", "logprobs", "answers", "schema"),
    )
    repeats: int = option(
        1,
        "questions about each text: with logprobs in other orders of the classes, else at a temperature above 0; their "
        "mean or distribution is stored",
        "Model",
        at_least=1,
        at_most=1000,
    )
    temperature: float | None = option(
        None, "temperature of the answers [default: 0, and 1 for several answers]", "Model", at_least=0, at_most=2
    )
    max_tokens: int | None = option(
        None,
        "tokens of an answer; a model that thinks before it answers needs thousands [default: as many as a class's "
        "name can have]",
        "Model",
        **COUNT,
    )
    key_variable: str | None = option(
        None, "environment variable of the key [default: OPENAI_API_KEY, if there is one]", "Model"
    )
    plain_http: bool = option(
        False, "send the key to another machine over http://, where others can read it on the way", "Model"
    )
    workers: int = option(4, "requests at a time", "Limits", at_least=1, at_most=1024)
    rate: float | None = option(
        None, "requests a minute [default: as fast as answers come]", "Limits", above=0, at_most=1_000_000
    )
    timeout: float = option(60.0, "seconds to wait for an answer", "Limits", **SECONDS)
    retries: int = option(
        6, "further tries of a request that found no server, a busy or a broken one", "Limits", at_least=0, at_most=100
    )
    price_in: float | None = option(None, "price of a million tokens sent", **PRICE)
    price_out: float | None = option(None, "price of a million tokens answered", **PRICE)
    max_price: float | None = option(
        None, "most to spend on the answers in --out, earlier calls included; needs the prices", **PRICE
    )
    out: str = option(
        MISSING, "file of the answers: .jsonl; texts that are there are not asked again", "Output", path=True
    )
    overwrite: bool = option(False, "delete the answers in the output file, and begin anew", "Output")
    dry_run: bool = option(False, "ask nothing; show the first question, and estimate tokens and price", "Output")

    def check_together(self) -> None:
        if self.max_price is not None and None in (self.price_in, self.price_out):
            raise UserError("--max-price: expected --price-in and --price-out with it; give both, 0 for what is free")
        if self.repeats > 1 and self.mode in ("answers", "schema") and self.temperature == 0:
            raise UserError(
                "--repeats: expected a --temperature above 0 with several answers, got 0, at which all of them are the "
                "same; leave one out"
            )
        if len(set(self.labels or ())) < len(self.labels or ()):
            raise UserError("--labels: expected each class once, got one twice; leave the second out")
