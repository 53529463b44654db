"""Values of an axis side by side: means, and differences paired by seed, in tables and as a picture."""

import statistics
from pathlib import Path
from typing import Any

import pytest

from contrastill import UserError
from contrastill.studies.paired import difference, differences, side_by_side, words
from contrastill.studies.plot import COLORS, LEVEL, forest

DEV = {
    ("few", "kd"): [0.80, 0.82, 0.81], ("few", "lrc"): [0.84, 0.87, 0.85],
    ("many", "kd"): [0.90, 0.91, 0.92], ("many", "lrc"): [0.91, 0.90, 0.93],
}  # fmt: skip


def rows(metric: str = "accuracy", variant: str = "") -> list[dict[str, Any]]:
    return [
        {"name": ", ".join([*at, *([variant] if variant else [])]), "seed": seed, "metric": metric, "dev": dev,
         "axes": {"data": at[0], "method": at[1]}}
        for at, scores in DEV.items() for seed, dev in enumerate(scores)
    ]  # fmt: skip


def cells(*given: Any, **more: Any) -> list[str]:
    return words(difference(*given, **more))


def test_a_difference_is_paired_by_seed_with_an_interval_by_students_t() -> None:
    apart = [0.04, 0.05, 0.04]
    middle, half = statistics.mean(apart), 4.302653 * statistics.stdev(apart) / 3**0.5
    found = cells({0: 0.84, 1: 0.87, 2: 0.85, 7: 0.1}, {0: 0.80, 1: 0.82, 2: 0.81, 9: 1.0})
    assert found == [f"{middle:+.4f}", f"{middle - half:+.4f} to {middle + half:+.4f}", "3 of 3", "better"]
    ours, theirs = {0: 0.80, 1: 0.82, 2: 0.81}, {0: 0.84, 1: 0.87, 2: 0.85}
    assert cells(ours, theirs)[2:] == ["0 of 3", "worse"]
    assert cells(ours, theirs, metric="loss")[2:] == ["3 of 3", "better"]


def test_what_seeds_do_not_tell_apart_is_level() -> None:
    assert cells({0: 0.91, 1: 0.90, 2: 0.93}, {0: 0.90, 1: 0.91, 2: 0.92})[2:] == ["2 of 3", "level"]
    assert cells({0: 0.9}, {0: 0.8})[1:] == ["", "1 of 1", "one seed: nothing is told"]
    assert cells({0: 0.9}, {1: 0.8})[3] == "no seed in common"
    assert cells({0: 0.9, 1: 0.9}, {0: 0.9, 1: 0.9})[1:] == ["", "0 of 2", "level"]


def test_the_same_difference_in_each_seed_has_no_interval() -> None:
    """Of 277 rows the accuracies of two seeds often differ by as many rows: that is no certainty."""
    apart = cells({0: 162 / 277, 1: 158 / 277}, {0: 159 / 277, 1: 155 / 277})
    assert apart == ["+0.0108", "", "2 of 2", "the same in each seed: nothing is told"]


def test_sets_may_have_metrics_of_their_own() -> None:
    mixed = [{**row, "metric": "f1" if row["axes"]["data"] == "few" else "loss"} for row in rows()]
    means, found = side_by_side(iter(mixed), "method").split("\n\n")
    assert means.splitlines()[0] == "| on dev | kd | lrc |"
    assert means.splitlines()[2].startswith("| few (f1) | 0.8100 ")
    assert found.splitlines()[2].endswith("| 3 of 3 | better |")
    assert found.splitlines()[3].startswith("| many (loss) | lrc | +0.0033 |")
    assert found.splitlines()[3].endswith("| 1 of 3 | level |")


def test_the_tables_have_a_row_for_each_combination_of_the_other_axes() -> None:
    means, differences = side_by_side(rows(), "method").split("\n\n")
    assert means.splitlines()[0] == "| accuracy on dev | kd | lrc |"
    assert means.splitlines()[2:] == [
        "| few | 0.8100 ± 0.0100 | 0.8533 ± 0.0153 |",
        "| many | 0.9100 ± 0.0100 | 0.9133 ± 0.0153 |",
    ]
    few, many = differences.strip().splitlines()[2:]
    assert few.startswith("| few | lrc | +0.0433 | ")
    assert few.endswith("| 3 of 3 | better |")
    assert many.endswith("| 2 of 3 | level |")
    assert "| few | kd | -0.0433 |" in side_by_side(rows(), "method", "lrc")


def test_variants_that_axes_cross_are_rows_of_their_own() -> None:
    both = rows() + [{**row, "name": f"{row['name']}, long", "dev": row["dev"] + 0.01} for row in rows()]
    found = side_by_side(both, "method")
    assert "| few | 0.8100 ± 0.0100 |" in found
    assert "| few, long | 0.8200 ± 0.0100 |" in found
    named = side_by_side(rows(), "variant", "few, lrc")
    assert "| accuracy on dev | few, kd | few, lrc | many, kd | many, lrc |" in named
    assert "|  | many, kd | +0.0567 |" in named


@pytest.mark.parametrize(
    ("given", "axis", "to", "said"),
    [
        (rows(), "metod", None, "an axis of the study .'data', 'method', variant., got 'metod'; did you mean 'method'"),
        (rows(), "method", "pkd", "a value of 'method' .'kd', 'lrc'., got 'pkd'"),
        ([], "method", None, "scores on dev of one metric, got none"),
        (rows() + rows("f1"), "method", None, "of one metric, got 'accuracy', 'f1'"),
        ([{"name": "a", "seed": 0, "metric": "f1", "dev": 1.0}], "method", None, "it has none"),
    ],
)
def test_what_cannot_be_compared_is_refused(given: Any, axis: str, to: str | None, said: str) -> None:
    with pytest.raises(UserError, match=said):
        side_by_side(given, axis, to)


def test_the_picture_has_a_line_for_each_difference_in_the_colour_of_its_word(tmp_path: Path) -> None:
    found = differences(rows(), "method")
    assert [(one.label, one.so) for one in found] == [("few", "better"), ("many", "level")]
    forest(found, tmp_path / "a.svg")
    forest(found, tmp_path / "b.svg")
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn == (tmp_path / "b.svg").read_text()  # no date, no number of its own
    for said in (
        ">few · accuracy<",
        ">lrc (3 of 3)<",
        ">many · accuracy<",
        ">lrc (2 of 3)<",
        ">difference to kd on dev, with",
    ):
        assert said in drawn
    assert COLORS["better"] in drawn
    assert LEVEL in drawn
    assert COLORS["worse"] not in drawn
    forest(differences(rows(), "method", "lrc"), tmp_path / "c.svg")
    assert COLORS["worse"] in (tmp_path / "c.svg").read_text()
    forest(found, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected differences to draw, got none"):
        forest([], tmp_path / "a.svg")
    (tmp_path / "a.svg").mkdir()
    with pytest.raises(UserError, match=r"a\.svg: expected a file that can be written"):
        forest(differences(rows(), "method"), tmp_path / "a.svg")
