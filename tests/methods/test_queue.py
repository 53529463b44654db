"""The queue of past teacher vectors, against a plain Python deque."""

import copy
from collections import deque

import pytest
import torch

from contrastill.methods.queue import Queue

NONE = torch.zeros(0, 2, 3), torch.zeros(0, dtype=torch.int64)


def rows(*keys):
    """A batch whose vectors are told by their keys: 5 -> [[5, 5, 5], [-5, -5, -5]]."""
    k = torch.tensor(keys)
    return torch.stack([k, -k], dim=1).float().unsqueeze(-1).expand(-1, 2, 3), k


def held(queue):
    """The keys it holds, each with its own vector."""
    vectors, keys = queue.with_batch(*NONE)
    torch.testing.assert_close(vectors, rows(*keys.tolist())[0] if len(keys) else NONE[0])
    return sorted(keys.tolist())


def test_it_holds_the_last_size_rows_first_in_first_out():
    queue, twin, key = Queue(5, 2, 3), deque(maxlen=5), 0
    for length in (2, 2, 2, 1, 3, 5, 4, 1, 1):
        new = list(range(key + 1, key + 1 + length))
        key += length
        queue.push(*rows(*new))
        twin.extend(new)
        assert held(queue) == sorted(twin)


@pytest.mark.parametrize("before", [0, 2, 3, 4])
def test_of_a_batch_larger_than_itself_it_keeps_the_last_rows(before):
    queue = Queue(3, 2, 3)
    if before:
        queue.push(*rows(*range(100, 100 + before)))
    queue.push(*rows(1, 2, 3, 4, 5, 6, 7))
    assert held(queue) == [5, 6, 7]
    queue.push(*rows(8))
    assert held(queue) == [6, 7, 8]


def test_it_gives_the_batch_first_and_only_what_was_pushed():
    queue = Queue(4, 2, 3)
    assert queue.with_batch(*rows(7, 8))[1].tolist() == [7, 8]
    queue.push(*rows(1))
    vectors, keys = queue.with_batch(*rows(7, 8))
    assert keys.tolist() == [7, 8, 1]
    torch.testing.assert_close(vectors, rows(7, 8, 1)[0])


def test_a_restored_queue_goes_on_where_the_saved_one_stopped():
    saved = Queue(4, 2, 3)
    for batch in (rows(1, 2, 3), rows(4, 5)):
        saved.push(*batch)
    restored = Queue(4, 2, 3)
    restored.load_state_dict(saved.state_dict())
    assert held(restored) == held(saved) == [2, 3, 4, 5]
    for queue in (saved, restored):
        queue.push(*rows(6))
    assert held(restored) == held(saved) == [3, 4, 5, 6]


def test_a_queue_of_size_0_holds_nothing():
    queue = Queue(0, 2, 3)
    assert queue.with_batch(*rows(1, 2))[1].tolist() == [1, 2]
    assert held(queue) == []


def test_what_it_holds_has_no_gradient_and_does_not_change_with_the_batch():
    queue, (vectors, keys) = Queue(4, 2, 3), rows(1, 2)
    vectors = vectors.clone().requires_grad_()
    queue.push(vectors, keys)
    with torch.no_grad():
        vectors.zero_()
    assert not queue.with_batch(*NONE)[0].requires_grad
    assert held(queue) == [1, 2]


# ---- in LRC-BERT ---------------------------------------------------------------------------------------------------


def seen_by_the_loss(method, batch, monkeypatch):
    """The `allowed` matrix (B, N) that the batch's cos_nce gets, and the step's terms."""
    from contrastill import losses

    seen, original = [], losses.cos_nce
    with monkeypatch.context() as patch:
        patch.setattr(losses, "cos_nce", lambda *args: seen.append(args[3]) or original(*args))
        terms = method.losses(method.student(batch, method.needs), method.run_teacher(batch), batch)
    return seen[0], terms


def test_texts_of_past_batches_become_negatives_and_duplicates_of_a_text_do_not(tiny_method, tiny_batch, monkeypatch):
    method = tiny_method("lrc_bert", {"queue": 8})
    past, batch = tiny_batch(rows=3, seed=1), tiny_batch(rows=2, seed=2)
    batch["text_key"] = torch.tensor([50, int(past["text_key"][1])])  # the second was seen before
    method(**past)
    allowed, terms = seen_by_the_loss(method, batch, monkeypatch)
    assert allowed.tolist() == [[False, True, True, True, True], [True, False, True, False, True]]
    alone = tiny_method("lrc_bert")
    assert not torch.isclose(seen_by_the_loss(alone, batch, monkeypatch)[1]["cos_nce"], terms["cos_nce"])


def test_a_past_text_counts_exactly_as_one_of_the_same_batch(tiny_method, tiny_batch):
    """Two texts and a past one == the first two rows of a batch of three."""
    whole = tiny_batch(rows=3)
    past, now = ({k: v[rows] for k, v in whole.items()} for rows in (slice(2, 3), slice(0, 2)))
    queued, plain = tiny_method("lrc_bert", {"queue": 4}), tiny_method("lrc_bert")
    queued.load_state_dict({**queued.state_dict(), **projections(plain)})
    queued(**past)
    with torch.no_grad():
        got = queued(**now)["cos_nce"]
        all_three, third = plain(**whole)["cos_nce"], None
        plain.queue = queued.queue.__class__(4, 2, 24)
        plain(**now)
        third = plain(**past)["cos_nce"]
    torch.testing.assert_close(got * 2 + third, all_three * 3)


def projections(method):
    return {name: value for name, value in method.state_dict().items() if name.startswith("project")}


def test_a_step_pushes_its_texts_once_and_only_after_its_own_loss(tiny_method, tiny_batch, monkeypatch):
    method, batch = tiny_method("lrc_bert", {"queue": 16}), tiny_batch()
    allowed, _ = seen_by_the_loss(method, batch, monkeypatch)
    assert allowed.shape == (6, 6)
    assert method.queue.pushed == 0
    method(**batch)
    assert method.queue.pushed == 6
    assert method.queue.keys[:6].tolist() == batch["text_key"].tolist()


def test_the_queue_is_saved_with_the_method_and_restored(tiny_method, tiny_batch):
    method, fresh = (tiny_method("lrc_bert", {"queue": 8}) for _ in range(2))
    method(**tiny_batch(seed=1))
    fresh.load_state_dict(method.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(fresh(**tiny_batch(seed=2)), method(**tiny_batch(seed=2)))
    assert fresh.queue.pushed == 12


def test_a_method_without_a_queue_keeps_nothing(tiny_method, tiny_batch):
    method = tiny_method("lrc_bert")
    method(**tiny_batch())
    assert method.queue.pushed == 0
    assert method.queue.vectors.numel() == 0


def test_whoever_changes_what_it_holds_is_believed():
    queue = Queue(4, 2, 3)
    empty = {name: value.clone() for name, value in queue.named_buffers()}
    for change in (
        lambda q: [value.copy_(empty[name]) for name, value in q.named_buffers()],  # the dry run
        lambda q: q.load_state_dict(empty),
        lambda q: q.register_buffer("pushed", torch.zeros((), dtype=torch.int64)),  # as moving to another device does
    ):
        queue.push(*rows(1, 2, 3))
        assert (queue.count, held(queue)) == (3, [1, 2, 3])
        copied = copy.deepcopy(queue)
        change(queue)
        assert (queue.count, held(queue)) == (0, [])
        copied.push(*rows(4, 5))
        assert (copied.count, held(copied)) == (5, [2, 3, 4, 5])
