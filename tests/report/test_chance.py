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
