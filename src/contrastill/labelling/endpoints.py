"""What an endpoint is asked and how its answers are read: OpenAI's chat completions, or `/predict` of our server.

Pure functions of a question and of JSON; nothing is sent here.
"""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from contrastill.errors import UserError, quoted, quoted_each
from contrastill.labelling.answers import Answer, Token, code_masses, named_class, without_thoughts
from contrastill.labelling.question import Question, Texts, codes_of

__all__ = ["TOP", "Chat", "Endpoint", "Malformed", "Server"]

TOP = 20
"""Tokens whose probabilities are asked for: the most that OpenAI and vLLM give."""
FEWER_TOP = 5
AROUND = 4
"""Tokens of an answer beside its code: quotes, a line end."""
FRAME = 20
"""Tokens of the JSON object around a class, with its spaces and line ends."""
FIELD = "class"
"""Its field."""


class Malformed(ValueError):
    """JSON of another form than the endpoint's answers have."""


class Endpoint(Protocol):
    """The requests of a protocol."""

    @property
    def classes(self) -> Collection[str]: ...
    @property
    def mode(self) -> str: ...
    @property
    def max_tokens(self) -> int: ...
    def settings(self) -> dict[str, Any]: ...
    def words(self, texts: Texts, turn: int) -> str: ...
    def request(self, texts: Texts, turn: int) -> dict[str, Any]: ...
    def read(self, answer: Any, turn: int) -> Answer: ...
    def other(self, refusal: str) -> "Endpoint | None": ...
    def doubt(self, answer: Answer) -> str | None: ...
    def without_logprobs(self) -> "Endpoint": ...


@dataclass(frozen=True)
class Chat:
    """OpenAI's chat completions.

    mode: "logprobs": classes are answered by codes, whose log-probabilities are asked for; "answers": by their names;
    "schema": by their names, in JSON that the endpoint holds to a schema. temperature, tokens: the user's. limit: the
    name of the field that bounds the answer. heated: whether a temperature is sent.
    """

    question: Question
    model: str
    mode: str
    temperature: float | None = None
    tokens: int | None = None
    top: int = TOP
    limit: str = "max_tokens"
    heated: bool = True

    @property
    def classes(self) -> Collection[str]:
        return self.question.classes

    @property
    def coded(self) -> bool:
        return self.mode == "logprobs"

    @property
    def max_tokens(self) -> int:
        if self.tokens is not None:
            return self.tokens
        names = codes_of(len(self.question.classes)) if self.coded else tuple(self.question.classes)
        longest = max(len(name.encode()) for name in names)  # a token has a byte or more
        return longest + (FRAME if self.mode == "schema" else AROUND)

    @property
    def heat(self) -> float:
        """The temperature: the user's, else 0 unless answers are to differ."""
        if self.temperature is not None:
            return self.temperature
        return 1.0 if self.question.repeats > 1 and not self.coded else 0.0

    def settings(self) -> dict[str, Any]:
        """The settings that answers depend on, for JSON."""
        question = self.question
        return {
            "model": self.model,
            "mode": self.mode,
            "labels": [[*pair] for pair in question.classes.items()],
            "prompt": question.template,
            "examples": [[texts if isinstance(texts, str) else [*texts], name] for texts, name in question.examples],
            "repeats": question.repeats,
            "temperature": self.temperature,
            "max_tokens": self.tokens,
        }

    def words(self, texts: Texts, turn: int) -> str:
        return self.question.words(texts, turn, coded=self.coded)

    def request(self, texts: Texts, turn: int) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": self.words(texts, turn)}],
            self.limit: self.max_tokens,
            **({"temperature": self.heat} if self.heated else {}),
            **({"logprobs": True, "top_logprobs": self.top} if self.coded else {}),
            **({"response_format": one_of(self.question.classes)} if self.mode == "schema" else {}),
        }

    def read(self, answer: Any, turn: int) -> Answer:
        """An answer's class.

        Raises:
            Malformed: it is no chat completion.
        """
        choice = got(answer, "choices", 0)
        said = got(choice, "message").get("content")
        if said is not None and not isinstance(said, str):
            raise Malformed(f"a text as content, got {quoted(said)}")
        said = said or ""
        label: str | None
        if self.coded:
            label, masses = code_masses(tokens_of(choice), self.question.codes(turn))
            found: dict[str, float] | None = masses
        else:
            name = field_of(said) if self.mode == "schema" else said
            label, found = named_class(name, list(self.question.classes)), None
        return Answer(
            label=label,
            said=said,
            probabilities=found,
            **usage_of(answer, "prompt_tokens", "completion_tokens"),
            cut=choice.get("finish_reason") == "length",
        )

    def other(self, refusal: str) -> "Chat | None":
        """The form to try after a refusal: models take other fields, and the messages name them."""
        said = refusal.lower()
        if self.limit == "max_tokens" and "max_completion_tokens" in said:
            return replace(self, limit="max_completion_tokens")
        if self.coded and "top_logprobs" in said and self.top > FEWER_TOP:
            return replace(self, top=FEWER_TOP)
        if self.heated and self.temperature is None and "temperature" in said:
            return replace(self, heated=False)
        return None

    def doubt(self, answer: Answer) -> str | None:
        """Why the first answer speaks against asking for log-probabilities; None: nothing does."""
        if not self.coded or answer.label is not None:
            return None
        if not answer.probabilities:
            return "no log-probabilities of the codes came back"
        return f"the answer was no code of a class, but {quoted(answer.said)}"

    def without_logprobs(self) -> "Chat":
        return replace(self, mode="answers")


@dataclass(frozen=True)
class Server:
    """`/predict` of `contrastill serve`: the probabilities of all classes.

    classes: those of the user; empty: the server's. model: the bundle's name, if the user gave it.
    """

    classes: tuple[str, ...] = ()
    model: str | None = None
    mode: str = "probabilities"
    max_tokens: int = 0

    def settings(self) -> dict[str, Any]:
        return {"model": self.model, "mode": self.mode, "labels": [[name, ""] for name in self.classes]}

    def words(self, texts: Texts, turn: int) -> str:
        return texts if isinstance(texts, str) else "\n".join(texts)

    def request(self, texts: Texts, turn: int) -> dict[str, Any]:
        return {
            "texts": [texts if isinstance(texts, str) else list(texts)],
            "probabilities": True,
            **({"model": self.model} if self.model is not None else {}),
        }

    def read(self, answer: Any, turn: int) -> Answer:
        """An answer's class.

        Raises:
            Malformed: it is no answer of a classifier.
            UserError: its classes are others than the user's.
        """
        found = got(answer, "predictions", 0)
        masses = got(found, "probabilities")
        label = found.get("label")
        if not isinstance(label, str):
            raise Malformed("one label a text, as a classifier answers")
        if not all(number(mass) is not None for mass in masses.values()):
            raise Malformed("a probability of each class")
        if self.classes and set(self.classes) != set(masses):
            raise UserError(f"--labels: expected the classes of the server, {quoted_each(masses)}; leave --labels out")
        return Answer(label, label, masses, **usage_of(answer, "tokens", None), cut=truncated(answer))

    def other(self, refusal: str) -> None:
        return None

    def doubt(self, answer: Answer) -> None:
        return None

    def without_logprobs(self) -> "Server":
        return self


# ---- answers by a schema


def one_of(classes: Collection[str]) -> dict[str, Any]:
    """The form of answers that holds them to {"class": "one of the classes"}."""
    schema = {
        "type": "object",
        "properties": {FIELD: {"type": "string", "enum": list(classes)}},
        "required": [FIELD],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def field_of(said: str) -> str:
    """The class of an answer in that form; of any other, the answer: some servers leave the form out without a word."""
    try:
        found = json.loads(without_thoughts(said))
    except (ValueError, RecursionError):
        return said
    name = found.get(FIELD) if isinstance(found, dict) else None
    return name if isinstance(name, str) else said


# ---- parts of an answer


def got(value: Any, name: str, place: int | None = None) -> dict[str, Any]:
    """An object in an answer, or one of a list of objects.

    Raises:
        Malformed: there is none.
    """
    found = value.get(name) if isinstance(value, dict) else None
    if place is not None:
        found = found[place] if isinstance(found, list) and len(found) > place else None
    if not isinstance(found, dict):
        raise Malformed(f"{name!r} in the answer, got {quoted(value, 200)}")
    return found


def number(value: Any) -> float | None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
    return float(value) if good else None


def tokens_of(choice: Mapping[str, Any]) -> list[Token]:
    """The tokens of an answer with their log-probabilities; [] if the endpoint gives none.

    Raises:
        Malformed: another form than OpenAI's.
    """
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if content is None:
        return []
    if not isinstance(content, list):
        raise Malformed(f"a list of tokens with log-probabilities, got {quoted(content, 200)}")
    return [Token(*token_of(one), tuple(map(token_of, one.get("top_logprobs") or ()))) for one in content]


def token_of(one: Any) -> tuple[str, float]:
    text, logprob = (one.get("token"), number(one.get("logprob"))) if isinstance(one, dict) else (None, None)
    if not isinstance(text, str) or logprob is None:
        raise Malformed(f"a token and its log-probability, got {quoted(one, 200)}")
    return text, logprob


def truncated(answer: Mapping[str, Any]) -> bool:
    """Whether our server cut the text at its model's length."""
    usage = answer.get("usage")
    return isinstance(usage, dict) and bool(usage.get("truncated"))


def usage_of(answer: Mapping[str, Any], sent: str, answered: str | None) -> dict[str, Any]:
    """The tokens that the endpoint counted, as fields of an `Answer`."""
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    counts = [number(usage.get(name)) if name else 0.0 for name in (sent, answered)]
    good = [int(count) if count is not None and 0 <= count < 1e12 else None for count in counts]
    return {"tokens_in": good[0] or 0, "tokens_out": good[1] or 0, "counted": None not in good}
