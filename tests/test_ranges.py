"""The one check of settings: types as annotated, ranges as in the table, messages that name both."""

import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

from contrastill.errors import UserError
from contrastill.ranges import Range, checked, parsed, suggestion


@pytest.mark.parametrize(
    ("value", "annotation", "found"),
    [
        (3, int, 3),
        (np.int64(3), int, 3),
        (np.array(3), int, 3),
        (3, float, 3.0),
        (np.float32(0.5), float, 0.5),
        (True, bool, True),
        (np.bool_(False), bool, False),
        ("a", str, "a"),
        ("a", list[str], ["a"]),
        (Path("a/b"), list[str], ["a/b"]),
        (3, list[int], [3]),
        (np.int64(3), list[int], [3]),
        (Path("a/b"), str, "a/b"),
        (None, int | None, None),
        (3, int | None, 3),
        (("a", Path("b")), list[str], ["a", "b"]),
        (np.array([1, 2]), list[int], [1, 2]),
        ({"x": 1}, dict[str, float], {"x": 1.0}),
        ({"x": "0.5"}, dict[str, float], {"x": 0.5}),
        ({"x": "0.5", "y": True}, dict[str, Any], {"x": "0.5", "y": True}),
        (2, Annotated[int, Range(at_least=1)], 2),
        (2, Annotated[int, Range(at_least=1)] | None, 2),
    ],
    ids=repr,
)
def test_what_is_of_the_type_is_brought_to_it(value, annotation, found):
    got = checked(value, annotation, name="--x")
    assert got == found
    assert type(got) is type(found)


WRONG = {
    int: [None, True, 1.0, 1.5, "1", [1], {}, math.nan, b"1"],
    float: [None, True, "1.5", "nan", math.nan, math.inf, -math.inf, 10**400, [1.0]],
    bool: [None, 0, 1, "no", "false", 0.0],
    str: [None, 3, True, ["a"], {}, b"a", "", "a\0b", "a\udcff"],
    list[str]: [None, 1, b"a", "", [], [1], [None], ["a", ""], {"a": 1}],
    list[int]: [3.5, True, "3", [1.5], [True], ["1"]],
    dict[str, float]: [None, [], "a=1", {1: 1.0}, {"a": "b"}, {"a": None}, {"a": True}, {"a": math.nan}],
    dict[str, Any]: [None, [], {"a": None}, {"a": []}, {"a": {}}],
}


@pytest.mark.parametrize(
    ("annotation", "value"), [(kind, value) for kind, values in WRONG.items() for value in values], ids=repr
)
def test_what_is_of_another_type_is_refused_by_name(annotation, value):
    with pytest.raises(UserError, match=r"--x.*: expected"):
        checked(value, annotation, name="--x")


@pytest.mark.parametrize(
    ("range_", "inside", "outside", "words"),
    [
        (Range(at_least=1), [1, 10**9], [0, -1], "expected a whole number of at least 1, got"),
        (Range(at_least=1, at_most=4096), [1, 4096], [0, 4097], "expected a whole number from 1 to 4,096, got"),
        (
            Range(above=0, at_most=9, unit="seconds"),
            [1, 9],
            [0, 10],
            "above 0, at most 9 (seconds), got",
        ),
        (Range(at_least=0, below=3), [0, 2], [-1, 3], "expected a whole number from 0 to below 3, got"),
    ],
    ids=lambda given: str(given) if isinstance(given, Range) else "",
)
def test_bounds_hold_and_stand_in_the_message(range_, inside, outside, words):
    for value in inside:
        assert checked(value, int, range_, name="--x") == value
    for value in outside:
        with pytest.raises(UserError) as refused:
            checked(value, int, range_, name="--x")
        assert words in str(refused.value)


def test_choices_and_each_item_of_a_list_are_checked():
    some = Range(choices=("a", "b"))
    assert checked(["a", "b"], list[str], some, name="--x") == ["a", "b"]
    for value, kind in (("c", str), (["a", "c"], list[str])):
        with pytest.raises(UserError, match="--x: expected one of a, b, got 'c'"):
            checked(value, kind, some, name="--x")
    with pytest.raises(UserError, match="from 1 to 9"):
        checked([1, 10], list[int], Range(at_least=1, at_most=9), name="--x")


def test_a_text_that_would_fill_a_message_is_refused():
    assert checked("x" * 1000, str, name="--label") == "x" * 1000
    with pytest.raises(UserError, match="--label: expected a text of at most 1,000 characters, got 'x/x") as refused:
        checked("x/" * 2500, str, name="--label")
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "ü" * 130])
def test_a_name_that_no_file_system_takes_is_refused_where_a_file_is_named(name):
    with pytest.raises(UserError, match="--x: expected a name of at most 255 bytes") as refused:
        checked(name, str, Range(path=True), name="--x")
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("value", ["x" * 10**6, [1] * 10**6, 10**6000], ids=["text", "list", "number"])
def test_a_message_is_short_whatever_the_value(value):
    with pytest.raises(UserError) as refused:
        checked(value, float, name="--x")
    assert len(str(refused.value)) < 200


def test_text_is_parsed_to_the_type_and_then_checked():
    assert parsed("4", float, name="t") == 4.0
    assert parsed("4", int, name="t") == 4
    assert parsed("TRUE", bool, name="t") is True
    for text in ("nan", "inf", "1e999", "four", "", "1_0x"):
        with pytest.raises(UserError, match="t: expected a number"):
            parsed(text, float, name="t")
    for text in ("4.0", "9" * 5000):
        with pytest.raises(UserError, match="t: expected a whole number"):
            parsed(text, Annotated[int, Range(at_most=9)], name="t")


def test_a_tab_is_a_text_but_names_no_file():
    assert checked("\t", str, name="--delimiter") == "\t"
    with pytest.raises(UserError, match="--x: expected a text, got"):
        checked("\t", str, Range(path=True), name="--x")


def test_a_close_name_is_suggested_and_a_far_one_is_not():
    assert suggestion("learning_rat", ["learning_rate", "seed"]) == "; did you mean 'learning_rate'?"
    assert suggestion("zzz", ["learning_rate", "seed"]) == ""


@pytest.mark.parametrize(
    ("range_", "text"),
    [
        (Range(), ""),
        (Range(at_least=0, at_most=1), "0 <= x <= 1"),
        (Range(above=0), "0 < x"),
        (Range(above=0, below=1_000_000), "0 < x < 1,000,000"),
        (Range(at_most=2.5), "x <= 2.5"),
        (Range(choices=("a",)), ""),
    ],
)
def test_a_range_is_short_in_the_help(range_, text):
    assert str(range_) == text
