"""Texts of several requests in common batches: each request gets its own rows, or one error, and nothing is lost."""

import asyncio
import random
import threading
import time

import pytest

from contrastill.serving.batching import Batcher, Failed, Full, length_class


def upper(texts):
    return [text.upper() for text in texts]


class Gate:
    """A computation that waits to be let through, and keeps what it was given."""

    def __init__(self):
        self.open, self.seen = threading.Event(), []

    def __call__(self, texts):
        self.seen.append(list(texts))
        assert self.open.wait(10)
        return upper(texts)


async def settle():
    for _ in range(20):
        await asyncio.sleep(0.005)


def test_many_requests_of_many_sizes_each_get_their_own_rows():
    draw = random.Random(0)
    requests = [[f"r{i}-{j}-" + "x" * draw.randint(0, 300) for j in range(draw.randint(1, 9))] for i in range(300)]

    def slow(texts):
        time.sleep(draw.random() / 500)
        return upper(texts)

    async def run():
        batcher = Batcher(slow, max_batch=8, room=10_000, workers=3)
        found = await asyncio.gather(*(batcher.run(texts) for texts in requests))
        assert batcher.waiting == 0
        return found

    assert asyncio.run(run()) == [upper(texts) for texts in requests]


def test_what_arrives_while_the_model_is_busy_is_computed_together():
    async def run():
        gate = Gate()
        batcher = Batcher(gate, max_batch=4)
        jobs = [asyncio.create_task(batcher.run([f"t{i}"])) for i in range(7)]
        await settle()
        assert gate.seen == [["t0"]], "the first text waits for nobody"
        assert batcher.waiting == 6
        gate.open.set()
        assert await asyncio.gather(*jobs) == [[f"T{i}"] for i in range(7)]
        assert gate.seen == [["t0"], ["t1", "t2", "t3", "t4"], ["t5", "t6"]]

    asyncio.run(run())


def test_a_wait_gathers_texts_while_the_model_is_idle_and_ends():
    async def run():
        gate = Gate()
        gate.open.set()
        batcher = Batcher(gate, max_batch=4, max_wait=0.2)
        start = time.monotonic()
        jobs = [asyncio.create_task(batcher.run([f"t{i}"])) for i in range(3)]
        await asyncio.gather(*jobs)
        assert 0.15 < time.monotonic() - start < 5
        assert gate.seen == [["t0", "t1", "t2"]]
        start = time.monotonic()
        await asyncio.gather(*(batcher.run([f"t{i}"]) for i in range(4)))
        assert time.monotonic() - start < 0.15, "a full batch does not wait"

    asyncio.run(run())


def test_a_text_waits_no_longer_than_asked_whatever_the_other_lengths_do():
    async def run():
        gate = Gate()
        gate.open.set()
        batcher, long, start, ends = Batcher(gate, max_batch=2, max_wait=0.6), "long " * 200, time.monotonic(), []

        async def ask(after, text):
            await asyncio.sleep(after)
            await batcher.run([text])
            ends.append((text, time.monotonic() - start - after))

        # the first two long ones fill a batch; the third is younger than the short one, in an older queue
        await asyncio.gather(ask(0, long), ask(0.05, "short"), ask(0.5, long), ask(0.5, long))
        waited = dict(ends)
        assert 0.59 < waited["short"] < 0.9

    asyncio.run(run())


def test_short_and_long_texts_are_in_batches_of_their_own_and_the_oldest_comes_first():
    async def run():
        gate = Gate()
        batcher = Batcher(gate, max_batch=8)
        first = asyncio.create_task(batcher.run(["first"]))
        await settle()
        long, short = ["long " * 200], ["short"]
        jobs = [asyncio.create_task(batcher.run(texts)) for texts in (long, short, long, short, short)]
        await settle()
        gate.open.set()
        await asyncio.gather(first, *jobs)
        assert gate.seen == [["first"], long * 2, short * 3]

    asyncio.run(run())


def test_the_classes_of_length_grow_with_the_text_and_waste_at_most_half():
    classes = [length_class("x" * n) for n in range(1, 30_000)]
    assert classes == sorted(classes)
    assert len(set(classes)) < 60
    assert all(n <= c for n, c in enumerate(classes, 1))
    assert all(c <= 1.51 * n for n, c in enumerate(classes, 1) if n > 64)
    assert length_class(("x" * 40, "x" * 60)) == length_class("x" * 100)


def test_a_queue_that_is_full_takes_nothing_and_says_so():
    async def run():
        gate = Gate()
        batcher = Batcher(gate, max_batch=2, room=3)
        jobs = [asyncio.create_task(batcher.run(["a"])) for _ in range(4)]
        await settle()
        assert batcher.waiting == 3
        with pytest.raises(Full):
            await batcher.run(["b"])
        assert batcher.waiting == 3
        gate.open.set()
        await asyncio.gather(*jobs)
        assert sum(map(len, gate.seen)) == 4
        assert await batcher.run(["b"] * 10) == ["B"] * 10, "more than the room, when nothing waits"

    asyncio.run(run())


def test_a_failed_batch_fails_its_requests_alone():
    def compute(texts):
        if "bad" in texts:
            raise RuntimeError("no")
        return upper(texts)

    async def run():
        batcher = Batcher(compute, max_batch=1)
        found = await asyncio.gather(
            *(batcher.run(texts) for texts in (["a"], ["bad"], ["b", "bad", "c"], ["d"])), return_exceptions=True
        )
        assert found[0] == ["A"]
        assert found[3] == ["D"]
        assert [type(each) for each in found[1:3]] == [Failed, Failed]
        assert str(found[1].__cause__) == "no"
        assert batcher.waiting == 0
        assert await batcher.run(["e"]) == ["E"]

    asyncio.run(run())


def test_a_model_that_gives_too_few_rows_is_an_error_not_a_mix_up():
    async def run():
        batcher = Batcher(lambda texts: texts[1:])
        with pytest.raises(Failed) as caught:
            await batcher.run(["a", "b"])
        assert "expected 2 rows" in str(caught.value.__cause__)

    asyncio.run(run())


def test_a_request_that_is_given_up_leaves_the_queue_and_the_others_their_answers():
    async def run():
        gate = Gate()
        batcher = Batcher(gate, max_batch=4, room=4)
        jobs = [asyncio.create_task(batcher.run([f"t{i}"])) for i in range(5)]
        await settle()
        assert batcher.waiting == 4
        jobs[0].cancel()  # its batch runs
        jobs[2].cancel()  # it waits
        await settle()
        assert batcher.waiting == 3
        jobs.append(asyncio.create_task(batcher.run(["new"])))
        await settle()
        gate.open.set()
        found = await asyncio.gather(*jobs, return_exceptions=True)
        assert [type(each) for each in found] == [
            asyncio.CancelledError, list, asyncio.CancelledError, list, list, list,
        ]  # fmt: skip
        assert gate.seen == [["t0"], ["t1", "t3", "t4", "new"]]

    asyncio.run(run())


def test_clients_that_ask_and_hang_up_leave_nothing_behind_a_slow_batch():
    async def run():
        gate = Gate()
        batcher = Batcher(gate, max_batch=1)
        first, kept = (asyncio.create_task(batcher.run([text])) for text in ("first", "kept"))
        await settle()
        for _ in range(50):
            gone = asyncio.create_task(batcher.run(["gone"] * 5 + ["gone " * 50]))
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.wait([gone])
        assert batcher.waiting == 1
        assert [entry.text for queue in batcher._queues.values() for entry in queue] == ["kept"]
        gate.open.set()
        assert await asyncio.gather(first, kept) == [["FIRST"], ["KEPT"]]

    asyncio.run(run())


def test_as_many_batches_run_at_once_as_there_are_workers():
    async def run():
        gate = Gate()
        batcher = Batcher(gate, max_batch=1, workers=2)
        jobs = [asyncio.create_task(batcher.run([f"t{i}"])) for i in range(4)]
        await settle()
        assert sorted(gate.seen) == [["t0"], ["t1"]]
        gate.open.set()
        await asyncio.gather(*jobs)

    asyncio.run(run())
