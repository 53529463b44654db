"""COS-NCE of a tagger: tokens with and without the padding mask, and the form of the negatives.

    python benchmarks/tagging_negatives.py --teacher RUN --runs RUNS
        -> benchmarks/results/tagging_negatives.json

The teacher is a tagger that `contrastill finetune` made; its students differ in one thing at a time, with equal start,
rows, steps and seeds. "tokens" is `lrc_bert` as it is: each real token against the tokens of other texts (their unit
vectors, averaged text by text). "no mask": padding counts as tokens, in the loss and in the negatives. "sentence
negatives": each token against the other texts' mean vectors, at length 1. "own text's tokens": the tokens of the own
text are negatives too. "mean", "cls": one vector a text. Scores are of dev; test is not looked at.
"""

import argparse
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastill import losses
from contrastill.encoder import Encoding, pool_layer
from contrastill.methods.base import gather
from contrastill.methods.lrc_bert import LRCBert
from contrastill.studies import Study


class NoMask(LRCBert):
    """Padding counts as tokens."""

    name = "no_mask"

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        answered = student.mask if student.answered is None else student.answered
        every = torch.ones_like(student.mask)
        return super().losses(replace(student, mask=every, answered=answered), replace(teacher, mask=every), batch)


class SentenceNegatives(LRCBert):
    """Tokens against the mean vectors of other texts."""

    name = "sentence_negatives"

    @torch.no_grad()
    def of_batch(self, teacher: Encoding, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        views = [
            F.normalize(pool_layer(teacher.hidden[j].float(), teacher.mask, "mean")[0][:, 0], dim=-1)
            for _, j in self.pairs
        ]
        return gather(torch.stack(views, dim=1)), gather(batch["text_key"])


class OwnTokens(LRCBert):
    """The tokens of the own text are negatives too: every text of the batch is one of every other and of itself."""

    name = "own_tokens"

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        keys = torch.arange(len(batch["text_key"]), device=batch["text_key"].device)
        found = super().losses(student, teacher, batch)
        candidates, _ = self.of_batch(teacher, batch)
        every = torch.ones(len(keys), len(candidates), dtype=torch.bool, device=keys.device)
        cos_nce = []
        for n, (project, (i, j)) in enumerate(zip(self.project, self.pairs, strict=True)):
            x, _ = pool_layer(student.hidden[i], student.mask, self.granularity)
            y, mask = pool_layer(teacher.hidden[j], teacher.mask, self.granularity)
            cos_nce.append(losses.cos_nce(project(x), y, candidates[:, n], every, mask))
        return found | {"cos_nce": torch.stack(cos_nce).sum()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, help="folder of the run of a tagger")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--student", default="4L-312")
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=())
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "tagging_negatives.json")
    args = parser.parse_args()
    # the live teacher: stored layers hold nothing at padding
    shared = {"teacher": "{teacher}", "student": args.student, "epochs": args.epochs, "cache": "none", "checks": 3}
    shared |= {"batch_size": args.batch_size, "method": "lrc_bert"}
    variants = {
        "tokens": {},
        "no mask": {"method": NoMask},
        "sentence negatives": {"method": SentenceNegatives},
        "own text's tokens": {"method": OwnTokens},
        "mean": {"set": {"granularity": "mean"}},
        "cls": {"set": {"granularity": "cls"}},
    }
    form = f"--student {args.student} --epochs {args.epochs:g}"
    facts = {"command": f"python benchmarks/tagging_negatives.py --teacher RUN {form} --runs RUNS"}
    places = {"teacher": args.teacher}
    study = Study(variants, args.out, shared=shared, seeds=args.seeds, places=places, runs=args.runs, facts=facts)
    study.run(only=args.only)
    print(study.markdown())


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
