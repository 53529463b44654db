"""Losses between attention scores, and between relations of tokens, against loops over plain Python floats."""

import math

import pytest
import torch

from contrastill.losses import attention_mse, relation_kl
from slow_losses import softmax

MASKED = torch.finfo(torch.float32).min


def slow_attention_mse(student, teacher, mask):
    examples = []
    for s, t, real in zip(student.tolist(), teacher.tolist(), mask.tolist(), strict=True):
        errors = []
        for head in range(len(s)):
            for query in range(len(real)):
                for key in range(len(real)):
                    both = all(any(one[query][key] > -100 for one in z) for z in (s, t))
                    if real[query] and real[key] and both:
                        x, y = (0.0 if z[head][query][key] <= -100 else z[head][query][key] for z in (s, t))
                        errors.append((x - y) ** 2)
        examples.append(sum(errors) / max(1, len(errors)))
    return sum(examples) / len(examples)


@pytest.mark.parametrize("seed", range(3))
def test_attention_mse_is_the_mean_over_heads_and_real_pairs_then_examples(seed):
    make = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(3, 2, 4, 4, generator=make) for _ in range(2))
    mask = torch.arange(4) < torch.tensor([[4], [1], [3]])
    hidden = ~mask[:, None, None, :].expand_as(student)
    student, teacher = student.masked_fill(hidden, MASKED), teacher.masked_fill(hidden, -torch.inf)
    assert attention_mse(student, teacher, mask).item() == pytest.approx(
        slow_attention_mse(student, teacher, mask), rel=1e-5
    )


def test_attention_mse_of_hand_made_scores():
    student = torch.tensor([[[[1.0, 2.0], [3.0, MASKED]]]])
    teacher = torch.tensor([[[[0.0, 2.0], [-150.0, 2.0]]]])
    both = torch.ones(1, 2, dtype=torch.bool)
    assert attention_mse(student, teacher, both).item() == pytest.approx((1 + 0) / 2)
    first = torch.tensor([[True, False]])
    assert attention_mse(student, teacher, first).item() == pytest.approx(1)


def test_a_pair_is_compared_where_both_models_may_look_and_where_one_head_is_low():
    student, teacher = torch.zeros(1, 2, 3, 3), torch.ones(1, 2, 3, 3)
    near = (torch.arange(3)[:, None] - torch.arange(3)).abs() <= 1
    real = torch.ones(1, 3, dtype=torch.bool)
    assert attention_mse(student, teacher.masked_fill(~near, MASKED), real).item() == 1.0
    assert attention_mse(student.masked_fill(~near.tril(), MASKED), teacher, real).item() == 1.0
    teacher[0, 0, 0, 0] = -150.0  # counts as 0, as in the authors' code
    assert attention_mse(student, teacher, real).item() == pytest.approx(17 / 18)


def test_entries_count_as_masked_from_minus_100_on():
    scores = torch.tensor([[[[-99.0]]], [[[-100.0]]], [[[-101.0]]]])
    one = torch.ones(1, 1, dtype=torch.bool)
    values = [attention_mse(row.unsqueeze(0), torch.zeros(1, 1, 1, 1), one).item() for row in scores]
    assert values == [99.0**2, 0.0, 0.0]


def test_masked_entries_give_no_gradient():
    student = torch.tensor([[[[1.0, MASKED], [-torch.inf, 0.5]]]], requires_grad=True)
    attention_mse(student, torch.zeros(1, 1, 2, 2), torch.ones(1, 2, dtype=torch.bool)).backward()
    assert student.grad.flatten().tolist() == [1.0, 0.0, 0.0, 0.5]


def slow_relations(x, heads, real):
    """[head][query][key], of the first `real` tokens: plain floats."""
    size = len(x[0]) // heads
    found = []
    for head in range(heads):
        parts = [row[head * size : (head + 1) * size] for row in x[:real]]
        scores = [[sum(a * b for a, b in zip(q, k, strict=True)) / size**0.5 for k in parts] for q in parts]
        found.append([softmax(row) for row in scores])
    return found


def test_relations_are_those_of_heads_split_anew_and_of_real_tokens():
    make = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 4, 6, generator=make), torch.randn(2, 4, 8, generator=make)
    lengths, heads, total = [4, 2], 2, 0.0
    for n, real in enumerate(lengths):
        ours, theirs = (slow_relations(side[n].tolist(), heads, real) for side in (student, teacher))
        pairs = zip([row for head in theirs for row in head], [row for head in ours for row in head], strict=True)
        of_text = sum(p * math.log(p / q) for t, s in pairs for p, q in zip(t, s, strict=True))
        total += of_text / heads / real / len(lengths)
    mask = torch.arange(4) < torch.tensor(lengths).unsqueeze(1)
    assert relation_kl(student, teacher, mask, heads).item() == pytest.approx(total, rel=1e-5)
    assert relation_kl(teacher, teacher, mask, heads).item() == pytest.approx(0, abs=1e-7)


def test_heads_that_do_not_divide_a_width_are_refused():
    mask = torch.ones(1, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="4 heads to divide the widths, got 6 and 8"):
        relation_kl(torch.zeros(1, 3, 6), torch.zeros(1, 3, 8), mask, 4)
