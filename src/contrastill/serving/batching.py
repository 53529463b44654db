"""Texts of several requests computed together; each request is given its own rows, all of them or an error.

The state belongs to the event loop; the computation runs in threads. A text never waits for company: while the model is
busy, others arrive, and the next batch takes them together. (A wait can be asked for; on a CPU it does not pay.) Texts
of about one length form a batch, so that short ones are not padded to a long one, and the batch with the text that has
waited longest comes first.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

__all__ = ["Batcher", "Failed", "Full", "Text"]

Text = str | tuple[str, str]


class Full(Exception):
    """The texts do not fit the queue; nothing of the request was taken."""


class Failed(Exception):
    """A batch with texts of the request could not be computed."""


@dataclass(eq=False)
class Job:
    """The texts of one request in progress."""

    done: asyncio.Future[list[Any]]
    rows: list[Any]
    missing: int
    waiting: int  # of its texts, those that no batch has taken yet


@dataclass(eq=False)
class Entry:
    job: Job
    place: int
    text: Text
    since: float


class Batcher:
    """Computes texts in batches of at most `max_batch`, up to `workers` batches at once.

    compute: takes texts, gives a row for each; runs in a thread.
    max_wait: how many seconds a text waits for others while the model is idle.
    room: how many texts may wait. A request larger than that is taken when none waits.
    """

    def __init__(
        self,
        compute: Callable[[list[Text]], Sequence[Any]],
        *,
        max_batch: int = 32,
        max_wait: float = 0.0,
        room: int = 256,
        workers: int = 1,
    ) -> None:
        self.compute, self.max_batch, self.max_wait, self.room = compute, max_batch, max_wait, room
        self.waiting = 0
        self._queues: dict[int, deque[Entry]] = {}
        self._idle = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="model")
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, texts: Sequence[Text]) -> list[Any]:
        """The rows of these texts, in their order. Cancelled, it takes back what no batch has taken yet.

        Raises:
            Full: too many texts wait already.
            Failed: a batch with some of them could not be computed.
        """
        if self.waiting and self.waiting + len(texts) > self.room:
            raise Full
        job = Job(asyncio.get_running_loop().create_future(), [None] * len(texts), len(texts), len(texts))
        now = time.monotonic()
        for place, text in enumerate(texts):
            self._queues.setdefault(length_class(text), deque()).append(Entry(job, place, text, now))
        self.waiting += len(texts)
        try:
            self._start_batches()
            return await job.done
        finally:
            job.done.cancel()
            if job.waiting:
                self._take_back(job)

    def close(self) -> None:
        """Waits for the batches that run."""
        self._pool.shutdown()

    def _take_back(self, job: Job) -> None:
        """Out of the queues at once: clients that ask and hang up must not fill the memory behind a slow batch."""
        self.waiting -= job.waiting
        job.waiting = 0
        for length, queue in self._queues.items():
            self._queues[length] = deque(entry for entry in queue if entry.job is not job)

    def _start_batches(self) -> None:
        while self._idle and (batch := self._next_batch()):
            self._idle -= 1
            running = asyncio.get_running_loop().run_in_executor(self._pool, self.compute, [e.text for e in batch])
            running.add_done_callback(partial(self._finish, batch))

    def _next_batch(self) -> list[Entry]:
        """The texts to compute now, if any; of all lengths those first whose oldest text is the oldest."""
        for length in list(self._queues):
            queue = self._queues[length]
            while queue and queue[0].job.done.done():
                queue.popleft()
            if not queue:
                del self._queues[length]
        due = time.monotonic() - self.max_wait
        ripe = [queue for queue in self._queues.values() if queue[0].since <= due or len(queue) >= self.max_batch]
        if not ripe:
            if self._queues and self._timer is None:
                oldest = min(queue[0].since for queue in self._queues.values())
                self._timer = asyncio.get_running_loop().call_later(oldest - due, self._wake)
            return []
        queue = min(ripe, key=lambda each: each[0].since)
        batch: list[Entry] = []
        while queue and len(batch) < self.max_batch:
            entry = queue.popleft()
            if not entry.job.done.done():
                entry.job.waiting -= 1
                self.waiting -= 1
                batch.append(entry)
        return batch

    def _wake(self) -> None:
        self._timer = None
        self._start_batches()

    def _finish(self, batch: list[Entry], running: asyncio.Future[Sequence[Any]]) -> None:
        self._idle += 1
        error = running.exception()
        if error is None and len(running.result()) != len(batch):
            error = ValueError(f"expected {len(batch)} rows of {len(batch)} texts, got {len(running.result())}")
        if error is not None:
            for entry in batch:
                if not entry.job.done.done():
                    failure = Failed("the model could not compute a batch")
                    failure.__cause__ = error
                    entry.job.done.set_exception(failure)
        else:
            for entry, row in zip(batch, running.result(), strict=True):
                job = entry.job
                job.rows[entry.place] = row
                job.missing -= 1
                if not job.missing and not job.done.done():
                    job.done.set_result(job.rows)
        self._start_batches()


def length_class(text: Text) -> int:
    """About how long a text is: classes a quarter to a half wider than the one before, in characters."""
    characters = len(text) if isinstance(text, str) else sum(map(len, text))
    step = max(32, 1 << characters.bit_length() >> 2)
    return -(-characters // step) * step
