"""Ray Serve with its own batching, on a cluster of one machine that this process starts."""

import asyncio
import os
import sys
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from ray import serve
from serve_model import BATCH, WAIT_MS, Model
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=256, max_queued_requests=256, ray_actor_options={"num_cpus": 1})
class Embed:
    def __init__(self, folder: str) -> None:
        self.model = Model(folder)

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT_MS / 1000)
    async def batch(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return await asyncio.to_thread(self.model.embed, requests)

    async def __call__(self, request: Request) -> dict[str, Any]:
        return await self.batch(await request.json())


if __name__ == "__main__":
    ray.init(include_dashboard=False, num_cpus=2, log_to_driver=False, _node_ip_address="127.0.0.1")
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
    serve.run(Embed.bind(sys.argv[1]), blocking=True)
