"""Additions as text: a task that tiny language models learn in seconds."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from contrastill import finetune

CHARACTERS = "0123456789+="
END = "<end>"


def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each character, and an end token, which is the padding too."""
    words = {character: n for n, character in enumerate([*CHARACTERS, END])}
    made = Tokenizer(models.WordLevel(words, unk_token=END))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END, pad_token=END, model_max_length=64)


def llama(
    width: int = 16, layers: int = 2, seed: int = 0, vocabulary: int = 13, spread: float = 0.02
) -> LlamaForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            vocab_size=vocabulary,
            max_position_embeddings=64,
            initializer_range=spread,
            bos_token_id=None,
            eos_token_id=12,
            pad_token_id=12,
        )
        return LlamaForCausalLM(config).eval()


def gpt2(
    width: int = 16, layers: int = 2, seed: int = 0, vocabulary: int = 13, spread: float = 0.02
) -> GPT2LMHeadModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = GPT2Config(
            n_embd=width,
            n_layer=layers,
            n_head=4,
            vocab_size=vocabulary,
            n_positions=64,
            initializer_range=spread,
            bos_token_id=12,
            eos_token_id=12,
            pad_token_id=12,
            **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
        )
        return GPT2LMHeadModel(config).eval()


def save(model: Any, folder: Path) -> str:
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def taught(place: Path, **settings: Any) -> dict[str, Any]:
    """A teacher that has learnt the problems, a small start and their data, as settings of a distillation."""
    rows = problems(100)
    data = write(place / "data", train=rows[:64] * 2, dev=rows[64:80], test=rows[80:])
    large, small = save(llama(32, 2, 1), place / "large"), save(llama(16, 1, 2), place / "small")
    teacher = finetune(task="language", model=large, data=data, out=str(place / "teacher"), **settings)
    return {**settings, "teacher": str(teacher.model), "student": "as-is", "start": small, "data": data}


def problem(a: int, b: int) -> dict[str, str]:
    """Two numbers of one digit; the lowest digit of the answer first, so that carrying is local."""
    return {"prompt": f"{a}+{b}=", "answer": str(a + b)[::-1]}


def problems(rows: int, seed: int = 0) -> list[dict[str, str]]:
    order = torch.randperm(100, generator=torch.Generator().manual_seed(seed)).tolist()
    return [problem(n // 10, n % 10) for n in (order * (rows // 100 + 1))[:rows]]


def write(folder: Path, **splits: list[dict[str, str]]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)
