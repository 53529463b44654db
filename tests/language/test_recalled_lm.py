"""A teacher that recalls what it has read: one that reads each batch anew is the twin."""

from typing import Any

import pytest
import torch
from batches import batch_of
from tiny_language import llama

from contrastill.evaluation.inference import inference
from contrastill.teachers import FrozenLM, RecalledLM

ROWS = [([1, 10, 2, 11], [3, 12]), ([11], [5, 6, 7, 12]), ([9, 9, 10, 0, 1, 11], [12])]
OTHERS = [([4, 11], [12]), ([8, 2, 11], [1, 12])]
ALL = slice(0, 10**6)
PART = slice(1, 3)


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> tuple[FrozenLM, list[int]]:
    """A teacher, and the number of rows of each batch that it has read since."""
    frozen, read = FrozenLM(llama(spread=0.5)), list[int]()
    states = type(frozen.lm).states

    def counted(lm: Any, batch: Any) -> Any:
        read.append(len(batch["prompt"]))
        return states(lm, batch)

    monkeypatch.setattr(type(frozen.lm), "states", counted)
    return frozen, read


def test_a_batch_is_read_once_and_its_logits_are_the_teachers(teacher: tuple[FrozenLM, list[int]]) -> None:
    frozen, read = teacher
    wanted, parts = ([frozen.tokens(batch_of(rows))(some) for rows in (ROWS, OTHERS)] for some in (ALL, PART))
    recalled = RecalledLM(frozen)
    read.clear()
    for _ in range(3):
        for rows, expected, part in zip((ROWS, OTHERS), wanted, parts, strict=True):
            assert torch.equal(recalled.tokens(batch_of(rows))(ALL), expected)
            assert torch.equal(recalled.tokens(batch_of(rows))(PART), part)
            torch.testing.assert_close(
                part, expected[PART]
            )  # a product of fewer rows: rounded as the processor does it
    assert read == [3, 2]


def test_what_a_mask_hides_is_another_batch(teacher: tuple[FrozenLM, list[int]]) -> None:
    frozen, read = teacher
    recalled, batch = RecalledLM(frozen), batch_of(ROWS)
    shorter = {**batch, "answer_mask": batch["answer_mask"].clone()}
    shorter["answer_mask"][1, 3] = False
    assert len(recalled.tokens(batch)(ALL)) == len(recalled.tokens(shorter)(ALL)) + 1
    assert read == [3, 3]


def test_beyond_its_bytes_it_reads_anew(teacher: tuple[FrozenLM, list[int]]) -> None:
    frozen, read = teacher
    recalled = RecalledLM(frozen, most=7 * frozen.width * 4)  # the states of the first batch's seven tokens
    for _ in range(2):
        for rows in (ROWS, OTHERS):
            recalled.tokens(batch_of(rows))
    assert read == [3, 2, 2]


def test_numbers_of_another_kind_are_not_mixed(teacher: tuple[FrozenLM, list[int]]) -> None:
    frozen, read = teacher
    recalled, batch = RecalledLM(frozen), batch_of(ROWS)
    exact = recalled.tokens(batch)(ALL)
    with inference(frozen.model, torch.bfloat16):
        low, twin = recalled.tokens(batch)(ALL), frozen.tokens(batch)(ALL)
    assert low.dtype is torch.bfloat16
    assert torch.equal(low, twin)
    assert torch.equal(recalled.tokens(batch)(ALL), exact)
    assert read == [3, 3, 3]
