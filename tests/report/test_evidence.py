"""The evidence says of the answers what slower, plainer computations say."""

import json

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import rankdata
from sklearn.metrics import f1_score, precision_score, recall_score

from contrastill.report.evidence import CONFUSIONS, EXAMPLES, of_classes, of_labels, of_pairs, of_scores, of_vectors

RANDOM = np.random.default_rng(3)
ROWS, NAMES = 200, ("a", "b", "c", "d")
LABELS = RANDOM.integers(0, 4, ROWS)
OURS, THEIRS = (RANDOM.normal(size=(ROWS, 4)) + k * np.eye(4)[LABELS] for k in (1, 3))


def texts(rows):
    return [[f"text {row}"] for row in rows]


def number(example) -> int:
    return int(example["texts"][0].removeprefix("text "))


def test_scores_of_classes_are_scikit_learn_s() -> None:
    found = of_classes(LABELS, OURS, THEIRS, NAMES, texts)
    for side, logits in (("ours", OURS), ("theirs", THEIRS)):
        for name, function in (("recall", recall_score), ("precision", precision_score), ("f1", f1_score)):
            expected = function(LABELS, logits.argmax(1), average=None)
            assert [each[side][name] for each in found["classes"]] == pytest.approx(expected.tolist(), abs=1e-5)
    assert [each["rows"] for each in found["classes"]] == np.bincount(LABELS).tolist()
    assert found["equal_answers"] == pytest.approx((OURS.argmax(1) == THEIRS.argmax(1)).mean())


def test_a_class_that_is_neither_there_nor_answered_has_no_scores() -> None:
    low = np.full((ROWS, 1), -9.0)
    found = of_classes(LABELS, np.hstack([OURS, low]), np.hstack([THEIRS, low]), (*NAMES, "e"), texts)
    assert found["classes"][4]["ours"] == {"recall": None, "precision": None, "f1": None}
    json.dumps(found, allow_nan=False)


def test_the_rows_shown_are_those_whose_probabilities_differ_most() -> None:
    far = np.abs(softmax(OURS, axis=1) - softmax(THEIRS, axis=1)).sum(1) / 2
    found = of_classes(LABELS, OURS, THEIRS, NAMES, texts)["examples"]
    assert [number(one) for one in found] == np.argsort(-far, kind="stable")[:EXAMPLES].tolist()
    for one in found:
        row = number(one)
        assert one["label"] == NAMES[LABELS[row]]
        assert one["difference"] == pytest.approx(far[row], abs=1e-5)
        assert one["ours"][0] == [NAMES[OURS[row].argmax()], pytest.approx(softmax(OURS[row]).max(), abs=1e-5)]
        assert one["right"]["theirs"] == (THEIRS[row].argmax() == LABELS[row])


def test_confusions_are_counted_as_by_hand() -> None:
    found = of_classes(LABELS, OURS, THEIRS, NAMES, texts)["confusions"]
    counted = {
        (NAMES[a], NAMES[b]): [sum((a == LABELS) & (logits.argmax(1) == b)) for logits in (OURS, THEIRS)]
        for a in range(4)
        for b in range(4)
        if a != b
    }
    assert {(one["label"], one["answer"]): [one["ours"], one["theirs"]] for one in found} == {
        pair: counts for pair, counts in counted.items() if counts[0]
    }
    assert [one["ours"] for one in found] == sorted((one["ours"] for one in found), reverse=True)
    assert all(one["rows"] == sum(NAMES.index(one["label"]) == LABELS) for one in found)
    assert of_classes(LABELS, 9 * np.eye(4)[LABELS], None, NAMES, texts)["confusions"] == []
    many = np.arange(60)
    assert len(of_classes(many, np.eye(60)[many - 1], None, [str(n) for n in many], texts)["confusions"]) == CONFUSIONS


def test_labels_are_judged_at_the_thresholds_of_each_model() -> None:
    truth = (RANDOM.random((ROWS, 4)) < 0.3).astype(float)
    ours, theirs = (np.clip(0.4 * truth + 0.6 * RANDOM.random((ROWS, 4)), 0, 1) for _ in range(2))
    limits = np.array([0.3, 0.5, 0.6, 0.4]), np.full(4, 0.5)
    found = of_labels(truth, ours, theirs, NAMES, limits, texts)
    marks = {"ours": ours > limits[0], "theirs": theirs > limits[1]}
    for side, said in marks.items():
        for name, function in (("recall", recall_score), ("precision", precision_score), ("f1", f1_score)):
            expected = function(truth, said, average=None)
            assert [each[side][name] for each in found["classes"]] == pytest.approx(expected.tolist(), abs=1e-5)
    assert [each["rows"] for each in found["classes"]] == truth.sum(0).tolist()
    assert [each["threshold"] for each in found["classes"]] == limits[0].tolist()
    assert found["equal_answers"] == pytest.approx((marks["ours"] == marks["theirs"]).all(1).mean())
    far = np.abs(ours - theirs).mean(1)
    assert [number(one) for one in found["examples"]] == np.argsort(-far, kind="stable")[:EXAMPLES].tolist()
    for one in found["examples"]:
        row = number(one)
        for side, said in marks.items():
            names = [name for name, there in zip(NAMES, said[row], strict=True) if there]
            assert one["said"][side] == (", ".join(names) or "no label")
            assert one["right"][side] == (said[row] == truth[row]).all()


def test_adding_a_number_to_a_row_s_logits_changes_nothing() -> None:
    moved = OURS + RANDOM.normal(size=(ROWS, 1)) * 50
    assert of_classes(LABELS, moved, THEIRS, NAMES, texts) == of_classes(LABELS, OURS, THEIRS, NAMES, texts)


def test_two_classes_are_compared_by_probability() -> None:
    labels = LABELS % 2
    found = of_classes(labels, OURS[:, :2], THEIRS[:, :2], NAMES[:2], texts)["histogram"]
    apart = softmax(OURS[:, :2], axis=1)[:, 1] - softmax(THEIRS[:, :2], axis=1)[:, 1]
    assert found["mean"] == pytest.approx(apart.mean(), abs=1e-5)
    assert (found["low"], found["high"], sum(found["counts"])) == (-1, 1, ROWS)


def test_errors_of_a_regression_by_fifths() -> None:
    truth = RANDOM.uniform(0, 5, 103)
    ours, theirs = truth + 0.5, truth - 0.25
    found = of_scores(truth, ours, theirs, texts)
    assert sum(band["rows"] for band in found["bands"]) == 103
    assert [band["low"] for band in found["bands"]] == sorted(band["low"] for band in found["bands"])
    assert all(band["ours"] == pytest.approx(0.5) and band["theirs"] == pytest.approx(0.25) for band in found["bands"])
    assert of_scores(truth, truth, None, texts)["examples"][0]["difference"] == 0


def test_pairs_are_compared_by_their_places() -> None:
    people, before = RANDOM.uniform(size=50), RANDOM.uniform(size=50)
    found = of_pairs(people, before**3, before, texts)
    assert all(one["difference"] == 0 for one in found["examples"]), "a change that keeps the order moves nothing"
    alone = of_pairs(people, before, None, texts)
    place = (rankdata(before) - rankdata(people)) / 49
    assert alone["examples"][0]["difference"] == pytest.approx(place[np.abs(place).argmax()], abs=1e-5)


def test_the_least_alike_vectors_come_first() -> None:
    cosine = RANDOM.uniform(0.3, 1, 60)
    found = of_vectors(cosine, texts, "texts held out")
    assert number(found["examples"][0]) == cosine.argmin()
    assert found["histogram"]["median"] == pytest.approx(np.median(cosine), abs=1e-5)


def test_what_is_not_finite_is_left_out() -> None:
    broken = OURS.copy()
    broken[0] = np.nan
    found = of_classes(LABELS, broken, THEIRS, NAMES, texts)
    json.dumps(found, allow_nan=False)
    assert sum(found["histogram"]["counts"]) == ROWS - 1
    assert found["histogram"]["mean"] is None


def test_one_row_is_enough() -> None:
    for found in (
        of_classes(LABELS[:1], OURS[:1], THEIRS[:1], NAMES, texts),
        of_scores(np.array([1.0]), np.array([2.0]), np.array([1.5]), texts),
        of_pairs(np.array([1.0]), np.array([0.5]), np.array([0.4]), texts),
        of_vectors(np.array([0.9]), texts, "texts held out"),
    ):
        assert len(found["examples"]) == 1
        json.dumps(found, allow_nan=False)
