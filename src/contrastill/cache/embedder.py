"""A sentence-embedding model, of any kind that sentence-transformers loads, as a teacher."""

from collections.abc import Collection
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from contrastill.encoder import Batch, Encoding
from contrastill.errors import UserError

__all__ = ["FrozenEmbedder"]


class FrozenEmbedder:
    """Stands where a `FrozenEncoder` stands; its one output is `pooled`, through the model's own modules.

    Those are the transformer, pooling, and what follows (a dense layer, normalisation): so any of its models will do.
    """

    def __init__(self, model: Any) -> None:
        if not isinstance(model.tokenizer, PreTrainedTokenizerBase):
            raise UserError(
                f"expected a sentence-embedding model with a transformer, got one of {type(model[0]).__name__}"
            )
        self.model = model.eval().requires_grad_(False)
        self.to = model.to
        self.width = int(model.get_embedding_dimension())
        self.depth = self.heads = 0

    @property
    def prompt(self) -> str:
        """What the model puts before a text, unasked ("query: "): its default prompt."""
        return str((self.model.prompts or {}).get(self.model.default_prompt_name) or "")

    @torch.no_grad()
    def __call__(self, batch: Batch, needs: Collection[str] = ()) -> Encoding:
        device = batch["input_ids"].device
        if self.model.device != device:
            self.model.to(device)
        names = ("input_ids", "attention_mask", "token_type_ids")
        output = self.model({name: batch[name] for name in names if name in batch})
        return Encoding(batch["attention_mask"].bool(), pooled=output["sentence_embedding"])

    def facts(self) -> dict[str, Any]:
        """What its outputs depend on, beside the weights: its modules, and the transformer's config."""
        config = self.model[0].auto_model.config.to_dict()
        cut = {} if self.model.truncate_dim is None else {"truncate_dim": self.model.truncate_dim}
        return {"modules": [repr(module) for module in self.model], **cut, **config}
