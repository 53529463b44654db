"""A language model that is run once on each given answer: its likeliest words are stored, and every later step, run and
student reads them.

Shapes: B rows, N answer tokens of all of them, n some of them, V words.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from contrastill.data.collate import content_key
from contrastill.data.prompt_batches import collate_prompts
from contrastill.errors import UserError
from contrastill.language import answer_tokens, token_slices
from contrastill.losses import SparseLogits, top_k
from contrastill.machine import bf16_pays
from contrastill.processes import processes
from contrastill.teachers.fill import Options
from contrastill.teachers.filled import Filled
from contrastill.teachers.language import FrozenLM, Part
from contrastill.teachers.likeliest import Likeliest
from contrastill.teachers.overlap import Outputs
from contrastill.teachers.store import KEY, Facts, Store

__all__ = ["CachedLM", "answer_keys"]

CHUNK = 16_384  # rows among which answers of a length are looked for
SAMPLE = 1_000  # rows of which it is told how much lies outside the named words

Rows = Sequence[Mapping[str, Any]]


class CachedLM(Filled):
    """Gives from disk the `k` likeliest words of a language model for each token of the answers that were filled in,
    the answer's own token always among them.

    words: of the student's head; a distribution is over those that teacher and student have. k: 0 or at least V for all
    words. root: the folder of all caches. stored: the type of the logarithms on disk. computed: the type the teacher
    computes in (by default bfloat16 where that pays). name: of the teacher, as it was given.

    Raises:
        UserError: there is no such type.
    """

    model = None  # it writes no text

    def __init__(
        self,
        live: FrozenLM,
        words: int,
        root: Path,
        *,
        k: int,
        stored: str = "float16",
        computed: str | None = None,
        name: str = "",
    ) -> None:
        self.live, self.words = live, min(words, live.words)
        self.field = Likeliest.of(k, self.words, stored)
        self.computed = computed or ("bfloat16" if bf16_pays() else "float32")
        facts = Facts(live.fingerprint, self.field.name, self.field.width, self.computed, "uint8")
        self.store = Store(root, facts, {"name": name, "model": type(live.model).__name__})
        super().__init__(root, {self.field: self.store})

    @property
    def fingerprint(self) -> str:
        return self.live.fingerprint

    # ---- answering

    def tokens(self, batch: Mapping[str, Tensor]) -> Part:
        """The words stored for a batch's answer tokens.

        Raises:
            UserError: a row was not filled in.
        """
        device = batch["prompt"].device
        answers, real = (batch[name].cpu() for name in ("answer", "answer_mask"))
        prompts, before = (batch[name].cpu() for name in ("prompt", "prompt_mask"))
        rows = [
            {"prompt": p[there].tolist(), "answer": a[mask].tolist()}
            for p, there, a, mask in zip(prompts, before, answers, real, strict=True)
        ]
        held = self.held(rows).to(device)
        return lambda some: self.field.unpack(held[some])

    def held(self, rows: Rows) -> Tensor:
        """The stored bytes of some rows' answer tokens: (N, width).

        Raises:
            UserError: a row was not filled in.
        """
        at = self.store.find(answer_keys(rows))
        if lacking := int((at < 0).sum()):
            raise UserError(
                f"expected rows of which the teacher's likeliest words are stored, got {lacking} of {len(rows)} that "
                "the cache was not filled with: answers that are written in training need the live teacher (--cache "
                "none)"
            )
        borders = np.cumsum([0, *(len(row["answer"]) for row in rows)])
        out = np.empty((borders[-1], self.field.width), np.uint8)
        for n, row in enumerate(at):
            self.store.read(int(row), out[borders[n] : borders[n + 1]])
        return torch.from_numpy(out)

    def outside(self, rows: Rows) -> float:
        """The mean share of the teacher's mass that the named words do not have, over at most `SAMPLE` of the rows."""
        some = [rows[n] for n in range(0, len(rows), 1 + (len(rows) - 1) // SAMPLE)]
        return float(self.field.unpack(self.held(some)).tail.float().exp().mean())

    # ---- filling

    def space_needed(self, lengths: Sequence[int] | np.ndarray) -> tuple[int, int]:
        """Bytes that answers of these lengths take, keys and counts too, and bytes free where the cache is."""
        need, free = super().space_needed(lengths)
        return need + len(lengths) * (KEY + 4), free

    def fill_rows(self, rows: Rows, pad: int, **options: Unpack[Options]) -> int:
        """Runs the teacher on the rows that are not stored, and stores its words; all processes share the work.

        rows: of `encode_prompts`. pad: the id that batches are padded with. Returns how many rows this process ran on.

        Raises:
            UserError: a logit is not finite (its row is named), or the cache cannot be written to.
        """

        def chunks() -> Iterator[Rows]:
            for first in range(0, len(rows), CHUNK):
                part = [rows[n] for n in range(first, min(first + CHUNK, len(rows)))]
                yield [
                    {**row, "input_ids": [*row["prompt"], *row["answer"]], "content": answer_key(row)} for row in part
                ]

        options = {"total": len(rows), "what": "teacher's likeliest words", **options}
        return self.fill_by(self.named, chunks(), partial(collate_prompts, pad=pad), **options)

    @torch.no_grad()
    def named(self, batch: Mapping[str, Tensor]) -> Outputs:
        """The live teacher's likeliest words for a batch's answer tokens; they may still be computing."""
        device, counts = processes().device, batch["answer_mask"].sum(1).numpy()
        batch = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        target, parts, sound = answer_tokens(batch), list[Tensor](), list[Tensor]()
        with torch.autocast(device.type, torch.bfloat16, enabled=self.computed == "bfloat16"):
            logits = self.live.tokens(batch)
            for some in token_slices(len(target), self.words):
                found = top_k(logits(some)[:, : self.words], self.field.named, target[some])
                parts.append(self.field.pack(found))
                sound.append(sane(found))
        return Packed(self.field, torch.cat(parts), torch.cat(sound), counts)


class Packed(Outputs):
    """Bytes on their way to the processor. sound: (N,) whether they are of numbers."""

    def __init__(self, field: Likeliest, packed: Tensor, sound: Tensor, counts: np.ndarray) -> None:
        self.sound = sound.to("cpu", non_blocking=True)
        super().__init__({field: packed}, {field: counts})

    def broken(self) -> tuple[Any, int] | None:
        rows = (~self.sound).nonzero()
        ((field, counts),) = self.counts.items()
        return (field, int(np.searchsorted(np.cumsum(counts), int(rows[0]), side="right"))) if len(rows) else None


def sane(found: SparseLogits) -> Tensor:
    """(n,) bool: no logarithm is NaN, as all are where a logit was NaN or infinite."""
    return ~(found.log_probs.isnan().any(1) | found.tail.isnan())


def answer_keys(rows: Rows) -> np.ndarray:
    """(N, 16) uint8: content keys of rows, as their prompt and answer are read."""
    return np.frombuffer(b"".join(map(answer_key, rows)), np.uint8).reshape(-1, KEY)


def answer_key(row: Mapping[str, Any]) -> bytes:
    """16 bytes: equal for equal ids of prompt and answer, divided at the same place."""
    prompt, answer = row["prompt"], row["answer"]
    return content_key([*prompt, *answer], [0] * len(prompt) + [1] * len(answer))
