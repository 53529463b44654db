"""No serving library: an ASGI application whose requests wait for each other in a list."""

import asyncio
import sys

import uvicorn
from serve_model import BATCH, Model
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


class Embed:
    def __init__(self, folder: str) -> None:
        self.model, self.waiting, self.running = Model(folder), [], asyncio.Semaphore(1)

    async def compute(self) -> None:
        async with self.running:
            batch = self.waiting[:BATCH]
            del self.waiting[:BATCH]
            if batch:
                answers = await asyncio.to_thread(self.model.embed, [request for request, _ in batch])
                for (_, future), answer in zip(batch, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)

    async def __call__(self, request: Request) -> JSONResponse:
        future = asyncio.get_running_loop().create_future()
        self.waiting.append((await request.json(), future))
        task = asyncio.create_task(self.compute())
        answer = await future
        await task
        return JSONResponse(answer)


if __name__ == "__main__":
    app = Starlette(routes=[Route("/embed", Embed(sys.argv[1]).__call__, methods=["POST"])])
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
