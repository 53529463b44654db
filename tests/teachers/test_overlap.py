"""Chunks read ahead by a thread, and outputs cut into texts (on the processor, where there is nothing to wait for)."""

import threading

import numpy as np
import pytest
import torch

from contrastill.teachers.overlap import Outputs, read_ahead


def test_chunks_come_in_their_order_and_one_is_made_while_another_is_used():
    made, threads = [], set()

    def chunks():
        for n in range(5):
            made.append(n)
            threads.add(threading.current_thread())
            yield [] if n == 2 else [n]  # an empty chunk is a chunk

    seen = []
    for chunk in read_ahead(chunks()):
        for _ in range(1000):
            if len(made) == min(5, len(seen) + 2):
                break
            threading.Event().wait(0.01)
        assert len(made) == min(5, len(seen) + 2)  # one ahead, and no more
        seen.append(chunk)
    assert seen == [[0], [1], [], [3], [4]]
    assert threading.current_thread() not in threads
    assert list(read_ahead([])) == []


def test_an_error_in_a_chunk_comes_after_the_chunks_before():
    def chunks():
        yield "first"
        raise KeyError("second")

    ahead = read_ahead(chunks())
    assert next(ahead) == "first"
    with pytest.raises(KeyError, match="second"):
        next(ahead)


def test_the_first_text_with_a_value_that_is_not_finite_is_found():
    fields = {"a": torch.arange(12.0).view(6, 2), "b": torch.arange(3.0).view(3, 1)}
    counts = {"a": np.array([1, 3, 2]), "b": np.array([1, 1, 1])}
    whole = Outputs(fields, counts)
    assert torch.equal(whole.values()["a"], fields["a"])
    assert whole.broken() is None
    for row, text in enumerate([0, 1, 1, 1, 2, 2]):
        broken = fields["a"].clone()
        broken[row:, 1] = float("nan")
        assert Outputs({**fields, "a": broken}, counts).broken() == ("a", text)
    fields["b"][2] = float("inf")
    assert Outputs(fields, counts).broken() == ("b", 2)
