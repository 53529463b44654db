"""The order of training examples."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from contrastill import UserError
from contrastill.training.order import POOL, GroupedByLength, NoSharedTexts

SIZES = [(1000, 8), (1003, 8), (64, 16), (7, 8), (8, 8), (1, 4), (3000, 8)]


def some_lengths(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(3, 128, count)


def order(count: int, batch_size: int, seed: int = 0, epoch: int = 0) -> list[int]:
    sampler = GroupedByLength(some_lengths(count), batch_size, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize(("count", "batch_size"), SIZES)
def test_every_epoch_is_a_permutation(count: int, batch_size: int) -> None:
    for epoch in range(3):
        assert sorted(order(count, batch_size, epoch=epoch)) == list(range(count))
    assert len(GroupedByLength(some_lengths(count), batch_size, 0)) == count


def test_the_order_is_a_function_of_seed_and_epoch_alone() -> None:
    np.random.seed(1)
    first = order(500, 8, seed=3, epoch=2)
    np.random.seed(2)
    sampler = GroupedByLength(some_lengths(500), 8, 3)
    for epoch in (0, 1, 2):  # what came before does not count
        sampler.set_epoch(epoch)
        last = list(sampler)
    assert last == first == list(sampler)


def test_epochs_and_seeds_differ_in_their_order() -> None:
    orders = {tuple(order(500, 8, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_epochs_differ_in_their_batches_and_not_only_in_the_order_of_batches() -> None:
    def batches(epoch: int) -> set[frozenset[int]]:
        rows = order(800, 8, epoch=epoch)
        return {frozenset(rows[n : n + 8]) for n in range(0, 800, 8)}

    assert len(batches(0) & batches(1)) < 5


def test_texts_of_a_batch_are_about_equally_long() -> None:
    lengths, rows = some_lengths(3000), order(3000, 8)
    grouped = np.array([lengths[rows[n : n + 8]] for n in range(0, 3000, 8)])
    padded = grouped.max(axis=1).sum() * 8 / grouped.sum()
    plain = lengths[np.random.default_rng(0).permutation(3000)].reshape(-1, 8)
    assert padded < 1.1
    assert plain.max(axis=1).sum() * 8 / plain.sum() > 1.5


def test_batches_come_in_no_order_of_length() -> None:
    lengths, rows = some_lengths(POOL * 8), order(POOL * 8, 8)
    means = [lengths[rows[n : n + 8]].mean() for n in range(8, POOL * 8, 8)]  # the first batch is the longest
    assert means != sorted(means)
    assert means != sorted(means, reverse=True)


@pytest.mark.parametrize(("count", "batch_size"), [(1000, 8), (64, 16), (3000, 8)])
def test_the_longest_text_comes_first(count: int, batch_size: int) -> None:
    lengths = some_lengths(count)
    for epoch in range(3):
        rows = order(count, batch_size, epoch=epoch)
        assert lengths[rows[:batch_size]].max() == lengths.max()


# ---- rows that share no text ---------------------------------------------------------------------------------------


def some_rows(count: int, texts: int, columns: int, seed: int = 0) -> np.ndarray:
    """Numbers of texts, many of them in several rows."""
    return np.random.default_rng(seed).integers(0, texts, (count, columns))


def batches(order: NoSharedTexts, epoch: int = 0) -> list[list[int]]:
    order.set_epoch(epoch)
    rows = list(order)
    return [rows[n : n + order.batch_size] for n in range(0, len(rows), order.batch_size)]


@pytest.mark.parametrize(
    ("count", "texts", "columns", "size"),
    [(60, 600, 2, 8), (60, 45, 2, 8), (200, 80, 3, 16), (33, 30, 2, 4), (12, 6, 2, 3), (500, 90, 3, 25)],
)
def test_the_batches_are_those_of_sentence_transformers(count: int, texts: int, columns: int, size: int) -> None:
    sampler = pytest.importorskip("sentence_transformers.base.sampler").NoDuplicatesBatchSampler
    rows = some_rows(count, texts, columns)
    data = Dataset.from_dict({f"column{n}": [f"text {text}" for text in rows[:, n]] for n in range(columns)})
    theirs = sampler(data, batch_size=size, drop_last=True, generator=torch.Generator(), seed=5)
    ours = NoSharedTexts(rows, size, 5)
    for epoch in range(4):
        theirs.set_epoch(epoch)
        assert batches(ours, epoch) == list(theirs)
    assert len(ours) == count - count % size


def test_no_batch_holds_a_text_twice_and_every_epoch_is_another_order() -> None:
    rows = np.array([(n // 3, 100 + n % 30) for n in range(60)])
    order = NoSharedTexts(rows, 10, 0)
    epochs = [batches(order, epoch) for epoch in range(3)]
    for batch in (batch for epoch in epochs for batch in epoch):
        assert len(batch) == 10
        assert len(set(rows[batch].ravel())) == 20
    assert epochs[0] != epochs[1] != epochs[2]
    assert batches(order, 1) == epochs[1]


def test_a_text_may_be_its_own_positive() -> None:
    order = NoSharedTexts(np.array([(n, n) for n in range(12)]), 4, 0)
    assert sorted(n for batch in batches(order) for n in batch) == list(range(12))


def test_an_epoch_without_a_batch_is_an_error() -> None:
    with pytest.raises(UserError, match="expected 3 rows without a text in common in every epoch, found none in epoch"):
        batches(NoSharedTexts(np.array([(0, n) for n in range(1, 9)]), 3, 0))
