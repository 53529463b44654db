"""General distillation: an encoder learns a teacher's layers on texts without labels; task students start from it."""

import copy
from collections.abc import Callable, Mapping, Sequence
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
from contrastill.loading import Length, input_length, load_encoder, load_tokenizer
from contrastill.methods import METHODS, Method, method_class, read_settings
from contrastill.results import RunResult, Scores
from contrastill.settings import Pretraining
from contrastill.shapes import AS_IS
from contrastill.tasks import BareEncoder
from contrastill.teachers import (
    AlignedTeacher,
    FrozenEncoder,
    WordsHead,
    cache_root,
    fingerprint,
    load_teacher,
    load_words_head,
)
from contrastill.training.as_is import check_tokens, compares_tokens, length_of, reads_alike, told_of_tokens
from contrastill.training.card import encoder_card
from contrastill.training.embeddings import corpus_fingerprint, load_corpus
from contrastill.training.folder import RunFolder
from contrastill.training.plan import FITTED, CorpusPlan, autocast_dtype
from contrastill.training.start import attend_eagerly_on_cpu, set_dropout, start_encoder, transformer_of

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
        task: BareEncoder,
    ) -> None:
        """corpus: with the teacher's reading beside the student's, where it reads by another tokenizer."""
        self.length = length
        self.settings, self.tokenizer, self.teacher = settings, tokenizer, teacher
        self.method = self.model = method
        self.dtype = autocast_dtype(settings)
        self.hold_out(corpus, min(HELD_OUT, len(corpus) // 10))
        self.task = task
        if task.mask is not None:
            self.words = np.union1d(self.words, [task.mask])

    @property
    def readers(self) -> Sequence[tuple[int, PreTrainedModel]]:
        if self.corpus.beside is None or self.teacher is None:
            return super().readers
        return [(self.highest, self.method.student.model), (int(self.corpus.beside.tokens.max()), self.teacher)]

    def describe(self) -> dict[str, Any]:
        about = super().describe()
        if self.corpus.beside is None:
            return about
        batch = self.batch(range(min(FITTED, len(self.examples))))
        full = float((self.corpus.beside.lengths[self.examples.rows] >= self.length.tokens).mean())
        said = (
            f"reads the texts by its own tokenizer; {full:.1%} of them fill its {self.length.tokens} tokens, or are cut"
        )
        if "places" in batch:
            said += f"; {told_of_tokens(batch)}"
        return {**about, "decisions": about["decisions"] | {"teacher": said}}

    def fingerprints(self) -> dict[str, str]:
        assert self.teacher is not None
        head: Any = self.task.head
        of_head = {"head_fingerprint": head.fingerprint} if head is not None else {}
        data, teacher = corpus_fingerprint(self.corpus), fingerprint(self.teacher)
        return {"data_fingerprint": data, "teacher_fingerprint": teacher, **of_head}

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
                batch = self.method.prepare(batch)
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
    given, made = read_settings(settings.method, settings.set), method_class(settings.method)
    if not made.serves(BareEncoder):
        known = ", ".join(name for name, cls in METHODS.items() if cls.serves(BareEncoder))
        raise UserError(f"expected a method whose terms need no task ({known}), got {settings.method!r}")
    live, tokenizer = load_teacher(settings.teacher)
    head = head_of(settings, tokenizer) if made.guesses_words else None
    teacher = transformer_of(live)
    if settings.student == AS_IS:
        return plan_as_is(settings, made, given, teacher, tokenizer, head)
    length = input_length(settings.max_length, settings.teacher, tokenizer, teacher.config)
    settings = replace(settings, max_length=length.tokens)
    corpus = load_corpus(settings, tokenizer)
    set_seed(settings.seed)
    student = start_encoder(settings, teacher, tokenizer, corpus, cache_root(settings.cache))
    set_dropout(student, settings.dropout)
    task = task_on(corpus, head)
    return EncoderPlan(settings, tokenizer, teacher, made(student, teacher, task, **given), corpus, length, task)


def plan_as_is(
    settings: Pretraining,
    made: type[Method],
    given: Mapping[str, Any],
    teacher: PreTrainedModel,
    reader: Tokenizer,
    head: WordsHead | None,
) -> EncoderPlan:
    """Of a student that is taken as it is, maybe with a tokenizer of its own. reader: the teacher's."""
    student, tokenizer = load_encoder(settings.start), load_tokenizer(settings.start)
    attend_eagerly_on_cpu(student)
    set_dropout(student, settings.dropout)
    length = length_of(settings, tokenizer, student, (settings.teacher, teacher.config, reader))
    settings = replace(settings, max_length=length.tokens)
    set_seed(settings.seed)
    if reads_alike(tokenizer, reader):
        corpus = load_corpus(settings, tokenizer)
        task = task_on(corpus, head)
        return EncoderPlan(settings, tokenizer, teacher, made(student, teacher, task, **given), corpus, length, task)
    if head is not None:
        raise UserError(
            f"{settings.method!r} compares guesses of masked words: expected a student with the teacher's tokenizer, "
            f"got {settings.start!r}, which has another; choose another method, such as --method lrc_bert"
        )
    task = BareEncoder()
    method = made(student, AlignedTeacher(FrozenEncoder(teacher)), task, **given)
    check_tokens(method, tokenizer, reader)
    corpus = load_corpus(settings, tokenizer, [(reader, "")], beside=True, placed=compares_tokens(method))
    return EncoderPlan(settings, tokenizer, teacher, method, corpus, length, task)


def task_on(corpus: Corpus, head: WordsHead | None) -> BareEncoder:
    """head: of the teacher, where masked words are guessed, of the pieces in the corpus."""
    if head is None:
        return BareEncoder()
    tokenizer = corpus.own.tokenizer
    words = np.setdiff1d(np.unique(corpus.own.tokens), tokenizer.all_special_ids)
    return BareEncoder(head, tokenizer.mask_token_id, words.tolist())


def head_of(settings: Pretraining, tokenizer: Tokenizer) -> WordsHead:
    """The teacher's masked-LM head.

    Raises:
        UserError: teacher or tokenizer cannot guess masked words.
    """
    others = [name for name, cls in METHODS.items() if cls.serves(BareEncoder) and not cls.guesses_words]
    remedy = f"give a model saved with it, or choose a method that needs none: --method {' or '.join(others)}"
    if tokenizer.mask_token_id is None:
        raise UserError(
            f"{settings.method!r} compares guesses of masked words: expected a tokenizer with a mask token, got that "
            f"of {settings.teacher!r}, which has none; {remedy}"
        )
    try:
        return load_words_head(settings.teacher)
    except UserError as error:
        raise UserError(f"{settings.method!r} compares guesses of masked words: {error}; {remedy}") from None
