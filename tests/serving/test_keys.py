"""Keys: who needs one, what counts as one, and that none is ever shown."""

import asyncio
import importlib.util
import pickle
import socket
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import contrastill.serving
from contrastill.bundle import open_bundle
from contrastill.errors import UserError
from contrastill.serving.app import make_app
from contrastill.serving.keys import LARGEST, VARIABLE, Keys, read_keys
from contrastill.serving.server import serve
from contrastill.settings import Serving
from serving import Server, call

KEY, NEXT = "0123456789abcdef", "the~next!key+/=$%"
JSON = ("content-type", "application/json")
GATED = [
    "/",
    "/metrics",
    "/openapi.json",
    "/v1/models",
    "/nothing",
    "/health/",
    "//health",
    "/HEALTH",
    "/v1/embeddings",
]


def bearing(*said):
    return (JSON, *(("authorization", each) for each in said))


@pytest.fixture
def app(fake):
    return make_app(fake(), Serving(bundle="unused"), keys=Keys([KEY.encode(), NEXT.encode()]))


def ask(app, *args, **kwargs):
    return asyncio.run(call(app, *args, **kwargs))


@pytest.mark.parametrize("path", GATED)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_without_a_key_every_path_is_a_401_in_the_form_of_all_errors(app, path, method):
    answer = ask(app, path, {"texts": ["w1"]}, method=method)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.headers["content-type"] == "application/json"
    error = answer.json["error"]
    assert "Authorization: Bearer" in error.pop("message")
    assert error == {"type": "invalid_request_error", "param": None, "code": "invalid_api_key"}


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_probes_need_no_key_and_are_not_told_of_the_model(app, path):
    answer = ask(app, path, method="GET")
    assert answer.status == 200
    assert [*answer.json] == ["status"]


@pytest.mark.parametrize(
    "said", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER   {KEY}", f"Bearer {NEXT}"],
    ids=["as OpenAI's client", "lower case", "several spaces", "the other key"],
)  # fmt: skip
def test_each_key_lets_in(app, said):
    assert ask(app, "/embed", {"texts": ["w1"]}, headers=bearing(said)).status == 200
    assert ask(app, "/nothing", method="GET", headers=bearing(said)).status == 404
    for path in ("/", "/metrics", "/openapi.json", "/v1/models"):
        assert ask(app, path, method="GET", headers=bearing(said)).status == 200


@pytest.mark.parametrize(
    "said",
    [
        [""], ["Bearer"], ["Bearer "], [KEY], [f"Basic {KEY}"], [f"Bearer{KEY}"], [f"Bearer\t{KEY}"],
        [f"Bearer {KEY[:-1]}"], [f"Bearer {KEY}a"], [f"Bearer {KEY.upper()}"], [f"Bearer {KEY} {KEY}"],
        [f"Bearer {KEY},"], [f'Bearer "{KEY}"'], ["Bearer é" + KEY], ["Bearer " + "a" * 60_000],
        [f"Bearer {KEY}", f"Bearer {KEY}"], [f"Bearer {KEY}", "Bearer x"],
    ],
)  # fmt: skip
def test_nothing_else_does(app, said):
    assert ask(app, "/embed", {"texts": ["w1"]}, headers=bearing(*said)).status == 401


def test_a_request_without_a_key_is_refused_before_its_body_and_is_in_nobody_s_way(app):
    async def receive():
        raise AssertionError("the body was read")

    service = app.state.service
    service.active = service.settings.max_requests
    answer = ask(app, "/embed", headers=(JSON, ("content-length", "9" * 15)), receive=receive)
    assert answer.status == 401
    assert ask(app, "/embed", {"texts": ["w1"]}, headers=bearing(f"Bearer {KEY}")).status == 503
    assert service.active == service.settings.max_requests
    page = ask(app, "/metrics", method="GET", headers=bearing(f"Bearer {KEY}")).body.decode()
    assert 'contrastill_requests_total{endpoint="/embed",status="401"} 1.0' in page


def test_the_description_says_that_a_key_is_needed_and_which_none(app, fake, make):
    keyed = bearing(f"Bearer {KEY}")
    described = ask(app, "/openapi.json", method="GET", headers=keyed).json
    assert described["security"] == [{"key": []}]
    assert described["components"]["securitySchemes"]["key"] == {"type": "http", "scheme": "bearer"}
    assert described["paths"]["/health"]["get"]["security"] == []
    assert f"Bearer ${VARIABLE}" in ask(app, "/", method="GET", headers=keyed).body.decode()
    assert "security" not in ask(make(fake()), "/openapi.json", method="GET").json
    assert "Bearer" not in ask(make(fake()), "/", method="GET").body.decode()


# ---- where keys come from


def test_keys_are_the_lines_of_a_file_or_the_variable(tmp_path, monkeypatch):
    file = tmp_path / "keys"
    file.write_bytes(f"{KEY}\r\n\n{NEXT}\n".encode())
    keys = read_keys(str(file))
    assert len(keys) == 2
    assert all(keys.let_in([(b"authorization", f"Bearer {key}".encode())]) for key in (KEY, NEXT))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(read_keys("~/keys")) == 2
    assert read_keys(None) is None
    monkeypatch.setenv(VARIABLE, KEY)
    assert read_keys(None).let_in([(b"authorization", f"Bearer {KEY}".encode())])
    with pytest.raises(UserError, match=r"expected --api-key-file or \$CONTRASTILL_API_KEY, got both"):
        read_keys(str(file))


SECRET = "s3cr3t"
WRONG = {
    "empty": (b"", "empty file"),
    "blank lines": (b"\n\r\n", "empty file"),
    "short": (SECRET.encode(), "16 to 512 characters, got 6"),
    "long": (SECRET.encode() * 100, "16 to 512 characters, got 600"),
    "a space in it": (b"s3cr3t s3cr3t s3cr3t", "got a space"),
    "a space behind it": (b"s3cr3ts3cr3ts3cr3t ", "got a space"),
    "a tab": (b"s3cr3t\ts3cr3ts3cr3t", "control character"),
    "NUL": (b"s3cr3t\0s3cr3ts3cr3t", "control character"),
    "form feed": (b"s3cr3ts3cr3ts3cr3t\x0c", "control character"),
    "a letter beyond ASCII": ("s3cr3t-é-s3cr3t-s3cr3t".encode(), "beyond ASCII"),
    "a mark of UTF-8": (b"\xef\xbb\xbfs3cr3ts3cr3ts3cr3t", "line 1: .*beyond ASCII"),
    "UTF-16": ("s3cr3ts3cr3ts3cr3t".encode("utf-16"), "beyond ASCII"),
    "a good one first": (KEY.encode() + b"\n\ns3cr3t", "line 3: "),
    "oversize": (b"s3cr3ts3cr3ts3cr3t\n" * (LARGEST // 18), "at most 65,536 bytes"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_of_wrong_keys_is_told_without_them_before_the_model_loads(case, tmp_path):
    content, says = WRONG[case]
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(UserError, match=says) as raised:
        serve(bundle="no-such-bundle", port=0, api_key_file=str(tmp_path / "keys"))
    assert SECRET not in str(raised.value)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "value", ["", " ", "s3cr3t", "s3cr3ts3cr3ts3cr3t\n", "s3cr3ts3cr3ts3cr3t-é", "s3cr3t\udcff" * 5]
)
def test_so_is_a_variable(value, monkeypatch):
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(UserError, match=r"\$CONTRASTILL_API_KEY: expected a key") as raised:
        serve(bundle="no-such-bundle", port=0)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("file", ["s3cr3ts3cr3ts3cr3t", "."])
def test_a_file_that_cannot_be_read_is_not_quoted_as_it_may_be_the_key_itself(file):
    with pytest.raises(UserError, match="got none that can be read") as raised:
        read_keys(file)
    assert SECRET not in str(raised.value)


def test_there_is_no_option_that_takes_a_key_in_clear():
    from typer.testing import CliRunner

    from contrastill.cli import app

    for given in (["--api-key", KEY], [f"--api-key={KEY}"]):
        done = CliRunner().invoke(app, ["serve", "bundle", *given])
        assert done.exit_code == 2
        assert KEY not in done.output


def test_on_ray_keys_are_read_where_the_application_is_made_and_hold_in_its_replicas(
    bundle_folder, tmp_path, monkeypatch
):
    builds = []
    serve = ModuleType("ray.serve")
    serve.Application = object
    serve.deployment = lambda **_: lambda deployed: deployed
    serve.ingress = lambda build: builds.append(build) or (lambda _: SimpleNamespace(bind=lambda: None))
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(serve=serve))
    monkeypatch.setitem(sys.modules, "ray.serve", serve)
    spec = importlib.util.spec_from_file_location("on_ray", Path(contrastill.serving.__file__).with_name("ray.py"))
    on_ray = importlib.util.module_from_spec(spec)  # not imported: it would stay where the real one belongs
    spec.loader.exec_module(on_ray)
    deployed = on_ray.app
    file = tmp_path / "keys"
    file.write_text(KEY)
    deployed({"bundle": str(bundle_folder), "api_key_file": str(file)})
    file.unlink()
    monkeypatch.setenv(VARIABLE, KEY)
    deployed({"bundle": str(bundle_folder)})
    monkeypatch.delenv(VARIABLE)
    for build in builds:
        replica = build()
        assert ask(replica, "/embed", {"texts": ["w1"]}).status == 401
        assert ask(replica, "/embed", {"texts": ["w1"]}, headers=bearing(f"Bearer {KEY}")).status == 200
    with pytest.raises(UserError, match="api-key-file"):
        deployed({"bundle": str(bundle_folder), "api_key_file": str(file)})


# ---- that none is shown


def test_a_key_stands_neither_in_what_prints_the_keys_nor_in_what_a_replica_is_sent():
    keys = Keys([KEY.encode()])
    for shown in (repr(keys), str(vars(keys)), repr(pickle.dumps(keys))):
        assert KEY not in shown
    assert pickle.loads(pickle.dumps(keys)).let_in([(b"authorization", f"Bearer {KEY}".encode())])


@pytest.fixture(scope="module")
def keyed(bundle_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keyed")
    (folder / "keys").write_text(f"{KEY}\n{NEXT}\n")
    options = ("--api-key-file", str(folder / "keys"), "--host", "0.0.0.0")
    running = Server(bundle_folder, folder / "log", *options).wait_until_ready()
    yield running
    running.process.terminate()
    assert running.process.wait(20) == 0


def test_the_openai_client_gets_its_vectors_with_a_key_and_its_own_error_without(keyed, bundle_folder):
    openai = pytest.importorskip("openai")
    base = f"http://127.0.0.1:{keyed.port}/v1"
    with openai.OpenAI(base_url=base, api_key=NEXT, max_retries=0) as client:
        found = client.embeddings.create(model="tiny-embedding", input="w2 w3").data[0].embedding
        np.testing.assert_allclose(found, open_bundle(bundle_folder).run(["w2 w3"])[0], atol=1e-6)
    with openai.OpenAI(base_url=base, api_key="none", max_retries=0) as client:
        for call in (client.models.list, lambda: client.embeddings.create(model="tiny-embedding", input="w1")):
            with pytest.raises(openai.AuthenticationError, match="Authorization: Bearer"):
                call()


def test_over_the_wire_no_body_is_waited_for_and_the_connection_goes_on(keyed):
    head = b"POST /embed HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", keyed.port), timeout=15) as wire:
        wire.sendall(head + b"Content-Length: 17\r\n\r\n")
        refused = b""
        while b"}}" not in refused:  # head and body may come one after the other
            refused += wire.recv(1000)
        assert refused.startswith(b"HTTP/1.1 401 ")
        wire.sendall(b'{"texts": ["w1"]}' + b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert wire.recv(1000).startswith(b"HTTP/1.1 200 ")
    with socket.create_connection(("127.0.0.1", keyed.port), timeout=15) as wire:
        wire.sendall(head + b"Content-Length: 17\r\nExpect: 100-continue\r\n\r\n")
        with wire.makefile("rb") as answers:
            assert answers.read().startswith(b"HTTP/1.1 401 ")


def test_the_log_counts_the_keys_and_tells_none(keyed):
    for key in (KEY, NEXT):
        headers = b"Authorization: Bearer " + key.encode() + b"\r\n"
        for sent in (b"GET /v1/models HTTP/1.1\r\nHost: a\r\n", b"GET /v1/models HTTP/1.1\r\nHost: a b\r\n"):
            answer = keyed.send(sent + headers + b"\r\n")
            assert key.encode() not in answer.body
    log = keyed.log.read_text()
    assert "keys count=2 each request but /health and /ready needs one" in log
    assert "WARNING open address=0.0.0.0 others can reach this server, and keys and texts are not encrypted" in log
    assert not any(key in log for key in (KEY, NEXT))
