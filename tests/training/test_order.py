"""The order of training examples."""

import numpy as np
import pytest

from contrastill.training.order import POOL, GroupedByLength

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
