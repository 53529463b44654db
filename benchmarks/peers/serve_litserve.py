"""LitServe: FastAPI in one process, the model in another."""

import sys
from typing import Any

import litserve
from serve_model import BATCH, WAIT_MS, Model


class Embed(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = Model(sys.argv[1])

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        return request

    def batch(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return inputs

    def predict(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self.model.embed(inputs)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    api = Embed(max_batch_size=BATCH, batch_timeout=WAIT_MS / 1000, api_path="/embed")
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
