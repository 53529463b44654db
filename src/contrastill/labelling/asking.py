"""Asks about many texts at a time: threads that send requests, and one place where their outcomes arrive."""

import logging
import queue
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from contrastill.errors import UserError
from contrastill.labelling.answers import Answer
from contrastill.labelling.client import Client, Refused, Temporary
from contrastill.labelling.endpoints import Endpoint, Malformed
from contrastill.labelling.limits import Budget, Pace
from contrastill.labelling.question import Texts

__all__ = ["Asking", "Outcome"]

logger = logging.getLogger(__name__)

OF_ONE_TEXT = (400, 413, 422)
"""Statuses that may be about a text: too long, or refused by a filter. Others hold for every text."""
UNREADABLE = (400, 422)
"""Statuses of a server that does not know a field."""
SLOWEST = 60.0  # seconds between two tries
PATIENCE = 600.0  # seconds that a server may ask to wait
HINTS = {
    401: "check the key (--key-variable)",
    402: "the account has no credit left",
    403: "check the rights of the key (--key-variable)",
    404: "check --endpoint and --model",
    429: "the account has no credit left",
}


class Stopped(Exception):
    """The call ends before this request; `str` is the reason, "" if it is known."""


@dataclass(frozen=True)
class Outcome:
    """What came of one text: its answers, or why there is none.

    refused: by the server, for good. error: ends the call. Neither: it failed, and may be asked again.
    """

    texts: Texts
    answers: Sequence[Answer] = ()
    problem: str = ""
    refused: bool = False
    error: BaseException | None = None


@dataclass
class Asking:
    """The threads of a call.

    repeats: questions about each text. retries: further tries of a request.
    """

    client: Client
    endpoint: Endpoint
    pace: Pace
    budget: Budget
    repeats: int
    retries: int
    stop: threading.Event = field(default_factory=threading.Event)
    outcomes: "queue.Queue[tuple[Outcome, threading.Event] | None]" = field(default_factory=queue.Queue)
    running: int = 0

    # ---- one text

    def first(self, texts: Texts, auto: bool) -> Answer:
        """The first answer to the first text, by which the form of the requests is settled.

        auto: log-probabilities may be done without.

        Raises:
            UserError: the endpoint cannot be used so.
        """
        while True:
            try:
                answer = self.once(texts, 0, retries=0)
            except Refused as error:
                found = self.endpoint.other(error.message) if error.status in UNREADABLE else None
                if found is None and auto and self.endpoint.mode == "logprobs" and error.status in UNREADABLE:
                    logger.info("log-probabilities: the endpoint refuses them (%s)", error.message)
                    found, auto = self.endpoint.without_logprobs(), False
                if found is None:
                    raise refusal(self.client.url, error) from None
                self.endpoint = found
                continue
            except Temporary as error:
                raise UserError(
                    f"{self.client.url}: expected an answer to the first text, got none: {error}; check --endpoint, "
                    "and whether the server runs"
                ) from None
            except Stopped as error:
                raise UserError(f"--max-price: {error}") from None
            if (doubt := self.endpoint.doubt(answer)) is None:
                return answer
            if not auto:
                raise UserError(
                    f"--mode logprobs: expected log-probabilities of the classes' codes, but {doubt}; pass --mode "
                    "answers"
                )
            logger.info("log-probabilities: %s", doubt)
            self.endpoint, auto = self.endpoint.without_logprobs(), False

    def about(self, texts: Texts, *given: Answer) -> Outcome:
        """Asks about a text. given: answers that are there already."""
        answers = [*given]
        try:
            while len(answers) < self.repeats:
                answers.append(self.once(texts, len(answers), self.retries))
        except Temporary as error:
            return Outcome(texts, problem=str(error))
        except Refused as error:
            if error.status in OF_ONE_TEXT:
                return Outcome(texts, problem=str(error), refused=True)
            return Outcome(texts, error=refusal(self.client.url, error))
        except (Stopped, UserError) as error:
            return Outcome(texts, error=error)
        return Outcome(texts, answers)

    def once(self, texts: Texts, turn: int, retries: int) -> Answer:
        """One answer.

        Raises:
            Refused, Temporary: as the client does, after further tries. Stopped: the call ends.
        """
        content = self.endpoint.request(texts, turn)
        size = len(self.endpoint.words(texts, turn).encode())
        for tries in range(retries + 1):
            if (reserved := self.budget.reserve(size, self.endpoint.max_tokens)) is None:
                raise Stopped(self.budget.words())
            answer = None
            try:
                if not self.pace.wait(self.stop):
                    raise Stopped("")
                answer = self.endpoint.read(self.client.post(content), turn)
                return self.counted(answer)
            except (Temporary, Malformed) as error:
                last = error if isinstance(error, Temporary) else Temporary(f"expected {error}")
                if tries == retries or (last.wait or 0) > PATIENCE:
                    raise last from None
                if not self.waited(tries, last.wait or 0):
                    raise Stopped("") from None
            finally:
                counts = (answer.tokens_in, answer.tokens_out) if answer is not None else (0, 0)
                self.budget.settle(reserved, size, *counts)
        raise AssertionError("a try returns or raises")

    def counted(self, answer: Answer) -> Answer:
        if self.budget.most is not None and not answer.counted:
            raise UserError(
                "--max-price: expected an endpoint that counts tokens (usage), got an answer without a count; leave "
                "--max-price out"
            )
        return answer

    def waited(self, tries: int, asked: float) -> bool:
        """Waits before another try; False: stopped meanwhile. asked: seconds that the server wants all to wait."""
        self.pace.hold(asked)
        return not self.stop.wait(max(min(2.0**tries, SLOWEST) * random.uniform(0.5, 1), asked))

    # ---- many texts

    def start(self, texts: Sequence[Texts], workers: int) -> None:
        """Begins to ask; `arriving` gives the outcomes. A thread goes on once its outcome is taken, so that a kill
        loses no more answers than there are threads."""
        left, lock = iter(texts), threading.Lock()

        def work() -> None:
            try:
                while not self.stop.is_set():
                    with lock:
                        one = next(left, None)
                    if one is None:
                        break
                    outcome = self.about(one)
                    if outcome.error is not None:
                        self.stop.set()
                    taken = threading.Event()
                    self.outcomes.put((outcome, taken))
                    while not (taken.wait(0.1) or self.stop.is_set()):
                        pass
            except BaseException as error:
                self.outcomes.put((Outcome("", error=error), threading.Event()))
            finally:
                self.outcomes.put(None)

        self.running = min(workers, len(texts))
        for _ in range(self.running):
            threading.Thread(target=work, daemon=True).start()

    def arriving(self) -> Iterator[Outcome]:
        """The outcomes as they come, until every thread has ended."""
        while self.running:
            if (arrived := self.outcomes.get()) is None:
                self.running -= 1
                continue
            outcome, taken = arrived
            try:
                yield outcome
            finally:
                taken.set()


def refusal(url: str, error: Refused) -> UserError:
    """The error for a status that holds for every text."""
    hint = HINTS.get(error.status, "check --endpoint, --model and the options")
    return UserError(f"{url}: expected an answer, got {error.status}: {error.message}; {hint}")
