"""A last layer that gives the first token the mean of all."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from contrastill.students.pooling import GAIN, add_mean_layer, remove_last_layer, takes_mean_layer

BUILD = Callable[..., PreTrainedModel]


def top(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        return model.base_model(**inputs).last_hidden_state


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_the_first_token_becomes_the_mean_of_all(
    family: str, tiny_model: BUILD, tiny_batch: Callable[..., dict[str, Tensor]], tmp_path: Path
) -> None:
    model, batch = tiny_model(family).eval(), tiny_batch()
    assert takes_mean_layer(model)
    before = top(model, batch)
    add_mean_layer(model)
    for row, mask in enumerate(batch["attention_mask"]):
        own = before[row][mask.bool()]
        expected = F.layer_norm(GAIN * own.mean(0) + own[0], own.shape[1:])
        torch.testing.assert_close(top(model, batch)[row, 0], expected, atol=1e-4, rtol=1e-4)
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert again.config.num_hidden_layers == 3
    torch.testing.assert_close(top(again, batch), top(model, batch))
    remove_last_layer(model)
    torch.testing.assert_close(top(model, batch), before)
    assert model.config.num_hidden_layers == 2


def test_a_layer_learns(tiny_model: BUILD, tiny_batch: Callable[..., dict[str, Tensor]]) -> None:
    model, batch = tiny_model("bert"), tiny_batch()
    add_mean_layer(model)
    model(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")}).loss.backward()
    added = model.base_model.encoder.layer[-1]
    assert bool(added.output.dense.weight.grad.any())
    assert bool(added.attention.self.value.weight.grad.any())


def test_norms_in_front_take_no_such_layer(tiny_model: BUILD) -> None:
    assert not takes_mean_layer(tiny_model("modernbert"))
