"""What a method sees of a model, for every family: hidden states, scores before softmax, a frozen teacher."""

import copy

import pytest
import torch
from torch import nn

from contrastill.encoder import Encoder
from contrastill.errors import UserError
from contrastill.methods import KD
from contrastill.tasks import Classification
from contrastill.teachers import FrozenEncoder

ALL = {"logits", "hidden", "attention"}


@pytest.fixture
def batch(tiny_batch):
    batch = tiny_batch(longest=12)
    assert not batch["attention_mask"].all()
    return batch


def inputs_of(batch):
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


def test_depth_width_and_heads_are_those_of_the_model(family, tiny_model):
    encoder = Encoder(tiny_model(family, layers=3, width=24, heads=2))
    assert (encoder.depth, encoder.width, encoder.heads) == (3, 24, 2)


def test_hidden_has_one_entry_more_than_layers_and_starts_with_the_embeddings_output(family, tiny_model, batch):
    encoder = Encoder(tiny_model(family, layers=3).eval())
    seen = []
    hook = encoder.embeddings.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    encoding = encoder(batch, {"hidden"})
    hook.remove()
    assert len(encoding.hidden) == 4
    assert all(h.shape == (*batch["input_ids"].shape, 16) for h in encoding.hidden)
    assert len(seen) == 1
    assert torch.equal(encoding.hidden[0], seen[0])


def test_hidden_states_logits_and_mask_are_the_models_own(family, tiny_model, batch):
    model = tiny_model(family, layers=3).eval()
    encoding = Encoder(model)(batch, {"hidden", "logits"})
    own = model(**inputs_of(batch), output_hidden_states=True)
    torch.testing.assert_close(encoding.logits, own.logits)
    torch.testing.assert_close(encoding.hidden, tuple(own.hidden_states))
    assert not torch.allclose(encoding.hidden[1], encoding.hidden[2])
    assert encoding.mask.dtype == torch.bool
    assert torch.equal(encoding.mask, batch["attention_mask"] == 1)


def test_changing_the_embeddings_output_changes_all_that_follows(family, tiny_model, batch):
    encoder = Encoder(tiny_model(family).eval())
    before = encoder(batch, {"hidden"})
    hook = encoder.embeddings.register_forward_hook(lambda _module, _inputs, output: output + torch.randn(16))
    after = encoder(batch, {"hidden"})
    hook.remove()
    assert not any(torch.allclose(x, y) for x, y in zip(before.hidden, after.hidden, strict=True))
    assert not torch.allclose(before.logits, after.logits)


def test_attention_is_the_scores_whose_softmax_is_the_models_attention(family, tiny_model, batch):
    model = tiny_model(family, layers=3).eval()
    encoding = Encoder(model)(batch, ALL)
    model.set_attn_implementation("eager")
    own = model(**inputs_of(batch), output_attentions=True).attentions
    assert len(encoding.attention) == len(own) == 3
    for scores, probabilities in zip(encoding.attention, own, strict=True):
        assert scores.shape == (len(batch["labels"]), 4, 12, 12)
        torch.testing.assert_close(scores.softmax(-1), probabilities)
        assert not torch.allclose(scores, probabilities)


def test_mpnets_scores_hold_its_position_bias(tiny_model, batch):
    model = tiny_model("mpnet").eval()
    before = Encoder(model)(batch, {"attention"}).attention[0]
    with torch.no_grad():
        model.mpnet.encoder.relative_attention_bias.weight.zero_()
    after = Encoder(model)(batch, {"attention"}).attention[0]
    assert not torch.allclose(before[0, :, :3, :3], after[0, :, :3, :3])


def test_masked_entries_are_very_negative_and_real_ones_are_not(family, tiny_model, batch):
    attention = Encoder(tiny_model(family, layers=3).eval())(batch, {"attention"}).attention
    real = batch["attention_mask"].bool()
    for scores in attention:
        keys = real[:, None, None, :].expand_as(scores)
        assert (scores[~keys] <= -1e2).all()
        queries = real[:, None, :, None].expand_as(scores)
        near = (torch.arange(12)[:, None] - torch.arange(12)).abs() <= 2  # within any local window
        assert (scores[keys & queries & near] > -1e2).all()


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_attention_can_be_asked_of_a_model_loaded_with_any_attention(family, implementation, tiny_model, batch):
    if family == "mpnet" and implementation == "sdpa":
        pytest.skip("transformers has no sdpa attention for MPNet")
    model = tiny_model(family).eval()
    model.set_attn_implementation(implementation)
    encoder = Encoder(model)
    without = encoder(batch, {"logits", "hidden"})
    assert model.config._attn_implementation == implementation  # nothing slower than what was asked for
    with_scores = encoder(batch, ALL)
    assert len(with_scores.attention) == 2
    torch.testing.assert_close(with_scores.logits, without.logits, rtol=1e-4, atol=1e-5)


def test_queries_and_keys_give_the_attention_scores_where_nothing_else_does(family, tiny_model, batch):
    model = tiny_model(family, layers=3).eval()
    encoding = Encoder(model)(batch, {"attention", "qkv"})
    assert [tuple(layer.shape) for layer in encoding.qkv] == [(*batch["input_ids"].shape, 48)] * 3
    if family in ("mpnet", "modernbert"):
        return  # a bias for positions; queries and keys that are turned by theirs
    real = batch["attention_mask"].bool()
    for layer, scores in zip(encoding.qkv, encoding.attention, strict=True):
        query, key, value = (part.unflatten(-1, (4, 4)).transpose(1, 2) for part in layer.chunk(3, -1))
        keys = real[:, None, None].expand_as(scores)
        torch.testing.assert_close((query @ key.transpose(2, 3) / 2)[keys], scores[keys])
        assert not torch.allclose(key, value)


def test_layers_that_share_their_weights_have_queries_of_their_own(tiny_model, batch):
    first, *others = Encoder(tiny_model("albert", layers=3).eval())(batch, {"qkv"}).qkv
    assert len(others) == 2
    assert not any(torch.allclose(first, other) for other in others)


def test_a_model_without_such_layers_is_refused(tiny_model, batch):
    model = tiny_model()
    model.base_model.encoder.layer[0].attention.self.query = torch.nn.Sequential(torch.nn.Linear(16, 16))
    with pytest.raises(UserError, match="expected queries, keys and values of 16 numbers in 2 layers of BertFor"):
        Encoder(model)(batch, {"qkv"})


def test_gradients_flow_from_the_scores_and_hidden_states_to_the_weights(family, tiny_model, batch):
    encoder = Encoder(tiny_model(family).train())
    encoding = encoder(batch, ALL)
    encoding.attention[1][:, :, 0, 0].sum().backward(retain_graph=True)
    reached = {n for n, p in encoder.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any("embeddings" in name for name in reached)
    encoder.zero_grad()
    encoding.hidden[-1].square().sum().backward()
    assert {n for n, p in encoder.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0} - reached


def test_what_is_not_needed_is_not_given(family, tiny_model, batch):
    encoding = Encoder(tiny_model(family))(batch, {"logits"})
    assert encoding.logits is not None
    assert encoding.hidden is None
    assert encoding.attention is None


def test_token_types_reach_the_models_that_know_them_and_no_others(family, tiny_model, tiny_batch):
    encoder, batch = Encoder(tiny_model(family).eval()), tiny_batch(pairs=True)
    plain = {**batch, "token_type_ids": torch.zeros_like(batch["token_type_ids"])}
    same = torch.allclose(encoder(batch, {"logits"}).logits, encoder(plain, {"logits"}).logits)
    assert same == (family not in ("bert", "roberta"))


def test_a_batch_without_an_attention_mask_is_all_real(family, tiny_model, tiny_batch):
    encoder, batch = Encoder(tiny_model(family).eval()), tiny_batch(rows=1, longest=8)
    bare = encoder({"input_ids": batch["input_ids"]}, {"logits"})
    assert bare.mask.all()
    assert batch["attention_mask"].all()
    torch.testing.assert_close(bare.logits, encoder(batch, {"logits"}).logits)


def test_a_model_whose_scores_cannot_be_seen_is_refused(tiny_model, batch, monkeypatch):
    encoder = Encoder(tiny_model("bert", layers=3))
    encoder.model.config.num_hidden_layers = 4
    with pytest.raises(RuntimeError, match="expected 4 attention score tensors from BertForSequenceClassification"):
        encoder(batch, {"attention"})


# ---- FrozenEncoder -------------------------------------------------------------------------------------------------


def test_a_frozen_encoder_says_what_the_encoder_says_and_gives_no_gradient(family, tiny_model, batch):
    model = tiny_model(family, dropout=0.5).train()
    frozen = FrozenEncoder(copy.deepcopy(model))
    encoding = frozen(batch, ALL)
    assert not any(x.requires_grad for x in (encoding.logits, *encoding.hidden, *encoding.attention))
    assert not any(p.requires_grad for p in frozen.model.parameters())
    frozen.model.requires_grad_(True)  # not even then, say by a shared embedding that the student trains
    assert not frozen(batch, ALL).logits.requires_grad
    torch.testing.assert_close(encoding.logits, Encoder(model.eval())(batch, ALL).logits)


def test_a_methods_teacher_stays_in_eval_mode_whatever_the_method_is_told(tiny_model, batch):
    method = KD(tiny_model(), tiny_model(dropout=0.5, seed=1).train(), Classification())
    for switch in (method.train, lambda: method.train(False), method.train, lambda: method.requires_grad_(True)):
        switch()
        assert not any(module.training for module in method.teacher.model.modules())
    assert not any(p.requires_grad for p in method.teacher.model.parameters())
    first, second = (method.teacher(batch, {"logits"}).logits for _ in range(2))
    assert torch.equal(first, second)  # no dropout


def test_a_methods_teacher_is_neither_saved_nor_trained(tiny_model):
    student, teacher = tiny_model(), tiny_model(seed=1)
    method = KD(student, teacher, Classification())
    assert set(method.state_dict()) == {f"student.model.{name}" for name in student.state_dict()}
    assert {id(p) for p in method.parameters()} == {id(p) for p in student.parameters()}
    assert not isinstance(method.teacher, nn.Module)


def test_the_teacher_follows_the_batch_to_its_device(tiny_model, batch):
    frozen = FrozenEncoder(tiny_model())
    assert frozen(batch, {"logits"}).logits.device.type == "cpu"
    elsewhere = {name: value.to("meta") for name, value in batch.items()}
    frozen.encoder.forward = lambda given, needs: frozen.model.get_input_embeddings()(given["input_ids"])
    assert frozen(elsewhere, {"logits"}).device.type == "meta"
    assert {p.device.type for p in frozen.model.parameters()} == {"meta"}
