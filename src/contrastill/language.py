"""An autoregressive language model seen as the logits of its answers.

Shapes: B batch, P tokens of a prompt, R of an answer, N answer tokens of the whole batch, D width, V vocabulary.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from contrastill.forward import cheap, head_alone

__all__ = ["CausalLM", "answer_tokens", "token_slices"]

Batch = Mapping[str, Tensor]


def answer_tokens(batch: Batch) -> Tensor:
    """The tokens that a model is to predict, row by row: (N,)."""
    return batch["answer"][batch["answer_mask"]]


LOGITS = 2**24
"""Numbers of logits of a part: those of 341 tokens, of 49,152 words. 64 MB in float32, which C's allocator gives back
to the system; tensors of less than 32 MB it keeps, and more of them with each part (docs/benchmarks.md)."""


def token_slices(tokens: int, vocabulary: int) -> list[slice]:
    """Parts of some tokens whose logits are formed together; at least one.

    Twice a part is still one: several parts form their logits twice, the second time for the gradient.
    """
    size = max(1, LOGITS // vocabulary)
    if tokens <= 2 * size:
        return [slice(0, max(1, tokens))]
    return [slice(n, n + size) for n in range(0, max(1, tokens), size)]


class CausalLM(nn.Module):
    """Wraps a causal language model so that `model(batch)` gives the logits of its answer tokens alone.

    A batch has "prompt" (B, P), padded on the left, "answer" (B, R), padded on the right, and their masks,
    "prompt_mask" and "answer_mask", which tell by place what is padding: its id may be that of a real token.
    """

    model: PreTrainedModel

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.alone = (head_alone(model),)  # in a tuple: a module under two names would be saved twice

    @property
    def transformer(self) -> PreTrainedModel:
        return self.model

    @property
    def depth(self) -> int:
        return int(self.model.config.num_hidden_layers)

    @property
    def width(self) -> int:
        return int(self.model.config.hidden_size)

    def states(self, batch: Batch) -> Tensor:
        """The last layer's states from which the answer tokens are predicted: (N, D).

        The first one is predicted from the prompt's last token. The head is applied to these alone, so that no logits
        of prompts and padding are formed.
        """
        ids = torch.cat([batch["prompt"], batch["answer"]], 1)[:, :-1]
        mask = torch.cat([batch["prompt_mask"], batch["answer_mask"]], 1)[:, :-1].long()
        places = (mask.cumsum(1) - 1).clamp(min=0)
        with cheap(self.model, self.model.get_input_embeddings()):
            hidden = self.model.base_model(
                input_ids=ids, attention_mask=mask, position_ids=places, use_cache=False
            ).last_hidden_state
        states: Tensor = hidden[:, batch["prompt"].shape[1] - 1 :][batch["answer_mask"]]
        return states

    def head(self, states: Tensor) -> Tensor:
        """The model's own logits of these states: (n, D) -> (n, V)."""
        logits: Tensor = self.alone[0](inputs_embeds=states.unsqueeze(0), use_cache=False).logits
        return logits.squeeze(0)

    def tokens(self, batch: Batch) -> Callable[[slice], Tensor]:
        """Gives the logits (n, V) of some of the answer tokens, formed when they are asked for."""
        states = self.states(batch)
        return lambda some: self.head(states[some])

    def forward(self, batch: Batch) -> Tensor:
        """The logits of the answer tokens, row by row: (N, V)."""
        return self.head(self.states(batch))
