import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from contrastill import losses
from contrastill.encoder import Encoding
from contrastill.errors import UserError
from contrastill.methods.base import Method, Stage
from contrastill.methods.settings import Share, Temperature, Weight
from contrastill.tasks import BareEncoder
from contrastill.tasks.base import Task

AS_MASK, AS_WORD = 0.8, 0.1  # of the masked tokens: shown as the mask token, as any other word; the rest as they are


class DistilBERT(Method):
    """DistilBERT: the triple loss on masked words. Sanh et al., NeurIPS EMC2 workshop 2019. arXiv:1910.01108.

    `words T^2 KL(p_T || p_S) + mlm CE(p_S, word) + cosine (1 - cos(h_S, h_T))`: p are probabilities of the vocabulary
    at masked tokens, h hidden states of the last layer at all tokens. Both read the text with the same words masked.
    The student guesses by the teacher's own masked-LM head, which is frozen; at another width than the teacher's, a
    trained projection stands before it. Head and projection are dropped: an encoder is left.

    temperature: temperature T of the words' probabilities.
    words: weight of the teacher's probabilities of masked words.
    mlm: weight of the masked words themselves.
    cosine: weight of the last layer's hidden states.
    masked: share of the words that are masked.
    """

    vocabulary: Tensor

    name = "distilbert"
    needs = {"hidden"}
    asks_live = guesses_words = True
    stages = (Stage("words", {"words": 5.0, "mlm": 2.0, "cosine": 1.0}),)

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        task: Task,
        *,
        temperature: Temperature = 2.0,
        words: Weight = 5.0,
        mlm: Weight = 2.0,
        cosine: Weight = 1.0,
        masked: Share = 0.15,
    ) -> None:
        self.stages = (Stage("words", {"words": words, "mlm": mlm, "cosine": cosine}),)
        super().__init__(student, teacher, task)
        if not isinstance(task, BareEncoder) or task.head is None or task.mask is None:
            raise UserError("method 'distilbert' expected a task with the teacher's masked-LM head, got none")
        self.head, self.mask, self.masked, self.temperature = task.head, task.mask, masked, temperature
        self.register_buffer("vocabulary", torch.as_tensor(task.words), persistent=False)
        self.pairs = [(self.student.depth, self.teacher.depth)]
        same = self.student.width == self.teacher.width
        self.project = nn.Identity() if same else self.bridge(*self.pairs)

    @classmethod
    def serves(cls, task: Task | type[Task]) -> bool:
        return super().serves(task) and task.name == BareEncoder.name

    def prepare(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Masks words of a batch, `masked` of all, drawn by torch's generator; in eval mode always the same ones.

        Adds "masked" (B, L) bool and "original" (B, L), the ids before.
        """
        ids, vocabulary = batch["input_ids"], self.vocabulary
        drawing = None if self.training else torch.Generator().manual_seed(0)
        places = torch.isin(ids, vocabulary).logical_and(batch["attention_mask"].bool()).nonzero()
        count = math.ceil(self.masked * len(places))
        rows, columns = places[torch.randperm(len(places), generator=drawing)[:count].to(ids.device)].T
        share = torch.rand(count, generator=drawing).to(ids.device)
        other = vocabulary[torch.randint(max(1, len(vocabulary)), (count,), generator=drawing).to(ids.device)]
        shown = other.where(share >= AS_MASK, self.mask).where(share < AS_MASK + AS_WORD, ids[rows, columns])
        read, masked = ids.clone(), torch.zeros_like(ids, dtype=torch.bool)
        read[rows, columns], masked[rows, columns] = shown, True
        return {**batch, "input_ids": read, "masked": masked, "original": ids}

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        masked = batch["masked"]
        ours, theirs = self.project(student.hidden[-1]), teacher.hidden[-1]
        with torch.no_grad():
            right = self.head(theirs[masked]).unsqueeze(0)  # (1, masked tokens, words): no others are computed
        guessed = self.head(ours[masked]).unsqueeze(0)
        every, nothing = masked.new_ones(guessed.shape[:2]), theirs.new_zeros(0, theirs.shape[-1])
        kl = losses.token_soft_kl(guessed, right, every, self.temperature)
        return {
            "words": self.temperature**2 * kl,
            "mlm": losses.token_cross_entropy(guessed, batch["original"][masked].unsqueeze(0)).mean(),
            "cosine": losses.centred_cosine(ours, theirs, nothing, masked.new_zeros(len(masked), 0), teacher.mask),
        }
