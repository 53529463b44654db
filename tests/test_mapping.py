"""Layer maps, on the papers' own shapes and on every pair of depths up to 24."""

from itertools import pairwise

import pytest

from contrastill.mapping import MAPS, last, skip, uniform

DEPTHS = [(student, teacher) for teacher in range(1, 25) for student in range(1, teacher + 1)]


@pytest.mark.parametrize(
    ("layer_map", "student", "teacher", "expected"),
    [
        (uniform, 4, 12, [3, 6, 9, 12]),  # LRC-BERT, TinyBERT
        (uniform, 6, 12, [2, 4, 6, 8, 10, 12]),
        (uniform, 3, 12, [4, 8, 12]),
        (uniform, 12, 12, list(range(1, 13))),
        (uniform, 4, 6, [2, 3, 5, 6]),  # 1.5, 3, 4.5, 6, halves up
        (uniform, 1, 12, [12]),
        (skip, 6, 12, [2, 4, 6, 8, 10]),  # BERT-PKD
        (skip, 3, 12, [4, 8]),
        (last, 6, 12, [7, 8, 9, 10, 11]),
        (last, 3, 12, [10, 11]),
    ],
)
def test_the_maps_are_those_of_the_papers(layer_map, student, teacher, expected):
    assert layer_map(student, teacher) == list(enumerate(expected, start=1))


def test_uniform_ends_at_the_top_rises_and_stays_within_half_a_layer_of_even_spacing():
    for student, teacher in DEPTHS:
        pairs = uniform(student, teacher)
        assert [i for i, _ in pairs] == list(range(1, student + 1))
        assert pairs[-1] == (student, teacher)
        assert all(1 <= j <= teacher and abs(j - i * teacher / student) <= 0.5 for i, j in pairs)
        assert all(a < b for (_, a), (_, b) in pairwise(pairs))


@pytest.mark.parametrize("layer_map", [skip, last])
def test_bert_pkds_maps_leave_out_the_top_of_both(layer_map):
    for student, teacher in DEPTHS:
        pairs = layer_map(student, teacher)
        assert [i for i, _ in pairs] == list(range(1, student))
        assert all(1 <= j < teacher for _, j in pairs)
        assert len({j for _, j in pairs}) == len(pairs)


@pytest.mark.parametrize("layer_map", [uniform, skip, last])
@pytest.mark.parametrize("depths", [(0, 4), (-1, 4), (5, 4)])
def test_a_student_deeper_than_its_teacher_is_refused_with_both_depths(layer_map, depths):
    with pytest.raises(ValueError, match=rf"1 to {depths[1]} layers .* got {depths[0]}"):
        layer_map(*depths)


def test_the_registry_holds_each_map_under_its_own_name():
    assert list(MAPS.items()) == [("uniform", uniform), ("skip", skip), ("last", last)]
