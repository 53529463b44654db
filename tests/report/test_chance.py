"""What a curve is by chance, as the page says it."""

import math
from typing import Any

import pytest
from run_folders import RECORD, Page

from contrastill.report import write_report

LOG = [{"loss": 3.0 - step / 10, "step": step} for step in range(1, 6)]


@pytest.mark.parametrize(
    ("term", "record", "choice"),
    [
        ("ckd", {"settings": {"batch_size": 8}, "queue": {"size": 100, "terms": ["ckd"]}}, 8 + 5 * 8),
        ("ckd", {"settings": {"batch_size": 8}, "queue": {"size": 16, "terms": ["ckd"]}}, 8 + 16),
        ("contrast", {"batch_rows": 8, "data": {"columns": ["anchor", "positive", "negative"]}}, 16),
        ("contrast", {"batch_rows": 8, "data": {"columns": ["anchor", "positive"]}}, 8),
        ("contrast", {"data": {"columns": ["anchor", "positive"]}}, None),
        ("mse", {"settings": {"batch_size": 8}}, None),
    ],
)
def test_a_curve_names_its_value_by_chance(term: str, record: dict[str, Any], choice: int | None, write_run) -> None:
    log = [{**row, term: row["loss"]} for row in LOG]
    metrics = {"base": "m", "steps": 5, "dev": {"before": 80.0, "after": 81.0}}
    page = Page(write_report(write_run(record={**RECORD, **record}, metrics=metrics, log=log)))
    said = None if choice is None else f"By chance among {choice} it is ln {choice} = {math.log(choice):.2f}."
    assert (said in page.text) if said else ("By chance among" not in page.text)


def test_the_curve_of_labels_says_how_rows_without_one_count(write_run) -> None:
    log = [{**row, "hard": row["loss"]} for row in LOG]
    for without, told in ((8_703, "The training rows without a label (8,703) count as 0 in it."), (0, None)):
        record = {**RECORD, "data": {"splits": {"train": {"rows": 9_003, "unlabelled": without}}}}
        page = Page(write_report(write_run(record=record, log=log)))
        assert told in page.text if told else "without a label (" not in page.text
