"""The start `inherit` of a static student: word vectors from a teacher that reads each token by itself.

A text's vector is the mean of its words' vectors. Those are the teacher's for the token alone, less their mean, in
their main directions, and the shorter the more frequent the token is (SIF: Arora et al., ICLR 2017).

Shapes: V tokens of the vocabulary, D teacher width, W student width.
"""

import logging
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from contrastill.students.families import Point, head_linears
from contrastill.students.regression import HEAD_RIDGE, directions, regress, write
from contrastill.students.sample import Sample, cpu, record

__all__ = ["inherit_words"]

logger = logging.getLogger(__name__)

FREQUENT = 1e-3  # share of all tokens at which a token counts half
LONGEST = 0.99  # quantile of the vectors' lengths above which they are cut
SCALE = 0.1  # of the numbers in the table; the norm behind it takes any
PASSED, LIFT = 0.3, 3.0  # of each feature through a dense layer and gelu: there it is all but linear
BATCH = 512


def inherit_words(
    student: PreTrainedModel, teacher: PreTrainedModel, tokenizer: Any, sample: Sample, seed: int
) -> None:
    """Word vectors from the teacher, and logits solved for on the sample."""
    table: Any = student.get_input_embeddings()
    count, width = table.weight.shape
    logger.info("start: the teacher reads each of its %s tokens by itself", f"{count:,}")
    vectors, share = alone(teacher, tokenizer, count), shares(sample, count)
    weighted = (vectors - share @ vectors) * (FREQUENT / (FREQUENT + share)).unsqueeze(1)
    ids = torch.cat([ids[mask.bool()] for ids, mask in sample])
    words = weighted @ directions([weighted[ids], weighted], width - 1, centre=True)
    # the norm behind the table makes all vectors equally long: what a short one lacks goes to a direction of its own
    length = words.norm(dim=1, keepdim=True)
    longest = length.quantile(LONGEST)
    spare = (longest.square() - length.square()).clamp_min(0).sqrt()
    # and numbers of one size lose least when they are rounded
    turned = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(seed))).Q
    rows = torch.cat([words, spare], 1) @ turned
    table.weight.copy_(rows * SCALE / rows.std().clamp_min(1e-12))
    if table.padding_idx is not None:
        table.weight[table.padding_idx] = 0
    (dense, last), last_t = head_linears(student), head_linears(teacher)[1]
    if last is not None and last_t is not None:
        write(dense, PASSED * torch.eye(width), torch.full((width,), LIFT))
        logits = record(teacher, sample, {"": Point(last_t, "output")})[""]
        features = record(student, sample, {"": Point(last, "input")})[""]
        write(last, *regress(features, logits, True, HEAD_RIDGE))


def alone(teacher: PreTrainedModel, tokenizer: Any, count: int) -> Tensor:
    """(V, D): the mean of the teacher's last layer over each token and the special ones around it, float32."""
    around = tokenizer("")["input_ids"]
    before, behind = torch.tensor(around[: len(around) // 2]), torch.tensor(around[len(around) // 2 :])
    found, training = [], teacher.training
    try:
        teacher.eval()
        for first in range(0, count, BATCH):
            ids = torch.arange(first, min(first + BATCH, count)).unsqueeze(1)
            parts = [before.long().expand(len(ids), -1), ids, behind.long().expand(len(ids), -1)]
            batch = torch.cat(parts, 1).to(teacher.device)
            output: Any = teacher.base_model(input_ids=batch, attention_mask=torch.ones_like(batch))
            found.append(cpu(output.last_hidden_state).mean(1))
    finally:
        teacher.train(training)
    return torch.cat(found)


def shares(sample: Sample, count: int) -> Tensor:
    """(V,): the share of all tokens that each one has: half by the sample, half by its place in the vocabulary, which
    lists frequent tokens first, more or less."""
    seen = torch.bincount(torch.cat([ids[mask.bool()] for ids, mask in sample]), minlength=count)
    listed = 1 / (1000.0 + torch.arange(count))
    return (seen / seen.sum() + listed / listed.sum()) / 2
