"""The table and the card of a language model's run: three numbers a split, with intervals."""

from typing import Any

import pytest

from contrastill.results import RunResult, Split, result_table
from contrastill.training.card import Origin, language_card

ROWS = 40


def split(**metrics: float) -> dict[str, Any]:
    intervals = {name: [value - 0.125, value + 0.125] for name, value in metrics.items()}
    first = next(iter(metrics))
    chosen = {"interval": intervals[first]} if first == "kl" else {}
    return {"metrics": metrics, "rows": ROWS, **chosen, "intervals": intervals}


def model(**metrics: float) -> dict[str, Any]:
    return {"dev": split(**metrics), "test": split(**metrics), "parameters": 21_472, "size_mb": 0.1}


DISTILLED = RunResult.from_json(
    {"task": "sums", "metric": "kl", "train_rows": 300}
    | {"teacher": model(perplexity=3.25, exact_match=0.5)}
    | {"student": model(kl=0.25, perplexity=3.5, exact_match=0.375)}
)


def test_the_table_has_a_row_for_each_metric_of_dev_and_test() -> None:
    rows = {row[0]: row[1:] for row in result_table(DISTILLED).rows}
    assert list(rows)[:6] == [f"{name} {metric}" for name in ("dev", "test") for metric in split_names("student")]
    assert rows["dev kl"] == ["", "0.2500 (0.125-0.375)"]
    assert rows["test perplexity"] == ["3.2500 (3.125-3.375)", "3.5000 (3.375-3.625)"]
    assert rows["test exact_match"] == ["0.5000 (0.375-0.625)", "0.3750 (0.250-0.500)"]


def split_names(name: str) -> list[str]:
    return list(DISTILLED.models[name].splits["dev"].metrics)


def test_the_table_says_which_way_is_better_and_of_no_share_that_is_kept() -> None:
    notes = result_table(DISTILLED).notes
    assert "lower is better: kl, perplexity" in notes
    assert not any("kept" in note for note in notes)


def test_a_model_without_a_teacher_has_one_column() -> None:
    found = RunResult.from_json({"task": "sums", "metric": "perplexity", "model": model(perplexity=3.0)})
    assert result_table(found).columns == ["", "model"]
    assert result_table(found).rows[0] == ["dev perplexity", "3.0000 (2.875-3.125)"]


def test_a_table_of_one_interval_a_split_is_as_before() -> None:
    scores = {"dev": {"metrics": {"accuracy": 0.5, "f1": 0.25}, "rows": 4, "interval": [0.25, 0.75]}}
    found = result_table(RunResult.from_json({"task": "t", "metric": "accuracy", "model": scores}))
    assert found.rows[0] == ["dev", "0.5000 (0.250-0.750)"]
    assert found.notes == []


def test_the_card_has_intervals_beside_every_number() -> None:
    origin = Origin("distill", "student", "as-is", 0, "runs/teacher", "gkd")
    card = language_card(origin, DISTILLED)
    assert "| dev kl | 0.2500 (0.1250 to 0.3750) |  |" in card
    assert "| test exact_match | 0.3750 (0.2500 to 0.5000) | 0.5000 (0.3750 to 0.6250) |" in card
    assert "kl: nats a token" in card


def test_the_card_of_a_fine_tuned_model_speaks_of_no_teacher() -> None:
    found = RunResult.from_json(
        {"task": "sums", "metric": "perplexity", "train_rows": 3, "model": model(perplexity=3.0)}
    )
    card = language_card(Origin("finetune", "model", "ORG/LM", 0), found)
    assert "| dev perplexity | 3.0000 (2.8750 to 3.1250) |" in card
    assert "teacher" not in card


def test_intervals_are_read_and_written_back() -> None:
    found = split(kl=0.25, perplexity=3.5)
    assert Split.from_json(found).to_json() == found
    assert Split.from_json(found).intervals["perplexity"] == (3.375, 3.625)


@pytest.mark.parametrize("damaged", [3, [1, 2], {"kl": [1]}, {"kl": [1, "2"]}, {"kl": None}])
def test_damaged_intervals_are_left_out(damaged: Any) -> None:
    assert Split.from_json({"metrics": {"kl": 1.0}, "intervals": damaged}).intervals == {}
