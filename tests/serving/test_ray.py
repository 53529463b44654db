"""The application on Ray Serve, on a cluster of this machine alone. Skipped without Ray, which is no part of `dev`."""

import concurrent.futures
import http.client
import json
import socket

import numpy as np
import pytest

from contrastill.bundle import open_bundle
from contrastill.errors import UserError

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def port(bundle_folder):
    from ray import serve

    from contrastill.serving.ray import app

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ray.init(include_dashboard=False, num_cpus=2, _node_ip_address="127.0.0.1")
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        deployed = app({"bundle": str(bundle_folder), "threads": "1"})
        serve.run(deployed, name="tiny")
        yield port
        serve.shutdown()
    finally:
        ray.shutdown()


def ask(port, path, body):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        headers = {"Content-Type": "application/json", "X-Request-ID": "mine"}
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("x-request-id"), json.loads(answer.read())
    finally:
        connection.close()


def test_a_replica_answers_and_refuses_as_the_server_does(port, bundle_folder):
    wanted = open_bundle(bundle_folder).run([f"w{i}" for i in range(100)])
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: ask(port, "/embed", {"texts": [f"w{i}"]}), range(100)))
    assert {status for status, _, _ in found} == {200}
    np.testing.assert_allclose([body["embeddings"][0] for _, _, body in found], wanted, atol=1e-5)
    status, said, body = ask(port, "/embed", {"texts": [1]})
    assert (status, said) == (400, "mine")
    assert "Expected `str`" in body["error"]["message"]


def test_arguments_are_checked_before_anything_is_deployed():
    from contrastill.serving.ray import settings_of

    assert settings_of({"bundle": "b", "max_batch": "8", "timeout": "2"}).max_batch == 8
    assert settings_of({"bundle": "b"}).threads == 1
    for bad in ({}, {"bundle": "b", "port": 1}, {"bundle": "b", "max_batch": "many"}, {"bundle": "b", "queue": 0}):
        with pytest.raises(UserError):
            settings_of(bad)
