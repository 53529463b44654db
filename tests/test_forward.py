"""The trained model's cheaper forward pass, against the plain one."""

import pytest
import torch
import torch.nn.functional as F

from contrastill.encoder import Encoder
from contrastill.forward import CheapDropout, cheap_dropout


@pytest.fixture
def batch(tiny_batch):
    return {k: v for k, v in tiny_batch().items() if k in ("input_ids", "attention_mask", "token_type_ids")}


TYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_clears_a_share_p_and_scales_the_rest(dtype, p):
    torch.manual_seed(0)
    x = torch.full((400, 501), 3.0, dtype=dtype)
    y = cheap_dropout(x, p)
    kept = y != 0
    spread = 4 * (p * (1 - p) / x.numel()) ** 0.5
    assert abs(float((~kept).double().mean()) - p) < spread
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 3.0 / (1 - p)), rtol=1e-2, atol=0)


def test_neighbouring_elements_are_dropped_independently():
    torch.manual_seed(0)
    dropped = (cheap_dropout(torch.ones(400_000), 0.5) == 0).double()
    for lag in (1, 2, 3, 4, 8):  # four draws share one 64-bit number
        assert abs(float((dropped[lag:] * dropped[:-lag]).mean()) - 0.25) < 0.004


@pytest.mark.parametrize("dtype", TYPES)
def test_the_gradient_passes_where_the_value_did_and_nowhere_else(dtype):
    x = torch.randn(37, 11).to(dtype).requires_grad_()
    y = cheap_dropout(x, 0.3)
    y.sum().backward()
    expected = torch.where(y == 0, 0.0, 1 / 0.7).to(dtype)
    torch.testing.assert_close(x.grad, expected, rtol=1e-2, atol=1e-3)


def test_values_are_what_a_slow_twin_makes_of_the_same_bits():
    x = torch.randn(5, 7, 3)
    torch.manual_seed(3)
    y = cheap_dropout(x, 0.25)
    torch.manual_seed(3)
    draws = torch.empty(27, dtype=torch.int64).random_(-(2**63), None)  # 4 of 16 bits in each, for 105 elements
    bits = [(int(draw) >> shift) & 0x7FFF for draw in draws for shift in (0, 16, 32, 48)][: x.numel()]
    twin = [v * 2**15 / (2**15 - 8192) if bit >= 8192 else 0.0 for v, bit in zip(x.flatten(), bits, strict=True)]
    torch.testing.assert_close(y.flatten(), torch.tensor(twin))


def test_what_is_not_contiguous_keeps_its_order():
    x = torch.arange(1.0, 13).view(3, 4).T
    y = cheap_dropout(x, 0.5)
    assert ((y == 0) | (y == 2 * x)).all()


def test_eval_mode_nought_and_other_types_are_left_to_torch():
    x = torch.randn(8)
    assert torch.equal(cheap_dropout(x, 0.5, training=False), x)
    assert torch.equal(cheap_dropout(x, 0.0), x)
    assert (cheap_dropout(torch.ones(1000, dtype=torch.float64), 0.5) == 0).any()
    assert not cheap_dropout(torch.ones(50), 1.0).any()


def test_everything_may_be_dropped_but_one_in_32768():
    assert not cheap_dropout(torch.ones(100), 1 - 1e-9).any()


def test_modules_and_functions_are_reached_and_the_seed_decides():
    module, x = torch.nn.Dropout(0.5), torch.ones(64)
    outcomes = []
    for _ in range(2):
        torch.manual_seed(1)
        with CheapDropout():
            outcomes.append((module(x), F.dropout(x, p=0.5, training=True)))
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))
    assert not torch.equal(*outcomes[0])
    with CheapDropout(enabled=False):
        torch.manual_seed(1)
        off = module(x)
    torch.manual_seed(1)
    assert torch.equal(off, module(x))


def test_in_training_under_autocast_the_stream_is_bfloat16_and_the_gradients_float32(tiny_model, batch):
    model = tiny_model(dropout=0.0).train()
    encoder = Encoder(model)
    exact = encoder(batch, {"logits", "hidden"})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        quick = encoder(batch, {"logits", "hidden"})
    assert {h.dtype for h in quick.hidden} == {torch.bfloat16}
    torch.testing.assert_close(quick.logits.float(), exact.logits, rtol=0.05, atol=0.05)
    quick.logits.float().square().sum().backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert len(grads) > 20
    assert {g.dtype for g in grads.values()} == {torch.float32}


def test_perturbation_is_added_before_the_stream_is_cast(tiny_model, batch):
    """A step too small for bfloat16 to see at the size of the embeddings must not be lost on the way to them."""
    model = tiny_model(dropout=0.0).train()
    encoder, seen = Encoder(model), []
    handle = encoder.embeddings.register_forward_hook(lambda module, inputs, output: seen.append(output) or output + 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoder(batch, {"logits"})
    handle.remove()
    assert seen[0].dtype is torch.float32
