"""Every method's step on a GPU, against the same step on the processor."""

import copy

import pytest
import torch

from contrastill import forward
from contrastill.encoder import Encoder
from contrastill.methods.perturbed import Perturbed

pytestmark = pytest.mark.gpu
GPU = "cuda"


def on(device, batch):
    return {name: value.to(device) for name, value in batch.items()}


def steps(model, batches, device):
    """The terms of each batch, and the gradients that all of them leave: on the processor again."""
    model.to(device)
    results = []
    for batch in batches:
        result = model(**on(device, batch))
        result["loss"].backward()
        results.append({name: value.detach().cpu() for name, value in result.items()})
    return results, {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("perturbed", [False, True], ids=["bare", "perturbed"])
def test_losses_and_gradients_are_those_of_the_processor(case, perturbed, tiny_method, tiny_batch):
    method = tiny_method(*case)
    method.stage = method.stages[-1]
    if getattr(method, "negatives", 0):
        pytest.skip("each device draws its own negatives")
    batches = [tiny_batch(rows=5, seed=1), tiny_batch(seed=2)]  # the second one meets a queue that holds the first
    here, there = (Perturbed(m) if perturbed else m for m in (method, copy.deepcopy(method)))
    (expected, expected_gradients), (found, gradients) = steps(here, batches, "cpu"), steps(there, batches, GPU)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        error = (gradient - expected_gradients[name]).norm() / expected_gradients[name].norm().clamp(min=1e-3)
        assert error < 1e-2, name


def test_under_bfloat16_the_losses_are_close_and_gradients_come_back_in_float32(case, tiny_method, tiny_batch):
    method, batch = tiny_method(*case), on(GPU, tiny_batch())
    method.stage = method.stages[-1]
    method.to(GPU)
    drawn = getattr(method, "negatives", 0)
    torch.manual_seed(0)
    exact = copy.deepcopy(method)(**batch)["loss"]
    torch.manual_seed(0)
    with torch.autocast(GPU, dtype=torch.bfloat16):
        loss = method(**batch)["loss"]
    loss.backward()
    torch.testing.assert_close(loss, exact, rtol=0.1, atol=0.1)
    assert not torch.equal(loss, exact) or drawn  # else nothing was computed in bfloat16
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in gradients)


def test_a_perturbed_step_draws_one_dropout_mask_for_both_passes(tiny_method, tiny_batch):
    bare, batch = tiny_method("kd", student={"dropout": 0.5}), on(GPU, tiny_batch())
    bare.to(GPU)
    wrapped = Perturbed(copy.deepcopy(bare), epsilon=1e-9)
    losses, states = [], []
    for model in (bare, wrapped):
        torch.manual_seed(0)
        losses.append(model(**batch)["loss"])
        states.append(torch.cuda.get_rng_state())
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)
    assert torch.equal(*states)
    torch.manual_seed(1)
    assert (bare(**batch)["loss"] - losses[0]).abs() > 1e-3  # dropout is at work


def test_dropout_is_torchs_own(tiny_model, tiny_batch, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("the processor's dropout ran on the GPU")

    monkeypatch.setattr(forward, "cheap_dropout", never)
    encoder, batch = Encoder(tiny_model(dropout=0.5)).to(GPU).train(), on(GPU, tiny_batch())
    torch.manual_seed(0)
    one = encoder(batch, {"hidden"}).hidden[0][batch["attention_mask"].bool()]
    torch.manual_seed(0)
    again = encoder(batch, {"hidden"}).hidden[0][batch["attention_mask"].bool()]
    assert torch.equal(one, again)
    assert 0.3 < (one == 0).float().mean() < 0.7
