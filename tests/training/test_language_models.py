"""Architectures of language models: those that answer alike in every way of a run, and those that are refused."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from contrastill import UserError, distill
from contrastill.language import CausalLM
from contrastill.training.language_models import check_exact

sys.path.insert(0, str(Path(__file__).parents[1] / "language"))
from tiny_language import problems, save, write

SIZES = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 4, "vocab_size": 13, "max_position_embeddings": 64,
    "bos_token_id": 12, "eos_token_id": 12, "pad_token_id": 12, "initializer_range": 0.3,
}  # fmt: skip
OLD = {"n_embd": 16, "n_layer": 4, "n_head": 4, "d_model": 16, "n_layers": 4, "n_heads": 4, "max_seq_len": 64}
NEO = {"num_layers": 4, "num_heads": 4, "attention_types": [[["global", "local"], 2]], "window_size": 8}
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
KNOWN: dict[str, dict[str, Any]] = {
    "gemma2": {"sliding_window": 4},
    "gemma3_text": {"sliding_window": 4},
    "smollm3": {},
    "phi3": {},
    "granite": {"logits_scaling": 3.0, "residual_multiplier": 0.5},
    "olmo2": {},
    "cohere2": {"sliding_window": 4, "logit_scale": 0.3},
    "gpt_neox": {},
    "opt": {"ffn_dim": 24, "word_embed_proj_dim": 8},
    "bloom": OLD,
    "mpt": OLD,
    "gpt_neo": NEO,
    "mixtral": EXPERTS,
    "qwen3_moe": EXPERTS,
    "gpt_oss": EXPERTS,
}
REFUSED: dict[str, dict[str, Any]] = {
    "mamba": {},
    "mamba2": {"num_heads": 8, "state_size": 4, "n_groups": 1},
    "recurrent_gemma": {"lru_width": 16},
    "rwkv": {},
}


def tiny(kind: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(
            AutoConfig.for_model(kind, **(SIZES | {**KNOWN, **REFUSED}[kind]))
        ).eval()


@pytest.mark.parametrize("kind", KNOWN)
def test_models_of_many_kinds_answer_alike_in_every_way(kind: str) -> None:
    check_exact(kind, tiny(kind))


@pytest.mark.parametrize("kind", REFUSED)
def test_a_model_without_a_cache_of_keys_is_refused(kind: str) -> None:
    with pytest.raises(
        UserError, match=f"NAME: expected a language model with attention.*{tiny(kind).__class__.__name__}"
    ):
        check_exact("NAME", tiny(kind))


def test_a_head_that_says_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    head = CausalLM.head
    monkeypatch.setattr(CausalLM, "head", lambda lm, states: 1.1 * head(lm, states))
    with pytest.raises(UserError, match=r"its logits are .* apart"):
        check_exact("NAME", tiny("olmo2"))


@pytest.mark.parametrize("kind", ["gemma3_text", "gpt_neo", "mixtral", "opt"])
def test_students_of_kinds_whose_layers_differ_are_made_and_trained(kind: str, tmp_path: Path) -> None:
    rows = problems(60)
    asked = {
        "data": write(tmp_path / "data", train=rows[:40], dev=rows[40:]),
        "teacher": save(tiny(kind), tmp_path / "t"),
    }
    more: dict[str, Any] = {"epochs": 1, "batch_size": 16, "checks": 1, "new_tokens": 3, "precision": "fp32"}
    run = distill(**asked, method="gkd", student="2L", out=str(tmp_path / "run"), **more)
    student = AutoModelForCausalLM.from_pretrained(run.model)
    assert student.config.num_hidden_layers == 2
    if kind == "gpt_neo":
        assert student.config.attention_layers == ["local", "local"]


def test_a_model_without_a_cache_is_refused_before_work(tmp_path: Path) -> None:
    data = write(tmp_path / "data", train=problems(40))
    with pytest.raises(UserError, match="got a MambaForCausalLM"):
        distill(
            method="gkd", teacher=save(tiny("mamba"), tmp_path / "t"), student="2L", data=data, out=str(tmp_path / "r")
        )
    assert not (tmp_path / "r").exists()
