"""The endpoints: what they answer, what they refuse, and why."""

import asyncio
import base64
import json

import numpy as np
import pytest

from contrastill.serving.requests import shortened
from serving import MAX_LENGTH, WIDTH, call, expected

JSON = ("content-type", "application/json")
LABELS = ["card", "transfer", "cash"]


def ask(app, *args, **kwargs):
    return asyncio.run(call(app, *args, **kwargs))


def reason(answer, status):
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/json"
    error = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error["message"]


# ---- answers


def test_a_classifier_names_the_best_label_and_on_request_the_next_ones(fake, make):
    app = make(fake("classification", labels=LABELS))
    found = ask(app, "/predict", {"texts": ["w1 w2", "w3"], "model": "fake-classification"}).json
    assert found["model"] == "fake-classification"
    assert found["usage"] == {"tokens": 7, "truncated": 0}
    for text, prediction in zip(["w1 w2", "w3"], found["predictions"], strict=True):
        row = expected(text, 3)
        assert prediction == {"label": LABELS[int(np.argmax(row))], "score": pytest.approx(max(row))}
    best = ask(app, "/predict", {"texts": ["w1"], "top": 2}).json["predictions"][0]
    assert [each["score"] for each in best["top"]] == pytest.approx(sorted(expected("w1", 3))[:0:-1])
    assert best["top"][0] == {"label": best["label"], "score": best["score"]}
    assert len(ask(app, "/predict", {"texts": ["w1"], "top": 99}).json["predictions"][0]["top"]) == 3
    everything = ask(app, "/predict", {"texts": ["w1"], "probabilities": True}).json["predictions"][0]
    assert everything["probabilities"] == pytest.approx(dict(zip(LABELS, expected("w1", 3), strict=True)))


def test_a_classifier_with_a_threshold_says_when_it_abstains(fake, make):
    texts = [f"w{n}" for n in range(12)]
    sure = [max(expected(text, 3)) for text in texts]
    least = sorted(sure)[5]
    app = make(fake("classification", labels=LABELS, abstain={"threshold": least, "target": 0.9}))
    found = ask(app, "/predict", {"texts": texts, "top": 2}).json["predictions"]
    assert [each["abstain"] for each in found] == [score < least for score in sure]
    assert [list(each) for each in found] == [["label", "score", "abstain", "top"]] * 12
    page = ask(app, "/metrics", method="GET").body.decode()
    assert "contrastill_texts_abstained_total 5.0" in page


def test_a_multi_label_model_names_what_is_above_its_threshold_which_may_be_nothing(fake, make):
    row = dict(zip(LABELS, expected("w1", 3), strict=True))
    second = sorted(row.values())[1]
    for thresholds, count in (([1.0] * 3, 0), ([second * 0.99] * 3, 2), ([0.0] * 3, 3)):
        app = make(fake("multilabel", labels=LABELS, thresholds=thresholds))
        asked = {"texts": ["w1", "w2"], "probabilities": True, "top": 2}
        found = ask(app, "/predict", asked).json["predictions"][0]
        named = sorted(row, key=row.get, reverse=True)
        assert found["labels"] == named[:count]
        assert found["scores"] == pytest.approx([row[name] for name in named[:count]])
        assert found["probabilities"] == pytest.approx(row)
        assert [each["label"] for each in found["top"]] == named[:2]
    plain = ask(app, "/predict", {"texts": ["w1"]}).json["predictions"][0]
    assert set(plain) == {"labels", "scores"}
    schema = ask(app, "/openapi.json", method="GET").json["components"]["schemas"]["Predict"]["properties"]
    assert schema["probabilities"] == {"type": "boolean", "default": False}


def test_a_regressor_gives_scores_and_a_model_of_pairs_takes_pairs(fake, make):
    app = make(fake("regression", texts=2))
    found = ask(app, "/predict", {"texts": [["a", "b"], ["b", "a"]]}).json["predictions"]
    assert [each["score"] for each in found] == pytest.approx([expected([*pair], 1)[0] for pair in ("ab", "ba")])


def test_an_embedder_gives_vectors_as_numbers_or_packed(fake, make):
    app = make(fake())
    found = ask(app, "/embed", {"texts": ["w1", "w2"]}).json
    assert found["embeddings"] == [expected("w1"), expected("w2")]
    assert found["dimensions"] == WIDTH
    packed = ask(app, "/embed", {"texts": ["w1"], "encoding_format": "base64"}).json["embeddings"][0]
    assert np.frombuffer(base64.b64decode(packed), "<f4").tolist() == expected("w1")


def test_openai_s_embeddings_have_openai_s_form(fake, make):
    app = make(fake())
    one = ask(app, "/v1/embeddings", {"input": "w1", "model": "fake-embedding", "user": "u", "dimensions": WIDTH}).json
    assert one == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": expected("w1")}],
        "model": "fake-embedding",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    body = {"input": ["w1", "w2 w3"], "model": "fake-embedding", "encoding_format": "base64"}
    two = ask(app, "/v1/embeddings", body).json
    assert [each["index"] for each in two["data"]] == [0, 1]
    assert np.frombuffer(base64.b64decode(two["data"][1]["embedding"]), "<f4").tolist() == expected("w2 w3")
    assert two["usage"]["total_tokens"] == 7


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"input": [1, 2, 3]}, 400, "input"),
        ({"input": [[1, 2], [3]]}, 400, "input"),
        ({"input": ["a", 1]}, 400, "input"),
        ({"input": ""}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": None}, 400, "input"),
        ({"model": "text-embedding-3-small"}, 404, "model"),
        ({"model": None}, 400, "model"),
        ({"dimensions": 2}, 400, "dimensions"),
        ({"encoding_format": "int8"}, 400, "encoding_format"),
        ({"stream": True}, 400, None),
    ],
)
def test_openai_s_endpoint_refuses_with_the_field_to_blame(fake, make, change, status, param):
    answer = ask(make(fake()), "/v1/embeddings", {"input": "w1", "model": "fake-embedding", **change})
    assert reason(answer, status)
    assert answer.json["error"]["param"] == param
    assert answer.json["error"]["type"] == "invalid_request_error"


def test_vectors_whose_numbers_stand_in_order_are_cut_to_the_dimensions_asked_for(fake, make):
    bundle = fake()
    bundle.ordered = True
    app = make(bundle)

    def vector(**change):
        answer = ask(app, "/v1/embeddings", {"input": "w1", "model": "fake-embedding", **change})
        return answer.json["data"][0]["embedding"]

    whole = np.array(expected("w1"))
    for width in range(1, WIDTH):
        wanted = whole[:width] / np.linalg.norm(whole[:width])
        np.testing.assert_allclose(vector(dimensions=width), wanted, rtol=1e-6)
        packed = base64.b64decode(vector(dimensions=width, encoding_format="base64"))
        np.testing.assert_allclose(np.frombuffer(packed, "<f4"), wanted, rtol=1e-6)
    assert vector(dimensions=WIDTH) == vector(dimensions=None) == vector() == whole.tolist()
    for bad in (0, -1, WIDTH + 1, 10**30):
        answer = ask(app, "/v1/embeddings", {"input": "w1", "model": "fake-embedding", "dimensions": bad})
        assert reason(answer, 400)
        assert answer.json["error"]["param"] == "dimensions"
    assert "can be cut to 1 to 4" in reason(answer, 400)


def test_a_vector_that_begins_with_zeros_stays_finite():
    assert shortened(np.array([0, 0, 1], np.float32), 2).tolist() == [0, 0]


def test_token_ids_are_refused_with_the_setting_that_makes_langchain_send_texts(fake, make):
    answer = ask(make(fake()), "/v1/embeddings", {"input": [[1, 2]], "model": "fake-embedding"})
    assert "check_embedding_ctx_length=False" in reason(answer, 400)


def test_a_field_s_name_within_a_text_is_not_the_field(fake, make):
    text = 'say "texts" and "texts": \u0041'
    body = json.dumps({"texts": [text]}).replace("A", "\\u0041").encode()
    assert ask(make(fake()), "/embed", body).json["embeddings"] == [expected(text)]


def test_texts_that_were_cut_are_counted_and_those_that_just_fit_are_not(fake, make):
    fits, cut = " ".join(["w1"] * (MAX_LENGTH - 2)), " ".join(["w1"] * (MAX_LENGTH - 1))
    usage = ask(make(fake()), "/embed", {"texts": ["w1", fits, cut]}).json["usage"]
    assert usage == {"tokens": 3 + 2 * MAX_LENGTH, "truncated": 1}


# ---- refusals


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"texts": "w1"}, "Expected `array`, got `str`"),
        ({"texts": None}, "got `null`"),
        ({"texts": [1]}, "Expected `str`, got `int`"),
        ({"texts": [None]}, "got `null`"),
        ({"texts": [["w1"]]}, "got `array`"),
        ({"texts": [["a", "b"]]}, '{"texts": ["a text", ...]}'),
        ({"texts": [[[["a"]]]]}, "got `array`"),
        ({"texts": []}, "at least one"),
        ({"texts": ["w1", ""]}, "texts[1] is empty or blank"),
        ({"texts": [" \n"]}, "texts[0] is empty or blank"),
        ({}, "missing required field `texts`"),
        ({"texts": ["w1"], "text": "w1"}, "unknown field `text`"),
        ({"texts": ["w1"], "model": 1}, "got `int`"),
        ([], "Expected `object`"),
        ("w1", "Expected `object`"),
        (b"", "not valid JSON"),
        (b'{"texts": ["w1"]', "not valid JSON"),
        (b'{"texts": ["w1"]} {}', "not valid JSON"),
        (b'{"texts": [NaN]}', "not valid JSON"),
        (b'{"texts": ["\xff\xfe"]}', "not UTF-8 (invalid start byte at byte 12)"),
        (b'{"te\xffxts": ["w1"]}', "not UTF-8 (invalid start byte at byte 4)"),
        (b'{"texts": ["w1\xc3', "not UTF-8 (unexpected end of data at byte 14)"),
        (b'{"texts": ["\xed\xa0\xbd"]}', "not UTF-8 (invalid continuation byte at byte 12)"),
        (b'{"texts": ["\\ud83d"]}', "\\ud83d at byte 12 is half a character, a lone surrogate"),
        (b'{"texts": ["\\\\ud83d \\ude00"]}', "\\ude00 at byte 20 is half a character, a lone surrogate"),
        (b'{"texts": ["\\ud83d\\ude00"', "truncated"),
        (b'{"texts": ["a"], "texts": ["b"]}', "'texts' occurs twice"),
        (b'{"texts": ["a"], "te\\u0078ts": ["b"]}', "'texts' occurs twice"),
        ('{"texts": ["w1"]}'.encode("utf-16"), "not UTF-8 (invalid start byte at byte 0)"),
        ('{"texts": ["w1"]}'.encode("utf-16-le"), "not valid JSON"),
        (b"[" * 100_000, "Expected `object`"),
        (b'{"texts": ' + b"[" * 100_000, "got `array`"),
        (b'{"a": ' * 100_000, "unknown field"),
        ({"texts": ["w1"], "encoding_format": "x" * 1_000_000}, "Invalid enum value"),
        ({"x" * 1_000_000: 1}, "unknown field `xxx"),
    ],
)
def test_a_malformed_body_is_refused_with_the_reason(fake, make, body, says):
    bundle = fake()
    answer = ask(make(bundle), "/embed", body)
    assert says in reason(answer, 400)
    assert len(answer.body) < 600, "what the client sends is not sent back whole"
    assert bundle.batches == []


def test_a_model_of_pairs_refuses_single_texts_and_says_what_it_takes(fake, make):
    app = make(fake("classification", texts=2, labels=LABELS))
    for texts in (["w1"], [["w1"]], [["a", "b", "c"]], [["a", 1]]):
        assert '[["a text", "its pair"], ...]' in reason(ask(app, "/predict", {"texts": texts}), 400)
    assert "texts[0] is empty" in reason(ask(app, "/predict", {"texts": [["a", ""]]}), 400)


def test_what_is_over_a_limit_is_a_413_that_names_the_limit(fake, make):
    bundle = fake()
    app = make(bundle, max_texts=3, max_characters=10, max_body_mb=0.001)
    assert "at most 3 texts" in reason(ask(app, "/embed", {"texts": ["a"] * 4}), 413)
    assert "texts[1] has 11 characters; this server takes 10" in reason(
        ask(app, "/embed", {"texts": ["a", "b" * 11]}), 413
    )
    assert "1,000 bytes" in reason(ask(app, "/embed", {"texts": ["a" * 2000]}), 413)
    assert bundle.batches == []


def test_a_body_is_not_read_beyond_the_limit_whatever_it_says_of_its_length(fake, make):
    app, taken = make(fake(), max_body_mb=0.01), 0

    async def endless():
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    for headers in ((JSON,), (JSON, ("content-length", "12")), (JSON, ("transfer-encoding", "chunked"))):
        taken = 0
        assert reason(ask(app, "/embed", headers=headers, receive=endless), 413)
        assert taken == 11
    for length in ("99999999", "9" * 40):
        taken = 0
        assert reason(ask(app, "/embed", headers=(JSON, ("content-length", length)), receive=endless), 413)
        assert taken == 0


def test_a_body_that_does_not_come_is_a_408(fake, make):
    async def never():
        await asyncio.sleep(30)

    assert "within 0.1 seconds" in reason(ask(make(fake(), read_timeout=0.1), "/embed", receive=never), 408)


def test_content_type_method_path_model_and_task_each_have_their_status(fake, make):
    app = make(fake())
    for kind in ("text/plain", "application/x-www-form-urlencoded", "", "application/json5"):
        assert "application/json" in reason(
            ask(app, "/embed", {"texts": ["a"]}, headers=(("content-type", kind),)), 415
        )
    assert reason(ask(app, "/embed", {"texts": ["a"]}, headers=()), 415)
    assert (
        ask(app, "/embed", {"texts": ["a"]}, headers=(("content-type", "Application/JSON; charset=utf-8"),)).status
        == 200
    )
    for header, says in (
        (("content-type", "application/json; charset=latin-1"), "expected the body in utf-8, got charset 'latin-1'"),
        (("content-type", 'application/json; charset="UTF-16"'), "got charset 'utf-16'"),
        (("content-encoding", "gzip"), "'Content-Encoding: gzip'; send it uncompressed"),
    ):
        assert says in reason(ask(app, "/embed", {"texts": ["a"]}, headers=(header, JSON)), 415)
    for header in (("content-type", 'application/json; charset="utf-8"'), ("content-encoding", "identity")):
        assert ask(app, "/embed", {"texts": ["a \N{GRINNING FACE}"]}, headers=(header, JSON)).status == 200
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = ask(app, "/embed", {"texts": ["a"]}, method=method)
        assert "takes POST" in reason(answer, 405)
        assert answer.headers["allow"] == "POST"
    assert "takes GET, HEAD" in reason(ask(app, "/health", {}), 405)
    assert "there is no /embed/" in reason(ask(app, "/embed/", {}), 404)
    assert "'fake-embedding'" in reason(ask(app, "/embed", {"texts": ["a"], "model": "other"}), 404)
    assert "call /embed or /v1/embeddings" in reason(ask(app, "/predict", {"texts": ["a"]}), 404)
    assert "call /predict" in reason(ask(make(fake("regression")), "/v1/embeddings", {}), 404)


# ---- under load


def test_every_request_among_many_gets_its_own_answer(fake, make):
    app = make(fake(), queue=5000, max_batch=8, workers=2, max_requests=1000)

    async def run():
        asked = [[f"w{i % 200} r{i} t{j}" for j in range(1 + i % 5)] for i in range(400)]
        found = await asyncio.gather(*(call(app, "/embed", {"texts": texts}) for texts in asked))
        for texts, answer in zip(asked, found, strict=True):
            assert answer.json["embeddings"] == [expected(text) for text in texts]

    asyncio.run(run())


def test_what_does_not_fit_the_queue_is_a_429_at_once_and_the_rest_is_answered(fake, make):
    bundle = fake()
    app = make(bundle, queue=4, max_batch=2)

    async def run():
        bundle.gate.clear()
        asked = [asyncio.create_task(call(app, "/embed", {"texts": [f"t{i}"]})) for i in range(10)]
        done, _ = await asyncio.wait(asked, timeout=0.5)
        assert len(done) == 5, "one is computed, four wait"
        for each in done:
            assert "4 texts are waiting" in reason(each.result(), 429)
            assert each.result().headers["retry-after"] == "1"
        bundle.gate.set()
        await asyncio.wait(asked)
        right = [(i, each.result()) for i, each in enumerate(asked) if each.result().status == 200]
        assert len(right) == 5
        for i, answer in right:
            assert answer.json["embeddings"] == [expected(f"t{i}")]

    asyncio.run(run())


def test_too_many_requests_in_hand_are_a_503_before_anything_of_them_is_read(fake, make):
    bundle = fake()
    app = make(bundle, max_requests=2)

    async def run():
        bundle.gate.clear()
        asked = [asyncio.create_task(call(app, "/embed", {"texts": ["a"]})) for _ in range(3)]
        await asyncio.wait(asked, timeout=0.3)
        assert [each.done() for each in asked] == [False, False, True]
        assert reason(asked[2].result(), 503)
        assert asked[2].result().headers["retry-after"] == "1"
        for path in ("/health", "/ready", "/metrics"):
            assert (await call(app, path, method="GET")).status == 200, "a busy server is no dead one"
        bundle.gate.set()
        await asyncio.gather(*asked)

    asyncio.run(run())


def test_an_answer_that_takes_too_long_is_a_503_and_its_texts_leave_the_queue(fake, make):
    bundle = fake()
    app = make(bundle, timeout=0.2)

    async def run():
        bundle.gate.clear()
        asked = [asyncio.create_task(call(app, "/embed", {"texts": [f"t{i}"]})) for i in range(3)]
        found = await asyncio.gather(*asked)
        assert [reason(each, 503) for each in found] == ["no answer within 0.2 seconds"] * 3
        assert app.state.service.batcher.waiting == 0
        bundle.gate.set()
        assert (await call(app, "/embed", {"texts": ["w1"]})).json["embeddings"] == [expected("w1")]
        assert [text for batch in bundle.batches for text in batch] == ["t0", "w1"]

    asyncio.run(run())


def test_a_client_that_hangs_up_takes_its_waiting_texts_with_it(fake, make):
    bundle = fake()
    app = make(bundle)

    async def run():
        bundle.gate.clear()
        first = asyncio.create_task(call(app, "/embed", {"texts": ["first"]}))
        left = asyncio.Event()
        gone = asyncio.create_task(call(app, "/embed", {"texts": ["gone"]}, left=left))
        last = asyncio.create_task(call(app, "/embed", {"texts": ["last"]}))
        await asyncio.sleep(0.1)
        assert app.state.service.batcher.waiting == 2
        left.set()
        await gone
        assert app.state.service.batcher.waiting == 1
        bundle.gate.set()
        assert (await first).status == (await last).status == 200
        assert bundle.batches == [["first"], ["last"]]
        assert app.state.service.active == 0

    asyncio.run(run())


def test_a_batch_that_fails_is_a_500_for_its_requests_and_the_server_goes_on(fake, make, caplog):
    app = make(fake(), max_batch=1)

    async def run():
        texts = ["w1", "poison", "w2"]
        found = await asyncio.gather(*(call(app, "/embed", {"texts": [text]}) for text in texts))
        assert [each.status for each in found] == [200, 500, 200]
        assert "poisoned" not in reason(found[1], 500), "what went wrong inside is for the log"
        assert found[2].json["embeddings"] == [expected("w2")]

    asyncio.run(run())
    assert "poisoned" in caplog.text


# ---- the rest


def test_request_ids_are_echoed_or_made_and_never_let_anything_else_into_a_header(fake, make):
    app = make(fake())
    said = ask(app, "/embed", {"texts": ["a"]}, headers=(JSON, ("x-request-id", "abc-1")))
    assert said.headers["x-request-id"] == "abc-1"
    made = {ask(app, "/embed", {}, headers=(JSON, ("x-request-id", bad))).headers["x-request-id"]
            for bad in ("", "a b", "x" * 129, "a\r\nb", "é")}  # fmt: skip
    assert len(made) == 5
    assert all(len(each) == 32 and each.isalnum() for each in made)


def test_while_it_drains_it_is_not_ready_answers_still_and_closes_connections(fake, make):
    app = make(fake())
    assert ask(app, "/ready", method="GET").status == 200
    assert "connection" not in ask(app, "/embed", {"texts": ["w1"]}).headers
    app.state.service.draining = True
    assert "shutting down" in reason(ask(app, "/ready", method="GET"), 503)
    answer = ask(app, "/embed", {"texts": ["w1"]})
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert ask(app, "/health", method="GET").json == {"status": "ok"}


def test_metrics_count_requests_by_endpoint_and_status_texts_tokens_and_batches(fake, make):
    app = make(fake())
    ask(app, "/embed", {"texts": ["w1", "w2 w3", "w " * 40]})
    ask(app, "/embed", {"texts": []})
    ask(app, "/nothing/" + "x" * 50, method="GET")
    page = ask(app, "/metrics", method="GET")
    assert page.headers["content-type"].startswith("text/plain")
    lines = dict(line.rsplit(" ", 1) for line in page.body.decode().splitlines() if not line.startswith("#"))
    assert lines['contrastill_requests_total{endpoint="/embed",status="200"}'] == "1.0"
    assert lines['contrastill_requests_total{endpoint="/embed",status="400"}'] == "1.0"
    assert lines['contrastill_requests_total{endpoint="other",status="404"}'] == "1.0"
    assert lines["contrastill_texts_total"] == "3.0"
    assert lines["contrastill_tokens_total"] == str(3.0 + 4 + MAX_LENGTH)
    assert lines["contrastill_texts_truncated_total"] == "1.0"
    assert lines["contrastill_queue_texts"] == "0.0"
    assert lines["contrastill_batch_texts_sum"] == "3.0"
    assert lines['contrastill_request_seconds_count{endpoint="/embed"}'] == "2.0"
    assert lines['contrastill_model_info{model="fake-embedding"}'] == "1.0"
    assert "x" * 50 not in page.body.decode(), "what clients make up does not become a label"


def test_the_description_names_every_endpoint_and_needs_nothing_from_elsewhere(fake, make):
    app = make(fake("classification", labels=LABELS))
    described = ask(app, "/openapi.json", method="GET").json
    assert described["openapi"] == "3.1.0"
    assert set(described["paths"]) == {"/predict", "/health", "/ready", "/metrics", "/v1/models", "/openapi.json"}
    schema = described["components"]["schemas"]["Predict"]
    assert schema["required"] == ["texts"]
    page = ask(app, "/", method="GET").body.decode()
    assert "/predict" in page
    assert "<script" not in page
    assert "src=" not in page
    for path in described["paths"]:
        if "get" in described["paths"][path]:
            assert ask(app, path, method="GET").status == 200


def test_the_page_s_example_has_the_address_that_was_asked(fake, make):
    page = ask(make(fake(), port=0), "/", method="GET").body.decode()
    assert "curl http://127.0.0.1:80/embed" in page


def test_models_are_listed_as_openai_lists_them(fake, make):
    found = json.loads(ask(make(fake()), "/v1/models", method="GET").body)
    assert found["object"] == "list"
    assert [(each["id"], each["object"]) for each in found["data"]] == [("fake-embedding", "model")]
