"""A sentence-embedding model in two modules, and a batch of texts that belong together, with plain losses over them."""

from typing import Any

import torch
from torch import Tensor, nn

from contrastill.encoder import Embedder
from contrastill.methods import SimCSE
from contrastill.tasks import Pairs


class Tokens(nn.Module):
    """A transformer as sentence-transformers has it."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.auto_model = transformer

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        inputs = {name: features[name] for name in ("input_ids", "attention_mask")}
        return {**features, "token_embeddings": self.auto_model(**inputs).last_hidden_state}


class Mean(nn.Module):
    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        real = features["attention_mask"].unsqueeze(-1)
        tokens = features["token_embeddings"]
        assert tokens.dtype == torch.float32, "pooling would round"
        return {**features, "sentence_embedding": (tokens * real).sum(1) / real.sum(1)}


class SentenceModel(nn.Sequential):
    def get_embedding_dimension(self) -> int:
        return int(self[0].auto_model.config.hidden_size)


def sentence_model(transformer: Any) -> SentenceModel:
    return SentenceModel(Tokens(transformer), Mean())


def simcse(model: SentenceModel, teacher: Any = None, columns: int = 2, **settings: Any) -> SimCSE:
    return SimCSE(Embedder(model, model[0].auto_model), teacher, Pairs(columns), **settings).train()


def columns_of(batch: dict[str, Tensor], columns: int) -> list[dict[str, Tensor]]:
    """The features of each column, as sentence-transformers' losses take them."""
    parts = [
        dict(zip(("input_ids", "attention_mask"), pair, strict=True))
        for pair in zip(batch["input_ids"].chunk(columns), batch["attention_mask"].chunk(columns), strict=True)
    ]
    assert len(parts) == columns
    return parts


def gradients(module: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """By the parameter's name in the model, whatever wraps it."""
    module.zero_grad()
    loss.backward()
    found = {name.split("auto_model.")[-1]: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return {name: grad.clone() for name, grad in found.items()}
