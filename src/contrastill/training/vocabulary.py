"""Training without the rows of the embedding table whose words do not occur; and whether they can be left out after."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.errors import UserError
from contrastill.vocabulary import check_trims

__all__ = ["OccurringWords", "check_vocabulary", "only_occurring_words"]

WORTH = 0.7  # above this share of occurring words there is little to win


class OccurringWords(nn.Embedding):
    """The rows of `table` that occur in the training texts, as the only ones that are trained.

    The gradient of an embedding table is dense: of a small student on a small corpus most of it is zeros, which are
    made, measured, clipped and given to Adam in every step. Words that do not occur keep their rows untouched (and so
    are not shrunk by weight decay either). In eval mode every word is found, trained or not.
    """

    place: Tensor
    whole: Tensor
    words: Tensor

    def __init__(self, table: nn.Embedding, words: Tensor) -> None:
        padding = table.padding_idx
        inside = None if padding is None else int((words == padding).nonzero().item())
        super().__init__(len(words), table.embedding_dim, inside, _weight=table.weight.detach()[words].clone())
        place = torch.full((table.num_embeddings,), -1, device=words.device)
        place[words] = torch.arange(len(words), device=words.device)
        self.register_buffer("place", place, persistent=False)
        self.register_buffer("words", words, persistent=False)
        self.register_buffer("whole", table.weight.detach(), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        if self.training:
            return F.embedding(self.place[input], self.weight, self.padding_idx)
        return F.embedding(input, self.written_back())

    @torch.no_grad()
    def written_back(self) -> Tensor:
        """The whole table, trained rows included."""
        self.whole[self.words] = self.weight
        return self.whole


@contextmanager
def only_occurring_words(model: PreTrainedModel | None, used: np.ndarray) -> Iterator[None]:
    """While it lasts, only the rows of the token ids `used` (sorted) are parameters; then the table is whole again.

    Nothing happens if most words occur, if the table is tied to another module, or if there is no model.
    """
    if model is None:
        yield
        return
    table = model.get_input_embeddings()
    users = sum(p is table.weight for _, p in model.named_parameters(remove_duplicate=False))
    if type(table) is not nn.Embedding or len(used) > WORTH * table.num_embeddings or users > 1:
        yield
        return
    words = used if table.padding_idx is None else np.union1d(used, [table.padding_idx])
    part = OccurringWords(table, torch.as_tensor(words, device=table.weight.device))
    model.set_input_embeddings(part)
    try:
        yield
    finally:
        table.weight.data = part.written_back()
        model.set_input_embeddings(table)


def check_vocabulary(settings: Any, student: PreTrainedModel, tokenizer: Tokenizer) -> None:
    """Raises a UserError where the settings want a vocabulary that a trained model could not be given."""
    if settings.vocabulary == "all":
        return
    try:
        check_trims(student, tokenizer)
    except UserError as error:
        raise UserError(f"--vocabulary {settings.vocabulary}: {error} (--vocabulary all)") from None
