"""A new head begins as a linear fit on the frozen encoder."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from workshop import Workshop, single_rows, write_csv, write_encoder

from contrastill import finetune
from contrastill.loading import load_classifier
from contrastill.tasks import Classification, MultiLabel, Regression, Tagging
from contrastill.tasks.labelled import LabelledTask
from contrastill.training import probe
from contrastill.training.probe import Fit, Probe, fit_probe, forget_probe, head_is_new, steadiest

BUILD = Callable[..., PreTrainedModel]
FAMILIES = ("bert", "roberta", "distilbert", "mpnet", "modernbert")


def batches_of(
    model: PreTrainedModel, tiny_batch: Callable[..., dict[str, Tensor]], task: LabelledTask, *, mean: bool = False
) -> list[Any]:
    """Batches whose labels follow from one direction of the model's own first token, or of the mean of the tokens."""
    made = [tiny_batch(rows=8, seed=seed) for seed in range(30)]
    direction = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for batch in made:
            hidden = model.base_model(**inputs(batch)).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            vector = (hidden * mask).sum(1) / mask.sum(1) if mean else hidden[:, 0]
            batch["score"] = vector @ direction
    low, high = torch.cat([batch["score"] for batch in made]).quantile(torch.tensor([0.33, 0.66]))
    for batch in made:
        score = batch.pop("score")
        batch["labels"] = {
            "classification": (score > low).long() + (score > high).long(),
            "regression": score,
            "multilabel": torch.stack([score > low, score > high, score > 1e9], 1).float(),
        }[task.name]
    return made


def test_the_reading_of_many_rows_is_seen_as_it_goes(
    tiny_model: BUILD, tiny_batch: Callable[..., dict[str, Tensor]], monkeypatch: Any, caplog: Any
) -> None:
    monkeypatch.setattr("contrastill.screen.EVERY", -1)
    model, task = tiny_model("bert", classes=3).eval(), Classification("abc")
    batches = batches_of(model, tiny_batch, task)
    with caplog.at_level(logging.INFO):
        fit_probe(model, task, batches, may_add=False)
    assert caplog.messages == [f"{8 * n} of 240 rows, to fit the head" for n in range(1, 31)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", [Classification("abc"), Regression(), MultiLabel("abc")], ids=lambda task: task.name)
def test_a_fitted_head_knows_more_than_a_random_one(
    family: str, task: LabelledTask, tiny_model: BUILD, tiny_batch: Callable[..., dict[str, Tensor]]
) -> None:
    model = tiny_model(family, classes=len(task.names)).eval()
    batches = batches_of(model, tiny_batch, task)
    encoder = {name: value.clone() for name, value in model.base_model.state_dict().items() if "pooler" not in name}

    def loss() -> float:
        with torch.no_grad():
            every = [task.hard(model(**inputs(batch)).logits, batch["labels"], torch.ones(0))[0] for batch in batches]
        return float(torch.cat(every).mean())

    before = loss()
    made = fit_probe(model, task, batches, may_add=False)
    assert made is not None
    assert made.rows == 240
    assert not made.added
    labels = torch.cat([batch["labels"] for batch in batches]).numpy()
    ignorance = task.ignorance(labels) if task.name != "regression" else float(labels.var())
    assert loss() < 0.7 * min(before, ignorance)
    after = model.base_model.state_dict()
    assert all(value.equal(after[name]) for name, value in encoder.items())


def inputs(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def test_the_head_is_logistic_regression_on_the_first_token(
    tiny_model: BUILD, tiny_batch: Callable[..., dict[str, Tensor]]
) -> None:
    """A slow twin: features taken by hand, fitted by scikit-learn at the strength that was chosen."""
    task, model = Classification("abc"), tiny_model("bert").eval()
    batches = batches_of(model, tiny_batch, task)
    made = fit_probe(model, task, batches, may_add=False)
    assert made is not None
    with torch.no_grad():
        first = torch.cat([model.base_model(**inputs(batch)).last_hidden_state[:, 0] for batch in batches])
        ours = torch.cat([model(**inputs(batch)).logits for batch in batches]).softmax(-1)
    x, y = torch.tanh(probe.PASSED * first).numpy(), torch.cat([batch["labels"] for batch in batches]).numpy()
    x = (x - x.mean(0)) / (x.std(0) + 1e-6)
    theirs = LogisticRegression(C=made.strength, max_iter=300).fit(x, y).predict_proba(x)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-3)


def test_a_layer_that_averages_is_added_where_the_mean_says_more(
    tiny_model: BUILD, tiny_batch: Callable[..., dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, model = Classification("abc"), tiny_model("bert").eval()
    batches = batches_of(model, tiny_batch, task, mean=True)
    made = fit_probe(model, task, batches)
    assert made is not None
    assert made.added
    assert model.config.num_hidden_layers == 3
    again = tiny_model("bert").eval()
    alone = fit_probe(again, task, batches, may_add=False)
    assert alone is not None
    assert made.held_out < (1 - probe.GAINED) * alone.held_out
    monkeypatch.setattr(probe, "FEW", 1)  # rows are many
    many = fit_probe(tiny_model("bert").eval(), task, batches)
    assert many is not None
    assert not many.added


@pytest.mark.parametrize("task", [Classification("abc"), Regression(), MultiLabel("abc")], ids=lambda task: task.name)
def test_a_fit_that_tells_nothing_is_forgotten_but_for_its_answer(
    task: LabelledTask, tiny_model: BUILD, tiny_batch: Callable[..., dict[str, Tensor]]
) -> None:
    """Labels that follow from nothing: the weights are those before, and the answer to any text is the labels' mean."""
    model = tiny_model("bert", classes=len(task.names)).eval()
    batches, chance = batches_of(model, tiny_batch, task), torch.Generator().manual_seed(5)
    for batch in batches:  # two thirds are of the first class
        first = torch.rand(len(batch["labels"]), generator=chance) < 0.67
        batch["labels"] = {
            "classification": torch.where(first, 0, 1),
            "regression": 2.0 + first.float(),
            "multilabel": torch.stack([first, ~first, first], 1).float(),
        }[task.name]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = fit_probe(model, task, batches)
    assert made is not None
    assert not made.tells
    assert "random: a linear fit to 240 rows" in str(made)
    assert not model.classifier.weight.equal(before["classifier.weight"])
    forget_probe(model, made)
    after = model.state_dict()
    assert set(after) == set(before)
    assert [name for name, value in after.items() if not value.equal(before[name])] == ["classifier.bias"]
    share = float(torch.cat([batch["labels"] for batch in batches]).float().mean(0).flatten()[0])
    answer = model.classifier.bias.double()
    if task.name == "classification":
        assert answer[:2].softmax(0)[1].item() == pytest.approx(share, abs=0.01)
        assert answer[2] == answer.min()  # a class without rows
    elif task.name == "regression":
        assert answer.item() == pytest.approx(share, abs=0.01)
    else:
        assert answer.sigmoid()[0].item() == pytest.approx(share, abs=0.01)


def test_a_fit_that_tells_something_is_the_start(
    tiny_model: BUILD, tiny_batch: Callable[..., dict[str, Tensor]]
) -> None:
    task, model = Classification("abc"), tiny_model("bert").eval()
    made = fit_probe(model, task, batches_of(model, tiny_batch, task), may_add=False)
    assert made is not None
    assert made.tells
    assert made.held_out < 0.9 * made.blind
    assert str(made) == "fitted to 240 rows on the frozen encoder"


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_scores_that_a_fit_tells_until_dropout_is_on_are_learnt_from_random_weights(
    dropout: float, tiny_model: BUILD, tiny_batch: Callable[..., dict[str, Tensor]]
) -> None:
    """What tells them varies little beside the rest of the first token, so that the fitted weights are large."""
    task = Regression()
    model = tiny_model("bert", classes=1, dropout=dropout).eval()
    batches = batches_of(model, tiny_batch, task)
    with torch.no_grad():
        first = torch.cat([model.base_model(**inputs(batch)).last_hidden_state[:, 0] for batch in batches])
        thin = torch.linalg.eigh(torch.cov(first.T)).eigenvectors[:, len(first.T) // 3]
        scores = (first - first.mean(0)) @ thin
        for batch, some in zip(batches, (scores / scores.std()).split(8), strict=True):
            batch["labels"] = some
    before, state = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    made = fit_probe(model, task, batches, may_add=False)
    assert torch.get_rng_state().equal(state)
    assert not any(module.training for module in model.modules())
    assert made is not None
    assert made.held_out < 0.5 * made.blind
    assert made.tells == (not dropout)
    assert ("is lost when dropout is on" in str(made)) == bool(dropout)
    if not dropout:
        assert made.shaken < 0.5 * made.blind
        return
    forget_probe(model, made)
    assert [name for name, value in model.state_dict().items() if not value.equal(before[name])] == ["classifier.bias"]


def test_of_the_fits_the_best_that_dropout_leaves_is_taken(
    tiny_model: BUILD, tiny_batch: Callable[..., dict[str, Tensor]]
) -> None:
    task, model = Regression(), tiny_model("bert", classes=1).eval()
    batches, width = batches_of(model, tiny_batch, task), model.config.hidden_size
    weights = [np.full((1, width), size, np.float32) for size in (1e4, 10.0, 0.0, 1e3)]
    fits = [Fit(float(n), 1.0, (one, np.zeros(1, np.float32))) for n, one in enumerate(weights)]
    square = float(torch.cat([batch["labels"] for batch in batches]).square().mean())
    found, loss = steadiest(model, task, model.classifier, batches, fits, None, 0)
    assert found is fits[2]
    assert 0.5 * square < loss < 2 * square


@pytest.mark.parametrize("task", [Classification("abc"), MultiLabel("abc")], ids=lambda task: task.name)
def test_only_scores_are_tried_with_dropout(
    task: LabelledTask, tiny_model: BUILD, tiny_batch: Callable[..., dict[str, Tensor]]
) -> None:
    model = tiny_model("bert").eval()
    made = fit_probe(model, task, batches_of(model, tiny_batch, task), may_add=False)
    assert made is not None
    assert made.shaken is None
    assert [cls.name for cls in (Classification, MultiLabel, Regression, Tagging) if cls.unbounded] == ["regression"]


@pytest.mark.parametrize("task", [Classification("ab"), Regression(), MultiLabel("a")], ids=lambda task: task.name)
def test_a_feature_that_hardly_varies_gets_no_huge_weight(task: LabelledTask) -> None:
    chance = np.random.default_rng(0)
    features = chance.normal(size=(400, 6)).astype(np.float32)
    scores = features[:, 0] + features[:, 1]
    features[:, 5] = 3 + 1e-6 * np.sign(scores)  # an encoder may have such; in training it moves
    labels = {
        "classification": (scores > 0).astype(np.int64),
        "regression": scores,
        "multilabel": (scores > 0).astype(np.float32)[:, None],
    }[task.name]
    fitted = probe.fit(task, features, labels, 1.0)
    assert fitted is not None
    moved = features + np.array([0, 0, 0, 0, 0, 0.01], np.float32)
    before, after = (x @ fitted[0].T + fitted[1] for x in (features, moved))
    assert np.abs(after - before).max() < 0.5
    assert np.ptp(before) > 2


def test_a_run_whose_texts_tell_nothing_starts_from_random_weights(workshop: Workshop, tmp_path: Path) -> None:
    texts, chance = single_rows(80, seed=3), np.random.default_rng(0)
    rows = [{**row, "label": "abc"[chance.integers(3)]} for row in texts]
    run = finetune(**small(workshop, tmp_path / "run", data=str(write_csv(tmp_path / "odd.csv", rows))))
    decided = json.loads((run.folder / "run.json").read_text())["data"]["decisions"]["head"]
    assert decided.startswith("random: a linear fit")
    assert "probe" in run.metrics


def test_classes_without_rows_are_unlikely_and_not_impossible() -> None:
    features = np.random.default_rng(0).normal(size=(40, 5))
    weights, biases = Classification("abcd").fit_head(features, np.arange(40) % 2, 0.1) or (np.ones(0), np.ones(0))
    assert weights.shape == (4, 5)
    assert not weights[2:].any()
    assert (biases[2:] == biases[:2].min()).all()
    weights, biases = MultiLabel("ab").fit_head(features, np.stack([np.arange(40) % 2, np.zeros(40)], 1), 0.1) or ()
    assert not weights[1].any()
    assert biases[1] < -3


def test_a_head_from_a_file_stays(workshop: Workshop, tmp_path: Path) -> None:
    assert not head_is_new(load_classifier(str(workshop.teacher())))
    assert head_is_new(load_classifier(str(workshop.encoder()), num_labels=3))
    run = finetune(**small(workshop, tmp_path / "run", model=str(workshop.teacher())))
    assert "probe" not in run.metrics


def test_a_new_head_is_no_news(workshop: Workshop) -> None:
    """transformers reports its weights as missing, to be trained."""
    said: list[logging.LogRecord] = []
    handler = logging.Handler()
    setattr(handler, "emit", said.append)  # noqa: B010
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addHandler(handler)
    try:
        level = logger.level
        load_classifier(str(workshop.encoder()), num_labels=5)
    finally:
        logger.removeHandler(handler)
    assert [record.getMessage() for record in said] == []
    assert logger.level == level


def small(workshop: Workshop, out: Path, **changes: Any) -> dict[str, Any]:
    given = {"model": str(workshop.encoder()), "data": str(workshop.data()), "out": str(out), "max_length": 32}
    return given | {"batch_size": 8, "epochs": 1, "checks": 2, "precision": "fp32"} | changes


def test_a_run_begins_at_the_probe_and_keeps_it_where_nothing_is_better(workshop: Workshop, tmp_path: Path) -> None:
    run = finetune(**small(workshop, tmp_path / "run", learning_rate=0.5))
    log = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert log[0]["step"] == 0
    assert run.metrics["checkpoint"] == 0
    for split in ("dev", "test"):
        ours, probe = run.metrics["model"][split], run.metrics["probe"][split]
        assert ours["calibration"].pop("temperatures") == [1.0]  # the rows are too few to tell another
        assert ours == probe
    assert run.metrics["probe"]["dev"]["metrics"]["accuracy"] == pytest.approx(log[0]["eval_accuracy"])
    record = json.loads((run.folder / "run.json").read_text())
    assert "fitted to 64 rows" in record["data"]["decisions"]["head"]


def test_a_random_head_is_to_be_had(workshop: Workshop, tmp_path: Path) -> None:
    run = finetune(**small(workshop, tmp_path / "run", head="random"))
    assert "probe" not in run.metrics


def test_the_plain_model_loads_with_its_added_layer(workshop: Workshop, tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder", num_hidden_layers=1, seed=3)
    words = ["soup", "bread", "goal", "race"]
    rows = [
        {"text": " ".join(words[(n >> k) & 1] for k in range(8)), "label": str(bin(n).count("1"))} for n in range(256)
    ]
    data = write_csv(tmp_path / "rows.csv", rows)
    run = finetune(**small(workshop, tmp_path / "run", model=str(encoder), data=str(data)))
    model = AutoModelForSequenceClassification.from_pretrained(run.model)
    record = json.loads((run.folder / "run.json").read_text())["data"]["decisions"]["head"]
    assert model.config.num_hidden_layers == 1 + ("averages" in record)


def test_too_few_rows_are_no_error(tiny_model: BUILD, tiny_batch: Callable[..., dict[str, Tensor]]) -> None:
    batch = {name: value[:1] for name, value in tiny_batch().items()}
    assert fit_probe(tiny_model("bert"), Classification("abc"), [batch]) is None
    two = {name: value[:2] for name, value in tiny_batch().items()}
    assert isinstance(fit_probe(tiny_model("bert"), Classification("abc"), [two]), Probe)
