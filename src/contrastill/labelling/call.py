"""A call of `label`: the outcomes of its texts, one after the other, and its result."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from contrastill.errors import UserError, quoted
from contrastill.labelling.answers import Answer, combined
from contrastill.labelling.asking import Asking, Outcome, Stopped
from contrastill.labelling.question import Texts
from contrastill.labelling.store import Store
from contrastill.screen import progress

__all__ = ["Call", "Labelled"]

logger = logging.getLogger(__name__)

FAILURES = 3  # texts in a row without an answer, from which on the server is at fault
REFUSALS = 10  # texts in a row that the server refuses, from which on the texts are not at fault
SPEECHLESS = 10  # first texts of a call without a class, from which on the question is at fault


@dataclass
class Labelled:
    """Result of `label`.

    texts: different texts asked for; stored: of them, those answered by earlier calls; answered, unanswered: by this
    call; left: not asked, or failed. classes: class -> texts in the file. tokens_in, tokens_out, price: of this call,
    or in a dry run an estimate for what is left; spent: of all calls. price, spent: None without prices. stopped: why
    it ended early. prompt: the first question, in a dry run.
    """

    out: str
    mode: str
    texts: int
    stored: int
    answered: int = 0
    unanswered: int = 0
    left: int = 0
    too_long: int = 0
    skipped: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    price: float | None = None
    spent: float | None = None
    seconds: float = 0.0
    stopped: str | None = None
    prompt: str | None = None

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass
class Call:
    """The outcomes of a call, one after the other; it ends where the server or the question fails."""

    asking: Asking
    store: Store
    made: Labelled
    failed: list[str] = field(default_factory=list)
    trouble: int = 0
    truncated: int = 0
    error: BaseException | None = None

    def run(self, pending: Sequence[Texts], first: Answer, workers: int) -> None:
        """Asks about all texts. first: the first answer to the first of them.

        Raises:
            UserError: the server refuses, fails, or does not answer with classes.
            KeyboardInterrupt: stopped; what was answered until then is stored.
        """
        with progress(len(pending), "texts") as advance:
            try:
                self.take(self.asking.about(pending[0], first))
                advance(1)
                if self.error is None and not self.asking.stop.is_set():
                    self.asking.start(pending[1:], workers)
                for outcome in self.asking.arriving():
                    self.take(outcome)
                    advance(1)
            except KeyboardInterrupt:
                self.asking.stop.set()
                logger.warning("waiting for the answers to requests in flight; Ctrl-C again does without them")
                for outcome in self.asking.arriving():
                    self.take(outcome)
                raise KeyboardInterrupt(self.how_to_go_on()) from None
            finally:
                self.asking.stop.set()  # a full disk ends the threads too
        if self.error is not None and not isinstance(self.error, Stopped):
            if isinstance(self.error, UserError):
                raise UserError(f"{self.error}. {self.how_to_go_on()}") from None
            raise self.error
        if self.truncated:
            logger.warning("%d texts are longer than the server's model reads: their ends were cut", self.truncated)
        if self.failed:
            self.made.stopped = self.made.stopped or f"{len(self.failed)} texts failed, the last: {self.failed[-1]}"

    def how_to_go_on(self) -> str:
        count = sum(self.store.counts.values())
        return f"{count:,} answers are in {self.store.out}; the same call goes on from there"

    def take(self, outcome: Outcome) -> None:
        """Stores the outcome of one text, or ends the call."""
        if outcome.error is not None:
            if isinstance(outcome.error, Stopped) and str(outcome.error):
                self.made.stopped = self.made.stopped or str(outcome.error)
            if self.error is None or isinstance(self.error, Stopped):
                self.error = outcome.error
            self.asking.stop.set()
            return
        if outcome.problem and not outcome.refused:
            self.failed.append(outcome.problem)
        else:
            self.keep(outcome)
        self.trouble = self.trouble + 1 if outcome.problem else 0
        if self.trouble >= (REFUSALS if outcome.refused else FAILURES) and self.error is None:
            url, last = self.asking.client.url, outcome.problem
            self.end(f"{url}: expected answers, got none to {self.trouble} texts in a row, the last: {last}")

    def keep(self, outcome: Outcome) -> None:
        cells = combined(outcome.answers, self.asking.endpoint.classes) or {
            "reason": outcome.problem or "no class in the answer",
            "said": [answer.said for answer in outcome.answers],
        }
        cells["tokens_in"] = sum(answer.tokens_in for answer in outcome.answers)
        cells["tokens_out"] = sum(answer.tokens_out for answer in outcome.answers)
        self.store.add(outcome.texts, cells)
        if "label" in cells:
            self.made.answered += 1
            self.truncated += self.made.mode == "probabilities" and any(answer.cut for answer in outcome.answers)
            return
        self.made.unanswered += 1
        if not outcome.problem and not self.made.answered and self.made.unanswered == SPEECHLESS:
            cut = any(answer.cut for answer in outcome.answers)
            hint = "raise --max-tokens" if cut else "change --prompt, or choose another --model"
            hint += ", or pass --mode schema" if self.made.mode == "answers" else ""
            self.end(
                f"--labels: expected the name of a class in one of the first {SPEECHLESS} answers, got none, the last: "
                f"{quoted(outcome.answers[-1].said, 200)}; {hint}"
            )

    def end(self, message: str) -> None:
        self.error = UserError(message)
        self.asking.stop.set()
