"""Answers: their JSON and table forms, their classes, and how alike two machines' answers are."""

import json

import numpy as np
import pytest

from contrastill import UserError
from contrastill.answers import ANSWERS, answer_of, cosines, flat
from contrastill.spans import Tagged

CLASSES = answer_of({"task": "classification", "labels": ["calm", "loud", "odd"], "dimensions": None})
SCORE = answer_of({"task": "regression", "labels": None, "dimensions": None})
LABELS = answer_of(
    {"task": "multilabel", "labels": ["calm", "loud", "odd"], "dimensions": None, "thresholds": [0.2, 0.6, 0.2]}
)
TAGS = answer_of({"task": "tagging", "labels": ["O", "B-road", "I-road", "B-place", "I-place"], "dimensions": None})
VECTOR = answer_of({"task": "embedding", "labels": None, "dimensions": 2})
ROW = np.array([0.25, 0.5, 0.25], np.float32)


def test_each_answer_is_known_by_its_task() -> None:
    assert {name: kind.task for name, kind in ANSWERS.items()} == {name: name for name in ANSWERS}
    assert {name: kind.output for name, kind in ANSWERS.items()} == {  # as bundles on disk have them
        "classification": "probabilities",
        "multilabel": "probabilities",
        "regression": "scores",
        "embedding": "sentence_embedding",
        "tagging": "probabilities",
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


# ---- entities


def tagged(text: str, *tags: str, sure: float = 0.8) -> np.ndarray:
    """The answer to a text whose words have these tags: (1,) of `Tagged`."""
    words = text.split()
    starts = np.array([text.index(word) for word in words])
    values = np.full((len(words), 5), (1 - sure) / 4, np.float32)
    values[np.arange(len(words)), [TAGS.labels.index(tag) for tag in tags]] = sure
    answers = np.empty(1, object)
    answers[0] = Tagged(text, starts, starts + [len(word) for word in words], values)
    return answers


JAM = tagged("jam on A7 near Bad Soltau", "O", "O", "B-road", "O", "B-place", "I-place")


def test_entities_are_spans_of_the_text_with_a_score() -> None:
    record = TAGS.record(JAM[0])
    assert [(s["start"], s["end"], s["label"], s["text"]) for s in record["spans"]] == [
        (7, 9, "road", "A7"),
        (15, 25, "place", "Bad Soltau"),
    ]
    assert record["spans"][0]["score"] == pytest.approx(0.85)
    assert json.loads(json.dumps(record)) == record
    assert set(record) == {"spans"} == set(TAGS.columns())


def test_words_are_told_with_their_tags_if_asked() -> None:
    record = TAGS.record(JAM[0], top=2, probabilities=True)
    assert [word["text"] for word in record["words"]] == ["jam", "on", "A7", "near", "Bad", "Soltau"]
    assert record["words"][2]["top"][0] == {"label": "B-road", "score": pytest.approx(0.8)}
    assert len(record["words"][2]["top"]) == 2
    assert set(record["words"][0]["probabilities"]) == set(TAGS.labels)
    assert set(TAGS.columns(top=2)) == {"spans", "words"}


def test_stored_entities_are_restored_and_compared_word_by_word() -> None:
    stored = json.loads(json.dumps(TAGS.stored(JAM)))
    again = TAGS.restored(stored, 1)
    assert TAGS.likeness(again, JAM) == pytest.approx(1)
    assert TAGS.restored(stored, 2) is None
    assert TAGS.restored([[[1.0, float("nan"), 0, 0, 0]]], 1) is None
    fewer = tagged("jam on A7", "O", "O", "B-road")
    assert TAGS.likeness(again, fewer) == 0
    assert TAGS.finite(JAM).all()
    broken = tagged("jam", "O")
    broken[0].values[0, 0] = np.nan
    assert not TAGS.finite(broken).any()


def test_a_changed_entity_contradicts_and_a_close_call_does_not() -> None:
    (named,) = TAGS.named(JAM)
    assert TAGS.may_be_named(json.loads(json.dumps(named)))
    assert not TAGS.contradicts(JAM[0], named)
    assert TAGS.contradicts(JAM[0], named[:1])
    assert TAGS.contradicts(JAM[0], [[7, 9, "place"], named[1]])
    assert TAGS.contradicts(JAM[0], [[7, 9, "river"]])
    close = tagged("jam", "O", sure=0.21)
    assert not TAGS.contradicts(close[0], [[0, 3, "road"]])


def test_the_agreement_of_entities_counts_texts() -> None:
    other = tagged("jam on A7 near Bad Soltau", "O", "O", "B-road", "O", "O", "I-place")
    both = np.concatenate([JAM, JAM]), np.concatenate([JAM, other])
    assert TAGS.agreement(*both)["equal_labels"] == 0.5
    assert TAGS.marks(JAM).tolist() == [[True, True]]
    assert TAGS.strength(JAM)[0] == pytest.approx([0.85, 0.85])
    empty = tagged("", *())
    assert TAGS.record(empty[0]) == {"spans": []}
    assert TAGS.agreement(empty, empty)["cosine_min"] == 1


@pytest.mark.parametrize("labels", [["O"], ["B-a", "I-a"], ["O", "O"], None, ["O", ""]])
def test_tags_of_a_bundle_need_an_outside_and_a_type(labels: object) -> None:
    assert not all(ANSWERS["tagging"].fits({"labels": labels}).values())


def test_a_class_answer_abstains_below_its_threshold_alone() -> None:
    about = {"task": "classification", "labels": ["calm", "loud", "odd"], "dimensions": None}
    sure = answer_of({**about, "abstain": {"threshold": 0.5, "target": 0.9}})
    assert sure.record(ROW) == {"label": "loud", "score": 0.5, "abstain": False}
    unsure = answer_of({**about, "abstain": {"threshold": 0.51, "target": 0.9}})
    assert unsure.record(ROW, top=2, probabilities=True)["abstain"] is True
    for top in (1, 2, 5):
        assert list(flat(unsure.record(ROW, top, True))) == list(unsure.columns(top, True))
    assert unsure.columns()["abstain"] == "bool"
    rows = np.stack([ROW, np.array([0.1, 0.1, 0.8], np.float32)])
    assert unsure.abstains(rows).tolist() == [True, False]
    assert not CLASSES.abstains(rows).any()
    assert not VECTOR.abstains(rows).any()
