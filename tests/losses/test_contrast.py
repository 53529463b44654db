"""COS-NCE against the paper's own form, written out in loops over plain Python floats."""

import math

import pytest
import torch
from torch import nn

from contrastill.losses import centred_cosine, cos_nce, negatives_of, unit_mean

ONE = torch.ones(1, 1, dtype=torch.bool)


def cosine(x, y):
    dot = sum(a * b for a, b in zip(x, y, strict=True))
    return dot / (math.sqrt(sum(a * a for a in x)) * math.sqrt(sum(b * b for b in y)))


def g(x, y):
    return 1 - cosine(x, y)


def as_in_the_paper(student, teacher, negatives, negative_mask, allowed, mask):
    """`1/2K sum_k [2 - (g(n_k, s) - g(t, s))] + g(t, s)`; a negative example is the mean over its real tokens."""
    examples = []
    for b in range(len(student)):
        tokens = []
        for k in range(len(student[b])):
            if not mask[b][k]:
                continue
            s, positive = student[b][k], g(teacher[b][k], student[b][k])
            terms = []
            for n in range(len(negatives)):
                if allowed[b][n]:
                    far = [g(x, s) for x, real in zip(negatives[n], negative_mask[n], strict=True) if real]
                    terms.append(2 - (sum(far) / len(far) - positive))
            tokens.append(sum(terms) / (2 * len(terms)) + positive)
        examples.append(sum(tokens) / len(tokens))
    return sum(examples) / len(examples)


def by_the_identity(student, teacher, negatives, negative_mask, allowed, mask):
    """`2 - 1.5 cos(t, s) + 0.5 mean_k cos(n_k, s)`; without negatives their mean is 0."""
    examples = []
    for b in range(len(student)):
        tokens = []
        for k in range(len(student[b])):
            if mask[b][k]:
                far = [
                    sum(
                        cosine(x, student[b][k]) for x, real in zip(negatives[n], negative_mask[n], strict=True) if real
                    )
                    / sum(negative_mask[n])
                    for n in range(len(negatives))
                    if allowed[b][n]
                ]
                tokens.append(2 - 1.5 * cosine(teacher[b][k], student[b][k]) + 0.5 * sum(far) / max(1, len(far)))
        examples.append(sum(tokens) / len(tokens))
    return sum(examples) / len(examples)


def example(seed=0, batch=4, tokens=5, width=7, candidates=6):
    """Random inputs: student, teacher, negatives (N, L, D), their mask, allowed (B, N), mask (B, L)."""
    make = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(batch, tokens, width, generator=make) for _ in range(2))
    negatives = torch.randn(candidates, tokens, width, generator=make) * 3
    length = torch.randint(1, tokens + 1, (batch + candidates, 1), generator=make)
    real = torch.arange(tokens) < length
    allowed = torch.rand(batch, candidates, generator=make) < 0.6
    allowed[:, 0] = True
    return student, teacher, negatives, real[batch:], allowed, real[:batch]


def fast(student, teacher, negatives, negative_mask, allowed, mask):
    return cos_nce(student, teacher, unit_mean(negatives, negative_mask), allowed, mask)


@pytest.mark.parametrize("twin", [as_in_the_paper, by_the_identity])
@pytest.mark.parametrize("seed", range(5))
def test_cos_nce_is_the_papers_formula_in_both_forms(twin, seed):
    inputs = example(seed)
    assert fast(*inputs).item() == pytest.approx(twin(*(x.tolist() for x in inputs)), abs=2e-6)


@pytest.mark.parametrize(
    ("student", "teacher", "negatives", "expected"),
    [
        ([1.0, 0.0], [0.6, 0.8], [[0.0, 1.0]], 1.1),  # 1/2 [2 - (1 - 0.4)] + 0.4
        ([1.0, 0.0], [0.6, 0.8], [[0.8, 0.6], [-0.8, 0.6]], 1.1),  # the two negatives cancel
        ([1.0, 0.0], [0.6, 0.8], [[0.8, 0.6]], 1.5),  # 1/2 [2 - (0.2 - 0.4)] + 0.4
        ([2.0, 0.0], [5.0, 0.0], [[-3.0, 0.0]], 0.0),  # the best there is; lengths do not matter
        ([1.0, 0.0], [-1.0, 0.0], [[1.0, 0.0]], 4.0),  # the worst
        ([1.0, 0.0], [0.0, 1.0], [[0.0, -1.0]], 2.0),
    ],
)
def test_cos_nce_of_hand_made_vectors(student, teacher, negatives, expected):
    n = torch.tensor(negatives).unsqueeze(1)
    real = torch.ones(len(n), 1, dtype=torch.bool)
    inputs = torch.tensor([[student]]), torch.tensor([[teacher]]), n, real, real.T, ONE
    assert fast(*inputs).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_cos_nce_stays_between_0_and_4_and_fills_the_range(seed):
    student, teacher, negatives, *rest = example(seed)
    best = fast(student, student, -student[:1, :1].expand_as(negatives), *rest)
    assert -1e-6 <= best <= fast(student, teacher, negatives, *rest) <= 4 + 1e-6
    alone = torch.ones(1, 1, 1), ONE, ONE, ONE
    assert cos_nce(-alone[0], alone[0], -alone[0][0], *alone[2:]).item() == pytest.approx(4, abs=1e-5)
    assert cos_nce(alone[0], alone[0], -alone[0][0], *alone[2:]).item() == pytest.approx(0, abs=1e-5)


def test_a_row_without_negatives_contributes_its_positive_alone():
    student, teacher, negatives, negative_mask, allowed, mask = example()
    allowed[1] = False
    inputs = student, teacher, negatives, negative_mask, allowed, mask
    assert fast(*inputs).item() == pytest.approx(by_the_identity(*(x.tolist() for x in inputs)), abs=2e-6)
    row = [x[1:2] for x in (student, teacher)]
    angle = [cosine(t, s) for s, t, m in zip(*(x[0].tolist() for x in row), mask[1].tolist(), strict=True) if m]
    assert fast(*row, negatives, negative_mask, allowed[1:2], mask[1:2]).item() == pytest.approx(
        2 - 1.5 * sum(angle) / len(angle), abs=2e-6
    )


def test_every_example_counts_the_same_however_long_it_is():
    student, teacher, negatives, negative_mask, allowed, mask = example()
    assert len(set(mask.sum(1).tolist())) > 1
    singles = [
        fast(student[b : b + 1], teacher[b : b + 1], negatives, negative_mask, allowed[b : b + 1], mask[b : b + 1])
        for b in range(len(student))
    ]
    assert fast(student, teacher, negatives, negative_mask, allowed, mask) == pytest.approx(torch.stack(singles).mean())


def test_candidates_that_are_not_allowed_and_their_order_do_not_matter():
    student, teacher, negatives, negative_mask, allowed, mask = example()
    allowed[:, 2] = False
    before = fast(student, teacher, negatives, negative_mask, allowed, mask)
    negatives[2] *= -50
    order = torch.tensor([3, 0, 5, 2, 1, 4])
    after = fast(student, teacher, negatives[order], negative_mask[order], allowed[:, order], mask)
    torch.testing.assert_close(after, before)
    negatives[0] *= -1  # one that is allowed does
    assert not torch.isclose(fast(student, teacher, negatives, negative_mask, allowed, mask), before)


def test_cos_nce_computes_in_float32_under_autocast():
    inputs = example(batch=8, candidates=16)
    whole = fast(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = fast(*inputs)
    torch.testing.assert_close(mixed, whole, rtol=1e-6, atol=1e-6)


def test_cos_nce_draws_the_student_to_its_teacher_and_away_from_negatives():
    student = nn.Parameter(torch.tensor([[[1.0, 0.0]]]))
    teacher, negative = torch.tensor([[[0.0, 1.0]]]), torch.tensor([[0.0, -1.0]])
    cos_nce(student, teacher, negative, ONE, ONE).backward()
    torch.testing.assert_close(student.grad, torch.tensor([[[0.0, -2.0]]]))  # -1.5 (teacher) + 0.5 (negative)


# ---- unit_mean -----------------------------------------------------------------------------------------------------


def test_unit_mean_is_the_mean_of_unit_vectors_of_the_real_tokens():
    x = torch.tensor([[[3.0, 4.0], [0.0, 2.0], [9.0, 9.0]], [[-5.0, 0.0], [7.0, 1.0], [1.0, 1.0]]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    torch.testing.assert_close(unit_mean(x, mask), torch.tensor([[0.3, 0.9], [-1.0, 0.0]]))


def test_unit_mean_has_a_cosine_with_any_vector_that_is_the_mean_of_the_tokens_cosines():
    _, _, negatives, mask, _, _ = example()
    s = torch.randn(7)
    for vectors, real, mean in zip(negatives.tolist(), mask.tolist(), unit_mean(negatives, mask), strict=True):
        cosines = [cosine(v, s.tolist()) for v, r in zip(vectors, real, strict=True) if r]
        assert (mean @ s / s.norm()).item() == pytest.approx(sum(cosines) / len(cosines), abs=1e-6)


# ---- negatives_of --------------------------------------------------------------------------------------------------


def test_a_text_and_its_duplicates_are_never_negatives_of_it():
    keys, candidates = torch.tensor([1, 2, 2, -7]), torch.tensor([1, 2, 2, -7, 9, 1])
    expected = [
        [False, True, True, True, True, False],
        [True, False, False, True, True, True],
        [True, False, False, True, True, True],
        [True, True, True, False, True, True],
    ]
    assert negatives_of(keys, candidates).tolist() == expected


@pytest.mark.parametrize("most", [1, 2, 4])
def test_most_draws_exactly_that_many_of_the_allowed_ones(most):
    keys = torch.tensor([1, 2, 2, 4, 5, 5, 7])
    for seed in range(50):
        torch.manual_seed(seed)
        drawn = negatives_of(keys, keys, most)
        assert drawn.sum(1).tolist() == [most] * 7
        assert not (drawn & ~negatives_of(keys, keys)).any()


def test_a_row_with_fewer_negatives_than_most_takes_all_of_them():
    keys = torch.tensor([1, 1, 1, 1, 2])
    assert negatives_of(keys, keys, 3).sum(1).tolist() == [1, 1, 1, 1, 3]
    assert negatives_of(keys[:4], keys[:4], 3).sum() == 0
    for most in (5, 6, None):  # as many as there are candidates, or more
        assert torch.equal(negatives_of(keys, keys, most), keys.unsqueeze(1) != keys)


def test_the_draw_follows_the_global_generator_and_is_uniform():
    keys = torch.arange(6)
    torch.manual_seed(0)
    first, second = negatives_of(keys, keys, 2), negatives_of(keys, keys, 2)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(negatives_of(keys, keys, 2), first)
    counts = sum(negatives_of(keys, keys, 2).float() for _ in range(2000))
    expected = 800 * (1 - torch.eye(6))  # 2 of 5, 2000 times; standard deviation 22
    assert (counts - expected).abs().max() < 110


# ---- its control ---------------------------------------------------------------------------------------------------


def centred_in_loops(student, teacher, negatives, negative_mask, allowed, mask):
    examples = []
    for b in range(len(student)):
        means = []
        for n in range(len(negatives)):
            if allowed[b][n]:
                real = [x for x, there in zip(negatives[n], negative_mask[n], strict=True) if there]
                unit = [[v / math.hypot(*x) for v in x] for x in real]
                means.append([sum(column) / len(unit) for column in zip(*unit, strict=True)])
        middle = [sum(column) / max(1, len(means)) for column in zip(*(means or [[0.0] * 7]), strict=True)]
        tokens = []
        for s, t, real in zip(student[b], teacher[b], mask[b], strict=True):
            if real:
                target = [v / math.hypot(*t) - m / 3 for v, m in zip(t, middle, strict=True)]
                tokens.append(1 - cosine(s, target))
        examples.append(sum(tokens) / len(tokens))
    return sum(examples) / len(examples)


@pytest.mark.parametrize("seed", range(3))
def test_the_control_is_the_cosine_to_the_teacher_less_a_third_of_the_negatives_mean(seed):
    given = example(seed)
    student, teacher, negatives, negative_mask, allowed, mask = given
    found = centred_cosine(student, teacher, unit_mean(negatives, negative_mask), allowed, mask)
    assert found.item() == pytest.approx(centred_in_loops(*(x.tolist() for x in given)), rel=1e-5)
    none = torch.zeros_like(allowed)
    plain = centred_cosine(student, teacher, unit_mean(negatives, negative_mask), none, mask)
    lists = [x.tolist() for x in (student, teacher, negatives, negative_mask, none, mask)]
    assert plain.item() == pytest.approx(centred_in_loops(*lists), rel=1e-5)
    assert centred_cosine(teacher, teacher, unit_mean(negatives, negative_mask), none, mask).abs() < 1e-6
