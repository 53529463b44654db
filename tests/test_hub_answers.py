"""The Hub is asked once whether it answers; where it does not, nobody waits for it."""

import datasets
import pytest
from huggingface_hub import constants

from contrastill import hub
from contrastill.errors import UserError
from contrastill.loading import load_tokenizer


class Client:
    """Stands for the Hub's own. answers: of the attempts, one after the other; an exception is raised."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def head(self, url, timeout):
        self.asked.append((url, timeout, constants.HF_HUB_OFFLINE))
        if isinstance(answer := self.answers.pop(0), Exception):
            raise answer


@pytest.fixture
def client(monkeypatch):
    def set_up(*answers, offline=False):
        made = Client(*answers)
        monkeypatch.setattr("huggingface_hub.utils.get_session", lambda: made)
        monkeypatch.setattr(constants, "ENDPOINT", "https://huggingface.co")
        for where in constants, datasets.config:
            monkeypatch.setattr(where, "HF_HUB_OFFLINE", offline)
        for name, value in {"answered": None, "asked": 0.0, "WAITS": (0.0, 0.0)}.items():
            monkeypatch.setattr(hub, name, value)
        return made

    return set_up


LOST = ConnectionError("Name or service not known\nand more")


def test_a_hub_that_answers_is_asked_once(client, caplog):
    made = client(None)
    assert (hub.hub_answers(), hub.hub_answers()) == (True, True)
    assert made.asked == [("https://huggingface.co", hub.TIMEOUT, False)]
    assert not constants.HF_HUB_OFFLINE
    assert not caplog.records


def test_an_attempt_that_fails_is_repeated(client):
    made = client(LOST, LOST, None)
    assert hub.hub_answers()
    assert len(made.asked) == 3
    assert not constants.HF_HUB_OFFLINE


def test_without_an_answer_the_cache_alone_is_read_until_there_is_one(client, caplog, monkeypatch):
    made = client(LOST, LOST, LOST, LOST, None)
    assert not hub.hub_answers()
    assert (constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE) == (True, True)
    assert [record.getMessage() for record in caplog.records] == [
        "the Hugging Face Hub does not answer (Name or service not known): models and data sets come from its cache or "
        "from folders"
    ]
    assert not hub.hub_answers()  # within a minute
    assert len(made.asked) == 3
    monkeypatch.setattr(hub, "AGAIN", 0.0)
    assert not hub.hub_answers()
    assert len(made.asked) == 4  # one attempt, and nothing is said again
    assert len(caplog.records) == 1
    assert hub.hub_answers()
    assert (constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE) == (False, False)
    assert [offline for *_, offline in made.asked] == [False] * 5


def test_who_asks_for_no_network_gets_none(client, caplog):
    made = client(offline=True)
    assert not hub.hub_answers()
    assert constants.HF_HUB_OFFLINE
    assert (made.asked, caplog.records) == ([], [])


def test_a_model_that_is_nowhere_is_refused_without_further_requests(client):
    made = client(LOST, LOST, LOST)
    with pytest.raises(UserError, match="no tokenizer could be loaded from 'org/missing'"):
        load_tokenizer("org/missing")
    assert len(made.asked) == 3
