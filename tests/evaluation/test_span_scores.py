"""Scores of entities: against seqeval, and by hand; intervals against loops."""

import numpy as np
import pytest

from contrastill import UserError
from contrastill.evaluation.spans import (
    SPAN_METRICS,
    counts_of,
    paired_span_interval,
    resampled,
    span_interval,
    span_scores,
)
from contrastill.spans import Scheme, Span

TYPES = ("LOC", "ORG", "PER")


def labels_of(*texts):
    made = np.empty(len(texts), object)
    for n, spans in enumerate(texts):
        made[n] = np.array(spans, np.int64).reshape(-1, 3)
    return made


def random_tags(seed, texts=120):
    """True and answered tags of so many texts, the latter broken now and then."""
    draw, scheme = np.random.default_rng(seed), Scheme.bio(TYPES)
    truth, said = [], []
    for _ in range(texts):
        words = int(draw.integers(1, 12))
        tags = ["O"] * words
        for _ in range(int(draw.integers(0, 3))):
            start = int(draw.integers(0, words))
            end, kind = min(words, start + int(draw.integers(1, 4))), TYPES[draw.integers(3)]
            if all(tag == "O" for tag in tags[start:end]):
                tags[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - start - 1)]
        truth.append(tags)
        noise = draw.random(words) < 0.2
        said.append(
            [scheme.tags[draw.integers(len(scheme.tags))] if n else t for n, t in zip(noise, tags, strict=True)]
        )
    return truth, said


def spans(tags):
    """By conlleval's rules, word by word."""
    found, last = [], ("O", None)
    for n, tag in enumerate(tags):
        letter, _, kind = tag.partition("-")
        if tag == "O":
            last = ("O", None)
            continue
        if letter == "B" or kind != last[1]:
            found.append([n, n + 1, kind])
        else:
            found[-1][1] = n + 1
        last = (letter, kind)
    return [Span(*one) for one in found]


@pytest.mark.parametrize("seed", range(5))
def test_they_are_seqevals(seed):
    metrics = pytest.importorskip("seqeval.metrics")
    truth, said = random_tags(seed)
    labels = labels_of(*([(s.start, s.end, TYPES.index(s.type)) for s in spans(tags)] for tags in truth))
    scores = span_scores(counts_of([spans(tags) for tags in said], labels, TYPES), list(SPAN_METRICS))
    assert scores["f1"] == pytest.approx(metrics.f1_score(truth, said))
    assert scores["precision"] == pytest.approx(metrics.precision_score(truth, said))
    assert scores["recall"] == pytest.approx(metrics.recall_score(truth, said))
    assert scores["f1_macro"] == pytest.approx(metrics.f1_score(truth, said, average="macro"))


def test_an_entity_is_right_if_start_end_and_type_are():
    labels = labels_of([(0, 4, 0), (8, 9, 2)], [], [(1, 2, 1)])
    said = [[Span(0, 4, "LOC"), Span(8, 10, "PER")], [Span(3, 5, "ORG")], [Span(1, 2, "LOC"), Span(5, 6, "MISC")]]
    counts = counts_of(said, labels, TYPES)
    assert counts.tolist() == [
        [[1, 1, 1], [0, 0, 0], [0, 1, 1]],
        [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
        [[0, 1, 0], [0, 0, 1], [0, 0, 0]],  # a type that the labels do not have counts nowhere
    ]
    scores = span_scores(counts, list(SPAN_METRICS))
    assert scores["precision"] == pytest.approx(1 / 4)
    assert scores["recall"] == pytest.approx(1 / 3)
    assert scores["f1"] == pytest.approx(2 / 7)
    assert scores["f1_macro"] == pytest.approx((2 / 3 + 0 + 0) / 3)


def test_nothing_there_and_nothing_said_is_nought():
    counts = counts_of([[], []], labels_of([], []), TYPES)
    assert span_scores(counts, list(SPAN_METRICS)) == dict.fromkeys(SPAN_METRICS, 0.0)
    assert span_interval(counts, "f1") == (0, 0)


def test_intervals_resample_texts_and_equal_ones_together():
    truth, said = random_tags(7, texts=60)
    labels = labels_of(*([(s.start, s.end, TYPES.index(s.type)) for s in spans(tags)] for tags in truth))
    counts = counts_of([spans(tags) for tags in said], labels, TYPES)
    assert resampled(counts, 50, 0).shape == (50, 3, 3)
    low, high = span_interval(counts, "f1")
    draw, scores = np.random.default_rng(3), []
    for _ in range(2000):
        scores.append(float(SPAN_METRICS["f1"](counts[draw.integers(0, len(counts), len(counts))].sum(0))))
    assert (low, high) == pytest.approx(tuple(np.quantile(scores, [0.025, 0.975])), abs=0.01)
    middle, low, high = paired_span_interval(counts, counts, "f1")
    assert (middle, low, high) == (0, 0, 0)
    worse = counts.copy()
    worse[:30, :, 0] = 0
    middle, low, high = paired_span_interval(counts, worse, "f1")
    assert 0 < low < middle < high


def test_what_has_no_label_is_not_scored():
    labels = np.empty(1, object)
    with pytest.raises(UserError, match="expected labels for every text"):
        counts_of([[]], labels, TYPES)
    with pytest.raises(UserError, match="expected a metric among f1"):
        span_scores(np.zeros((1, 3, 3)), ["accuracy"])
