"""Losses between hidden states, against loops over plain Python floats."""

import math

import pytest
import torch

from contrastill.losses import hidden_mse, normalised_mse


def slow_hidden_mse(student, teacher, mask):
    examples = []
    for s, t, real in zip(student.tolist(), teacher.tolist(), mask.tolist(), strict=True):
        tokens = [
            sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)
            for a, b, r in zip(s, t, real, strict=True)
            if r
        ]
        examples.append(sum(tokens) / len(tokens))
    return sum(examples) / len(examples)


def unit(vector):
    norm = math.sqrt(sum(x * x for x in vector))
    return [x / norm for x in vector]


def slow_normalised_mse(student, teacher):
    errors = [
        (x - y) ** 2
        for s, t in zip(student.tolist(), teacher.tolist(), strict=True)
        for x, y in zip(unit(s), unit(t), strict=True)
    ]
    return sum(errors) / len(errors)


@pytest.mark.parametrize("seed", range(3))
def test_hidden_mse_is_the_mean_over_width_real_tokens_then_examples(seed):
    make = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(4, 5, 6, generator=make) for _ in range(2))
    mask = torch.arange(5) < torch.tensor([[5], [1], [3], [2]])
    assert hidden_mse(student, teacher, mask).item() == pytest.approx(slow_hidden_mse(student, teacher, mask), rel=1e-5)


def test_hidden_mse_of_hand_made_states():
    student = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[3.0, 0.0], [100.0, 0.0]]])
    teacher = torch.tensor([[[0.0, 2.0], [2.0, 2.0]], [[1.0, 2.0], [0.0, 0.0]]])
    mask = torch.tensor([[True, True], [True, False]])
    assert hidden_mse(student, teacher, mask).item() == pytest.approx(((0.5 + 4) / 2 + 4) / 2)


@pytest.mark.parametrize("seed", range(3))
def test_normalised_mse_compares_unit_vectors_and_is_a_mean_over_width_too(seed):
    make = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(4, 6, generator=make) for _ in range(2))
    expected = slow_normalised_mse(student, teacher)
    assert normalised_mse(student, teacher).item() == pytest.approx(expected, rel=1e-5)
    assert normalised_mse(7 * student, 0.1 * teacher).item() == pytest.approx(expected, rel=1e-5)


def test_normalised_mse_of_hand_made_vectors():
    student, teacher = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([[5.0, 0.0], [0.0, 9.0]])
    assert normalised_mse(student, teacher).item() == pytest.approx((0.16 + 0.64 + 0 + 0) / 4)
    assert normalised_mse(student, -student).item() == pytest.approx(4 / 2)  # |2u|^2 over a width of 2
