"""The pieces of `label` that send nothing: questions, classes in answers, forms of requests, bounds."""

import math
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from chat_api import KEY, completion, token

from contrastill import UserError
from contrastill.labelling.answers import Answer, Token, code_masses, combined, named_class
from contrastill.labelling.client import Client, address, is_local, wait_of
from contrastill.labelling.endpoints import FEWER_TOP, Chat, Malformed, Server
from contrastill.labelling.limits import Budget, Pace
from contrastill.labelling.question import Question, codes_of, read_question
from contrastill.settings import Labelling

NEEDED: dict[str, Any] = {"data": "d.txt", "endpoint": "http://localhost/v1", "model": "m", "out": "o.jsonl"}


def asked(**settings: Any) -> Labelling:
    return Labelling(**(NEEDED | {"labels": ["card", "login"]} | settings))


# ---- codes


@pytest.mark.parametrize("count", [2, 26, 27, 77, 99, 100, 1000])
def test_no_code_begins_another(count: int) -> None:
    codes = codes_of(count)
    assert len(set(codes)) == count
    assert len({len(code) for code in codes}) == 1


def test_codes_move_on_from_one_repeat_to_the_next_and_each_class_keeps_one() -> None:
    question = Question("{labels}{text}", dict.fromkeys("abcd", ""), repeats=2)
    assert question.codes(0) == {"A": "a", "B": "b", "C": "c", "D": "d"}
    assert question.codes(1) == {"A": "c", "B": "d", "C": "a", "D": "b"}


def tokens(*parts: tuple[str, dict[str, float]]) -> list[Token]:
    return [Token(text, math.log(top[text]), tuple((t, math.log(p)) for t, p in top.items())) for text, top in parts]


def test_spellings_of_a_code_count_together_and_the_rest_is_left() -> None:
    top = {"A": 0.5, " A": 0.2, "b": 0.1, '"B': 0.05, "The": 0.1}
    label, masses = code_masses(tokens(("A", top)), {"A": "card", "B": "login"})
    assert label == "card"
    assert masses == pytest.approx({"card": 0.7, "login": 0.15})


def test_marks_before_the_code_are_passed_over() -> None:
    first, second = {'"': 0.8, "A": 0.1}, {"B": 0.9, "A": 0.05}
    label, masses = code_masses(tokens(('"', first), ("B", second)), {"A": "card", "B": "login"})
    assert label == "login"
    assert masses == pytest.approx({"card": 0.1 + 0.8 * 0.05, "login": 0.8 * 0.9})


@pytest.mark.parametrize("seed", range(20))
def test_codes_of_several_tokens_have_the_probability_of_their_path(seed: int) -> None:
    """Against a model of two digits written out: a table of the first digit, and one of the second for each first."""
    draw = random.Random(seed)
    codes = {code: f"class {code}" for code in codes_of(77)}

    def distribution() -> dict[str, float]:
        weights = {str(digit): draw.random() ** 3 + 1e-3 for digit in range(10)}
        return {digit: weight / sum(weights.values()) / 1.1 for digit, weight in weights.items()}

    first, second = distribution(), {str(digit): distribution() for digit in range(10)}
    one = draw.choice("0123456")
    two = draw.choice("123456")
    label, masses = code_masses(tokens((one, first), (two, second[one])), codes)
    assert label == codes[one + two]
    wanted = {}
    for a in first:
        for b in second[a]:
            if a == one and a + b in codes:
                wanted[codes[a + b]] = first[a] * second[a][b]
    assert masses == pytest.approx(wanted)
    assert sum(masses.values()) < 1


def test_a_whole_code_as_one_token_and_as_two_in_one_place() -> None:
    label, masses = code_masses(tokens(("07", {"07": 0.6, "12": 0.3, "0": 0.1})), {"07": "card", "12": "login"})
    assert (label, masses) == ("card", pytest.approx({"card": 0.6, "login": 0.3}))


@pytest.mark.parametrize("said", ["The", "C", "<think>"])
def test_another_answer_than_a_code_is_none(said: str) -> None:
    label, _ = code_masses(tokens((said, {said: 0.9, "A": 0.1})), {"A": "card", "B": "login"})
    assert label is None


def test_probabilities_rounded_up_by_the_server_are_at_most_one_in_all() -> None:
    _, masses = code_masses([Token("A", 0.001, (("B", 0.0),))], {"A": "card", "B": "login"})
    assert sum(masses.values()) == pytest.approx(1)


def test_no_tokens_no_answer() -> None:
    assert code_masses([], {"A": "card"}) == (None, {})


# ---- names

NAMES = ["card_arrival", "Lost card", "C", "C++", "c#", "10", "?"]


@pytest.mark.parametrize(
    ("said", "label"),
    [
        ("card_arrival", "card_arrival"),
        (' "Card_Arrival". ', "card_arrival"),
        ("Card arrival", "card_arrival"),
        ("- lost card\n", "Lost card"),
        ("**LOST-CARD**", "Lost card"),
        ("„Lost card“", "Lost card"),
        ("<think>card_arrival? no.\n</think>\n\nLost card", "Lost card"),
        ("C", "C"),
        ("c++", "C++"),
        ("C#", "c#"),
        ("`c`", None),  # of C, C++ and c#
        ("10", "10"),
        ("?", "?"),
        ("", None),
        ("...", None),
        ("<think>card_arrival", None),
        ("The class is card_arrival", None),
        ("card_arrival, Lost card", None),
        ("lost", None),
    ],
)
def test_an_answer_names_a_class_or_none(said: str, label: str | None) -> None:
    assert named_class(said, NAMES) == label


def test_one_answer_is_a_label_alone_several_are_a_distribution() -> None:
    one, other, none = Answer("a", "a"), Answer("b", "b"), Answer(None, "hm")
    assert combined([one]) == {"label": "a"}
    assert combined([one, other, one]) == {"probabilities": {"a": 0.666667, "b": 0.333333}, "label": "a"}
    assert combined([none, other]) == {"probabilities": {"b": 1.0}, "label": "b", "no_label": ["hm"]}
    assert combined([none, none]) is None
    assert combined([]) is None


def test_probabilities_of_all_classes_sum_to_one() -> None:
    answer = Answer("a", "A", {"a": 0.6, "b": 0.3})
    assert combined([answer], ["a", "b"]) == {"probabilities": {"a": 0.666667, "b": 0.333333}, "label": "a"}
    assert combined([answer], ["a", "b", "c"]) == {"probabilities": {"a": 0.6, "b": 0.3}, "label": "a"}


def test_probabilities_of_repeats_are_their_mean() -> None:
    first, second = Answer("a", "A", {"a": 0.9, "b": 0.1}), Answer("b", "B", {"a": 0.3, "b": 0.6, "c": 1e-9})
    assert combined([first, second]) == {"probabilities": {"a": 0.6, "b": 0.35}, "label": "a"}


# ---- questions


def test_a_question_in_full() -> None:
    question = read_question(asked())
    assert question.words("my {text}", coded=True) == (
        "Which of these classes does the text belong to?\n\nA. card\nB. login\n\n<text>\nmy {text}\n</text>\n\n"
        "Answer with the letter of one class, as it is written above, and nothing else."
    )
    assert "\n- card\n- login\n" in question.words("t", coded=False)
    assert "the name of one class" in question.words("t", coded=False)


def test_pairs_meanings_and_examples(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("yes\tthe second follows from the first\n\nno\n")
    (tmp_path / "examples.csv").write_text("a,b,label\nIt rains,It is wet,yes\nIt rains,It snows,no\n")
    settings = asked(
        labels=[str(tmp_path / "labels.txt")], examples=str(tmp_path / "examples.csv"), text="a", text_pair="b"
    )
    words = read_question(settings).words(("Snow", "Cold"), coded=True)
    assert "A. yes: the second follows from the first\nB. no\n" in words
    assert "Examples:\n<text>\nIt rains\n</text>\n<text>\nIt is wet\n</text>\nClass: A\n" in words
    assert "Class: B\n" in words
    assert "<text>\nSnow\n</text>\n<text>\nCold\n</text>\n\nAnswer" in words


def test_the_codes_of_examples_follow_the_turn(tmp_path: Path) -> None:
    (tmp_path / "examples.csv").write_text("text,label\nhello,login\n")
    question = read_question(asked(examples=str(tmp_path / "examples.csv"), repeats=2))
    assert "Class: B\n" in question.words("t", 0, coded=True)
    assert "Class: A\n" in question.words("t", 1, coded=True)
    assert "Class: login\n" in question.words("t", 1, coded=False)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("Classify {text}", r"expected \{labels\} in the question"),
        ("Which of {labels}?", r"expected \{text\} in the question"),
        ("{label} {labels} {text}", r"got '\{label\}'"),
        ("{labels} {text} {text_pair}", r"got '\{text_pair\}'"),
    ],
)
def test_a_template_without_its_places_is_refused(template: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text(template)
    with pytest.raises(UserError, match=message):
        read_question(asked(prompt=str(tmp_path / "prompt.txt")))


def test_a_template_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text('Reply in {"json": no}.\n{labels}\n{text}\n')
    words = read_question(asked(prompt=str(tmp_path / "prompt.txt"))).words("{labels}", coded=False)
    assert words.startswith('Reply in {"json": no}.\n- card\n- login\n{labels}\n\nAnswer')


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "missing --labels"),
        (["nowhere.txt"], "is no such file"),
        (["a", "a "], "'a' twice"),
        ([str(n) for n in range(1001)], "2 to 1,000 classes, got 1,001"),
    ],
)
def test_classes_that_cannot_be_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_question(asked(labels=labels))


def test_examples_of_other_classes_are_refused_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "examples.csv").write_text("text,label\nhello,login\nbye,logout\n")
    with pytest.raises(UserError, match=r"line 3: expected one of the classes 'card', 'login'.*'logout'"):
        read_question(asked(examples=str(tmp_path / "examples.csv")))
    (tmp_path / "examples.csv").write_text("text\nhello\n")
    with pytest.raises(UserError, match=r"'label'"):
        read_question(asked(examples=str(tmp_path / "examples.csv")))


# ---- requests and answers


def chat(**settings: Any) -> Chat:
    return Chat(Question("{labels} {text}", {"card": "", "login": ""}), "m", **({"mode": "logprobs"} | settings))


def test_a_request_asks_for_what_the_mode_needs() -> None:
    coded = chat().request("t", 0)
    assert (coded["logprobs"], coded["top_logprobs"], coded["temperature"], coded["max_tokens"]) == (True, 20, 0.0, 5)
    named = chat(mode="answers").request("t", 0)
    assert "logprobs" not in named
    assert named["max_tokens"] == len("login") + 4
    assert chat(mode="answers", temperature=0.3, tokens=99).request("t", 0)["temperature"] == 0.3


def test_a_schema_holds_answers_to_the_classes() -> None:
    held = chat(mode="schema")
    request = held.request("t", 0)
    form = request["response_format"]["json_schema"]
    assert form["strict"]
    assert form["schema"]["properties"]["class"]["enum"] == ["card", "login"]
    assert "logprobs" not in request
    assert request["max_tokens"] > len('{\n  "class": "login"\n}')
    for said in (
        '{"class": "login"}', '<think>Card?</think>\n{\n  "class": "login"\n}', "Login.",  # the last: held to nothing
    ):  # fmt: skip
        assert held.read(completion(said), 0).label == "login"
    for said in ('{"class": "other"}', '{"class": null}', '["login", "card"]', "{" * 9, '{"name": "login"}', ""):
        assert held.read(completion(said), 0).label is None


def test_several_answers_are_asked_for_at_a_temperature_above_0() -> None:
    question = Question("{labels} {text}", {"card": "", "login": ""}, repeats=3)
    assert Chat(question, "m", "answers").request("t", 0)["temperature"] == 1
    assert Chat(question, "m", "logprobs").request("t", 0)["temperature"] == 0


def test_a_refusal_that_names_a_field_leads_to_another_form() -> None:
    first = chat()
    newer = first.other("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
    assert newer is not None
    assert newer.request("t", 0)["max_completion_tokens"] == 5
    assert "max_tokens" not in newer.request("t", 0)
    fewer = newer.other("top_logprobs must be at most 5")
    assert fewer is not None
    assert fewer.request("t", 0)["top_logprobs"] == FEWER_TOP
    cold = fewer.other("'temperature' does not support 0 with this model")
    assert cold is not None
    assert "temperature" not in cold.request("t", 0)
    assert cold.other("max_completion_tokens, top_logprobs, temperature") is None
    assert chat(temperature=0.5).other("temperature") is None, "what the user asks for is not left out in silence"


def test_an_answer_is_read() -> None:
    found = chat().read(completion("A", [token("A", {"A": 0.8, "B": 0.1})]), 0)
    assert (found.label, found.tokens_in, found.tokens_out, found.counted) == ("card", 100, 2, True)
    assert found.probabilities == pytest.approx({"card": 0.8, "login": 0.1})
    assert not chat(mode="answers").read(completion("card", usage=None), 0).counted
    assert chat(mode="answers").read(completion("", finish="length"), 0).cut
    assert chat().read(completion("A"), 0).label is None
    assert chat().doubt(chat().read(completion("A"), 0)) == "no log-probabilities of the codes came back"


@pytest.mark.parametrize(
    "answer",
    [
        None, [], "text", {}, {"choices": []}, {"choices": [None]}, {"choices": [{"message": "card"}]},
        {"choices": [{"message": {"content": 7}}]}, {"error": "busy"},
        {"choices": [{"message": {"content": "A"}, "logprobs": {"content": "A"}}]},
        {"choices": [{"message": {"content": "A"}, "logprobs": {"content": ["A"]}}]},
        {"choices": [{"message": {"content": "A"}, "logprobs": {"content": [{"token": "A", "logprob": None}]}}]},
        {"choices": [{"message": {"content": "A"}, "logprobs": {"content": [{"token": "A", "logprob": math.nan}]}}]},
        {"choices": [{"message": {"content": "A"}, "logprobs": {"content": [{"token": 1, "logprob": -1}]}}]},
    ],
)  # fmt: skip
def test_json_of_another_form_is_malformed(answer: Any) -> None:
    with pytest.raises(Malformed):
        chat().read(answer, 0)


@pytest.mark.parametrize("usage", [None, [], {"prompt_tokens": "7"}, {"prompt_tokens": -1, "completion_tokens": 1}])
def test_a_count_that_is_none_is_said(usage: Any) -> None:
    assert not chat(mode="answers").read(completion("card") | {"usage": usage}, 0).counted


def test_the_answer_of_our_server_is_read() -> None:
    server = Server(("card", "login"))
    prediction = {"label": "card", "score": 0.9, "probabilities": {"card": 0.9, "login": 0.1}}
    found = server.read({"predictions": [prediction], "usage": {"tokens": 7, "truncated": 1}}, 0)
    assert (found.label, found.tokens_in, found.cut) == ("card", 7, True)
    assert server.request(("a", "b"), 0) == {"texts": [["a", "b"]], "probabilities": True}
    with pytest.raises(UserError, match="the classes of the server, 'card', 'login'"):
        Server(("card", "x")).read({"predictions": [prediction]}, 0)
    for wrong in ({"labels": ["card"], "probabilities": {"card": 1}}, {"score": 1.0}, {"label": "a"}):
        with pytest.raises(Malformed):
            server.read({"predictions": [wrong]}, 0)


# ---- addresses and bounds


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1/chat/completions"),
        ("http://localhost:8000", "http://localhost:8000/v1/chat/completions"),
        ("http://h/openai/v1/chat/completions", "http://h/openai/v1/chat/completions"),
        ("http://localhost:8000/predict", "http://localhost:8000/predict"),
        ("http://[::1]:8000/predict/", "http://[::1]:8000/predict"),
    ],
)
def test_an_address(given: str, found: str) -> None:
    assert address(given) == found


@pytest.mark.parametrize(
    "given",
    [
        *("localhost:8000", "ftp://host/v1", "https://", "/v1", "http://host:99999/v1", "http://host:0/v1", "none"),
        *("http://ho st/v1", "http://[::1/v1", "file:///etc/passwd", "http://höst/v1", "http://host/a\r\nb"),
    ],
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(UserError, match="--endpoint: expected an address such as"):
        address(given)


@pytest.mark.parametrize("given", ["https://me:sk-1234@host/v1", "https://host/v1?key=sk-1234", "https://h/v1#sk-1234"])
def test_a_key_in_an_address_is_refused_and_not_shown(given: str) -> None:
    with pytest.raises(UserError, match="without user name") as refused:
        address(given)
    assert "1234" not in str(refused.value)
    with pytest.raises(UserError) as other:
        address(given.replace("https", "ftp"))
    assert "1234" not in str(other.value)


@pytest.mark.parametrize(
    "form", ['{{"a": "{0}"}}', '{{"a": "{0}"', "{0}", '{{"message": "{0}"}}', '["{0}"]', '{{"{0}": 1}}']
)
def test_the_key_is_taken_out_of_what_a_server_says(form: str) -> None:
    to = Client("http://localhost/v1", KEY, 1)
    escaped = "".join(f"\\u{ord(letter):04X}" for letter in KEY)
    for said in (KEY, escaped, KEY[:5] + escaped[30:]):
        shown = to.message(form.format(said).encode())
        assert "[key]" in shown
        assert "SECRET" not in shown
        assert "u0052" not in shown
    assert KEY not in repr(to) + str(vars(to).keys())


def test_this_machine_is_known() -> None:
    assert all(map(is_local, ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1"]))
    assert not any(map(is_local, ["localhost.example.com", "10.0.0.1", "0.0.0.0", "example.com", "", None]))


def test_the_wait_that_a_server_asks_for() -> None:
    from email.utils import formatdate

    assert wait_of("7") == 7
    assert wait_of("0.5") == 0.5
    assert wait_of(formatdate(time.time() + 90, usegmt=True)) == pytest.approx(90, abs=2)
    assert wait_of("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert [wait_of(each) for each in (None, "", "soon", "-3", "1e9", "9" * 40)] == [None] * 6


def test_a_rate_spreads_requests_and_a_hold_stops_them() -> None:
    pace, stop = Pace(1200), threading.Event()
    start = time.monotonic()
    assert all(pace.wait(stop) for _ in range(5))
    assert time.monotonic() - start >= 4 * 60 / 1200 - 0.01
    pace.hold(60)
    stop.set()
    assert not pace.wait(stop)


def test_money_in_flight_counts_until_it_is_settled() -> None:
    budget = Budget(10, 100, 0.001)  # a token sent costs 0.00001, an answered one 0.0001
    first = budget.reserve(size=40, most_out=5)
    assert first == pytest.approx(0.0007)
    waiting: list[float | None] = []
    other = threading.Thread(target=lambda: waiting.append(budget.reserve(size=40, most_out=5)))
    other.start()
    other.join(0.2)
    assert other.is_alive(), "the one in flight may cost less than was set aside"
    budget.settle(first or 0, size=40, tokens_in=10, tokens_out=1)
    other.join(10)
    assert waiting == [pytest.approx(0.0006)]
    budget.settle(0.0006)
    assert budget.spent == pytest.approx(0.0002)
    assert budget.ratio == 0.25
    assert budget.reserve(size=40, most_out=5) == pytest.approx(0.0006)
    budget.settle(0.0006)
    assert (budget.spent, budget.aside, budget.flying) == (pytest.approx(0.0002), pytest.approx(0), 0)
    assert budget.reserve(size=400, most_out=50) is None
    assert Budget(10, 100, 0.001, spent=(99, 0)).reserve(size=1, most_out=1) is None


def test_settings_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(UserError, match="--max-price: expected --price-in and --price-out"):
        asked(max_price=1.0, price_in=1.0)
    with pytest.raises(UserError, match="--temperature above 0"):
        asked(mode="answers", repeats=3, temperature=0.0)
    with pytest.raises(UserError, match="each class once"):
        asked(labels=["a", "a"])
