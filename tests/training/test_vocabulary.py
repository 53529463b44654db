"""Training without the words that do not occur: the same losses, and every other row untouched."""

import copy

import numpy as np
import pytest
import torch

from contrastill.training.vocabulary import OccurringWords, only_occurring_words


def trained(model, batches, used, steps=3):
    """Losses of some Adam steps, with the table cut down to `used` (None: whole)."""
    losses = []
    with only_occurring_words(model, used if used is not None else np.arange(10**6)):
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
        model.train()
        for batch in batches * steps:
            loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            losses.append(loss.item())
    return losses


@pytest.fixture
def batches(tiny_batch):
    keep = ("input_ids", "attention_mask", "labels")
    return [{k: v for k, v in tiny_batch(seed=seed, rows=2).items() if k in keep} for seed in range(2)]


def words(batches):
    return np.unique(torch.cat([batch["input_ids"].flatten() for batch in batches]).numpy())


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_losses_and_weights_are_those_of_the_whole_table(family, tiny_model, batches):
    whole = tiny_model(family)
    part = copy.deepcopy(whole)
    before = whole.get_input_embeddings().weight.detach().clone()
    used = words(batches)
    assert len(used) < 0.7 * len(before)  # or the table would not be cut
    assert trained(part, batches, used) == pytest.approx(trained(whole, batches, None), rel=1e-5)
    assert type(part.get_input_embeddings()) is torch.nn.Embedding
    for (name, a), b in zip(part.named_parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=name)
    rare = np.setdiff1d(np.arange(len(before)), used)
    assert torch.equal(part.get_input_embeddings().weight[rare], before[rare])
    assert not torch.equal(part.get_input_embeddings().weight[used], before[used])


def test_while_training_the_table_is_small_and_in_eval_mode_every_word_is_found(tiny_model, batches):
    model = tiny_model()
    used, rows = words(batches), model.config.vocab_size
    unseen = torch.tensor([np.setdiff1d(np.arange(rows), used)[:3].tolist()])
    expected = model.eval()(unseen).logits
    with only_occurring_words(model, used):
        part = model.get_input_embeddings()
        assert isinstance(part, OccurringWords)
        assert len(part.weight) <= len(used) + 1
        torch.testing.assert_close(model.eval()(unseen).logits, expected)
        with torch.no_grad():
            part.weight += 1  # an optimiser step
        changed = model(batches[0]["input_ids"]).logits
        with pytest.raises(IndexError):
            model.train()(unseen)
    torch.testing.assert_close(model.eval()(batches[0]["input_ids"]).logits, changed)


def test_checkpoints_hold_the_small_table_alone_and_load_again(tiny_model, batches):
    model = tiny_model()
    name = next(n for n, p in model.named_parameters() if p is model.get_input_embeddings().weight)
    with only_occurring_words(model, words(batches)):
        state = {key: value.clone() for key, value in model.state_dict().items()}
        assert len(state[name]) <= len(words(batches)) + 1
        assert not any("whole" in key or "place" in key for key in state)
        with torch.no_grad():
            model.get_input_embeddings().weight.zero_()
        model.load_state_dict(state)
        assert torch.equal(model.get_input_embeddings().weight, state[name])
    assert len(model.state_dict()[name]) == model.config.vocab_size


def test_nothing_happens_where_most_words_occur(tiny_model):
    model = tiny_model()
    table = model.get_input_embeddings()
    with only_occurring_words(model, np.arange(model.config.vocab_size)):
        assert model.get_input_embeddings() is table


def test_an_interruption_leaves_the_table_whole(tiny_model):
    model = tiny_model()
    table = model.get_input_embeddings()

    def interrupted():
        with only_occurring_words(model, np.arange(4)):
            assert model.get_input_embeddings() is not table
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert model.get_input_embeddings() is table
    assert len(table.weight) == model.config.vocab_size
