import time

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as reference
from transformers import BertConfig, BertForSequenceClassification, BertModel

from contrastill.errors import UserError
from contrastill.evaluation import scores
from contrastill.evaluation.scores import (
    METRICS,
    bootstrap_interval,
    majority,
    paired_bootstrap,
    predict,
    score,
)

CONFIG = BertConfig(
    vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=3
)


@pytest.fixture
def model() -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(CONFIG)


def batches() -> list[dict[str, torch.Tensor]]:
    random = torch.Generator().manual_seed(0)
    return [
        {
            "input_ids": torch.randint(1, 50, (rows, length), generator=random),
            "attention_mask": torch.ones(rows, length, dtype=torch.long),
            "labels": torch.zeros(rows, dtype=torch.long),
            "index": torch.arange(rows),
            "text_key": torch.arange(rows),
        }
        for rows, length in ((4, 7), (2, 5))
    ]


def answers(classes: int, rows: int = 300, seed: int = 0, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(logits, labels) of a model that is right more often than not; the labels do not depend on the noise."""
    random = np.random.default_rng(seed)
    labels = random.normal(size=rows) if classes == 1 else random.integers(0, classes, rows)
    signal = labels[:, None] if classes == 1 else 1.5 * np.eye(classes)[labels]
    return (signal + noise * random.normal(size=(rows, classes))).astype(np.float32), labels


def test_predict_gives_float32_logits_in_order_and_passes_no_labels_to_the_model(model):
    logits = predict(model, batches())
    assert (logits.shape, logits.dtype) == ((6, 3), np.float32)
    model.eval()
    one = model(**{k: v[:1] for k, v in batches()[1].items() if k in ("input_ids", "attention_mask")})
    np.testing.assert_allclose(logits[4], one.logits[0].detach(), atol=1e-6)


def test_predict_restores_every_modules_mode_and_gradient_flag_even_when_it_fails(model):
    model.train()
    model.bert.eval()
    model.bert.requires_grad_(False)
    before = [module.training for module in model.modules()], [p.requires_grad for p in model.parameters()]
    predict(model, batches(), dtype=torch.bfloat16)
    with pytest.raises(IndexError):
        predict(model, [{"input_ids": torch.tensor([[999]])}], dtype=torch.bfloat16)
    assert ([module.training for module in model.modules()], [p.requires_grad for p in model.parameters()]) == before


def test_predict_under_bfloat16_differs_a_little_and_still_returns_float32(model):
    exact, rounded = predict(model, batches()), predict(model, batches(), dtype=torch.bfloat16)
    assert rounded.dtype == np.float32
    assert 0 < np.abs(exact - rounded).max() < 0.02


def test_predict_refuses_a_model_without_a_head_and_an_empty_split(model):
    with pytest.raises(UserError, match="AutoModelForSequenceClassification"):
        predict(BertModel(CONFIG), batches())
    with pytest.raises(UserError, match="at least one batch"):
        predict(model, [])


def test_the_metrics_are_these_six():
    assert list(METRICS) == ["accuracy", "f1", "f1_macro", "matthews", "pearson", "spearman"]


@pytest.mark.parametrize("classes", [2, 4])
def test_class_metrics_agree_with_their_formulas(classes):
    logits, labels = answers(classes)
    found = logits.argmax(axis=1)
    scores = score(logits, labels, ["accuracy", "f1", "f1_macro", "matthews"])
    per_class = [
        2 * ((found == c) & (labels == c)).sum() / ((found == c).sum() + (labels == c).sum()) for c in range(classes)
    ]
    assert scores["accuracy"] == pytest.approx((found == labels).mean())
    assert scores["f1"] == pytest.approx(per_class[1] if classes == 2 else np.mean(per_class))
    assert scores["f1_macro"] == pytest.approx(np.mean(per_class))
    one_hot = np.eye(classes)
    covariance = [
        sum(np.cov(one_hot[x][:, c], one_hot[y][:, c])[0, 1] for c in range(classes))
        for x, y in ((found, labels), (found, found), (labels, labels))
    ]
    assert scores["matthews"] == pytest.approx(covariance[0] / np.sqrt(covariance[1] * covariance[2]))


def test_correlations_read_the_one_output_of_a_regression():
    logits, labels = answers(1)
    scores = score(logits, labels, ["pearson", "spearman"])
    assert scores["pearson"] == pytest.approx(np.corrcoef(logits[:, 0], labels)[0, 1])
    ranks = logits[:, 0].argsort().argsort(), labels.argsort().argsort()
    assert scores["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])


@pytest.mark.parametrize("metric", ["matthews", "pearson", "spearman"])
def test_a_constant_answer_correlates_zero_and_not_nan(metric):
    labels = np.array([0, 1, 1, 0])
    assert METRICS[metric](np.zeros(4, dtype=int), labels) == 0.0
    assert METRICS[metric](labels, np.ones(4, dtype=int)) == 0.0


@pytest.mark.parametrize("metric", list(METRICS))
def test_a_weight_is_the_row_seen_that_many_times(metric):
    random = np.random.default_rng(1)
    predictions, labels, weights = random.integers(0, 3, 40), random.integers(0, 3, 40), random.integers(1, 4, 40)
    repeated = METRICS[metric](np.repeat(predictions, weights), np.repeat(labels, weights))
    assert METRICS[metric](predictions, labels, weights) == pytest.approx(repeated)


def test_f1_of_a_three_class_model_is_macro_even_where_the_third_class_never_shows():
    labels = np.array([0, 0, 0, 1])
    logits = np.eye(3)[[0, 0, 1, 1]]
    expected = reference.f1_score(labels, logits.argmax(axis=1), average="macro")
    assert score(logits, labels, ["f1"])["f1"] == pytest.approx(expected)


@pytest.mark.parametrize("missing", [-100, np.nan])
@pytest.mark.parametrize("regression", [False, True])
def test_rows_without_a_label_are_refused_and_counted(missing, regression):
    logits, labels = answers(1 if regression else 2, rows=10)
    labels = labels.astype(float)
    labels[:3] = missing
    with pytest.raises(UserError, match="3 of 10 without one"):
        score(logits, labels, ["pearson"])


def test_nan_logits_are_refused_and_their_rows_counted():
    logits, labels = answers(2, rows=10)
    logits[[1, 4]] = np.nan
    with pytest.raises(UserError, match="in 2 of 10 rows"):
        score(logits, labels, ["accuracy"])


def test_what_does_not_fit_together_is_refused():
    logits, labels = answers(3, rows=10)
    with pytest.raises(UserError, match="expected a metric among accuracy, f1"):
        score(logits, labels, ["acuracy"])
    with pytest.raises(UserError, match="same split"):
        score(logits, labels[:9], ["accuracy"])
    with pytest.raises(UserError, match="labels from 1 to 3"):
        score(logits, np.array([1, 2, 3] * 3 + [1]), ["accuracy"])
    with pytest.raises(UserError, match="pearson or spearman"):
        bootstrap_interval(logits[:, :1], labels, "accuracy")


@pytest.mark.parametrize(("metric", "classes"), [("accuracy", 3), ("f1", 3), ("matthews", 2), ("spearman", 1)])
def test_the_bootstrap_agrees_with_the_plain_loop_over_drawn_rows(metric, classes):
    logits, labels = answers(classes, rows=80)
    predictions = logits[:, 0] if classes == 1 else logits.argmax(axis=1)
    random = np.random.default_rng(7)
    plain = []
    for _ in range(400):
        drawn = random.integers(0, len(labels), len(labels))
        plain.append(METRICS[metric](predictions[drawn], labels[drawn]))
    low, high = bootstrap_interval(logits, labels, metric, samples=400)
    np.testing.assert_allclose([low, high], np.quantile(plain, [0.025, 0.975]), atol=0.04)


@pytest.mark.parametrize("metric", ["f1", "f1_macro", "matthews"])
@pytest.mark.parametrize("classes", [2, 3, 9])
@pytest.mark.parametrize("rows", [1, 6, 300])
def test_resamples_of_counts_are_the_metric_of_each(metric, classes, rows):
    random = np.random.default_rng(rows)
    predictions, labels = random.integers(0, classes, (2, rows))
    predictions[random.random(rows) < 0.5] = 0
    weights = random.multinomial(rows, np.full(rows, 1 / rows), size=40)
    found = scores.of_counts(metric, predictions, labels, classes, weights)
    for ours, some in zip(found, weights, strict=True):
        drawn = some > 0
        one = scores._value(metric, predictions[drawn], labels[drawn], classes, some[drawn])
        assert ours == pytest.approx(one, abs=1e-12)


@pytest.mark.parametrize("metric", sorted(scores.CORRELATIONS))
@pytest.mark.parametrize("kind", ["distinct", "ties", "far from 0", "three rows", "one side constant"])
def test_resamples_of_correlations_are_the_metric_of_each(metric, kind):
    random = np.random.default_rng(5)
    predictions, labels = random.normal(size=(2, 3 if kind == "three rows" else 200))
    if kind == "ties":
        predictions, labels = predictions.round(), (labels + predictions).round()
    if kind == "far from 0":
        predictions = 1e6 + predictions
    if kind == "one side constant":
        labels[:] = 0.1
    weights = random.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=40)
    found = scores.correlations(metric, predictions, labels, weights)
    for ours, some in zip(found, weights, strict=True):
        drawn = some > 0
        one = scores._value(metric, predictions[drawn], labels[drawn], 1, some[drawn])
        assert ours == pytest.approx(one, abs=1e-9)
    assert (found != 0).any() == (kind != "one side constant")


@pytest.mark.parametrize(("metric", "outputs"), [("f1", 77), ("spearman", 1)])
def test_resamples_of_five_thousand_rows_take_no_seconds(metric, outputs):
    logits, labels = answers(outputs, rows=5000)
    began = time.perf_counter()
    bootstrap_interval(logits, labels, metric)
    assert time.perf_counter() - began < 10


def test_the_accuracy_interval_matches_the_binomial_and_narrows_with_the_level():
    logits, labels = answers(2, rows=2000)
    hits = score(logits, labels, ["accuracy"])["accuracy"]
    low, high = bootstrap_interval(logits, labels, "accuracy", samples=20_000)
    np.testing.assert_allclose([low, high], stats.binom.ppf([0.025, 0.975], 2000, hits) / 2000, atol=0.0015)
    narrow = bootstrap_interval(logits, labels, "accuracy", level=0.5)
    assert low < narrow[0] < hits < narrow[1] < high


def test_the_same_seed_gives_the_same_interval():
    logits, labels = answers(2)
    first, second, other = (bootstrap_interval(logits, labels, "f1", samples=50, seed=seed) for seed in (0, 0, 1))
    assert first == second != other


@pytest.mark.parametrize(("metric", "classes"), [("accuracy", 2), ("f1", 3), ("pearson", 1)])
def test_a_pair_is_scored_on_the_same_resamples(metric, classes):
    good, labels = answers(classes, noise=0.5)
    bad, _ = answers(classes, noise=3.0)
    assert paired_bootstrap(good, good, labels, metric, samples=50) == (0.0, 0.0, 0.0)
    difference, low, high = paired_bootstrap(good, bad, labels, metric, samples=200)
    scores = [score(logits, labels, [metric])[metric] for logits in (good, bad)]
    assert difference == pytest.approx(scores[0] - scores[1])
    assert 0 < low < difference < high


def test_majority_is_the_score_of_always_answering_the_commonest_class():
    labels = np.array([0, 0, 0, 1])
    assert majority(labels, "accuracy") == 0.75
    assert majority(labels, "f1") == 0.0
    assert majority(1 - labels, "f1") == pytest.approx(2 * 0.75 / 1.75)
    assert majority(np.array([0, 0, 1, 2]), "f1") == pytest.approx((2 * 0.5 / 1.5) / 3)
    assert majority(labels, "matthews") == majority(np.array([0.5, 2.0]), "pearson") == 0.0
