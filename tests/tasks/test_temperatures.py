"""Temperatures of tasks: they change probabilities, and no answer."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from contrastill import UserError
from contrastill.tasks import Classification, MultiLabel, Regression, Tagging

NAMES = ("food", "music", "sport")


def drawn(rows=300, temperature=3.0, seed=0):
    random = np.random.default_rng(seed)
    logits = 4 * random.standard_normal((rows, 3))
    return logits, random.random((rows, 3)) < 1 / (1 + np.exp(-logits / temperature))


def test_a_class_has_the_same_probability_in_torch_and_numpy():
    logits, _ = drawn(20)
    task = Classification(NAMES).with_config(SimpleNamespace(temperatures=[2.5]))
    ours = task.activate(torch.tensor(logits)).numpy()
    assert task.probabilities(logits) == pytest.approx(ours)
    plain = Classification(NAMES).probabilities(logits)
    assert (ours.argmax(1) == plain.argmax(1)).all()
    assert (ours.max(1) < plain.max(1)).all()
    assert task.with_config(None).probabilities(logits) == pytest.approx(plain)
    assert Classification(NAMES).temperatures is None  # with_config changes no task but its own


def test_labels_are_answered_where_they_were():
    logits, truth = drawn()
    labels = truth.astype(np.float32)
    plain = MultiLabel(NAMES)
    tuned = plain.with_config(SimpleNamespace(**plain.tuned(lambda: logits, labels)))
    entries = tuned.calibrated(logits, labels)
    fitted = MultiLabel(NAMES).with_config(SimpleNamespace(**entries))
    assert (np.array(entries["temperatures"]) > 1.5).all()
    assert (fitted.marks(logits) == tuned.marks(logits)).all()
    assert fitted.score(fitted.answers(logits), labels) == pytest.approx(tuned.score(tuned.answers(logits), labels))
    assert fitted.activate(torch.tensor(logits)).numpy() == pytest.approx(fitted.answers(logits))
    assert fitted.log_loss(logits, labels) < tuned.log_loss(logits, labels)
    back = fitted.uncalibrated()
    assert back["temperatures"] is None
    assert back["thresholds"] == pytest.approx(list(tuned.thresholds))
    assert tuned.uncalibrated() == {"temperatures": None}


def test_what_was_fitted_is_said():
    logits, truth = drawn()
    labels = truth[:, 0].astype(np.int64)
    task = Classification(("no", "yes"))
    pairs = np.stack([np.zeros(300), logits[:, 0]], 1)
    fitted = task.with_config(SimpleNamespace(**task.calibrated(pairs, labels)))
    said = fitted.calibrated_in_words(pairs, labels)["temperature"]
    assert said.startswith(f"{fitted.temperatures[0]:.2f}: the log loss on 300 rows of dev is ")
    few = task.with_config(SimpleNamespace(**task.calibrated(pairs[:3], labels[:3])))
    assert few.calibrated_in_words(pairs[:3], labels[:3])["temperature"].startswith("1: 3 rows of dev do not tell")


def test_judgements_are_of_texts_or_of_labels():
    probabilities = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]])
    confidence, right = Classification(NAMES).judgements(probabilities, np.array([1, 2]))
    assert (confidence.tolist(), right.tolist()) == ([0.7, 0.5], [True, False])
    confidence, right = MultiLabel(NAMES).judgements(probabilities, np.array([[0, 1, 0], [1, 0, 0]], np.float32))
    assert confidence.tolist() == probabilities.ravel().tolist()
    assert right.tolist() == [False, True, False, True, False, False]


def test_tasks_without_probabilities_of_a_text_have_none():
    for task in (Regression(), Tagging(("road",))):
        assert not task.has_probabilities
        assert task.calibrated(np.zeros((3, 1)), np.zeros(3)) == {}
        assert task.calibrated_in_words(np.zeros((3, 1)), np.zeros(3)) == {}
    assert Classification.has_probabilities
    assert MultiLabel.has_probabilities


@pytest.mark.parametrize("wrong", [[0.0], [-1.0], [float("nan")], [float("inf")], [], [1.0, 1.0], "warm", 2.0, [None]])
def test_nonsense_in_a_config_is_refused(wrong):
    with pytest.raises(UserError, match=r"config.json: expected temperatures to be a list of 1 numbers above 0, got"):
        Classification(NAMES).with_config(SimpleNamespace(temperatures=wrong))
    with pytest.raises(UserError, match=r"a list of 3 numbers above 0"):
        MultiLabel(NAMES).with_config(SimpleNamespace(thresholds=[0.5] * 3, temperatures=wrong))
