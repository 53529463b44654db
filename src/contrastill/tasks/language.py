"""Answers as text: an autoregressive language model continues a prompt."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from contrastill.language import CausalLM
from contrastill.tasks.base import Task

__all__ = ["Language"]


class Language(Task):
    """A language model answers prompts, token by token.

    ends: ids that end an answer. pad: the id that padding has; masks tell by place what is padding.
    longest_prompt, new_tokens: tokens of the longest prompt, and of the longest answer that is sampled. seed: of the
    random numbers by which answers are sampled.
    """

    name = "language"
    per = "answer"
    outputs = frozenset({"tokens"})
    metrics = ("kl", "perplexity", "exact_match", "rouge_l", "own_nats", "distinct_2")

    def __init__(self, ends: tuple[int, ...], pad: int, longest_prompt: int, new_tokens: int, seed: int = 0) -> None:
        self.ends, self.pad, self.seed = ends, pad, seed
        self.longest_prompt, self.new_tokens = longest_prompt, new_tokens

    def answer(self, model: Any, features: Mapping[str, Tensor]) -> Tensor:
        """The logits of the answer tokens: (N, V)."""
        return CausalLM(model)(features)
