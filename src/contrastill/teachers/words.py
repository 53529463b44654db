"""The masked-LM head of a frozen teacher, by itself: what it guesses of a hidden state, and of no other."""

from functools import cached_property

from torch import Tensor
from transformers import PreTrainedModel

from contrastill.errors import UserError
from contrastill.forward import head_alone
from contrastill.loading import load_language_model
from contrastill.teachers.base import fingerprint

__all__ = ["WordsHead", "load_words_head"]


class WordsHead:
    """Hidden states of the last layer -> logits of the vocabulary, of any family that has a masked-LM head.

    It is no `nn.Module`, as `FrozenEncoder`: what it guesses by is neither trained nor saved. Gradients pass through.

    model: a masked language model; the head is taken out of it, and the model is left as it is.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = head_alone(model)
        self.model.requires_grad_(False).eval()

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.model)

    def __call__(self, hidden: Tensor) -> Tensor:
        """(N, D) -> (N, words)"""
        logits: Tensor = self.model.to(hidden.device)(inputs_embeds=hidden.float().unsqueeze(0)).logits
        return logits.squeeze(0)


def load_words_head(name: str) -> WordsHead:
    """The masked-LM head of a Hub model or local folder.

    Raises:
        UserError: as `load_encoder`; or its weights have no such head.
    """
    model, head = load_language_model(name)
    if not head:
        raise UserError(f"expected a teacher with a masked-LM head, got {name!r}, whose weights have none")
    return WordsHead(model)
