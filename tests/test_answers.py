"""Answers: their JSON and table forms, their classes, and how alike two machines' answers are."""

import json

import numpy as np
import pytest

from contrastill import UserError
from contrastill.answers import ANSWERS, answer_of, cosines, flat

CLASSES = answer_of({"task": "classification", "labels": ["calm", "loud", "odd"], "dimensions": None})
SCORE = answer_of({"task": "regression", "labels": None, "dimensions": None})
LABELS = answer_of(
    {"task": "multilabel", "labels": ["calm", "loud", "odd"], "dimensions": None, "thresholds": [0.2, 0.6, 0.2]}
)
VECTOR = answer_of({"task": "embedding", "labels": None, "dimensions": 2})
ROW = np.array([0.25, 0.5, 0.25], np.float32)


def test_each_answer_is_known_by_its_task() -> None:
    assert {name: kind.task for name, kind in ANSWERS.items()} == {name: name for name in ANSWERS}
    assert {name: kind.output for name, kind in ANSWERS.items()} == {  # as bundles on disk have them
        "classification": "probabilities",
        "multilabel": "probabilities",
        "regression": "scores",
        "embedding": "sentence_embedding",
    }
    assert (CLASSES.width, SCORE.width, VECTOR.width) == (3, 1, 2)
    with pytest.raises(UserError, match=r"expected a task of classification, .*got 'poetry'"):
        answer_of({"task": "poetry", "labels": None})


def test_a_class_answer_names_the_likeliest_first_and_of_equals_the_first() -> None:
    assert CLASSES.record(ROW) == {"label": "loud", "score": 0.5}
    top = [{"label": "loud", "score": 0.5}, {"label": "calm", "score": 0.25}]
    assert CLASSES.record(ROW, top=2) == {"label": "loud", "score": 0.5, "top": top}
    assert len(CLASSES.record(ROW, top=9)["top"]) == 3
    every = CLASSES.record(ROW, probabilities=True)
    assert every == {"label": "loud", "score": 0.5, "probabilities": {"calm": 0.25, "loud": 0.5, "odd": 0.25}}


@pytest.mark.parametrize(
    ("answer", "row"), [(CLASSES, ROW), (LABELS, ROW), (SCORE, np.array([3.5])), (VECTOR, np.array([0.6, 0.8]))]
)
@pytest.mark.parametrize("top", [1, 2, 5])
@pytest.mark.parametrize("every", [False, True])
def test_a_row_of_a_table_has_the_columns_that_are_told(answer: object, row: np.ndarray, top: int, every: bool) -> None:
    record = answer.record(row, top, every)  # type: ignore[attr-defined]
    kinds = answer.columns(top, every)  # type: ignore[attr-defined]
    assert list(flat(record)) == list(kinds)
    types = {"text": str, "number": float, "numbers": list, "texts": list}
    assert all(type(value) is types[kinds[name]] for name, value in flat(record).items())
    assert json.loads(json.dumps(record)) == record


def test_marks_are_the_named_classes() -> None:
    answers = np.stack([ROW, ROW[::-1], np.array([0.9, 0.1, 0.0], np.float32)])
    assert CLASSES.named(answers) == ["loud", "loud", "calm"]
    marks = CLASSES.marks(answers)
    assert marks is not None
    assert marks.tolist() == [[False, True, False], [False, True, False], [True, False, False]]
    assert SCORE.marks(answers) is VECTOR.named(answers) is None


def test_another_class_contradicts_where_it_leads_by_more_than_rounding() -> None:
    close = np.array([0.48, 0.5, 0.02])
    assert not CLASSES.contradicts(close, "loud")
    assert not CLASSES.contradicts(close, "calm")
    assert CLASSES.contradicts(close, "odd")
    assert CLASSES.contradicts(close, "unheard of")


def test_likeness_is_the_least_cosine_and_of_scores_the_largest_difference() -> None:
    a, b = np.array([[1.0, 0.0], [0.6, 0.8]]), np.array([[1.0, 0.0], [0.8, 0.6]])
    assert VECTOR.likeness(a, b) == pytest.approx(0.96)
    assert cosines(a, b).tolist() == pytest.approx([1.0, 0.96])
    assert SCORE.likeness(np.array([[2.0], [4.0]]), np.array([[2.0], [3.0]])) == 0.75


def test_agreement_of_scores_has_no_direction_and_of_vectors_no_labels() -> None:
    a, b = np.array([[1.0, 0.0], [0.6, 0.8]]), np.array([[1.0, 0.0], [0.8, 0.6]])
    assert VECTOR.agreement(a, b) == {
        "max_abs_difference": pytest.approx(0.2),
        "cosine_mean": pytest.approx(0.98),
        "cosine_min": pytest.approx(0.96),
        "equal_labels": None,
    }
    assert SCORE.agreement(a[:, :1], b[:, :1])["cosine_mean"] is None
    three = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    assert CLASSES.agreement(three, three[:, ::-1])["equal_labels"] == 0.5
