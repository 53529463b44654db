"""BentoML: one process that answers, one that computes; started by its own command line in this process's place."""

import os
import sys
from pathlib import Path
from typing import Any

import bentoml
from serve_model import BATCH, Model


@bentoml.service(workers=1)
class Vectors:
    def __init__(self) -> None:
        self.model = Model(os.environ["BUNDLE"])

    @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=10_000)
    def batch(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self.model.embed(requests)


@bentoml.service(workers=1)
class Embed:
    vectors = bentoml.depends(Vectors)

    @bentoml.api(route="/embed")
    async def embed(self, texts: list[str]) -> dict[str, Any]:
        return (await self.vectors.to_async.batch([{"texts": texts}]))[0]


if __name__ == "__main__":
    os.environ |= {"BENTOML_DO_NOT_TRACK": "true", "BUNDLE": sys.argv[1]}
    os.chdir(Path(__file__).parent)
    bento = str(Path(sys.executable).parent / "bentoml")
    os.execv(bento, [bento, "serve", "serve_bentoml:Embed", "--host", "127.0.0.1", "--port", sys.argv[2]])
