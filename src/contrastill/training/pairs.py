"""Contrastive training of a sentence-embedding model: DisCo's second stage, or SimCSE."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from contrastill.data.collate import Known
from contrastill.data.corpus import Corpus
from contrastill.data.groups import Groups, Numbers, in_chunks, numbered, read_groups, rows_fingerprint
from contrastill.data.pairs import hold_out_pairs, load_pairs
from contrastill.encoder import Embedder
from contrastill.errors import UserError
from contrastill.evaluation import size
from contrastill.loading import (
    TRAINED,
    Length,
    default_prompt,
    encoder_inside,
    highest_id,
    input_length,
    load_embedder,
    rows_of,
)
from contrastill.methods import Chunked, Perturbed, SimCSE, method_class, read_settings
from contrastill.processes import processes
from contrastill.results import RunResult
from contrastill.settings import Contrast
from contrastill.tasks import Pairs
from contrastill.tasks.pairs import PairScores
from contrastill.teachers import CachedEmbedder, SideBySide, cache_root
from contrastill.training import embedding_doubts
from contrastill.training.arguments import check_reporters
from contrastill.training.card import pairs_card
from contrastill.training.checkpoints import last_good_checkpoint
from contrastill.training.checks import Check, Report
from contrastill.training.doubts import Remedies
from contrastill.training.folder import RunFolder
from contrastill.training.order import NoSharedTexts
from contrastill.training.plan import Plan, autocast_dtype, scored_sets, shorten_queue, unwrap_batch
from contrastill.training.start import attend_eagerly_on_cpu

__all__ = ["PairsPlan", "check_checkpoint", "check_settings", "plan_pairs"]

logger = logging.getLogger(__name__)

DROPOUT = 0.1  # of a SimCSE run whose model has none: BERT's own, and the paper's best
RETRIEVED = 512  # training rows among which second texts are looked for, where there are no scored pairs
OPTIONS = {"scale": "--scale", "anchor_weight": "--anchor-weight"}  # settings of the method that are options themselves


class PairsPlan(Plan):
    name = "model"
    teacher = None  # the method's is read from disk alone

    def __init__(
        self,
        settings: Contrast,
        embedder: Any,
        teacher: SideBySide | None,
        rows: Dataset,
        seal: str,
        decided: Mapping[str, str],
        notes: Sequence[str],
        scores: PairScores,
        length: Length,
    ) -> None:
        self.settings, self.embedder, self.stored = settings, embedder, teacher
        self.rows, self.seal = rows, seal  # to train on; of all that were read
        self.decided, self.notes, self.scores, self.length = decided, notes, scores, length
        self.tokenizer, self.dtype = embedder.tokenizer, autocast_dtype(settings)
        self.metric = "spearman" if scores.dev is not None else None
        self.own_length = set_max_length(embedder, length.tokens)
        numbers, self.texts = numbered(rows)
        self.together = batch_rows(numbers, self.texts, settings)
        self.corpus, read = read_texts(embedder, teacher, self.texts, length.tokens)
        self.examples, self.collate = Groups(numbers, read), unwrap_batch
        self.lengths, self.words, self.cut_share = np.ones(len(numbers), np.int64), np.zeros(1, np.int64), 0.0
        if self.corpus is not None:
            self.lengths = self.corpus.lengths[numbers].max(1)  # of each row's longest text
            self.words, self.cut_share = np.unique(self.corpus.own.tokens), self.corpus.cut / len(self.texts)
        self.method = method_of(settings, embedder, teacher, Pairs(numbers.shape[1]), len(numbers))
        self.model = wrapped(self.method, settings)
        self.before: dict[str, Any] = {}
        self.after: dict[str, Any] = {}

    # ---- the training texts

    @property
    def highest(self) -> int:
        if self.corpus is None:
            return 0
        return max(super().highest, highest_id(self.tokenizer, rows_of(self.embedder), self.scores.texts))

    @property
    def known(self) -> Sequence[Known]:
        return self.corpus.known if self.corpus is not None else [Known()]

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        return self.examples.batch(rows)

    @property
    def batch_size(self) -> int:
        return self.together

    def order(self) -> NoSharedTexts:
        return NoSharedTexts(self.examples.numbers, self.together, self.settings.seed)

    # ---- checks and doubts

    def checks_of_rows(self) -> list[Check]:
        wrong = next((name for name, weight in self.embedder.named_parameters() if not weight.isfinite().all()), None)
        seen = f"NaN or infinity in {wrong}; train the model again" if wrong else "all"
        return [
            Check("tokenizer", True, type(self.tokenizer).__name__),
            Check("weights are finite", wrong is None, seen),
        ]

    def doubts(self, history: Sequence[Mapping[str, Any]], remedies: Remedies) -> list[str]:
        return embedding_doubts.of_pairs(self, history, remedies)

    # ---- a run's steps

    def fingerprints(self) -> dict[str, str]:
        teacher = {"teacher_fingerprint": self.stored.fingerprint} if self.stored is not None else {}
        return {"data_fingerprint": self.seal, **teacher}

    def score_start(self, folder: RunFolder) -> list[dict[str, Any]]:
        """Scores the model before training; a resumed run keeps those scores, and repeats only cosines or ranks."""
        before, model = folder.record.fact("before", dict), self.embedder.to(processes().device)
        if before is None or not self.scores.known(before):
            before = self.scores(model, keep="before")
        elif self.scores.dev is not None:
            self.scores.on_dev(model, keep="before")
        elif self.scores.held_out:
            self.scores.on_rows(model, keep="before")
        self.before = before
        folder.note(before=before, batch_rows=self.together)
        return [{"epoch": 0, "step": 0, "eval_spearman": before["dev"]}] if "dev" in before else []

    def use_cache(self) -> None:
        """Runs each teacher on the texts whose vectors are not stored yet."""
        for each in self.stored.each if self.stored is not None else ():
            each.fill_rows(map(each.rows, in_chunks(self.texts)), len(self.texts))

    @property
    def check(self) -> Callable[[], Mapping[str, float]] | None:
        if self.scores.dev is None:
            return None
        return lambda: {"spearman": self.scores.on_dev(self.embedder)}

    def describe(self) -> dict[str, Any]:
        return {
            "rows": len(self.rows),
            "texts": len(self.texts),
            "columns": self.rows.column_names,
            "notes": list(self.notes),
            "decisions": {**self.decided, "length": self.length.cutting(self.cut_share)},
        }

    def results(self) -> RunResult:
        self.after = self.scores(self.embedder, keep="after")
        changes = {name: {"before": self.before[name], "after": after} for name, after in self.after.items()}
        figures = {"train_rows": len(self.rows), "batch_rows": self.together, "scale": self.settings.scale}
        figures |= size(self.embedder) | ({} if self.checkpoint is None else {"checkpoint": self.checkpoint})
        figures, sts, yardsticks = figures | self.scores.figures, changes.pop("sts", {}), self.scores.yardsticks
        return RunResult(base=self.settings.model, sts=sts, changes=changes, yardsticks=yardsticks, figures=figures)

    def evidence(self) -> dict[str, Any] | None:
        return self.scores.evidence()

    def save(self, folder: RunFolder) -> Path:
        """Saves the model with the length limit of the model that it started from."""
        set_max_length(self.embedder, self.own_length)
        path = folder.save_model(
            self.name,
            lambda part: self.embedder.save_pretrained(str(part), create_model_card=False, safe_serialization=True),
        )
        set_max_length(self.embedder, self.length.tokens)
        return path

    def card(self, result: RunResult) -> str:
        return pairs_card(self.settings, result)


def plan_pairs(settings: Contrast) -> PairsPlan:
    embedder = load_embedder(settings.model).float()
    teacher = None
    if settings.anchor:
        root, dtype = cache_root(settings.cache), autocast_dtype(settings)
        teacher = SideBySide([CachedEmbedder(name, root, dtype=dtype) for name in settings.anchor])
    length = length_for(embedder, teacher, settings)
    settings = replace(settings, max_length=length.tokens)
    rows, notes = load_pairs(
        settings.pairs,
        columns=settings.columns,
        limit=settings.limit,
        encoding=settings.encoding,
        delimiter=settings.delimiter,
        unsupervised=settings.unsupervised,
    )
    train, scores, decided = scores_for(settings, rows)
    for note in (*notes, *decided.values()):
        logger.info("%s", note)
    check_tokenizer(embedder, settings)
    if settings.unsupervised:
        turn_on_dropout(embedder)
    return PairsPlan(settings, embedder, teacher, train, rows_fingerprint(rows), decided, notes, scores, length)


def scores_for(settings: Contrast, rows: Dataset) -> tuple[Dataset, PairScores, dict[str, str]]:
    """Rows to train on, the sets that a model is scored on, and how they were chosen.

    Without scored pairs, retrieval among pairs held out, else among some of those that are learnt from. Of texts alone,
    a text is its own positive, which every model finds.
    """
    dev, sets = scored_sets(settings)
    if dev is not None or settings.unsupervised:
        return rows, PairScores(dev, sets), {}
    train, held, decided = hold_out_pairs(rows, settings.dev_share)  # whatever the run's seed
    some = held
    if some is None:
        some = train.select(np.random.default_rng(settings.seed).permutation(len(train))[:RETRIEVED])
    first, second = (some[name][:] for name in some.column_names[:2])
    return train, PairScores(None, sets, (first, second), len(held or ())), {"dev": decided}


def method_of(settings: Contrast, embedder: Any, teacher: SideBySide | None, task: Pairs, rows: int) -> SimCSE:
    made: Any = method_class(settings.method)
    given = read_settings(settings.method, settings.set)
    if both := given.keys() & OPTIONS.keys():
        raise UserError(f"expected {OPTIONS[min(both)]} alone, got --set {min(both)}= too; leave out --set {min(both)}")
    given = shorten_queue(given, rows) | {"scale": settings.scale, "anchor_weight": settings.anchor_weight}
    inside = encoder_inside(embedder)
    if inside is not None:
        attend_eagerly_on_cpu(inside)
    method: SimCSE = made(Embedder(embedder, inside), teacher, task, **given)
    return method


def wrapped(method: SimCSE, settings: Contrast) -> nn.Module:
    if method.student.transformer is None and (settings.chunk or settings.perturb):
        raise UserError(
            f"expected a model with a transformer for {'--chunk' if settings.chunk else '--perturb'}, got "
            f"{settings.model!r}, a table of word vectors; leave it out"
        )
    if settings.perturb:
        return Perturbed(method, settings.perturb, settings.epsilon)
    return Chunked(method, settings.chunk) if settings.chunk else method


# ---- the texts


def read_texts(
    embedder: Any, teacher: SideBySide | None, texts: Sequence[str], longest: int
) -> tuple[Corpus | None, Callable[[Numbers], dict[str, Tensor]]]:
    """The texts as the model reads them, its default prompt before each; and how a batch is made of their numbers."""
    prompt = default_prompt(embedder)
    theirs = [(each.tokenizer, each.prompt) for each in teacher.each] if teacher is not None else []
    if encoder_inside(embedder) is not None:
        return read_groups(texts, embedder.tokenizer, longest, theirs, prompt)
    keys = read_groups(texts, theirs[0][0], longest, theirs)[1] if theirs else None

    def read(numbers: Numbers) -> dict[str, Tensor]:
        """Word vectors: the model's own features, of texts that have no rows of their own."""
        features = embedder.preprocess([texts[n] for n in numbers], prompt=prompt or None)
        features = {name: value for name, value in features.items() if isinstance(value, Tensor)}
        if keys is not None:
            mask = torch.ones(len(numbers), 1, dtype=torch.int64)
            features = {"attention_mask": mask, **features, "content": keys(numbers)["content"]}
        return {**features, "text_key": torch.from_numpy(numbers.copy())}

    return None, read


def batch_rows(numbers: Numbers, texts: Sequence[str], settings: Contrast) -> int:
    """Rows of a batch, over all processes: as asked for, or all there are.

    Raises:
        UserError: a text is in so many rows that they can't be in different batches.
    """
    world, asked_for, rows = processes().num_processes, settings.batch_size, len(numbers)
    if rows <= asked_for:
        most = len(NoSharedTexts(numbers, rows, settings.seed).first())
        if (found := most // world * world) < 2:
            raise UserError(
                f"expected rows to contrast with each other, got {rows}, each two with a text in common; add rows"
            )
        if found < asked_for:
            logger.info("batches of %d rows, not %d: no more without a text in common", found, asked_for)
        return found
    number, count = Counter(n for row in numbers.tolist() for n in set(row)).most_common(1)[0]
    if count > rows // asked_for:  # each batch holds it once at most
        fits = rows // count // world * world
        raise UserError(
            f"expected each text in at most {rows // asked_for} of {rows:,} rows, one for each batch of "
            f"{asked_for}, got {texts[number][:80]!r} in {count}; "
            + (f"lower --batch-size to {fits}, or remove some of them" if fits >= 2 else "remove most of them")
        )
    if len(NoSharedTexts(numbers, asked_for, settings.seed).first()) < asked_for:
        raise UserError(f"expected {asked_for} rows without a text in common, found none; lower --batch-size")
    return asked_for


# ---- the model


def length_for(embedder: Any, anchor: SideBySide | None, settings: Contrast) -> Length:
    """The length at which texts are cut, for the model and the anchors alike."""
    tokenizer = getattr(embedder, "tokenizer", None)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        length = Length(settings.max_length or TRAINED, "the model cuts no text")
    else:
        config = getattr(encoder_inside(embedder), "config", None)
        others = [each.tokenizer for each in anchor.each] if anchor is not None else []
        length = input_length(settings.max_length, settings.model, tokenizer, config, TRAINED, *others)
    for each in anchor.each if anchor is not None else ():
        each.max_length = length.tokens
    return length


def set_max_length(embedder: Any, longest: int) -> int:
    """Sets where texts are cut, and returns where they were."""
    before: int = embedder.max_seq_length
    if encoder_inside(embedder) is not None:
        embedder.max_seq_length = longest
    return before


def check_tokenizer(embedder: Any, settings: Contrast) -> None:
    tokenizer = getattr(embedder, "tokenizer", None)
    ids = getattr(tokenizer, "all_special_ids", [])
    if tokenizer is None or (hasattr(tokenizer, "__len__") and len(tokenizer) <= len(ids)):
        seen = f"{settings.model!r} has none, or one without words; save it beside the model"
        Report([Check("tokenizer", False, seen, forceable=False)]).raise_if_failed()


def turn_on_dropout(model: nn.Module) -> None:
    """Without dropout the two views of a text would be one. Layers are changed, the config that is saved is not."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Dropout)]
    if not layers:
        raise UserError("expected a model with dropout layers for --unsupervised, found none; choose another --model")
    if not any(layer.p for layer in layers):
        logger.info("the model has no dropout: %s while it learns", DROPOUT)
        for layer in layers:
            layer.p = DROPOUT


# ---- settings, and runs to resume


def check_settings(settings: Contrast) -> None:
    """Checks what the settings must agree on.

    Raises:
        UserError: they do not.
    """
    world = processes().num_processes
    for ok, wrong in (
        (settings.batch_size % world == 0, f"a batch size that {world} processes divide, got {settings.batch_size}"),
        (
            settings.accumulate == 1,
            f"--accumulate 1, got {settings.accumulate}: parts of a batch would lack each other's negatives; --chunk "
            "saves the memory and keeps the loss",
        ),
        (
            settings.chunk is None or settings.perturb is None,
            "--chunk or --perturb, got both: a perturbed batch is in memory whole; leave one out and choose a smaller "
            "--batch-size",
        ),
    ):
        if not ok:
            raise UserError(f"expected {wrong}")
    check_reporters(settings.report_to)


def check_checkpoint(folder: RunFolder) -> None:
    """Checks that a run to resume has checkpoints of this version.

    Raises:
        UserError: they were written before a contrastive run had the engine of all others (0.1).
    """
    found = last_good_checkpoint(folder.checkpoints)
    if found is None:
        return
    with safe_open(found / "model.safetensors", framework="pt") as weights:
        if any("student." in name for name in weights.keys()):  # noqa: SIM118
            return
    raise UserError(
        f"{folder.path}: expected checkpoints of this version, found those of an earlier one, which cannot be "
        f"continued; start again with contrastill contrast --from {folder.path / 'run.json'} --out FOLDER"
    )
