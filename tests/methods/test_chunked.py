"""The gradient cache: the loss and the gradient of the whole batch, with the activations of a part of it in memory."""

import copy
from typing import Any

import pytest
import torch
from grouped import columns_of, gradients, sentence_model, simcse

from contrastill.errors import UserError
from contrastill.methods import Chunked, chunked


@pytest.fixture
def model(tiny_model: Any) -> Any:
    return sentence_model(tiny_model(width=16).base_model)


@pytest.mark.parametrize("chunk", [1, 2, 5, 99])
@pytest.mark.parametrize("columns", [2, 3])
def test_loss_and_gradient_are_those_of_sentence_transformers_and_of_the_whole_batch(
    model: Any, tiny_batch: Any, chunk: int, columns: int
) -> None:
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    batch = tiny_batch(rows=6 * columns)
    theirs = losses.CachedMultipleNegativesRankingLoss(copy.deepcopy(model).train(), mini_batch_size=chunk)
    expected = theirs(columns_of(batch, columns), None)
    method = simcse(model, columns=columns)
    whole = method(**batch)["loss"]
    of_whole = gradients(method, whole)
    found = Chunked(method, chunk)(**batch)["loss"]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found, whole)
    ours = gradients(method, found)
    torch.testing.assert_close(ours, gradients(theirs, expected), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours, of_whole, rtol=1e-4, atol=1e-6)
    assert max(float(grad.abs().max()) for grad in ours.values()) > 1e-3


@pytest.mark.parametrize(("name", "settings"), [("simcse", {"queue": 8}), ("disco", {"queue": 8}), ("leaf", {})])
def test_any_method_of_vectors_may_be_chunked_its_teacher_queue_and_projection_too(
    name: str, settings: dict[str, Any], tiny_method: Any, tiny_batch: Any
) -> None:
    found = []
    for wrap in (lambda method: method, lambda method: Chunked(method, 2)):
        torch.manual_seed(0)  # the projection
        method = tiny_method(name, settings)
        wrapped = wrap(method)
        for seed in (1, 2):
            method.zero_grad()
            result = wrapped(**tiny_batch(seed=seed))
            result["loss"].backward()
        grads = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
        found.append((result, grads, method.state_dict()))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


def test_each_chunk_is_computed_again_under_the_same_dropout(
    tiny_model: Any, tiny_batch: Any, monkeypatch: Any
) -> None:
    model, batch = sentence_model(tiny_model(width=16, dropout=0.3).base_model), tiny_batch(rows=8)
    found = []
    for cached in (True, False):
        with monkeypatch.context() as patch:
            if not cached:
                patch.setattr(chunked, "checkpoint", lambda function, *inputs, use_reentrant: function(*inputs))
            torch.manual_seed(3)
            method = simcse(model)
            loss = Chunked(method, 3)(**batch)["loss"]
            found.append((loss.detach(), gradients(method, loss), torch.rand(3)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-7)
    torch.manual_seed(4)
    assert not torch.isclose(Chunked(method, 3)(**batch)["loss"], found[0][0])  # dropout was on


def test_only_one_chunk_is_computed_at_a_time(model: Any, tiny_batch: Any) -> None:
    """Each text twice; and between the passes no tensor of the transformer is kept."""
    sizes: list[int] = []
    model[0].register_forward_hook(lambda _module, inputs, _output: sizes.append(len(inputs[0]["input_ids"])))
    kept: list[int] = []

    def pack(x: torch.Tensor) -> torch.Tensor:
        kept.append(x.numel())
        return x

    method = Chunked(simcse(model), 3)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss = method(**tiny_batch(rows=8))["loss"]
    assert sizes == [3, 3, 2]
    assert sum(kept) < 3_000  # vectors and cosines; one layer's attention of one chunk has as many
    loss.backward()
    assert sizes == [3, 3, 2, 2, 3, 3]


def test_bfloat16_goes_with_it(model: Any, tiny_batch: Any) -> None:
    found, batch = [], tiny_batch(rows=8)
    for wrap in (lambda method: method, lambda method: Chunked(method, 3)):
        method = simcse(model)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = wrap(method)(**batch)["loss"]
        found.append((loss.detach(), gradients(method, loss)))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=0.02, atol=0.02)
    for name, grad in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], grad, rtol=0.1, atol=0.05)


def test_what_compares_more_than_vectors_is_refused(tiny_method: Any) -> None:
    with pytest.raises(UserError, match="'lrc_bert', which compares hidden and logits; choose a smaller batch"):
        Chunked(tiny_method("lrc_bert"), 4)
    with pytest.raises(UserError, match="at least 1 text, got 0"):
        Chunked(tiny_method("leaf"), 0)
