"""`contrast` and what it is given, against softmaxes written out in loops over plain Python floats."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from contrastill.losses import contrast, group_shuffled, negatives_of, similarity_targets, unit_distance

B, N, D = 4, 7, 5
SEEDS = range(4)


def units(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def inputs(seed):
    """Anchors (B, D), candidates (N, D), own places (B,), a distribution (B, N), and who may be compared (B, N)."""
    make = torch.Generator().manual_seed(seed)
    own = torch.randint(0, N, (B,), generator=make)
    allowed = torch.rand(B, N, generator=make) < 0.6
    allowed[torch.arange(B), own] = True
    shares = torch.rand(B, N, generator=make) * allowed
    return units(B, D, seed=seed + 10), units(N, D, seed=seed + 20), own, shares / shares.sum(1, keepdim=True), allowed


def dot(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


def softmax(scores):
    top = max(scores.values())
    whole = sum(math.exp(score - top) for score in scores.values())
    return {n: math.exp(score - top) / whole for n, score in scores.items()}


def shares_of(vector, candidates, temperature, allowed):
    """The softmax over the allowed candidates, by their places."""
    return softmax({n: dot(vector, c) / temperature for n, c in enumerate(candidates) if allowed is None or allowed[n]})


def by_hand(anchors, candidates, target, temperature, allowed=None):
    """`-sum_n target_n log softmax_n`, mean over anchors; a target that is a place counts as 1 there."""
    losses = []
    for b, anchor in enumerate(anchors):
        found = shares_of(anchor, candidates, temperature, None if allowed is None else allowed[b])
        wanted = {target[b]: 1.0} if isinstance(target[b], int) else dict(enumerate(target[b]))
        losses.append(-sum(share * math.log(found[n]) for n, share in wanted.items() if share))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [1.0, 0.05])
@pytest.mark.parametrize("masked", [False, True], ids=["all", "allowed"])
@pytest.mark.parametrize("kind", ["place", "distribution"])
@pytest.mark.parametrize("seed", SEEDS)
def test_contrast_is_the_cross_entropy_of_the_softmax_written_out(seed, kind, masked, temperature):
    anchors, candidates, own, shares, allowed = inputs(seed)
    target, allowed = own if kind == "place" else shares, allowed if masked else None
    expected = by_hand(
        anchors.tolist(), candidates.tolist(), target.tolist(), temperature, allowed.tolist() if masked else None
    )
    got = contrast(anchors, candidates, target, temperature, allowed)
    assert (got.shape, got.dtype) == ((), torch.float32)
    assert got.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_distribution_that_is_all_on_one_candidate_is_that_candidates_place(seed):
    anchors, candidates, own, _, allowed = inputs(seed)
    for some in (None, allowed):
        place = contrast(anchors, candidates, own, 0.3, some)
        torch.testing.assert_close(contrast(anchors, candidates, F.one_hot(own, N).float(), 0.3, some), place)


def test_candidates_that_are_not_allowed_and_their_order_do_not_matter():
    anchors, candidates, own, shares, allowed = inputs(0)
    order = torch.tensor([4, 2, 6, 0, 1, 5, 3])
    changed = candidates.clone()
    outside = (~allowed).all(0)
    changed[outside] *= -9
    for target, moved in ((own, order.argsort()[own]), (shares, shares[:, order])):
        before = contrast(anchors, candidates, target, 0.2, allowed)
        torch.testing.assert_close(contrast(anchors, changed[order], moved, 0.2, allowed[:, order]), before)
        assert not torch.isclose(contrast(anchors, -candidates, target, 0.2, allowed), before)


def test_an_anchor_that_may_be_compared_with_its_own_alone_costs_nothing():
    anchors, candidates, own, *_ = inputs(0)
    allowed = F.one_hot(own, N).bool()
    assert contrast(anchors, candidates, own, 0.05, allowed) == 0
    none = similarity_targets(anchors, candidates, 0.05, torch.zeros_like(allowed))
    assert contrast(anchors, candidates, none, 0.05, torch.zeros_like(allowed)).isfinite()


@pytest.mark.parametrize("kind", ["place", "distribution"])
def test_a_learnt_temperature_gets_the_gradient_of_its_finite_difference(kind):
    anchors, candidates, own, shares, allowed = (x.double() if x.is_floating_point() else x for x in inputs(1))
    target = own if kind == "place" else shares
    scale, step = nn.Parameter(torch.tensor(0.7)), 1e-2
    contrast(anchors, candidates, target, torch.exp(-scale), allowed).backward()
    above, below = (
        by_hand(anchors.tolist(), candidates.tolist(), target.tolist(), math.exp(-0.7 - s), allowed.tolist())
        for s in (step, -step)
    )
    assert abs(scale.grad.item()) > 1e-3
    assert scale.grad.item() == pytest.approx((above - below) / (2 * step), rel=1e-2)


def test_anchors_are_drawn_to_their_target_and_candidates_get_a_gradient_only_if_they_ask():
    anchors = nn.Parameter(torch.tensor([[1.0, 0.0]]))
    candidates = torch.tensor([[0.0, 1.0], [0.0, -1.0]])
    contrast(anchors, candidates, torch.tensor([0]), 1.0).backward()
    torch.testing.assert_close(anchors.grad, torch.tensor([[0.0, -1.0]]))  # -(1 - 1/2) (0, 1) + 1/2 (0, -1)


def test_under_autocast_the_result_is_float32_and_close():
    anchors, candidates, own, shares, allowed = inputs(2)
    for target in (own, shares):
        whole = contrast(anchors, candidates, target, 0.2, allowed)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = contrast(anchors, candidates, target, 0.2, allowed)
        assert mixed.dtype == torch.float32
        torch.testing.assert_close(mixed, whole, rtol=0.05, atol=0.02)


# ---- similarity_targets and unit_distance --------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True], ids=["all", "allowed"])
@pytest.mark.parametrize("seed", SEEDS)
def test_similarity_targets_are_the_teachers_softmax_written_out(seed, masked):
    teacher, candidates, *_, allowed = inputs(seed)
    allowed = allowed if masked else None
    got = similarity_targets(teacher, candidates, 0.3, allowed)
    assert (got.shape, got.dtype) == ((B, N), torch.float32)
    for b, row in enumerate(got.tolist()):
        expected = shares_of(teacher[b].tolist(), candidates.tolist(), 0.3, allowed[b].tolist() if masked else None)
        assert row == pytest.approx([expected.get(n, 0.0) for n in range(N)], abs=1e-6)


def test_a_student_that_has_the_teachers_vectors_costs_the_targets_entropy_and_any_other_more():
    anchors, candidates, *_ = inputs(3)
    targets = similarity_targets(anchors, candidates, 0.4)
    entropy = -sum(share * math.log(share) for row in targets.tolist() for share in row) / B
    assert contrast(anchors, candidates, targets, 0.4).item() == pytest.approx(entropy, rel=1e-5)
    assert contrast(units(B, D, seed=99), candidates, targets, 0.4) > entropy


@pytest.mark.parametrize("seed", SEEDS)
def test_unit_distance_is_2_minus_2_cosines_whatever_the_lengths(seed):
    student, teacher = (torch.randn(B, D, generator=torch.Generator().manual_seed(seed + n)) for n in (0, 50))
    cosines = [
        dot(s, t) / math.sqrt(dot(s, s) * dot(t, t)) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    assert unit_distance(student, teacher).item() == pytest.approx(2 - 2 * sum(cosines) / B, rel=1e-5)
    torch.testing.assert_close(unit_distance(5 * student, 0.1 * teacher), unit_distance(student, teacher))
    assert unit_distance(student, student) == pytest.approx(0, abs=1e-6)
    assert unit_distance(student, -student) == pytest.approx(4)


# ---- the papers' formulas are cases of the one term ----------------------------------------------------------------


def test_disco_is_the_term_over_batch_and_queue_with_duplicates_left_out():
    """`-log(exp(s_i t_i / T) / sum_k exp(s_i k / T))`, k the teacher's vectors of batch and queue but copies of i."""
    student, teacher, queue, temperature = units(3, D), units(3, D, seed=1), units(2, D, seed=2), math.exp(-1)
    keys, old = torch.tensor([7, 8, 7]), torch.tensor([9, 8])  # the third text is the first, the queue knows the second
    losses = []
    for i in range(3):
        own = math.exp(dot(student[i].tolist(), teacher[i].tolist()) / temperature)
        whole = own
        for j in range(3):
            if keys[j] != keys[i]:
                whole += math.exp(dot(student[i].tolist(), teacher[j].tolist()) / temperature)
        for j in range(2):
            if old[j] != keys[i]:
                whole += math.exp(dot(student[i].tolist(), queue[j].tolist()) / temperature)
        losses.append(-math.log(own / whole))
    own = torch.arange(3)
    allowed = negatives_of(keys, torch.cat([keys, old])).scatter(1, own.unsqueeze(1), True)
    assert allowed.tolist() == [
        [True, True, False, True, True],
        [True, True, True, True, False],
        [False, True, True, True, True],
    ]
    got = contrast(student, torch.cat([teacher, queue]), own, temperature, allowed)
    assert got.item() == pytest.approx(sum(losses) / 3, rel=1e-5)


def test_simcse_is_the_term_over_the_other_view_and_hard_negatives():
    """`-log(exp(h_i h'_i / T) / sum_j (exp(h_i h'_j / T) + exp(h_i n_j / T)))` (Gao et al. 2021, eq. 5)."""
    first, second, hard = (units(3, D, seed=seed).tolist() for seed in (1, 2, 3))
    losses = []
    for i in range(3):
        whole = sum(
            math.exp(dot(first[i], second[j]) / 0.05) + math.exp(dot(first[i], hard[j]) / 0.05) for j in range(3)
        )
        losses.append(-math.log(math.exp(dot(first[i], second[i]) / 0.05) / whole))
    got = contrast(torch.tensor(first), torch.tensor(second + hard), torch.arange(3), 0.05)
    assert got.item() == pytest.approx(sum(losses) / 3, rel=1e-4)


def test_distillcse_is_the_term_over_the_students_batch_but_oneself():
    student, teacher = units(4, D), units(4, D, seed=1)
    losses = []
    for i in range(4):
        others = [j for j in range(4) if j != i]
        wanted = softmax({j: dot(teacher[i].tolist(), teacher[j].tolist()) / 0.1 for j in others})
        found = softmax({j: dot(student[i].tolist(), student[j].tolist()) / 0.2 for j in others})
        losses.append(-sum(wanted[j] * math.log(found[j]) for j in others))
    others = ~torch.eye(4, dtype=torch.bool)
    got = contrast(student, student, similarity_targets(teacher, teacher, 0.1, others), 0.2, others)
    assert got.item() == pytest.approx(sum(losses) / 4, rel=1e-5)


# ---- group-P shuffling ---------------------------------------------------------------------------------------------


def shuffled_by_hand(targets, probabilities, share, allowed, draw):
    """One row: groups filled candidate by candidate; in each, the smallest draw gets the first target, and so on."""
    left = sorted((n for n in range(len(targets)) if allowed[n]), key=lambda n: -probabilities[n])
    groups, before = {}, 0.0
    for n in left:
        groups.setdefault(math.floor(before / share), []).append(n)
        before += probabilities[n]
    found = list(targets)
    for group in groups.values():
        for target, n in zip(group, sorted(group, key=lambda n: draw[n]), strict=True):
            found[n] = targets[target]
    return found, list(groups.values())


def to_shuffle(seed, rows=6, candidates=15, sharpness=1.0):
    make = torch.Generator().manual_seed(seed)
    cosines = 2 * torch.rand(rows, candidates, generator=make) - 1
    allowed = torch.rand(rows, candidates, generator=make) < 0.8
    targets, probabilities = ((cosines / T).masked_fill(~allowed, -1e9).softmax(1) for T in (0.05, sharpness))
    return targets, probabilities, allowed, torch.rand(rows, candidates, generator=make)


@pytest.mark.parametrize("sharpness", [1.0, 0.3])
@pytest.mark.parametrize("share", [0.12, 0.17, 0.5, 1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_targets_are_permuted_within_groups_of_like_probability(seed, share, sharpness):
    targets, probabilities, allowed, draw = to_shuffle(seed, sharpness=sharpness)
    got = group_shuffled(targets, probabilities, share, allowed, draw)
    sizes = []
    for row, found in enumerate(got):
        expected, groups = shuffled_by_hand(
            *(x.tolist() for x in (targets[row], probabilities[row])), share, allowed[row].tolist(), draw[row].tolist()
        )
        assert found.tolist() == expected
        sizes += map(len, groups)
    assert max(sizes) > 1
    assert not got.equal(targets)
    assert got.sort(1).values.equal(targets.sort(1).values)


def test_a_group_for_each_candidate_changes_nothing_and_one_for_all_mixes_all():
    targets, probabilities, allowed, draw = to_shuffle(0)
    assert group_shuffled(targets, probabilities, 1e-4, allowed, draw).equal(targets)
    everywhere = torch.ones_like(allowed)
    probabilities = torch.full_like(targets, 1 / 15)
    firsts = {
        group_shuffled(targets, probabilities, 1.0, everywhere, torch.rand(6, 15))[0, 0].item() for _ in range(99)
    }
    assert firsts == set(targets[0].tolist())


def test_where_nothing_is_allowed_the_targets_stay_finite():
    targets, probabilities, allowed, draw = to_shuffle(0)
    got = group_shuffled(targets, probabilities, 0.1, torch.zeros_like(allowed), draw)
    assert got.isfinite().all()
    assert got.sort(1).values.equal(targets.sort(1).values)


def test_groups_of_a_tenth_have_a_few_texts_each_and_under_the_teachers_temperature_hardly_any_but_the_last():
    """Of a batch of 64: the group of the nearest text, and the size of the largest."""
    teacher, others = units(64, 32), ~torch.eye(64, dtype=torch.bool)
    for temperature, expected in ((1.0, lambda first, largest: 4 <= first <= largest <= 10), (0.0125, hardly_any)):
        probabilities = similarity_targets(teacher, teacher, temperature, others)
        for row, some in zip(probabilities, others, strict=True):
            _, groups = shuffled_by_hand([0.0] * 64, row.tolist(), 0.1, some.tolist(), [0.0] * 64)
            assert expected(len(groups[0]), max(map(len, groups)))


def hardly_any(first, largest):
    return first <= 3 and largest >= 30
