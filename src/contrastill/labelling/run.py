"""`contrastill label`: the different texts of a file, asked about once each, their answers stored as they come."""

import logging
import time
from pathlib import Path
from typing import Any

from contrastill.errors import UserError
from contrastill.labelling.asking import Asking
from contrastill.labelling.call import Call, Labelled
from contrastill.labelling.client import Client, address, read_key
from contrastill.labelling.endpoints import Chat, Endpoint, Server
from contrastill.labelling.limits import Budget, Pace
from contrastill.labelling.question import read_classes, read_question
from contrastill.labelling.store import Store, check_out
from contrastill.labelling.texts import Found, texts_of
from contrastill.memory import Held
from contrastill.settings import Labelling

__all__ = ["label"]

logger = logging.getLogger(__name__)

BYTES = 4.0  # of a token, for an estimate before any was counted
QUESTIONS = ("prompt", "examples", "temperature", "max_tokens")
"""Settings that `/predict` has no use for."""
MODES = {
    "logprobs": "probabilities of the classes, by the log-probabilities of their codes",
    "answers": "answers, read as names of classes",
    "schema": "names of classes, in JSON held to a schema",
    "probabilities": "probabilities of all classes, from the server",
}


def label(**settings: Any) -> Labelled:
    """Asks a language model for the class of each text of a file. Settings: see `Labelling`.

    Raises:
        UserError: bad settings, texts or key; the endpoint refuses the requests; the answers in `out` have others.
        KeyboardInterrupt: stopped; what was answered is stored.
    """
    asked = Labelling.given(settings)
    out = Path(asked.out).expanduser()
    check_out(out, None if isinstance(asked.data, Held) else Path(asked.data).expanduser())
    url = address(asked.endpoint)
    endpoint = endpoint_of(asked, url)
    found = texts_of(asked)
    if asked.dry_run:
        return estimated(asked, out, endpoint, found)
    key, variable = read_key(asked.key_variable, url, asked.plain_http)
    logger.info(
        "endpoint: %s, %s", url, f"with the key in ${variable}" if key else f"without a key (${variable} is not set)"
    )
    client = Client(url, key, asked.timeout)
    with Store(out, found.columns).opened(asked.overwrite) as store:
        return asked_for(asked, client, endpoint, found, store)


# ---- what is asked


def endpoint_of(asked: Labelling, url: str) -> Endpoint:
    """The protocol of an address, with its question.

    Raises:
        UserError: settings that do not go with it, or that it lacks.
    """
    if url.endswith("/predict"):
        if wrong := [f"--{name.replace('_', '-')}" for name in QUESTIONS if getattr(asked, name) is not None]:
            raise UserError(f"{', '.join(wrong)}: expected an API like OpenAI's with it, got /predict; leave it out")
        if asked.repeats > 1 or asked.mode != "auto":
            raise UserError("--repeats, --mode: expected an API like OpenAI's with them, got /predict; leave them out")
        return Server(tuple(read_classes(asked.labels)) if asked.labels is not None else (), asked.model)
    if asked.model is None:
        raise UserError("missing --model: the name of the model at the endpoint")
    mode = "logprobs" if asked.mode == "auto" else asked.mode
    return Chat(read_question(asked), asked.model, mode, asked.temperature, asked.max_tokens)


def recorded(url: str, endpoint: Endpoint, found: Found) -> dict[str, Any]:
    """The settings that answers depend on, and the address, as they are stored beside them."""
    return {"endpoint": url, "columns": [*found.columns], **endpoint.settings()}


def settled(asked: Labelling, endpoint: Endpoint, store: Store) -> tuple[Endpoint, bool]:
    """The endpoint in the mode of the stored answers, if no other was asked for, and whether the mode is still open."""
    auto = asked.mode == "auto" and store.settings is None
    if asked.mode == "auto" and store.settings is not None and store.settings.get("mode") == "answers":
        endpoint = endpoint.without_logprobs()
    return endpoint, auto


def started(asked: Labelling, endpoint: Endpoint, found: Found, store: Store) -> tuple[Labelled, list[Any]]:
    """The result before anything is asked, and the texts that the store lacks.

    Raises:
        UserError: the stored answers have other settings.
    """
    store.check(recorded(address(asked.endpoint), endpoint, found))
    pending = [texts for texts in found.texts if texts not in store.asked]
    made = Labelled(str(store.out), endpoint.mode, len(found.texts), len(found.texts) - len(pending), left=len(pending))
    made.too_long, made.skipped, made.classes = found.too_long, found.skipped, dict(store.counts.most_common())
    return made, pending


def estimated(asked: Labelling, out: Path, endpoint: Endpoint, found: Found) -> Labelled:
    """The result of a dry run: the first question, and tokens by the length of the questions."""
    store = Store(out, found.columns)
    if not asked.overwrite:
        store.read()
    endpoint, _ = settled(asked, endpoint, store)
    made, pending = started(asked, endpoint, found, store)
    made.prompt = endpoint.words(pending[0] if pending else found.texts[0], 0)
    size = sum(len(endpoint.words(texts, 0).encode()) for texts in pending)
    made.tokens_in = round(asked.repeats * size / BYTES)
    made.tokens_out = asked.repeats * endpoint.max_tokens * len(pending)
    budget = Budget(asked.price_in, asked.price_out, None, store.tokens)
    if budget.known:
        made.price, made.spent = budget.price(made.tokens_in, made.tokens_out), budget.spent
    return made


# ---- asking


def asked_for(asked: Labelling, client: Client, endpoint: Endpoint, found: Found, store: Store) -> Labelled:
    """Asks about each text that the store lacks.

    Raises:
        UserError: as `label` does.
    """
    endpoint, auto = settled(asked, endpoint, store)
    made, pending = started(asked, endpoint, found, store)
    if made.stored:
        logger.info("%d texts are in %s already, and not asked again", made.stored, store.out)
    budget = Budget(asked.price_in, asked.price_out, asked.max_price, store.tokens)
    asking = Asking(client, endpoint, Pace(asked.rate), budget, asked.repeats, asked.retries)
    begun = time.perf_counter()
    if pending:
        first = asking.first(pending[0], auto)
        made.mode = asking.endpoint.mode
        logger.info("mode: %s", MODES[made.mode])
        if not first.counted and budget.known:
            logger.warning("the endpoint counts no tokens (usage): the price is not known")
        if store.settings is None:
            store.begin(recorded(client.url, asking.endpoint, found), asked.overwrite)
        Call(asking, store, made).run(pending, first, asked.workers)
    made.seconds = round(time.perf_counter() - begun, 3)
    made.left -= made.answered + made.unanswered
    made.classes = dict(store.counts.most_common())
    made.tokens_in, made.tokens_out = budget.tokens_in, budget.tokens_out
    if budget.known:
        made.price, made.spent = budget.price(budget.tokens_in, budget.tokens_out), budget.spent
    return made
