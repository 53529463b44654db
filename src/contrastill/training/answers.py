"""What a language model says of given answers, and the answers that it writes itself."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from contrastill.evaluation.inference import inference
from contrastill.evaluation.language import AnswerScores
from contrastill.language import CausalLM, answer_tokens, token_slices
from contrastill.losses import forward_kl, same_outcomes
from contrastill.sampling import Decoding, sample
from contrastill.tasks import Language
from contrastill.teachers import FrozenLM, RecalledLM

__all__ = ["score_answers", "write_answers"]


def score_answers(
    model: CausalLM | FrozenLM | RecalledLM,
    batches: Iterable[Mapping[str, Tensor]],
    teacher: FrozenLM | RecalledLM | None = None,
    dtype: torch.dtype | None = None,
) -> AnswerScores:
    """Scores the given answers of batches. dtype: of autocast."""
    tokens, nats, kl = list[Tensor](), list[Tensor](), list[Tensor]()
    with inference(model.model, dtype):
        for batch in batches:
            batch = {name: value.to(model.model.device) for name, value in batch.items()}
            mask, target, ours = batch["answer_mask"], answer_tokens(batch), model.tokens(batch)
            theirs = teacher.tokens(batch) if teacher is not None else None
            values = torch.zeros(2, len(target))
            for some in token_slices(len(target), int(model.model.config.vocab_size)):
                logits = ours(some)
                values[0, some] = cross_entropy(logits.float(), target[some], reduction="none").cpu()
                if theirs is not None:
                    values[1, some] = forward_kl(*same_outcomes(logits, theirs(some))).cpu()
            by_row = torch.zeros(2, *mask.shape).masked_scatter(mask.cpu().expand(2, -1, -1), values).sum(2)
            tokens.append(mask.sum(1).cpu())
            nats.append(by_row[0])
            kl.append(by_row[1])
    return AnswerScores(
        torch.cat(tokens).numpy(),
        torch.cat(nats).double().numpy(),
        torch.cat(kl).double().numpy() if teacher is not None else None,
    )


def write_answers(
    model: PreTrainedModel,
    batches: Iterable[Mapping[str, Tensor]],
    task: Language,
    dtype: torch.dtype | None = None,
    words: int | None = None,
) -> list[list[int]]:
    """The model's own answers, its likeliest token at each place: token ids of each row, the end included. words:
    number of the tokenizer's tokens, where the head may be padded to more."""
    written = []
    with inference(model, dtype):
        for batch in batches:
            prompt, mask = (batch[name].to(model.device) for name in ("prompt", "prompt_mask"))
            unused = torch.zeros(len(prompt), task.new_tokens, device=prompt.device)
            text = sample(model, prompt, mask, unused, task.ends, task.pad, Decoding(temperature=0), words)
            written += [ids[real].tolist() for ids, real in zip(text.ids.cpu(), text.mask.cpu(), strict=True)]
    return written
