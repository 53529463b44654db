"""`contrastill label` against a server: what it asks, stores, resumes, retries, refuses, and keeps secret."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from chat_api import CLASSES, KEY, TEXTS, Api, Asked, api, by_code, by_name, completion
from typer.testing import CliRunner

import contrastill
import warm
from contrastill import UserError
from contrastill.cli import app
from contrastill.labelling import Labelled, asking, client, label
from contrastill.labelling.store import Store


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with texts, two of them twice, and classes; tries follow each other at once."""
    (tmp_path / "texts.txt").write_text("\n".join([*TEXTS, *TEXTS[:2]]) + "\n")
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    monkeypatch.setattr(asking, "SLOWEST", 0.02)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def labelled(server: Api | str, **settings: Any) -> Labelled:
    url = server if isinstance(server, str) else f"{server.url}/v1"
    usual = {"data": "texts.txt", "labels": ["classes.txt"], "endpoint": url, "model": "m", "out": "out.jsonl"}
    return label(**(usual | settings))


def command(server: Api, *more: str) -> Any:
    words = ["label", "--data", "texts.txt", "--labels", "classes.txt", "--model", "m", "--out", "out.jsonl"]
    return CliRunner().invoke(app, [*words, "--endpoint", f"{server.url}/v1", *more])


def rows(name: str = "out.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def stored() -> dict[str, Any]:
    return {row["text"]: row for row in rows()}


# ---- what is asked and stored


def test_each_text_is_asked_once_and_has_the_probabilities_of_its_classes(place: Path) -> None:
    with api(by_code) as server:
        made = labelled(server)
    assert sorted(server.texts) == sorted(TEXTS)
    assert {asked.path for asked in server.requests} == {"/v1/chat/completions"}
    assert (made.mode, made.texts, made.answered, made.left, made.unanswered) == ("logprobs", 12, 12, 0, 0)
    assert made.classes == dict.fromkeys(CLASSES, 4)
    assert (made.tokens_in, made.tokens_out, made.price) == (1200, 24, None)
    assert set(stored()) == set(TEXTS)
    for text, row in stored().items():
        right = text.split()[0]
        assert row["label"] == right
        assert row["probabilities"][right] == pytest.approx(0.7)
        assert sum(row["probabilities"].values()) == pytest.approx(0.9)
        assert (row["tokens_in"], row["tokens_out"]) == (100, 2)


def test_without_log_probabilities_names_are_read(place: Path) -> None:
    with api(by_name) as server:
        made = labelled(server)
    assert made.mode == "answers"
    assert stored()[TEXTS[0]] == {"text": TEXTS[0], "label": "card", "tokens_in": 100, "tokens_out": 2}
    assert len(server.requests) == 13, "the first text is asked twice: with and without log-probabilities"
    assert "logprobs" in server.requests[0].body
    assert not any("logprobs" in asked.body for asked in server.requests[1:])


def test_an_endpoint_that_refuses_log_probabilities_is_asked_without(place: Path) -> None:
    def respond(asked: Asked) -> Any:
        if "logprobs" in asked.body:
            return 400, {"error": {"message": "This model does not support logprobs."}}
        if "max_tokens" in asked.body:
            return 400, {"error": {"message": "Unsupported: 'max_tokens'. Use 'max_completion_tokens' instead."}}
        return by_name(asked)

    with api(respond) as server:
        made = labelled(server)
        assert (made.mode, made.answered) == ("answers", 12)
        with pytest.raises(UserError, match=r"expected an answer, got 400: 'This model does not support logprobs"):
            labelled(server, mode="logprobs", out="other.jsonl")
    assert not Path("other.jsonl").exists()


def test_probabilities_that_are_asked_for_and_do_not_come_are_an_error(place: Path) -> None:
    with api(by_name) as server, pytest.raises(UserError, match=r"no log-probabilities.*pass --mode answers"):
        labelled(server, mode="logprobs")
    assert sorted(path.name for path in place.iterdir()) == ["classes.txt", "texts.txt"]


def test_answers_that_a_schema_holds_are_read(place: Path) -> None:
    def respond(asked: Asked) -> Any:
        assert "response_format" in asked.body
        return 200, completion(json.dumps({"class": asked.right}))

    with api(respond) as server:
        made = labelled(server, mode="schema")
        assert (made.mode, made.classes) == ("schema", dict.fromkeys(CLASSES, 4))
        assert labelled(server, mode="schema").stored == 12
        with pytest.raises(UserError, match="--mode: expected 'schema'"):
            labelled(server, mode="answers")


def test_several_answers_are_a_distribution(place: Path) -> None:
    said: dict[str, int] = {}

    def respond(asked: Asked) -> Any:
        said[asked.text] = said.get(asked.text, 0) + 1
        assert asked.body["temperature"] == 1
        return 200, completion([asked.right, "card", "no idea", asked.right][said[asked.text] - 1])

    with api(respond) as server:
        made = labelled(server, mode="answers", repeats=4)
    assert (made.answered, len(server.requests)) == (12, 48)
    row = stored()["login question 0"]
    assert row["probabilities"] == {"login": 0.666667, "card": 0.333333}
    assert (row["label"], row["no_label"], row["tokens_in"]) == ("login", ["no idea"], 400)


def test_repeats_with_probabilities_take_the_classes_in_other_orders(place: Path) -> None:
    with api(by_code) as server:
        labelled(server, repeats=3, limit=1)
    assert [asked.codes["card"] for asked in server.requests] == ["A", "C", "B"]
    assert rows()[0]["probabilities"]["card"] == pytest.approx(0.7 / 0.9, abs=1e-6)


def test_pairs_and_rows_passed_in_python(place: Path) -> None:
    data = [{"a": "card one", "b": "card two"}, {"a": "login", "b": "login"}]

    def respond(asked: Asked) -> Any:
        assert asked.words.count("<text>") == 2
        return 200, completion("card")

    with api(respond) as server:
        made = contrastill.label(
            data=data, text="a", text_pair="b", labels=["card", "login"], endpoint=server.url, model="m",
            out=place / "pairs.jsonl", mode="answers",
        )  # fmt: skip
        assert made.answered == 2
        assert contrastill.label(
            data=data, text="a", text_pair="b", labels=["card", "login"], endpoint=server.url, model="m",
            out=place / "pairs.jsonl",
        ).stored == 2  # fmt: skip
    assert {(row["a"], row["b"], row["label"]) for row in rows("pairs.jsonl")} == {
        ("card one", "card two", "card"),
        ("login", "login", "card"),
    }


def test_an_answer_that_is_no_label_is_kept_beside_and_not_asked_again(place: Path) -> None:
    def respond(asked: Asked) -> Any:
        return (200, completion("It is\nunclear: \ud83d.")) if asked.text == TEXTS[3] else by_name(asked)

    with api(respond) as server:
        made = labelled(server)
        assert (made.answered, made.unanswered, made.left) == (11, 1, 0)
        [row] = rows("out.unanswered.jsonl")
        assert (row["text"], row["said"], row["reason"]) == (
            TEXTS[3],
            ["It is\nunclear: \ud83d."],
            "no class in the answer",
        )
        count = len(server.requests)
        again = labelled(server)
        assert (again.stored, again.answered, len(server.requests)) == (12, 0, count)
        Path("out.unanswered.jsonl").unlink()
        assert labelled(server).unanswered == 1


def test_long_texts_and_broken_rows_are_left_out_and_counted(place: Path) -> None:
    Path("rows.csv").write_text("text\ncard one\ncard " + "x" * 50 + "\n \n")
    with api(by_name) as server:
        made = labelled(server, data="rows.csv", max_characters=20, skip_broken=True)
    assert (made.texts, made.too_long, made.skipped, made.answered) == (1, 1, 1, 1)
    with api(by_name) as server, pytest.raises(UserError, match="line 4: expected a text"):
        labelled(server, data="rows.csv", out="other.jsonl")


def test_a_question_that_no_answer_fits_ends_early(place: Path) -> None:
    none = pytest.raises(UserError, match=r"one of the first 10 answers, got none.*raise --max-tokens")
    with api(lambda asked: (200, completion("", finish="length"))) as server, none:
        labelled(server, workers=1)
    assert 11 <= len(server.requests) <= 12, "one may be in flight"
    assert 10 <= len(rows("out.unanswered.jsonl")) <= 11


# ---- going on


def test_a_second_call_asks_for_what_is_missing_alone(place: Path) -> None:
    with api(by_code) as server:
        labelled(server, limit=5)
        first = Path("out.jsonl").read_bytes()
        with Path("out.jsonl").open("ab") as file:
            file.write(b'{"text": "card question 3", "label": "ca')
        made = labelled(server)
    assert Path("out.jsonl").read_bytes().startswith(first)
    assert (made.stored, made.answered) == (5, 7)
    assert sorted(server.texts) == sorted(TEXTS)
    assert set(stored()) == set(TEXTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "other"}, r"--model: expected 'm' for the answers in out\.jsonl, got 'other'"),
        ({"labels": ["card", "login"]}, "--labels: expected as it was"),
        ({"labels": ["login", "card", "delivery"]}, "--labels: expected as it was"),
        ({"mode": "answers"}, "--mode: expected 'logprobs'"),
        ({"repeats": 2}, "--repeats: expected 1"),
        ({"temperature": 0.5}, "--temperature: expected None"),
        ({"prompt": "prompt.txt"}, "--prompt: expected as it was"),
        ({"examples": "examples.csv"}, "--examples: expected as it was"),
        ({"data": "other.csv", "text": "query"}, r"--text: expected \['text'\]"),
    ],
)
def test_a_second_call_with_other_settings_is_refused(place: Path, change: dict[str, Any], message: str) -> None:
    Path("prompt.txt").write_text("{labels}{text}")
    Path("examples.csv").write_text("text,label\nhello,login\n")
    Path("other.csv").write_text("query\nhello\n")
    with api(by_code) as server:
        labelled(server, limit=5)
        with pytest.raises(UserError, match=message):
            labelled(server, **change)
        with pytest.raises(UserError, match="--overwrite"):
            labelled(server, **change, dry_run=True)
        assert len(server.requests) == 5
        assert len(rows()) == 5


def test_workers_limits_and_address_may_change(place: Path) -> None:
    with api(by_code) as server:
        labelled(server, limit=5)
    with api(by_code) as server:
        assert labelled(server, workers=1, rate=100_000, timeout=5, retries=0, mode="logprobs").answered == 7


def test_a_later_call_keeps_the_mode_of_the_first(place: Path) -> None:
    with api(by_name) as server:
        labelled(server, limit=5)
    with api(by_code) as server, pytest.raises(UserError, match="--mode: expected 'answers'"):
        labelled(server, mode="logprobs")
    with api(by_name) as server:
        assert labelled(server).mode == "answers"
        assert len(server.requests) == 7


def test_overwrite_begins_anew_once_the_endpoint_has_answered(place: Path) -> None:
    with api(by_code) as server:
        labelled(server, limit=5)
        before = Path("out.jsonl").read_bytes()
        with pytest.raises(UserError, match="could not be reached"):
            labelled("http://127.0.0.1:9/v1", overwrite=True, model="other")
        assert Path("out.jsonl").read_bytes() == before
        made = labelled(server, overwrite=True, model="other", limit=2)
    assert (made.stored, made.answered, len(rows())) == (0, 2, 2)
    assert json.loads(Path("out.settings.json").read_text())["model"] == "other"


def test_a_file_of_someone_else_is_never_written(place: Path) -> None:
    Path("out.jsonl").write_text('{"text": "mine"}\n')
    with api(by_code) as server:
        for overwrite in (False, True):
            with pytest.raises(UserError, match="expected a file of `contrastill label`"):
                labelled(server, overwrite=overwrite)
    assert Path("out.jsonl").read_text() == '{"text": "mine"}\n'
    assert not server.requests


@pytest.mark.parametrize("line", ["{", "[]", '{"label": "card"}', '{"text": 7, "label": "card"}', '{"text": "a"}', ""])
def test_a_damaged_line_is_named(place: Path, line: str) -> None:
    with api(by_code) as server:
        labelled(server, limit=3)
        kept = Path("out.jsonl").read_text().splitlines()
        Path("out.jsonl").write_text("\n".join([kept[0], line, *kept[1:]]) + "\n")
        with pytest.raises(UserError, match=r"out\.jsonl, line 2: expected a row"):
            labelled(server)
        Path("out.settings.json").write_text("{")
        with pytest.raises(UserError, match="got a damaged file"):
            labelled(server)


def test_two_processes_do_not_write_one_file(place: Path) -> None:
    wait = threading.Event()

    def respond(asked: Asked) -> Any:
        wait.wait(20)
        return by_code(asked)

    with api(respond) as server:
        other = threading.Thread(target=labelled, args=(server,))
        other.start()
        while not server.requests:
            time.sleep(0.01)
        with pytest.raises(UserError, match="another process writes it"):
            labelled(server)
        wait.set()
        other.join(20)
    assert len(rows()) == 12


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("out.csv", r"ending in \.jsonl"),
        ("nowhere/out.jsonl", "expected a folder"),
        ("folder.jsonl", "got the folder"),
        ("texts.jsonl", "another file than --data"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_anything_is_asked(place: Path, out: str, message: str) -> None:
    Path("folder.jsonl").mkdir()
    Path("texts.jsonl").write_text('{"text": "card"}\n')
    with api(by_code) as server, pytest.raises(UserError, match=message):
        labelled(server, data="texts.jsonl", out=out)
    assert not server.requests


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_process_loses_the_requests_in_flight_at_most(place: Path, number: signal.Signals) -> None:
    signalled = threading.Event()

    def respond(asked: Asked) -> Any:
        if asked.number > 4:
            signalled.wait(60)
        time.sleep(1 if asked.number > 6 else 0)  # for the signal to be handled
        return by_code(asked)

    with api(respond) as server:
        words = ["label", "--data", "texts.txt", "--labels", "classes.txt", "--model", "m", "--out", "out.jsonl"]
        words += ["--endpoint", f"{server.url}/v1", "--workers", "2"]
        command = [sys.executable, "-m", "contrastill", *words]
        process = warm.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "COLUMNS": "400"})
        while len(server.requests) < 5 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        signalled.set()
        _, said = process.communicate(timeout=120)
        asked = len(server.requests)
        if number == signal.SIGINT:
            assert process.returncode == 130
            assert "the same call goes on from there" in said
            assert len(rows()) == asked, "the answers in flight are stored"
        assert asked - 2 <= len(rows()) <= asked < 12
        kept = len(rows())
        made = labelled(server)
        assert (made.stored, made.answered) == (kept, 12 - kept)
    assert len(set(stored())) == len(rows()) == 12


def test_a_thread_asks_on_once_its_answer_is_stored(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow storing is, a kill loses no more answers than there are workers."""
    add, ahead = Store.add, list[int]()

    def slow(self: Store, texts: Any, cells: Any) -> None:
        time.sleep(0.05)
        add(self, texts, cells)
        ahead.append(len(server.requests) - len(rows()))

    monkeypatch.setattr(Store, "add", slow)
    with api(by_code) as server:
        assert labelled(server, workers=2).answered == 12
    assert len(ahead) == 12
    assert max(ahead) <= 2


def test_a_full_disk_ends_the_requests(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = Store.add

    def full(self: Store, texts: Any, cells: Any) -> None:
        if len(rows()) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        add(self, texts, cells)

    monkeypatch.setattr(Store, "add", full)
    with api(by_code) as server:
        with pytest.raises((OSError, UserError), match="No space left"):
            labelled(server, workers=2)
        time.sleep(0.5)
        assert len(server.requests) <= 5


# ---- servers that fail


def after(first: Any, *, texts: int = 1) -> Any:
    """Every text is answered at its second request; the first `texts` are answered at once."""
    seen: set[str] = set()

    def respond(asked: Asked) -> Any:
        if len(seen) < texts or asked.text in seen:
            seen.add(asked.text)
            return by_code(asked)
        seen.add(asked.text)
        return first

    return respond


@pytest.mark.parametrize(
    "first",
    [
        (429, {"error": {"message": "slow down"}}, {"Retry-After": "0"}),
        (500, b"<html>oops</html>"),
        (503, b""),
        (200, b"not json"),
        (200, {"choices": []}),
        (200, b'{"choices": [', {"Content-Length": "500"}),
        (200, b"[" * 100_000),
        (408, {}),
    ],
    ids=["429", "500", "503", "garbage", "other json", "broken off", "nested", "408"],
)
def test_what_passes_is_tried_again(place: Path, first: Any) -> None:
    with api(after(first)) as server:
        made = labelled(server, timeout=2)
    assert (made.answered, made.left, len(server.requests)) == (12, 0, 23)


def test_the_time_that_a_busy_server_asks_for_is_waited_by_all(place: Path) -> None:
    refused: list[float] = []

    def respond(asked: Asked) -> Any:
        if asked.number == 2:
            refused.append(time.monotonic())
            return 429, {}, {"Retry-After": "1"}
        if refused and asked.number > 6:  # up to four were on their way
            late.append(time.monotonic() - refused[0])
        return by_code(asked)

    late: list[float] = []
    with api(respond) as server:
        assert labelled(server, workers=2).answered == 12
    assert min(late) >= 0.95
    assert len(server.requests) == 13


def test_a_wait_of_hours_is_not_waited(place: Path) -> None:
    def respond(asked: Asked) -> Any:
        return by_code(asked) if asked.number < 2 else (429, {}, {"Retry-After": "7200"})

    started = time.monotonic()
    with api(respond) as server, pytest.raises(UserError, match=r"3 texts in a row.*429.*asks to wait 7,200 seconds"):
        labelled(server, workers=1)
    assert time.monotonic() - started < 5
    assert len(rows()) == 2


def test_a_slow_answer_is_given_up_and_tried_again(place: Path) -> None:
    slow = {TEXTS[4]}

    def respond(asked: Asked) -> Any:
        if asked.text in slow:
            slow.clear()
            time.sleep(1.5)
        return by_code(asked)

    with api(respond) as server:
        assert labelled(server, timeout=0.5).answered == 12
    assert server.texts.count(TEXTS[4]) == 2


def test_one_text_that_always_fails_is_left_and_the_others_are_answered(place: Path) -> None:
    with api(lambda asked: (500, {}) if asked.text == TEXTS[6] else by_code(asked)) as server:
        result = command(server, "--retries", "1")
        assert result.exit_code == 1
        assert "11 answered, 1 left" in result.stdout
        assert "stopped: 1 texts failed, the last: 500: " in result.stdout
        assert server.texts.count(TEXTS[6]) == 2
    with api(by_code) as server:
        assert command(server).exit_code == 0
        assert server.texts == [TEXTS[6]]


def test_a_text_that_the_server_refuses_is_kept_beside(place: Path) -> None:
    message = {"error": {"message": "context length exceeded", "code": "too_long"}}
    with api(lambda asked: (400, message) if asked.text == TEXTS[6] else by_code(asked)) as server:
        made = labelled(server)
    assert (made.answered, made.unanswered, made.left) == (11, 1, 0)
    assert rows("out.unanswered.jsonl")[0]["reason"] == "400: 'context length exceeded; too_long'"


def test_a_server_that_goes_away_ends_the_call_and_keeps_what_came(place: Path) -> None:
    with api(lambda asked: by_code(asked) if asked.number < 4 else (500, {})) as server:
        result = command(server, "--retries", "0", "--workers", "1")
    assert result.exit_code == 2
    assert "got none to 3 texts in a row, the last: 500: " in result.stderr
    assert "4 answers are in out.jsonl; the same call goes on from there" in " ".join(result.stderr.split())
    assert len(rows()) == 4
    assert 7 <= len(server.requests) <= 8, "one may be in flight"


@pytest.mark.parametrize(
    ("status", "hint"),
    [(401, "--key-variable"), (403, "--key-variable"), (404, "--endpoint and --model"), (400, "--endpoint, --model")],
)
def test_a_refusal_ends_the_call_with_the_server_s_words(place: Path, status: int, hint: str) -> None:
    words = "no [bold]such\x1b[31m thing " + "x" * 1000
    with api(lambda asked: (status, {"error": {"message": words}})) as server:
        result = command(server, "--mode", "answers")
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert f"got {status}: 'no [bold]such\\x1b[31m thing xxx" in said
    assert hint in said
    assert "x" * 400 not in said
    assert "\x1b" not in said
    assert "Traceback" not in said
    assert len(server.requests) == 1
    assert not Path("out.jsonl").exists()


def test_a_key_that_is_withdrawn_ends_the_call(place: Path) -> None:
    gone = pytest.raises(UserError, match=r"got 401: 'gone'; check the key.*4 answers are in")
    with api(lambda asked: by_code(asked) if asked.number < 4 else (401, {"detail": "gone"})) as server, gone:
        labelled(server, workers=2)
    assert len(server.requests) <= 6


def test_an_account_without_credit_is_not_tried_again(place: Path) -> None:
    body = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
    with api(lambda asked: (429, body)) as server, pytest.raises(UserError, match="no credit left"):
        labelled(server)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(place: Path, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with api(by_code) as other:
        to = {"Location": f"{other.url}/v1/chat/completions?key={KEY}"}
        told = pytest.raises(UserError, match=f"got {status}: it redirects to '{other.url}/v1/chat/completions'")
        with api(lambda asked: (status, b"", to)) as server, told:
            labelled(server)
    assert len(server.requests) == 1
    assert not other.requests


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"", b"[]", b'{"answer": 1}'])
def test_another_service_at_the_address_is_said_at_once(place: Path, body: bytes) -> None:
    with api(lambda asked: (200, body)) as server, pytest.raises(UserError, match="expected an answer to the first"):
        labelled(server)
    assert len(server.requests) == 1


def test_a_host_that_cannot_be_and_a_redirect_that_is_none_are_said(place: Path) -> None:
    with pytest.raises(UserError, match="expected an answer to the first text, got none"):
        labelled(f"http://{'a' * 70}.localhost:9/v1")
    for code in (300, 302):
        answer = (code, b"", {"Location": "http://[::1"})
        with api(lambda asked, answer=answer: answer) as server, pytest.raises(UserError, match="expected an answer"):  # type: ignore[misc]
            labelled(server)


def test_an_endless_answer_is_cut_off(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LARGEST", 1000)
    with api(lambda asked: (200, b" " * 2000)) as server, pytest.raises(UserError, match="longer than 1,000 bytes"):
        labelled(server)


# ---- limits


def test_no_more_requests_at_a_time_than_workers(place: Path) -> None:
    end = time.monotonic() + 60

    def respond(asked: Asked) -> Any:
        while asked.number and server.most < 3 and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.05)
        return by_code(asked)

    with api(respond) as server:
        labelled(server, workers=3)
    assert server.most == 3


def test_the_rate_holds_for_all_workers(place: Path) -> None:
    with api(by_code) as server:
        started = time.monotonic()
        labelled(server, rate=1200, workers=8)
    assert time.monotonic() - started >= 11 * 60 / 1200 - 0.05


def test_a_ceiling_stops_before_it_is_passed_and_a_higher_one_goes_on(place: Path) -> None:
    """A text costs 100 x 10 + 2 x 20 millionths."""
    prices = {"price_in": 10.0, "price_out": 20.0}
    with api(by_code) as server:
        made = labelled(server, max_price=0.006, workers=1, **prices)
        assert 0.004 < (made.price or 0) <= 0.006
        assert made.price == pytest.approx(made.answered * 0.00104)
        assert made.left == 12 - made.answered > 0
        assert "is spent, and the next request could pass --max-price 0.006; raise it" in str(made.stopped)
        with pytest.raises(UserError, match=r"--max-price: 0\.00\d\d is spent"):
            labelled(server, max_price=0.006, **prices)
        again = labelled(server, max_price=1.0, **prices)
        assert again.left == 0
        assert again.spent == pytest.approx(12 * 0.00104)
        assert len(server.requests) == 12
    with api(by_code) as server:
        result = command(server, "--overwrite", "--max-price", "0.003", "--price-in", "10", "--price-out", "20")
    assert result.exit_code == 1
    assert "stopped: 0.00" in result.stdout


def test_a_ceiling_needs_an_endpoint_that_counts(place: Path) -> None:
    uncounted = pytest.raises(UserError, match="expected an endpoint that counts tokens")
    with api(lambda asked: (200, completion("card", usage=None))) as server, uncounted:
        labelled(server, mode="answers", max_price=1.0, price_in=1.0, price_out=1.0)
    assert len(server.requests) == 1


def test_a_dry_run_asks_nothing_and_leaves_nothing(place: Path) -> None:
    with api(by_code) as server:
        result = command(server, "--dry-run", "--price-in", "10", "--price-out", "20")
        assert result.exit_code == 0
        assert "A. card\nB. login\nC. delivery\n" in result.stdout
        assert "<text>\ncard question 0\n</text>" in result.stdout
        assert "12 different texts: 0 answered, 12 to ask" in result.stdout
        assert "price about 0.0" in result.stdout
        assert not server.requests
    assert sorted(path.name for path in place.iterdir()) == ["classes.txt", "texts.txt"]


def test_json_is_all_there_is_on_stdout(place: Path) -> None:
    with api(by_code) as server:
        found = json.loads(command(server, "--json").stdout)
    assert (found["answered"], found["classes"], found["out"]) == (12, dict.fromkeys(CLASSES, 4), "out.jsonl")


# ---- the key


def test_the_key_is_sent_and_written_nowhere(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The server says it back in every way that it has."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in KEY)

    def respond(asked: Asked) -> Any:
        assert asked.headers["Authorization"] == f"Bearer {KEY}"
        if asked.number == 0:
            return 400, {"error": {"message": f"logprobs of {KEY} " + "x" * 280 + KEY}}
        if asked.number == 4:
            return 400, f'{{"error": {{"message": "{escaped}"}}}}'.encode()
        if asked.number == 5:
            return 500, f"<html>{KEY}".encode()
        if asked.number == 8:
            return 401, f'{{"{KEY}": "{KEY}", "detail": ["{KEY}"], "message": "bad key {escaped}"}}'.encode()
        return 200, completion(f"unclear, {KEY}" if asked.number in (3, 6) else "card")

    with api(respond) as server:
        result = command(server, "--workers", "1", "--retries", "0")
        assert result.exit_code == 2
        assert "bad key [key]" in result.stderr
        with pytest.raises(UserError) as refused:
            labelled(server, model="x")
        result_again = command(server, "--workers", "1", "--json")
    files = {path.name: path.read_text() for path in place.iterdir()}
    assert {"out.jsonl", "out.unanswered.jsonl", "out.settings.json"} <= set(files)
    assert "unclear, [key]" in files["out.unanswered.jsonl"]
    printed = capfd.readouterr()
    everything = [*files.values(), *printed, str(refused.value), repr(refused.value)]
    for done in (result, result_again):
        everything += [done.stdout, done.stderr, done.output, repr(done.exception)]
    flat = ["".join(text.split()) for text in everything]
    assert not any("SECRET" in text or escaped in text or escaped[:24] in text for text in flat)


def test_a_key_of_another_variable(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OTHER_KEY", "another-key-1")
    with api(by_code) as server:
        labelled(server, key_variable="OTHER_KEY")
        assert {asked.headers["Authorization"] for asked in server.requests} == {"Bearer another-key-1"}
        monkeypatch.setenv("OTHER_KEY", "")
        with pytest.raises(UserError, match="--key-variable: expected the name of an environment variable") as refused:
            labelled(server, key_variable="sk-given-as-the-name", out="other.jsonl")
        assert "sk-given" not in str(refused.value)
        with pytest.raises(UserError, match="--key-variable"):
            labelled(server, key_variable="OTHER_KEY", out="other.jsonl")
        monkeypatch.setenv("OTHER_KEY", "två\nrader")
        with pytest.raises(UserError, match="visible ASCII") as refused:
            labelled(server, key_variable="OTHER_KEY", out="other.jsonl")
        assert "rader" not in str(refused.value)


def test_without_a_key_none_is_sent(place: Path) -> None:
    with api(by_code) as server:
        labelled(server, limit=1)
    assert "Authorization" not in server.requests[0].headers


def test_a_key_goes_to_no_other_machine_in_clear(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    sent: list[str] = []
    monkeypatch.setattr(client.Client, "post", lambda self, content: sent.append(self.url) or {})
    with pytest.raises(UserError, match="expected https:// for the key in \\$OPENAI_API_KEY, got http://") as refused:
        labelled("http://192.168.0.7:8000/v1")
    assert "SECRET" not in str(refused.value)
    assert not sent
    with pytest.raises(UserError, match="an address without the key"):
        labelled(f"https://host/{KEY}/v1")
    for url in ("https://192.168.0.7/v1", "http://127.0.0.1:9/v1", "http://localhost:9/v1"):
        with pytest.raises(UserError, match="'choices' in the answer"):
            labelled(url)
    with pytest.raises(UserError, match="'choices' in the answer"):
        labelled("http://192.168.0.7:8000/v1", plain_http=True)
    assert len(sent) == 4


def test_a_short_word_in_place_of_a_key_is_left_in_answers(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "card")
    with api(by_name) as server:
        labelled(server, mode="answers", limit=1)
    assert rows()[0]["label"] == "card"


# ---- our own server


def test_settings_of_chats_are_refused_for_predict(place: Path) -> None:
    Path("prompt.txt").write_text("{labels}{text}")
    for wrong in (
        {"prompt": "prompt.txt"},
        {"temperature": 1.0},
        {"max_tokens": 3},
        {"repeats": 2},
        {"mode": "answers"},
    ):
        with pytest.raises(UserError, match="got /predict"):
            labelled("http://localhost:9/predict", **wrong)
    with pytest.raises(UserError, match="missing --model"):
        labelled("http://localhost:9/v1", model=None)
