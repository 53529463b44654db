"""The texts that a student's weights are fitted on, and a model's activations on them."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from contrastill.errors import UserError
from contrastill.students.families import Point

__all__ = ["Sample", "cpu", "read_sample", "record", "sample_rows"]

Sample = list[tuple[Tensor, Tensor]]  # batches of (input_ids, attention_mask)
SAMPLE_TOKENS = 12_288  # what `inherit` reads, ten times the neurons of a 4L-312 student
SAMPLE_LENGTH = 64


def read_sample(tokenizer: Any, texts: Sequence[str] | None, config: PreTrainedConfig, seed: int) -> Sample:
    """About SAMPLE_TOKENS tokens of texts drawn from the whole list; without a list, of random words."""
    draw = torch.Generator().manual_seed(seed)
    length = min(SAMPLE_LENGTH, getattr(config, "max_position_embeddings", SAMPLE_LENGTH) - 2)
    if texts is None:
        words = torch.tensor(sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids)))
        frequency = 1 / (1000.0 + torch.arange(len(words)))  # vocabularies list frequent words first, more or less
        drawn = words[torch.multinomial(frequency, SAMPLE_TOKENS, replacement=True, generator=draw)]
        texts = tokenizer.batch_decode(drawn.view(-1, 16).tolist())
    texts = list(texts)
    if not texts:
        raise UserError("expected texts to fit the student on, got none; pass some training texts, or texts=None")
    chosen: list[list[int]] = []
    tokens = 0
    for k in torch.randperm(len(texts), generator=draw).tolist():
        chosen.append(tokenizer(texts[k], truncation=True, max_length=length)["input_ids"])
        tokens += len(chosen[-1])
        if tokens >= SAMPLE_TOKENS:
            break
    return padded_sample(chosen, tokenizer.pad_token_id)


def sample_rows(rows: Sequence[Mapping[str, Any]], pad: int, seed: int) -> Sample:
    """About SAMPLE_TOKENS tokens of rows ("prompt", "answer": ids) drawn from all, none of them cut."""
    chosen: list[list[int]] = []
    tokens = 0
    for k in torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist():
        row = rows[k]
        chosen.append([*row["prompt"], *row["answer"]])
        tokens += len(chosen[-1])
        if tokens >= SAMPLE_TOKENS:
            break
    return padded_sample(chosen, pad)


def padded_sample(chosen: list[list[int]], pad: int) -> Sample:
    """Batches of texts of about the same length, padded on the right."""
    chosen.sort(key=len)
    sample: Sample = []
    for n in range(0, len(chosen), 32):
        texts = [torch.tensor(one) for one in chosen[n : n + 32]]
        ids = nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=pad)
        sizes = torch.tensor([len(one) for one in chosen[n : n + 32]])
        sample.append((ids, (torch.arange(ids.shape[1]) < sizes[:, None]).long()))
    return sample


class Seen(Exception):
    """Every requested point has been recorded."""


def record(model: PreTrainedModel, sample: Sample, points: dict[str, Point]) -> dict[str, Tensor]:
    """What passes those points while the model reads the sample: (T, width) over real tokens, float32, on the CPU.

    A pass ends at the last of them: the layers above need not be computed.
    """
    seen: dict[str, list[Tensor]] = {name: [] for name in points}
    real = torch.empty(0)
    awaited = 0

    calls: dict[str, int] = {}

    def hook(name: str, what: str, call: int) -> Any:
        def keep(module: nn.Module, args: Any, output: Any) -> None:
            calls[name] = calls.get(name, -1) + 1
            if calls[name] != call:
                return
            x = output if what == "output" else args
            x = cpu(x[0] if isinstance(x, tuple) else x)
            x = x[real] if x.shape[:-1] == real.shape else x  # a head reads one vector per text
            seen[name].append(x.square().mean(0, keepdim=True) if what == "energy" else x)
            nonlocal awaited
            awaited -= 1
            if not awaited:
                raise Seen

        return keep

    training = model.training
    hooks = [point.module.register_forward_hook(hook(name, point.what, point.call)) for name, point in points.items()]
    try:
        model.eval()
        for ids, mask in sample:
            real, awaited = mask.bool(), len(points)
            calls.clear()
            with contextlib.suppress(Seen):
                model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device))
    finally:
        model.train(training)
        for handle in hooks:
            handle.remove()
    return {name: torch.cat(parts) for name, parts in seen.items()}


def cpu(x: Any) -> Tensor:
    return torch.zeros(()) if x is None else x.detach().float().cpu()
