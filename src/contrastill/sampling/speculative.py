"""Two models' answers: the student's tokens, corrected by the teacher.

Shapes: B prompts, P tokens of a prompt, R places of an answer; b rows not yet at an end, C columns of the caches, n
tokens drafted at once, V outcomes.
"""

from collections.abc import Collection

import torch
from torch import Tensor
from transformers import PreTrainedModel

from contrastill.errors import UserError
from contrastill.sampling.cache import Reader, extended, packed
from contrastill.sampling.decoding import Decoding
from contrastill.sampling.text import Text, among, begun, evaluated

__all__ = ["interleave"]


@torch.no_grad()
def interleave(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    prompt: Tensor,
    mask: Tensor,
    u: Tensor,
    ends: Collection[int],
    pad: int,
    top_k: int,
    draft: int,
    decodings: tuple[Decoding, Decoding],
) -> Text:
    """Speculative KD's answers (Xu et al. 2025, arXiv:2410.11325) to prompts (B, P), padded on the left by mask (B, P).

    The student draws each token; one that `top_k` or more tokens surpass in the teacher's raw logits is replaced by the
    teacher's draw. With top_k = V it is the student's own text, with 0 the teacher's. Of heads of two sizes, both draw
    from the smaller vocabulary.

    Args:
        u: (2, B, R) numbers in [0, 1), the student's and the teacher's; `decodings`: theirs likewise.
        ends: tokens that end an answer.
        draft: tokens drafted before the teacher reads them in one pass: changes the time, not the text.

    Raises:
        UserError: as `sample`; top_k below 0 or draft below 1.
    """
    if top_k < 0 or draft < 1:
        raise UserError(f"expected top_k of at least 0 and draft of at least 1, got {top_k} and {draft}")
    text, rows = begun(prompt, mask, u[0], pad)
    seen, fed, length = mask[rows].bool(), prompt[rows], torch.zeros_like(rows)
    limit, vocabulary = u.shape[2], min(model.config.get_text_config().vocab_size for model in (student, teacher))
    with evaluated(student, teacher):
        readers = Reader(student), Reader(teacher)
        while len(rows):
            steps = torch.arange(min(draft, limit - int(length.min())), device=rows.device)
            places = length.unsqueeze(1) + steps
            inside = places < limit
            reach = torch.cat([seen, inside[:, 1:]], 1)  # positions end with the last place: a model may have no more
            numbers = u[:, rows.unsqueeze(1), places.clamp(max=limit - 1)]
            drafts = drafted(readers[0], fed, reach, numbers[0], decodings[0], vocabulary)
            logits = readers[1].read(torch.cat([fed, drafts[:, :-1]], 1), reach, len(steps))[..., :vocabulary]
            tokens, kept = judged(drafts, logits, numbers[1], top_k, decodings[1])
            ended = among(tokens, ends)
            written = (steps <= kept.unsqueeze(1)) & inside & (ended.cumsum(1) - ended.int() == 0)
            count = written.sum(1)
            at = rows.unsqueeze(1).expand_as(places)[written], places[written]
            text.ids[at], text.mask[at] = tokens[written], True
            text.accepted[rows] += torch.minimum(count, kept)
            text.drafted[rows] += inside.sum(1)
            going = (length + count < limit) & ~(ended & written).any(1)
            fed = tokens.gather(1, count.unsqueeze(1) - 1)[going]  # the last token, which neither model has read
            seen = extended(packed(readers, torch.cat([seen, steps[1:] < count.unsqueeze(1)], 1), going))
            rows, length = rows[going], (length + count)[going]
    return text


def drafted(reader: Reader, fed: Tensor, reach: Tensor, u: Tensor, decoding: Decoding, vocabulary: int) -> Tensor:
    """The model's tokens (b, n) of the numbers u (b, n), one after another behind the tokens it is fed.

    reach: (b, C + n - 1), the mask of the cache, the fed tokens, and all drafts but the last.
    """
    width, tokens = reach.shape[1] - u.shape[1] + 1, []
    for place in range(u.shape[1]):
        logits = reader.read(fed, reach[:, : width + place], 1)
        fed = decoding.choose(logits[:, -1, :vocabulary], u[:, place]).unsqueeze(1)
        tokens.append(fed)
    return torch.cat(tokens, 1)


def judged(drafts: Tensor, logits: Tensor, u: Tensor, top_k: int, decoding: Decoding) -> tuple[Tensor, Tensor]:
    """Drafts (b, n) with the first refused one replaced by the teacher's draw, and the number (b,) of those before it.

    Refused is a token that `top_k` or more tokens surpass in the teacher's logits (b, n, V). u: (b, n).
    """
    rank = (logits > logits.gather(2, drafts.unsqueeze(2))).sum(2)
    kept = (rank < top_k).int().cumprod(1).sum(1)
    each, first = torch.arange(len(drafts), device=drafts.device), kept.clamp(max=drafts.shape[1] - 1)
    taught = decoding.choose(logits[each, first], u[each, first])
    refused = torch.arange(drafts.shape[1], device=drafts.device) == kept.unsqueeze(1)
    return torch.where(refused, taught.unsqueeze(1), drafts), kept
