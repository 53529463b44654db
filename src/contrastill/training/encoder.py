"""General distillation: an encoder learns a teacher's layers on texts without labels; task students start from it."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, set_seed
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.data.corpus import Corpus
from contrastill.errors import UserError
from contrastill.evaluation import size
from contrastill.evaluation.inference import inference
from contrastill.loading import Length, input_length
from contrastill.methods import METHODS, Method, method_class, read_settings
from contrastill.results import RunResult, Scores
from contrastill.settings import Pretraining
from contrastill.tasks import BareEncoder
from contrastill.teachers import cache_root, fingerprint, load_teacher
from contrastill.training.card import encoder_card
from contrastill.training.embeddings import corpus_fingerprint, load_corpus
from contrastill.training.folder import RunFolder
from contrastill.training.plan import CorpusPlan, autocast_dtype
from contrastill.training.start import set_dropout, start_encoder, transformer_of

__all__ = ["plan_pretraining"]

HELD_OUT = 256  # texts kept from training, whose loss is logged


class EncoderPlan(CorpusPlan):
    name = "student"
    metric = "loss"

    def __init__(
        self,
        settings: Pretraining,
        tokenizer: Tokenizer,
        teacher: PreTrainedModel,
        method: Method,
        corpus: Corpus,
        length: Length,
    ) -> None:
        self.length = length
        self.settings, self.tokenizer, self.teacher = settings, tokenizer, teacher
        self.method = self.model = method
        self.dtype = autocast_dtype(settings)
        self.hold_out(corpus, min(HELD_OUT, len(corpus) // 10))

    def fingerprints(self) -> dict[str, str]:
        assert self.teacher is not None
        return {"data_fingerprint": corpus_fingerprint(self.corpus), "teacher_fingerprint": fingerprint(self.teacher)}

    def use_cache(self) -> None:
        """Stores nothing: a token's layers are read once or twice, and are 100 times as large as a text's vector."""

    @property
    def check(self) -> Callable[[], Mapping[str, float]] | None:
        return self.held_out if len(self.held) > 1 else None

    def held_out(self) -> dict[str, float]:
        """The loss terms on the held-out texts, and their weighted sum."""
        found: dict[str, list[float]] = {}
        device = self.method.student.model.device
        with inference(self.method, self.dtype):
            for n in range(0, len(self.held), 32):
                batch = {k: v.to(device) for k, v in self.held.batch(range(n, min(n + 32, len(self.held)))).items()}
                teacher = self.method.run_teacher(batch)
                student = self.method.student(batch, self.method.needs)
                for term, value in self.method.weighted_sum(self.method.losses(student, teacher, batch)).items():
                    found.setdefault(term, []).append(float(value))
        return {term: float(np.mean(values)) for term, values in found.items()}

    def results(self) -> RunResult:
        assert self.teacher is not None
        ours = {**(self.held_out() if self.check else {}), **size(self.method.student.model)}
        models = {"teacher": Scores({}, size(self.teacher)), "student": Scores({}, ours)}
        metric, figures = self.metric if self.check else None, {"train_rows": len(self.examples)}
        return RunResult("general distillation", metric, models=models, figures=figures)

    def save(self, folder: RunFolder) -> Path:
        def write(place: Path) -> None:
            student: Any = self.method.student.model
            if self.settings.half:
                student = copy.deepcopy(student).to(torch.float16)
            student.save_pretrained(place)
            self.tokenizer.save_pretrained(place)

        return folder.save_model(self.name, write)

    def card(self, result: RunResult) -> str:
        return encoder_card(self.settings, result)


def plan_pretraining(settings: Pretraining) -> EncoderPlan:
    given = read_settings(settings.method, settings.set)
    if not method_class(settings.method).serves(BareEncoder):
        known = ", ".join(name for name, cls in METHODS.items() if cls.serves(BareEncoder))
        raise UserError(f"expected a method whose terms need no task ({known}), got {settings.method!r}")
    live, tokenizer = load_teacher(settings.teacher)
    teacher = transformer_of(live)
    length = input_length(settings.max_length, settings.teacher, tokenizer, teacher.config)
    settings = replace(settings, max_length=length.tokens)
    corpus = load_corpus(settings, tokenizer)
    set_seed(settings.seed)
    student = start_encoder(settings, teacher, tokenizer, corpus, cache_root(settings.cache))
    set_dropout(student, settings.dropout)
    method = method_class(settings.method)(student, teacher, BareEncoder(), **given)
    return EncoderPlan(settings, tokenizer, teacher, method, corpus, length)
