"""A language model as the logits of its answers: each row by itself is the twin."""

import copy

import pytest
import torch
from batches import batch_of
from tiny_language import gpt2, llama
from torch.nn.functional import cross_entropy

from contrastill.language import CausalLM, answer_tokens, token_slices
from contrastill.teachers import FrozenLM

ROWS = [([1, 10, 2, 11], [3, 12]), ([11], [5, 6, 7, 12]), ([9, 9, 10, 0, 1, 11], [12])]


@pytest.mark.parametrize("make", [llama, gpt2])
def test_the_logits_are_those_of_each_row_by_itself(make):
    model = make(spread=0.5)
    got = CausalLM(model)(batch_of(ROWS))
    slow = []
    for prompt, answer in ROWS:
        whole = model(input_ids=torch.tensor([prompt + answer])).logits[0]
        slow.append(whole[len(prompt) - 1 : -1])  # the first answer token is predicted from the prompt's last
    torch.testing.assert_close(got, torch.cat(slow), rtol=1e-4, atol=1e-5)


def test_the_targets_stand_in_the_order_of_the_logits():
    assert answer_tokens(batch_of(ROWS)).tolist() == [3, 12, 5, 6, 7, 12, 12]


def test_padding_is_told_by_place_though_it_has_the_id_of_the_end():
    batch = batch_of(ROWS, pad=12)
    assert batch["answer"][0].tolist() == [3, 12, 12, 12]
    assert batch["answer_mask"][0].tolist() == [True, True, False, False]
    other = batch_of(ROWS, pad=0)
    model = CausalLM(llama(spread=0.5))
    torch.testing.assert_close(model(batch), model(other))


def test_the_gradient_is_that_of_whole_logits():
    model = llama(spread=0.5)
    twin = copy.deepcopy(model)
    batch = batch_of(ROWS)
    cross_entropy(CausalLM(model)(batch), answer_tokens(batch)).backward()
    losses = [
        cross_entropy(
            twin(input_ids=torch.tensor([p + a])).logits[0, len(p) - 1 : -1], torch.tensor(a), reduction="none"
        )
        for p, a in ROWS
    ]
    torch.cat(losses).mean().backward()
    for (name, ours), (_, theirs) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_the_head_is_the_models_own_and_saved_once():
    lm = CausalLM(llama())
    names = list(dict(lm.named_parameters()))
    assert len(names) == len(set(names)) == len(dict(lm.model.named_parameters()))
    assert "model.lm_head.weight" in lm.state_dict()
    again = copy.deepcopy(lm)
    with torch.no_grad():
        again.model.lm_head.weight.zero_()
    states = torch.randn(3, 16)
    assert again.head(states).abs().max() == 0
    assert lm.head(states).abs().max() > 0


@pytest.mark.parametrize(("tokens", "vocabulary"), [(0, 10), (1, 10), (7, 2**24), (5, 2**26)])
def test_slices_cover_every_token_once(tokens, vocabulary):
    parts = token_slices(tokens, vocabulary)
    assert [n for part in parts for n in range(tokens)[part]] == list(range(tokens))
    assert len(parts) >= 1
    assert all((part.stop - part.start) * vocabulary <= max(2**25, vocabulary) for part in parts)


def test_a_teacher_gives_the_same_logits_without_a_gradient():
    model = llama(spread=0.5)
    wanted = CausalLM(model)(batch_of(ROWS)).detach()
    teacher = FrozenLM(model.train())
    part = teacher.tokens(batch_of(ROWS))
    torch.testing.assert_close(torch.cat([part(slice(0, 3)), part(slice(3, 9))]), wanted)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
