"""Text of language models, against one row at a time, one token at a time, without a cache."""

import functools
import math

import pytest
import torch
from torch import nn
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from contrastill.errors import UserError
from contrastill.sampling import Decoding, interleave, sample, uniform
from contrastill.sampling import text as sampling_text
from contrastill.sampling.cache import Reader

V, P, R = 30, 5, 7
LENGTHS = [3, 5, 1, 4]
ENDS, PAD, K = (0, 7, 11, 22), 29, 10
SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "initializer_range": 0.5,
}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.5, "n_positions": P + R - 1}
WINDOW = {"sliding_window": 4, "head_dim": 8}
FAMILIES = {
    "llama": (LlamaForCausalLM, LlamaConfig, SIZES),
    "gpt2": (GPT2LMHeadModel, GPT2Config, GPT2),  # as many positions as the longest text is read by
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, SIZES),
    "mistral": (MistralForCausalLM, MistralConfig, SIZES | WINDOW),  # a window that the texts outgrow
    "gemma3": (
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        SIZES | WINDOW | {"layer_types": ["sliding_attention", "full_attention"]},
    ),
}
PLAIN = Decoding(), Decoding()
families = pytest.mark.parametrize("family", FAMILIES)


@functools.cache
def model_of(family, seed, vocabulary=V):
    torch.manual_seed(seed)
    cls, config, sizes = FAMILIES[family]
    return cls(config(vocab_size=vocabulary, **sizes)).eval()


def prompts(lengths=LENGTHS, width=P):
    make = torch.Generator().manual_seed(3)
    prompt, mask = torch.full((len(lengths), width), PAD), torch.zeros(len(lengths), width, dtype=torch.long)
    for row, length in enumerate(lengths):
        prompt[row, width - length :] = torch.randint(8, V - 1, (length,), generator=make)
        mask[row, width - length :] = 1
    return prompt, mask


PROMPT, MASK = prompts()
U = torch.stack([uniform(0, 0, torch.arange(len(LENGTHS)), R, stream) for stream in (0, 1)])


@torch.no_grad()
def slow(family, top_k, decodings=PLAIN, u=U, ends=ENDS, vocabularies=(V, V)):
    """Rows of (the answer's tokens, how many the student drafted)."""
    student, teacher = (model_of(family, seed, size) for seed, size in zip((1, 2), vocabularies, strict=True))
    rows = []
    for row, length in enumerate(LENGTHS):
        ids, answer, accepted = PROMPT[row, P - length :].tolist(), [], 0
        for place in range(u.shape[2]):
            s, t = (model(torch.tensor([ids])).logits[0, -1, : min(vocabularies)] for model in (student, teacher))
            token = slow_choice(s, float(u[0, row, place]), decodings[0])
            if sum(x > t[token] for x in t.tolist()) < top_k:
                accepted += 1
            else:
                token = slow_choice(t, float(u[1, row, place]), decodings[1])
            ids.append(token)
            answer.append(token)
            if token in ends:
                break
        rows.append((answer, accepted))
    return rows


def slow_choice(logits, u, decoding):
    logits = logits.tolist()
    if decoding.temperature == 0:
        return max(range(len(logits)), key=lambda i: (logits[i], -i))
    highest = max(logits)
    powers = [math.exp((x - highest) / decoding.temperature) for x in logits]
    chances = {i: x / sum(powers) for i, x in enumerate(powers)}
    kept, mass = [], 0.0
    for i in sorted(chances, key=lambda i: (-chances[i], i)):
        if decoding.top_p == 1 or mass < decoding.top_p:
            kept.append(i)
            mass += chances[i]
    total = 0.0
    for i in sorted(kept):
        total += chances[i]
        if total > u * mass:
            return i
    raise AssertionError


slow_plain = functools.cache(slow)


def interleaved(family, top_k, draft, decodings=PLAIN, u=U, ends=ENDS, vocabularies=(V, V), prompt=PROMPT, mask=MASK):
    student, teacher = (model_of(family, seed, size) for seed, size in zip((1, 2), vocabularies, strict=True))
    return interleave(student, teacher, prompt, mask, u, ends, PAD, top_k, draft, decodings)


def answers(text):
    """Rows of tokens, after a check of what stands behind them."""
    lengths = text.mask.sum(1)
    assert text.mask.equal(torch.arange(text.mask.shape[1]) < lengths.unsqueeze(1))
    assert (text.ids[~text.mask] == PAD).all()
    return [row[:length].tolist() for row, length in zip(text.ids, lengths.tolist(), strict=True)]


# ---- interleave ----------------------------------------------------------------------------------------------------


@families
@pytest.mark.parametrize("top_k", [0, K, V])
@pytest.mark.parametrize("draft", [1, 2, 4, 20])
def test_the_text_is_that_of_one_token_at_a_time_for_every_draft_length(family, top_k, draft):
    text, expected = interleaved(family, top_k, draft), slow_plain(family, top_k)
    assert answers(text) == [answer for answer, _ in expected]
    assert text.accepted.tolist() == [accepted for _, accepted in expected]
    assert (text.drafted >= text.mask.sum(1)).all()


def test_the_cases_hold_ends_refusals_and_answers_that_fill_their_places():
    rows = [row for family in FAMILIES for row in slow_plain(family, K)]
    assert {answer[-1] for answer, _ in rows} >= set(ENDS)
    assert {len(answer) for answer, _ in rows} >= {1, R}
    assert sum(0 < accepted < len(answer) for answer, accepted in rows) > 5


@families
def test_of_every_token_kept_it_is_the_students_own_text_and_of_none_the_teachers(family):
    for top_k, seed, stream in ((V, 1, 0), (0, 2, 1)):
        alone = sample(model_of(family, seed), PROMPT, MASK, U[stream], ENDS, PAD, Decoding())
        text = interleaved(family, top_k, 3)
        assert text.ids.equal(alone.ids)
        assert text.mask.equal(alone.mask)
        assert alone.accepted.tolist() == alone.drafted.tolist() == [0] * len(LENGTHS)
        assert text.accepted.tolist() == (text.mask.sum(1) * bool(top_k)).tolist()


@pytest.mark.parametrize(
    "decodings",
    [
        (Decoding(0.5, 0.5), Decoding(0.2, 0.5)),  # the paper's
        (Decoding(1.5, 0.9), Decoding(0)),
        (Decoding(0), Decoding(2.0)),
    ],
    ids=str,
)
def test_each_model_draws_by_its_own_decoding(decodings):
    expected = slow("llama", K, decodings)
    assert answers(interleaved("llama", K, 4, decodings)) == [answer for answer, _ in expected]
    assert expected != slow_plain("llama", K)


@pytest.mark.parametrize("vocabularies", [(V, V + 6), (V + 6, V)])
@pytest.mark.parametrize("top_k", [0, K, V])
def test_heads_of_two_sizes_draw_from_the_smaller_vocabulary(vocabularies, top_k):
    text = interleaved("llama", top_k, 3, vocabularies=vocabularies)
    assert answers(text) == [answer for answer, _ in slow("llama", top_k, vocabularies=vocabularies)]
    if top_k in (0, V):
        alone = model_of("llama", 1 if top_k else 2, vocabularies[0 if top_k else 1])
        own = sample(alone, PROMPT, MASK, U[0 if top_k else 1], ENDS, PAD, Decoding(), vocabulary=V)
        assert own.ids.equal(text.ids)


@pytest.mark.parametrize("draft", [1, 4])
def test_the_order_of_rows_and_the_width_of_padding_change_nothing(draft):
    expected, order = interleaved("llama", K, draft), torch.tensor([2, 0, 3, 1])
    prompt, mask = prompts(width=P + 4)
    text = interleaved("llama", K, draft, u=U[:, order], prompt=prompt[order], mask=mask[order].bool())
    for name in ("ids", "mask", "accepted"):
        assert getattr(text, name).equal(getattr(expected, name)[order])
    one = interleaved("llama", K, draft, u=U[:, 2:3], prompt=PROMPT[2:3, -1:], mask=MASK[2:3, -1:])
    assert one.ids.equal(expected.ids[2:3])


def test_a_single_place_is_answered():
    text = interleaved("llama", K, 4, u=U[..., :1])
    assert answers(text) == [answer[:1] for answer, _ in slow_plain("llama", K)]
    assert text.drafted.tolist() == [1] * len(LENGTHS)


@pytest.mark.parametrize("ends", [(), {5}, {1, 2, 3, 4, 5, 6}])
def test_any_number_of_tokens_may_end_an_answer(ends):
    rows = [answer for answer, _ in slow("llama", K, ends=ends)]
    assert answers(interleaved("llama", K, 3, ends=ends)) == rows
    assert not ends or any(len(row) < R for row in rows)


@pytest.mark.parametrize("places", [0, R])
def test_no_rows_or_no_places_give_an_empty_text(places):
    rows = len(LENGTHS) if not places else 0
    text = interleaved("llama", K, 2, u=U[:, :rows, :places], prompt=PROMPT[:rows], mask=MASK[:rows])
    alone = sample(model_of("llama", 1), PROMPT[:rows], MASK[:rows], U[0, :rows, :places], ENDS, PAD, Decoding())
    assert text.ids.shape == alone.ids.shape == text.mask.shape == (rows, places)


def test_the_caches_never_grow_past_the_longest_text_and_one_draft(monkeypatch):
    widths, read = [], Reader.read
    monkeypatch.setattr(
        Reader, "read", lambda self, t, seen, last: (widths.append(seen.shape), read(self, t, seen, last))[1]
    )
    text = interleaved("llama", 1, 4, ends=())
    assert text.drafted.sum() > 2 * R * len(LENGTHS)  # most drafts are refused
    assert max(width for _, width in widths) <= P + R + 3


def test_ended_rows_are_dropped(monkeypatch):
    rows, read = [], Reader.read
    monkeypatch.setattr(
        Reader, "read", lambda self, t, seen, last: (rows.append(len(seen)), read(self, t, seen, last))[1]
    )
    text = sample(model_of("qwen2", 1), PROMPT, MASK, U[0], ENDS, PAD, Decoding())
    assert rows == [count for count in text.mask.sum(0).tolist() if count]
    assert rows[-1] < len(LENGTHS)


def test_modes_are_restored_and_no_graph_is_kept():
    student, teacher = (LlamaForCausalLM(LlamaConfig(vocab_size=V, attention_dropout=0.9, **SIZES)) for _ in range(2))
    student.train()
    student.model.layers[0].eval()
    teacher.eval()
    modes = [module.training for module in (*student.modules(), *teacher.modules())]
    first, second = (interleave(student, teacher, PROMPT, MASK, U, ENDS, PAD, K, 2, PLAIN) for _ in range(2))
    assert first.ids.equal(second.ids)  # no dropout
    assert modes == [module.training for module in (*student.modules(), *teacher.modules())]
    assert not first.ids.requires_grad
    with pytest.raises(RuntimeError, match="stop"), sampling_text.evaluated(student):
        raise RuntimeError("stop")
    assert modes == [module.training for module in (*student.modules(), *teacher.modules())]


def test_everything_is_made_on_the_device_of_what_is_given():
    with torch.device("meta"):  # where a tensor of no stated device would have no values
        text = interleaved("llama", K, 3, (Decoding(top_p=0.9), Decoding()))
        numbers = uniform(0, 0, torch.arange(len(LENGTHS), device="cpu"), R)
        alone = sample(model_of("llama", 1), PROMPT, MASK, numbers, ENDS, PAD, Decoding())
    assert text.ids.equal(interleaved("llama", K, 3, (Decoding(top_p=0.9), Decoding())).ids)
    assert alone.ids.equal(interleaved("llama", V, 3).ids)


def test_half_precision_models_give_whole_answers():
    student, teacher = (model_of("llama", seed).to(torch.bfloat16) for seed in (11, 12))
    text = interleave(student, teacher, PROMPT, MASK, U, ENDS, PAD, K, 3, PLAIN)
    assert all(0 < len(answer) <= R for answer in answers(text))


@pytest.mark.parametrize(("top_k", "draft"), [(-1, 2), (3, 0)])
def test_a_number_below_its_least_is_refused(top_k, draft):
    with pytest.raises(UserError, match="top_k of at least 0 and draft of at least 1"):
        interleaved("llama", top_k, draft)


def test_empty_prompts_and_padding_on_the_right_are_refused():
    empty = MASK.clone()
    empty[1] = 0
    with pytest.raises(UserError, match="at least one token in each prompt, got none in rows 1"):
        interleaved("llama", K, 2, mask=empty)
    with pytest.raises(UserError, match="padded on the left"):
        interleaved("llama", K, 2, prompt=PROMPT.flip(1), mask=MASK.flip(1))
    with pytest.raises(ValueError, match="expected prompts"):
        interleaved("llama", K, 2, u=U[:, :2])


def test_a_model_without_a_cache_of_all_tokens_is_refused():
    class Forgetful(nn.Module):
        def forward(self, input_ids, **inputs):
            return model_of("llama", 1)(input_ids=input_ids)

    with pytest.raises(UserError, match="got Forgetful"):
        sample(Forgetful(), PROMPT, MASK, U[0], ENDS, PAD, Decoding())


# ---- choice --------------------------------------------------------------------------------------------------------

LOGITS = 2 * torch.randn(200, V, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("top_p", [0.01, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 5.0])
def test_a_token_is_chosen_as_by_the_slow_twin(temperature, top_p):
    decoding, u = Decoding(temperature, top_p), uniform(0, 0, torch.arange(200), 1)[:, 0]
    expected = [slow_choice(logits, float(x), decoding) for logits, x in zip(LOGITS, u, strict=True)]
    assert decoding.choose(LOGITS, u).tolist() == expected


def test_tokens_come_as_often_as_they_are_likely():
    logits, u = torch.tensor([0.5, 0.25, 0.0, 0.25]).log(), uniform(3, 0, torch.arange(4000), 1)[:, 0]
    shares = Decoding().choose(logits.expand(4000, 4), u).bincount(minlength=4) / 4000
    torch.testing.assert_close(shares, logits.exp(), rtol=0, atol=0.03)
    assert shares[2] == 0


def test_the_nucleus_cuts_ties_by_id_and_keeps_at_least_one_token():
    logits, u = torch.zeros(1, 4), torch.tensor([0.999])
    assert Decoding(top_p=0.5).choose(logits, u).tolist() == [1]
    assert Decoding(top_p=0.51).choose(logits, u).tolist() == [2]
    assert Decoding(top_p=1e-9).choose(logits, u).tolist() == [0]
    assert Decoding(0).choose(logits, u).tolist() == [0]


def test_ties_of_a_large_vocabulary_are_cut_by_id():
    logits = torch.zeros(1, 4096)
    assert Decoding(top_p=0.5).choose(logits, torch.tensor([1 - 2**-24])).tolist() == [2047]


def test_the_ends_of_the_range_choose_tokens_of_some_mass():
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]])
    for top_p in (0.9, 1.0):
        for u, token in ((0.0, 1), (1 - 2**-24, 2)):
            assert Decoding(top_p=top_p).choose(logits, torch.tensor([u])).tolist() == [token]
            assert Decoding(top_p=top_p).choose(logits.bfloat16(), torch.tensor([u])).tolist() == [token]


def test_without_a_nucleus_nothing_is_sorted(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "sort", None)
    Decoding().choose(LOGITS, torch.zeros(200))
    with pytest.raises(TypeError):
        Decoding(top_p=0.5).choose(LOGITS, torch.zeros(200))


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"temperature": math.inf}, {"temperature": math.nan}])
def test_a_temperature_outside_its_range_is_refused(wrong):
    with pytest.raises(UserError, match="temperature of at least 0"):
        Decoding(**wrong)


@pytest.mark.parametrize("top_p", [0, 1.1, math.nan])
def test_a_top_p_outside_its_range_is_refused(top_p):
    with pytest.raises(UserError, match="top_p above 0 and at most 1"):
        Decoding(top_p=top_p)


# ---- uniform numbers -----------------------------------------------------------------------------------------------

MASK64 = 2**64 - 1


def slow_uniform(seed, step, key, place, stream):
    state = 0
    for part in (seed, step, stream, key, place):
        state = (state ^ (part & MASK64)) + 0x9E3779B97F4A7C15 & MASK64
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & MASK64
        state = (state ^ state >> 27) * 0x94D049BB133111EB & MASK64
        state ^= state >> 31
    return (state >> 40) / 2**24


@pytest.mark.parametrize(
    ("seed", "step", "stream"), [(0, 0, 0), (1, 0, 0), (0, 7, 1), (-3, 2**40, 2), (2**63 - 1, 1, 0)]
)
def test_uniform_numbers_are_the_hash_of_whole_numbers(seed, step, stream):
    keys = torch.tensor([0, 1, -5, 2**62])
    numbers = uniform(seed, step, keys, 3, stream)
    assert numbers.dtype == torch.float32
    assert numbers.tolist() == [[slow_uniform(seed, step, key, n, stream) for n in range(3)] for key in keys.tolist()]


def test_uniform_numbers_depend_on_key_and_place_alone():
    whole, order = uniform(1, 2, torch.arange(50), 20), torch.tensor([7, 3, 7, 49])
    assert uniform(1, 2, order, 5).equal(whole[order, :5])
    assert uniform(1, 2, order[:0], 5).shape == (0, 5)
    assert uniform(1, 2, order, 0).shape == (4, 0)


def test_uniform_numbers_are_uniform():
    numbers = uniform(5, 0, torch.arange(500), 200).flatten()
    count = len(numbers)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 4 / math.sqrt(12 * count)
    gaps = numbers.double().sort().values - (torch.arange(count) + 0.5) / count
    assert gaps.abs().max() < 1.95 / math.sqrt(count)  # Kolmogorov-Smirnov, at 1 in 1,000


def test_neighbouring_numbers_do_not_correlate():
    keys = torch.arange(300)
    base = uniform(5, 0, keys, 101)
    others = {
        "place": base[:, 1:],
        "key": uniform(5, 0, keys + 1, 100),
        "step": uniform(5, 1, keys, 100),
        "seed": uniform(6, 0, keys, 100),
        "stream": uniform(5, 0, keys, 100, stream=1),
        "swapped": uniform(0, 5, keys, 100),
    }
    for name, other in others.items():
        pair = torch.stack([base[:, :100].flatten(), other.flatten()])
        assert abs(pair.corrcoef()[0, 1]) < 4 / math.sqrt(pair.shape[1]), name
