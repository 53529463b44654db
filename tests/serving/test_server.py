"""The server as a process: what it is sent over the wire, how it starts and how it ends."""

import base64
import concurrent.futures
import contextlib
import http.client
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from contrastill.bundle import open_bundle
from serving import Server

HEAD = b"POST /embed HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


def request(body, head=HEAD):
    return head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(*chunks, end=b"0\r\n\r\n"):
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + end


def until(true):
    for _ in range(1000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("not within 10 seconds")


def works(server, folder):
    """The server's vectors are the bundle's own."""
    texts = ["w1 w2", "w3", "w4 w5 w6"]
    answer = server.ask("/embed", {"texts": texts})
    assert answer.status == 200
    np.testing.assert_allclose(answer.json["embeddings"], open_bundle(folder).run(texts), atol=1e-5)


def test_it_answers_what_the_bundle_answers(server, bundle_folder):
    works(server, bundle_folder)
    assert "serving url=http://127.0.0.1:" in server.log.read_text()
    assert "example curl http://127.0.0.1:" in server.log.read_text()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(b'{"texts": ["' + b"a" * 5_000_000 + b'"]}'), 413),
        (request(b'{"texts": ["' + b"a" * 20_001 + b'"]}'), 413),
        (request(b'{"texts": ["w1", "\xc3\x28"]}'), 400),
        (chunked(b'{"texts": ["w1', b'"]}'), 200),
        (chunked(*[b"x" * 60_000] * 80), 413),
        (chunked(b'{"texts": ["w1"]}', end=b"zz\r\n"), 400),
        (HEAD + b"Content-Length: 999999999999\r\n\r\n{}", 413),
        (HEAD + b"Content-Length: -5\r\n\r\n{}", 400),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\n{}12345", 400),
        (HEAD + b"\r\n", 400),
        (request(b"{}", HEAD + b"X-Long: " + b"a" * 70_000 + b"\r\n"), 431),
        (request(b"{}", HEAD + b"X-Many: a\r\n" * 7_000), 431),
        (b"POST /embed\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),  # the start of TLS
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"OPTIONS /embed HTTP/1.1\r\nHost: a\r\nOrigin: http://evil\r\n\r\n", 405),
    ],
    ids=range(16),
)
def test_what_comes_over_the_wire_is_answered_or_refused_and_the_server_goes_on(server, bundle_folder, data, status):
    answer = server.send(data)
    assert answer is not None
    assert answer.status == status
    assert not any(name.lower().startswith("access-control") for name in answer.headers)
    works(server, bundle_folder)


def test_nonsense_after_an_answer_ends_the_connection_and_no_more(server, bundle_folder):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as wire:
        wire.sendall(chunked(*[b"x" * 60_000] * 40, end=b""))
        assert wire.recv(1000).startswith(b"HTTP/1.1 413 ")
        wire.sendall(b"zz\r\n")
        while wire.recv(1000):
            pass
    server.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    works(server, bundle_folder)
    log = server.log.read_text()
    assert not any(word in log for word in ("Traceback", "ERROR", "WARNING")), log


def test_headers_without_end_are_cut_off(server, bundle_folder):
    answer = server.send(HEAD + b"X-Long: " + b"a" * 20_000_000)
    assert answer is None or answer.status == 431
    works(server, bundle_folder)


def test_clients_that_hang_up_in_the_middle_do_no_harm(server, bundle_folder):
    whole = request(b'{"texts": ["w1 w2"]}')
    for cut in (1, 20, len(HEAD), len(whole) - 5, len(whole)):
        server.send(whole[:cut], hang_up=True)
    works(server, bundle_folder)
    page = server.ask("/metrics", method="GET").body.decode()
    assert 'status="5' not in page
    assert "Traceback" not in server.log.read_text()


def test_the_openai_client_gets_its_vectors(server, bundle_folder):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0)
    with client:
        assert [model.id for model in client.models.list()] == ["tiny-embedding"]
        wanted = open_bundle(bundle_folder).run(["w1", "w2 w3"])
        found = client.embeddings.create(model="tiny-embedding", input=["w1", "w2 w3"])  # asks for base64
        np.testing.assert_allclose([each.embedding for each in found.data], wanted, atol=1e-6)
        assert found.usage.total_tokens == 7
        with pytest.raises(openai.NotFoundError, match="this server has 'tiny-embedding'"):
            client.embeddings.create(model="other", input="w1")
        with pytest.raises(openai.BadRequestError, match="token ids"):
            client.embeddings.create(model="tiny-embedding", input=[1, 2, 3])


def test_many_clients_at_once_each_get_their_own_vectors(server, bundle_folder):
    draw = random.Random(0)
    texts = [" ".join(f"w{draw.randrange(200)}" for _ in range(draw.randint(1, 14))) for _ in range(240)]
    wanted = open_bundle(bundle_folder).run(texts)

    def ask(i):
        return base64.b64decode(
            server.ask("/embed", {"texts": [texts[i]], "encoding_format": "base64"}).json["embeddings"][0]
        )

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        found = [np.frombuffer(each, "<f4") for each in pool.map(ask, range(len(texts)))]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


# ---- the end


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_at_its_end_it_answers_what_it_has_taken_and_exits_with_0(bundle_folder, tmp_path, sign):
    server = Server(bundle_folder, tmp_path / "log", "--max-wait-ms", "300").wait_until_ready()
    wanted = open_bundle(bundle_folder).run([f"w{i}" for i in range(200)])
    sent, answered, wrong, started = set(), set(), [], threading.Barrier(9)

    def client(number):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        for i in range(number, 10_000, 8):
            try:
                connection.connect() if connection.sock is None else None
            except ConnectionRefusedError:
                return
            body = json.dumps({"texts": [f"w{i % 200}"]})
            sent.add(i)
            connection.request("POST", "/embed", body, {"Content-Type": "application/json"})
            if i == number:
                started.wait()
            found = connection.getresponse()  # a lost request ends here with an error
            vector = json.loads(found.read())["embeddings"][0]
            if not np.allclose(vector, wanted[i % 200], atol=1e-5):
                wrong.append(i)
            answered.add(i)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client, number) for number in range(8)]
        started.wait()  # each has a request on the wire that waits for its batch
        server.process.send_signal(sign)
        for each in clients:
            each.result()
    assert server.process.wait(20) == 0
    assert len(sent) >= 8
    assert answered == sent
    assert wrong == []
    assert "draining" in server.log.read_text()
    assert "stopped cut_off=0" in server.log.read_text()


def test_without_connections_it_ends_at_once(bundle_folder, tmp_path):
    server = Server(bundle_folder, tmp_path / "log").wait_until_ready()
    start = time.monotonic()
    server.process.terminate()
    assert server.process.wait(10) == 0
    assert time.monotonic() - start < 1


def test_a_second_signal_ends_it_at_once(bundle_folder, tmp_path):
    server = Server(bundle_folder, tmp_path / "log", "--max-wait-ms", "1000").wait_until_ready()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as wire:
        wire.sendall(request(b'{"texts": ["w1"]}'))
        until(lambda: "active 2.0" in server.ask("/metrics", method="GET").body.decode())  # it, and the asking
        server.process.terminate()
        until(lambda: "draining" in server.log.read_text())
        start = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(10) == 1
        assert time.monotonic() - start < 0.5
        assert wire.recv(100) == b""
    assert "stopped cut_off=1" in server.log.read_text()
    assert "Traceback" not in server.log.read_text()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux")
def test_a_client_that_takes_nothing_of_its_answers_is_cut_off(bundle_folder, tmp_path):
    server = Server(bundle_folder, tmp_path / "log", "--timeout", "1").wait_until_ready()
    many = request(json.dumps({"texts": ["w1"] * 250}).encode())
    with socket.socket() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.connect(("127.0.0.1", server.port))
        wire.settimeout(0.5)
        with contextlib.suppress(OSError):  # until nothing goes on, neither its requests nor their answers
            while True:
                wire.sendall(many)
        until(lambda: "active 1.0" in server.ask("/metrics", method="GET").body.decode())
    server.process.terminate()
    assert server.process.wait(20) == 0


def test_what_the_end_cuts_off_is_counted(fake, make):
    from contrastill.serving.server import Draining, listening_socket

    bundle = fake()
    app = make(bundle, drain=1)
    server, answers = Draining(app), []
    listener = listening_socket("127.0.0.1", 0, 30)
    port = listener.getsockname()[1]

    def client():
        with socket.create_connection(("127.0.0.1", port), timeout=20) as wire:
            wire.sendall(request(b'{"texts": ["w1"]}'))
            answers.append(wire.recv(1000))

    bundle.gate.clear()
    threads = [threading.Thread(target=server.run, kwargs={"sockets": [listener]}), threading.Thread(target=client)]
    threads[0].start()
    until(lambda: server.started)
    threads[1].start()
    until(lambda: bundle.batches)
    server.handle_exit(signal.SIGTERM, None)
    threading.Timer(4, bundle.gate.set).start()
    for each in threads:
        each.join(20)
    assert app.state.service.cut_off == 1
    assert answers[0].startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in answers[0]


# ---- the start


def serve(*options):
    return subprocess.run(
        [sys.executable, "-m", "contrastill", "serve", *map(str, options)], capture_output=True, text=True, timeout=60
    )


def test_a_port_in_use_is_told_before_the_model_is_loaded(bundle_folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve(bundle_folder, "--port", port)
        missing = serve("no-such-bundle", "--port", port)
    assert done.returncode == missing.returncode == 2
    for each in (done, missing):
        assert f"cannot listen on 127.0.0.1 port {port}" in each.stderr
        assert "Traceback" not in each.stderr


def test_two_servers_that_start_at_once_do_not_share_a_port():
    from contrastill.errors import UserError
    from contrastill.serving.server import listening_socket

    with listening_socket("127.0.0.1", 0, 30) as first, pytest.raises(UserError, match="cannot listen on"):
        listening_socket("127.0.0.1", first.getsockname()[1], 30)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["no-such-bundle"], "expected a bundle"),
        (["BUNDLE", "--host", "203.0.113.7"], "cannot listen on 203.0.113.7"),
        (["BUNDLE", "--host", "no such host"], "expected a name or address"),
        (["BUNDLE", "--port", "70000"], "--port: expected a whole number from 0 to 65,535"),
        (["BUNDLE", "--max-batch", "0"], "--max-batch: expected a whole number from 1 to"),
        (["BUNDLE", "--timeout", "nan"], "--timeout: expected a number above 0"),
        (["BUNDLE", "--max-wait-ms", "-1"], "--max-wait-ms: expected a number from 0 to 1,000"),
    ],
)
def test_a_mistake_is_told_without_a_traceback(bundle_folder, options, says):
    port = [] if "--port" in options else ["--port", 0]
    done = serve(*(bundle_folder if each == "BUNDLE" else each for each in options), *port)
    assert done.returncode == 2
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_an_address_that_others_reach_is_warned_about(bundle_folder, tmp_path):
    server = Server(bundle_folder, tmp_path / "log", "--host", "0.0.0.0").wait_until_ready()
    server.process.terminate()
    assert server.process.wait(20) == 0
    assert "WARNING open address=0.0.0.0" in server.log.read_text()


def test_a_server_s_model_does_not_keep_the_cores_busy_while_it_waits(bundle_folder, monkeypatch):
    import onnxruntime

    from contrastill.serving import server

    seen, session = [], onnxruntime.InferenceSession

    def spy(path, options, **others):
        seen.append(options.get_session_config_entry("session.intra_op.allow_spinning"))
        return session(path, options, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    monkeypatch.setattr(server, "Draining", lambda app: SimpleNamespace(run=lambda sockets: None))
    monkeypatch.setattr(server, "start_log", lambda: None)
    assert server.serve(bundle=str(bundle_folder), port=0) == 0
    open_bundle(bundle_folder)
    assert seen == ["0", "1"]


def test_a_server_needs_neither_torch_nor_transformers(bundle_folder):
    code = f"""
import sys
from contrastill.bundle import open_bundle
from contrastill.serving import server
from contrastill.settings import Serving
import contrastill.cli
app = server.make_app(open_bundle({str(bundle_folder)!r}), Serving(bundle="unused"))
heavy = {{"torch", "transformers", "datasets", "pandas"}}
print(len(app.state.service.compute(["w1"])), sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1 []"
