"""Decoders that start from a larger one's weights: exact where the teacher's stream is as narrow as the student's."""

import copy
import itertools
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MinistralConfig,
    MinistralForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SeedOssConfig,
    SeedOssForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm

from contrastill import UserError
from contrastill.settings import LanguageDistillation
from contrastill.students.inherit_decoder import (
    attended,
    attention_calls,
    choose,
    corrected,
    fit_decoder,
    head_gain,
    key_heads,
)
from contrastill.students.regression import RIDGE, SHRINK
from contrastill.students.sample import sample_rows
from contrastill.training.language_start import start_language_model

sys.path.insert(0, str(Path(__file__).parents[1] / "language"))
from tiny_language import gpt2

MIXED = ["full_attention", "sliding_attention"]
GRANITE = {"embedding_multiplier": 3.0, "residual_multiplier": 0.4, "logits_scaling": 2.0, "attention_multiplier": 0.4}
GEMMA = {"head_dim": 4, "query_pre_attn_scalar": 6, "sliding_window": 4, "layer_types": MIXED}
FAMILIES = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "llama with biases": (LlamaConfig, LlamaForCausalLM, {"attention_bias": True, "mlp_bias": True}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": 4}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 4}),
    "smollm3": (SmolLM3Config, SmolLM3ForCausalLM, {"no_rope_layer_interval": 2}),
    "ministral": (MinistralConfig, MinistralForCausalLM, {"head_dim": 4, "sliding_window": 4, "layer_types": MIXED}),
    "seed_oss": (SeedOssConfig, SeedOssForCausalLM, {"head_dim": 4}),
    "granite": (GraniteConfig, GraniteForCausalLM, GRANITE),
    "gemma": (GemmaConfig, GemmaForCausalLM, {"head_dim": 4}),
    "gemma2": (Gemma2Config, Gemma2ForCausalLM, GEMMA),
    "gemma3": (Gemma3TextConfig, Gemma3ForCausalLM, GEMMA),
}
HEADS_OF_W = ("qwen2", "smollm3", "granite")  # their config knows no other width of a head than W / H
BEHIND = ("post_attention_layernorm", "post_feedforward_layernorm")  # of what Gemma 2 and 3 write into the stream
WORDS = 40


def teacher_of(family="llama", tied=False, rank=16, layers=2, seed=0, words=WORDS):
    """16 wide, 4 heads of 4 and 2 of keys; its stream, and the states behind its norms, fill `rank` dimensions."""
    made, model, more = FAMILIES[family]
    config = made(
        **{
            "vocab_size": words,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 64,
            "initializer_range": 0.4,
            "tie_word_embeddings": tied,
            "bos_token_id": None,
            "eos_token_id": 0,
            "pad_token_id": 0,
        },
        **more,
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        teacher = model(config).eval()
        B = torch.linalg.qr(torch.randn(16, rank)).Q
        for name, weight in teacher.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5)
            elif name.endswith("bias"):
                weight.normal_(0, 0.3)
            if "o_proj" in name or "down_proj" in name:  # their weights (D, F) and biases (D,) alike
                weight.copy_(B @ (B.T @ weight))
        table = teacher.get_input_embeddings().weight
        table.copy_(table @ B @ B.T)
    return teacher


def with_layers(config, layers, **more):
    """A config with more layers."""
    return type(config).from_dict(config.to_dict() | {"num_hidden_layers": layers, **more})


def rows_of(count=40, seed=1, vocabulary=WORDS):
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 12, (count,), generator=draw).tolist()
    words = [torch.randint(1, vocabulary, (n,), generator=draw).tolist() for n in lengths]
    return [{"prompt": ids[:1], "answer": ids[1:]} for ids in words]


def start(teacher, shape, how="inherit", rows=None, pad=0, seed=0):
    settings = LanguageDistillation(teacher="t", data="d", out="o", student=shape, start=how, seed=seed)
    return start_language_model(settings, teacher, rows or rows_of(), pad)


def logits(model):
    with torch.no_grad():
        return torch.cat([model(input_ids=torch.tensor([r["prompt"] + r["answer"]])).logits[0] for r in rows_of(20, 2)])


def far(student, teacher):
    """Mean KL of the teacher from the student, in nats a token."""
    ours, theirs = logits(student).log_softmax(-1), logits(teacher).log_softmax(-1)
    return float((theirs.exp() * (theirs - ours)).sum(-1).mean())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_at_the_teachers_own_shape_it_is_the_teacher(family, tied):
    teacher = teacher_of(family, tied)
    student = start(teacher, "2/16/4/24")
    torch.testing.assert_close(logits(student), logits(teacher), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits(start(teacher, "2L")), logits(teacher), rtol=1e-4, atol=1e-4)


def test_a_table_of_fewer_words_than_numbers_is_no_hindrance():
    """Its words leave directions of the stream open, so that no states are the nearest to given logits."""
    teacher = teacher_of(tied=True, words=9)
    rows = rows_of(vocabulary=9)
    with torch.no_grad():
        for student in (start(teacher, "2/16/4/24", rows=rows), start(teacher, "2L", rows=rows)):
            ids = torch.tensor([rows[0]["prompt"] + rows[0]["answer"]])
            torch.testing.assert_close(student(input_ids=ids).logits, teacher(input_ids=ids).logits)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in HEADS_OF_W])
def test_where_the_stream_is_as_narrow_as_the_student_nothing_is_lost(family, tied):
    teacher = teacher_of(family, tied, rank=8)
    if family in ("gemma2", "gemma3"):  # an uneven gain would turn what they write out of that space
        for name, weight in teacher.named_parameters():
            if any(norm in name for norm in BEHIND):
                weight.data.fill_(weight.data.mean())
    student = start(teacher, "2/8/4/24")
    assert (student.config.hidden_size, student.config.head_dim) == (8, 4)
    torch.testing.assert_close(logits(student), logits(teacher), rtol=1e-3, atol=1e-3)
    assert (student.get_output_embeddings().weight is student.get_input_embeddings().weight) == tied


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shape", ["2/8/4/24", "2/8/2/16", "1/8/4/24"])
def test_a_smaller_student_is_nearer_the_teacher_than_random_weights(shape, tied):
    teacher = teacher_of(tied=tied, rank=10, seed=3)
    assert far(start(teacher, shape), teacher) < 0.7 * far(start(teacher, shape, "random"), teacher)


@pytest.mark.parametrize("how", ["copy", "inherit", "random"])
def test_layers_stay_of_their_kind(how):
    """Which see the whole text and which have no rotary positions goes with a layer, not with its place."""
    kinds = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
    teacher = MinistralForCausalLM(with_layers(teacher_of("ministral").config, 4, layer_types=kinds))
    assert start(teacher, "2L", how).config.layer_types == [kinds[1], kinds[3]]
    smol = teacher_of("smollm3", layers=4)
    assert smol.config.no_rope_layers == [1, 0, 1, 0]
    student = start(smol, "2L", how)
    assert [layer.self_attn.use_rope for layer in student.model.layers] == [0, 0]
    again = type(student)(type(student.config).from_dict(student.config.to_dict()))
    assert again.config.no_rope_layers == [0, 0]


def test_copied_layers_of_two_kinds_do_what_they_did():
    """Two layers of four, the others having no effect: nothing is lost."""
    kinds = ["full_attention", "sliding_attention", "full_attention", "full_attention"]
    teacher = MinistralForCausalLM(with_layers(teacher_of("ministral").config, 4, layer_types=kinds)).eval()
    with torch.no_grad():
        for layer in (teacher.model.layers[0], teacher.model.layers[2]):
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    torch.testing.assert_close(logits(start(teacher, "2L", "copy")), logits(teacher), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("shape", "keys"), [("2/24/6/24", 3), ("2/12/3/24", 1), ("1/8/1/24", 1)])
def test_random_weights_share_keys_as_the_teacher_does(shape, keys):
    student = start(teacher_of(), shape, "random")
    assert student.config.num_key_value_heads == keys
    assert logits(student).isfinite().all()


@pytest.mark.parametrize("shape", ["2/16/3/24", "2/15/5/24"])
def test_a_shape_whose_heads_cannot_be_turned_is_refused_before_training(shape):
    with pytest.raises(UserError, match=f"a llama of the shape {shape} cannot be built"):
        start(teacher_of(), shape, "random")


def test_layers_are_nearer_where_they_are_corrected():
    teacher = teacher_of(layers=4, seed=4)
    assert far(start(teacher, "2L"), teacher) < 0.8 * far(start(teacher, "2L", "copy"), teacher)


def test_padding_changes_nothing():
    teacher = teacher_of()
    one, other = (start(teacher, "1/8/2/16", pad=pad) for pad in (0, 7))
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_attention_reads_each_text_by_itself():
    model = teacher_of("mistral")
    sample = sample_rows(rows_of(), 0, 0)
    stream = torch.randn(sum(int(mask.sum()) for _, mask in sample), 16)
    with torch.no_grad():
        layer = model.model.layers[1].self_attn
        got = layer.o_proj(attended(layer, stream, attention_calls(model.model, sample)[1], sample))
        slow, place = [], 0
        for _, mask in sample:
            for length in mask.sum(1).tolist():
                ids = torch.ones(1, length, dtype=torch.long)
                call = attention_calls(model.model, [(ids, ids)])[1][0]
                slow.append(layer(hidden_states=stream[None, place : place + length], **call)[0][0])
                place += length
    torch.testing.assert_close(got, torch.cat(slow), rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_random_state(monkeypatch):
    monkeypatch.setattr("contrastill.students.sample.SAMPLE_TOKENS", 150)
    teacher = teacher_of()
    before = torch.get_rng_state()
    one, two, other = (start(teacher, "1/8/2/16", seed=seed) for seed in (0, 0, 1))
    assert torch.get_rng_state().equal(before)
    assert all(a.equal(b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(a.equal(b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_corrected_outputs_are_the_ridge_solution_of_tokens_at_one_length():
    torch.manual_seed(0)
    linear, features, stream = torch.nn.Linear(5, 3, bias=False), torch.randn(30, 5), torch.randn(30, 3)
    goal = torch.randn(30, 3) * torch.logspace(0, 3, 30)[:, None]
    rows, gaps = [], []
    with torch.no_grad():
        for f, u, wanted in zip(features, stream, goal, strict=True):
            rows.append(f / wanted.norm())
            gaps.append((wanted - u - linear(f)) / wanted.norm())
        ridge = SHRINK * torch.stack(rows).square().sum() / 5
        penalised = torch.cat([torch.stack(rows), ridge.sqrt() * torch.eye(5)])  # five more rows, whose gap is 0
        change = torch.linalg.lstsq(penalised, torch.cat([torch.stack(gaps), torch.zeros(5, 3)])).solution
        wanted = linear.weight + change.T
        got = corrected(linear, features, stream, goal)
    torch.testing.assert_close(linear.weight, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got, stream + features @ wanted.T, rtol=1e-4, atol=1e-5)


def test_behind_a_norm_the_output_is_corrected_at_its_length_and_the_gain_is_the_nearest():
    torch.manual_seed(0)
    linear, norm = torch.nn.Linear(5, 3, bias=False), Gemma3RMSNorm(3)
    features, stream, goal = torch.randn(30, 5), torch.randn(30, 3), torch.randn(30, 3)

    def nearest(written):
        """Coordinate by coordinate, of tokens at one length of the goal."""
        found = []
        for place in range(3):
            x = [float(row[place] / row.square().mean().sqrt() / goal[n].norm()) for n, row in enumerate(written)]
            y = [float((goal[n, place] - stream[n, place]) / 0.5 / goal[n].norm()) for n in range(30)]
            found.append(sum(a * b for a, b in zip(x, y, strict=True)) / sum(a * a for a in x))
        return torch.tensor(found)

    with torch.no_grad():
        gain = nearest(linear(features))
        rows, gaps = [], []
        for f, u, wanted in zip(features, stream, goal, strict=True):
            length = linear(f).square().mean().sqrt()
            missing = (wanted - u) / 0.5 - gain * linear(f) / length
            rows.append(f / length / wanted.norm())
            gaps.append(missing * gain / (gain**2 + 0.01 * (gain**2).mean()) / wanted.norm())
        ridge = SHRINK * torch.stack(rows).square().sum() / 5
        penalised = torch.cat([torch.stack(rows), ridge.sqrt() * torch.eye(5)])
        change = torch.linalg.lstsq(penalised, torch.cat([torch.stack(gaps), torch.zeros(5, 3)])).solution
        expected = linear.weight + change.T
        got = corrected(linear, features, stream, goal, norm, 0.5)
        torch.testing.assert_close(linear.weight, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(1 + norm.weight, nearest(features @ expected.T), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(got, stream + 0.5 * norm(features @ expected.T), rtol=1e-4, atol=1e-5)


def test_the_gain_of_a_tied_head_is_the_ridge_solution_over_all_logits():
    torch.manual_seed(0)
    x, small, states, words, prior = (torch.randn(shape) for shape in ((7, 4), (9, 4), (7, 6), (9, 6), (4,)))
    design = (x[:, None] * small).reshape(-1, 4)  # a row for each token and word
    ridge = RIDGE * design.square().sum() / 4
    wanted = torch.cat([(states @ words.T).flatten(), ridge.sqrt() * prior])
    slow = torch.linalg.lstsq(torch.cat([design, ridge.sqrt() * torch.eye(4)]), wanted[:, None]).solution[:, 0]
    torch.testing.assert_close(head_gain(x, small, states, words, prior), slow, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("row", [{"prompt": [3], "answer": [0]}, {"prompt": [3, 4, 5], "answer": [6, 0]}])
def test_one_row_is_enough(row):
    teacher = teacher_of(tied=True)
    assert logits(start(teacher, "1/8/2/16", rows=[row])).isfinite().all()
    torch.testing.assert_close(logits(start(teacher, "2L", rows=[row])), logits(teacher), rtol=1e-3, atol=1e-3)


def test_the_teacher_is_left_as_it_was():
    teacher = teacher_of()
    before = copy.deepcopy(teacher.state_dict())
    start(teacher, "1/8/2/16")
    assert all(before[name].equal(value) for name, value in teacher.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in teacher.modules())


@pytest.mark.parametrize(
    ("groups", "kept_groups", "kept_heads"), [(3, 3, 6), (3, 2, 4), (3, 1, 3), (1, 1, 2), (9, 4, 4)]
)
def test_chosen_heads_are_the_strongest_with_their_keys(groups, kept_groups, kept_heads):
    power = torch.rand(9, generator=torch.Generator().manual_seed(groups + kept_heads))
    size, wanted = 9 // groups, kept_heads // kept_groups

    def best_of(group):
        return max(
            itertools.combinations(range(group * size, (group + 1) * size), wanted), key=lambda h: power[[*h]].sum()
        )

    best = max(
        itertools.combinations(range(groups), kept_groups),
        key=lambda chosen: sum(float(power[[*best_of(group)]].sum()) for group in chosen),
    )
    found, heads = choose(power, groups, kept_groups, kept_heads)
    assert found.tolist() == list(best)
    assert heads.tolist() == [h for group in best for h in best_of(group)]


def test_keys_are_as_many_as_query_heads_can_share():
    config = LlamaConfig(hidden_size=36, num_attention_heads=9, num_key_value_heads=3)
    assert [key_heads(config, n) for n in range(1, 10)] == [1, 2, 3, 2, 0, 3, 0, 0, 3]


@pytest.mark.parametrize(
    ("teacher", "shape", "said"),
    [
        (gpt2(), "1L", "llama, mistral, .*got a gpt2.*--start random"),
        (gpt2(), "1/8/2/16", "got a gpt2"),
        (teacher_of(), "2/32/4/24", "hidden_size of at most 16"),
        (teacher_of(), "2/8/2/32", "intermediate_size of at most 24"),
        (teacher_of(), "2/8/8/16", "num_attention_heads of at most 4"),
        (teacher_of(), "2/8/3/16", "1, 2, 4 heads.*got 3"),
        (teacher_of("qwen2"), "2/8/4/16", "heads of 4 numbers.*2 heads, got 4"),
    ],
)
def test_what_cannot_be_inherited_is_refused(teacher, shape, said):
    with pytest.raises(UserError, match=said):
        start(teacher, shape)


def test_a_config_keeps_the_width_of_its_heads():
    teacher = teacher_of("qwen3").config
    config = copy.deepcopy(teacher)
    config.hidden_size, config.num_attention_heads = 12, 2
    fit_decoder(config, teacher, "2/12/2/24")
    assert (config.head_dim, config.num_key_value_heads) == (4, 2)
