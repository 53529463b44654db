"""Mosec: a web layer in Rust, a Python process for the model."""

import os
import sys
from typing import Any

from mosec import Runtime, Server, Worker
from serve_model import BATCH, WAIT_MS, Model


class Embed(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.model = Model(os.environ["BUNDLE"])

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self.model.embed(data)


if __name__ == "__main__":
    os.environ["BUNDLE"], port = sys.argv[1:]
    sys.argv = ["mosec", "--address", "127.0.0.1", "--port", port, "--log-level", "warning"]
    server = Server()
    server.register_runtime({"/embed": [Runtime(Embed, num=1, max_batch_size=BATCH, max_wait_time=WAIT_MS)]})
    server.run()
