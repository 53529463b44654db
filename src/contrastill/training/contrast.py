"""Contrastive training of a sentence-embedding model on texts that belong together: DisCo's second stage, or SimCSE.

The loss, the trainer and the sampler are sentence-transformers'; they are imported inside functions, for the library is
an optional extra. Shapes: B rows of a batch (over all processes N), C columns (2, or 3 with hard negatives), D width.
"""

import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, PrinterCallback

from contrastill.cache import cache_root
from contrastill.data.pairs import load_pairs
from contrastill.errors import UserError
from contrastill.evaluation import size, spearman
from contrastill.loading import (
    FITS,
    TRAINED,
    Length,
    encoder_inside,
    highest_id,
    input_length,
    load_embedder,
    misfit,
    positions,
    rows_of,
)
from contrastill.losses import contrast as info_nce
from contrastill.losses import similarity_targets
from contrastill.report.evidence import of_pairs
from contrastill.results import read_object
from contrastill.settings import Contrast
from contrastill.training.arguments import check_reporters
from contrastill.training.callbacks import Epochs, LastStep, Progress, Record, StopRequest
from contrastill.training.checkpoints import Seal, last_good_checkpoint
from contrastill.training.checks import Check, Report
from contrastill.training.folder import RunFolder, processes
from contrastill.training.plan import autocast_dtype
from contrastill.training.preflight import room_for_checkpoints
from contrastill.training.run import Clock, Run, conclude, doubt, finished, saving
from contrastill.training.trainer import Interrupted, check_finite
from contrastill.training.vectors import StoredTeacher

__all__ = ["Anchored", "contrast"]

logger = logging.getLogger(__name__)

SCHEDULERS = {"linear": "linear", "constant": "constant_with_warmup"}
DROPOUT = 0.1  # of a SimCSE run whose model has none: BERT's own, and the paper's best
TEMPERATURE = 0.05  # of the anchor's softmaxes
RETRIEVED = 512  # training rows among which second texts are looked for, where there are no scored pairs
SAMPLE = 1000  # texts that are read to say how many the length limit cuts
WEIGHTS = "model.safetensors"


def contrast(*, resume: bool = False, **settings: Any) -> Run:
    """Trains a sentence-embedding model on texts that belong together. Settings: see `Contrast`.

    The loss of a row with anchor a and positive p+, over all keys k: the positives and the hard negatives of the whole
    batch, gathered over the processes, is InfoNCE (Gao et al. 2021, arXiv:2104.08821, eq. 1 and 5):

        -log exp(scale cos(a, p+)) / sum_k exp(scale cos(a, k))

    No text stands in two rows of a batch, for a row's key must not be another row's right answer.

    Raises:
        UserError: bad settings, pairs or model; before training where it can be known.
        Interrupted: stopped by Ctrl-C or SIGTERM, and saved; call again with `resume=True`.
    """
    asked = Contrast.given(settings)
    check_settings(asked)
    with RunFolder("contrast", asked, resume) as folder, saving(folder):
        return finished(folder, "model") or train(folder, asked, resume)


def check_settings(asked: Contrast) -> None:
    world = processes().num_processes
    for ok, wrong in (
        (asked.batch_size % world == 0, f"a batch size that {world} processes divide, got {asked.batch_size}"),
        (
            asked.accumulate == 1,
            f"--accumulate 1, got {asked.accumulate}: parts of a batch would lack each other's negatives; --chunk "
            "saves the memory and keeps the loss",
        ),
        (
            asked.chunk is None or asked.anchor is None,
            "--chunk or --anchor, got both; leave one out and choose a smaller --batch-size",
        ),
    ):
        if not ok:
            raise UserError(f"expected {wrong}")
    check_reporters(asked.report_to)


def train(folder: RunFolder, asked: Contrast, resume: bool) -> Run:
    """From settings to the finished folder."""
    clock, device, model = Clock(), processes().device, load_embedder(asked.model).float()
    dtype = autocast_dtype(asked)
    teacher = StoredTeacher(asked.anchor, cache_root(asked.cache), dtype=dtype) if asked.anchor else None
    length = length_for(model, teacher, asked)
    asked = replace(asked, max_length=length.tokens)
    folder.settle(asked)
    rows, notes = load_pairs(
        asked.pairs,
        columns=asked.columns,
        limit=asked.limit,
        encoding=asked.encoding,
        delimiter=asked.delimiter,
        unsupervised=asked.unsupervised,
    )
    score = Scores(asked, rows)
    for note in notes:
        logger.info("%s", note)
    folder.check_fact(
        data_fingerprint=fingerprint_of(rows),
        **({"teacher_fingerprint": teacher.cached.teacher} if teacher is not None else {}),
    )
    report = Report(checks(model, rows, asked, length.tokens, score))
    report.raise_if_failed(force=asked.force)
    logger.info("length: %s; %s", length, report.seen("texts fit"))
    longest = set_max_length(model, length.tokens)
    if asked.unsupervised:
        turn_on_dropout(model)
    rows, texts = numbered(rows)
    together = batch_rows(rows, texts, asked)
    folder.note(
        data={
            "rows": len(rows),
            "texts": len(texts),
            "columns": rows.column_names[:-1],
            "notes": notes,
            "decisions": {"length": f"{length}; {report.seen('texts fit')}"},
        },
        preflight=report.as_dict(),
        batch_rows=together,
    )
    clock.lap("preparation")

    before = folder.record.fact("before", dict)
    if before is None or not score.known(before):
        before = score(model.to(device), keep="before")
        folder.note(before=before)
    clock.lap("scores before")
    vectors = torch.from_numpy(teacher.encode(texts)).half() if teacher is not None else None
    teacher, loss = None, loss_of(model, asked, vectors)  # the teacher's memory is free again
    clock.lap("teacher outputs")
    folder.begin()
    if "before" in score.kept:
        folder.write("evidence.json", {"before": score.kept["before"].round(5).tolist()})

    trainer, steps = make_trainer(model, loss, rows, together, score, before.get("dev"), asked, folder)
    trainer.train_or_resume(last_good_checkpoint(folder.checkpoints) if resume else None)
    clock.lap("training")
    set_max_length(model, longest)
    path = folder.save_model(
        "model",
        lambda part: model.save_pretrained(str(part), create_model_card=False, safe_serialization=True),
    )
    set_max_length(model, length.tokens)
    folder.note(status="saved")
    after = score(model, keep="after")
    clock.lap("evaluation")
    metrics: dict[str, Any] = {
        "base": asked.model,
        "train_rows": len(rows),
        "steps": steps,
        "batch_rows": together,
        "scale": asked.scale,
        **{name: {"before": before[name], "after": after[name]} for name in after},
        **({"checkpoint": trainer.state.best_global_step} if asked.dev else {}),
        **size(model),
        "seconds": clock.seconds,
    }
    if asked.dev and after["dev"] < before["dev"]:
        fell = f"the dev score fell from {before['dev']:.2f} to {after['dev']:.2f}: the start was better"
        doubt(folder, metrics, [f"{fell}; lower --learning-rate, or take other pairs"])
    conclude(folder, path, card(asked, metrics), metrics, partial(score.evidence, folder))
    return Run(folder.path, path, metrics)


# ---- the loss


class Anchored(nn.Module):
    """A contrastive loss, and a term that keeps the similarities of a teacher while it is learnt.

    With unit vectors s of the student and t of the teacher, of every text i of the batch (all columns):

        contrast + weight * mean_i CE(softmax_j(t_i . t_j / T), softmax_j(s_i . s_j / T)),  j any other text

    as DistillCSE has it (Xu et al. 2023, arXiv:2310.13499). Nothing compares a width, so the student's and the
    teacher's may differ.

    model: the student, a `SentenceTransformer`. main: the contrastive loss, with `compute_loss_from_embeddings`.
    vectors: (texts, D) the teacher's unit vectors; they stay where they are. gather: compare with all processes' texts.
    """

    def __init__(
        self,
        model: nn.Module,
        main: Any,
        vectors: Tensor,
        weight: float = 1.0,
        temperature: float = TEMPERATURE,
        gather: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.main, self.vectors = model, main, vectors
        self.weight, self.temperature, self.gather = weight, temperature, gather

    def forward(self, sentence_features: Any, labels: Tensor) -> dict[str, Tensor]:
        """labels: (B, C) the numbers of the texts, rows of `vectors`. Returns the terms, whose sum is the loss."""
        embeddings = [self.model(features)["sentence_embedding"] for features in sentence_features]
        return {
            "contrast": self.main.compute_loss_from_embeddings(embeddings, labels),
            "anchor": self.weight * self.anchor(torch.cat(embeddings), labels.T.flatten()),
        }

    def anchor(self, embeddings: Tensor, numbers: Tensor) -> Tensor:
        """(C B, D) and (C B,) -> (): no text, nor a second copy of it, is a candidate for itself."""
        from sentence_transformers.util import all_gather, all_gather_with_grad

        with torch.autocast(embeddings.device.type, enabled=False):  # which would round the similarities
            student = F.normalize(embeddings.float(), dim=-1)
            others, theirs = student, numbers
            if self.gather:
                others, theirs = all_gather_with_grad(student), all_gather(numbers)
            allowed = numbers[:, None] != theirs[None]
            teacher, known = (self.vectors[n.cpu()].to(student.device).float() for n in (numbers, theirs))
            target = similarity_targets(teacher, known, self.temperature, allowed)
            return info_nce(student, others, target, self.temperature, allowed)


def loss_of(model: Any, asked: Contrast, vectors: Tensor | None) -> nn.Module:
    from sentence_transformers.losses import CachedMultipleNegativesRankingLoss, MultipleNegativesRankingLoss

    several = processes().num_processes > 1
    shared: dict[str, Any] = {"scale": asked.scale, "similarity_fct": cosines, "gather_across_devices": several}
    if asked.chunk:
        return CachedMultipleNegativesRankingLoss(model, mini_batch_size=asked.chunk, **shared)
    loss = MultipleNegativesRankingLoss(model, **shared)
    return loss if vectors is None else Anchored(model, loss, vectors, asked.anchor_weight, gather=several)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """(B, D), (N, D) -> (B, N) in float32: times a scale of 20, bfloat16's rounding would be a few tenths."""
    with torch.autocast(a.device.type, enabled=False):
        return F.normalize(a.float(), dim=-1) @ F.normalize(b.float(), dim=-1).T


# ---- the rows


def numbered(rows: Dataset) -> tuple[Dataset, list[str]]:
    """The rows with a column `label` of their texts' numbers (the trainer hands it to the loss), and the texts."""
    numbers: dict[str, int] = {}
    columns = [rows[column][:] for column in rows.column_names]
    label = [[numbers.setdefault(text, len(numbers)) for text in row] for row in zip(*columns, strict=True)]
    return rows.add_column("label", label), list(numbers)


def fingerprint_of(rows: Dataset) -> str:
    """A sha256 of every row."""
    digest = hashlib.sha256(json.dumps(rows.column_names).encode())
    for batch in rows.iter(1024):
        digest.update(json.dumps(batch).encode())
    return digest.hexdigest()


def order_of(rows: Dataset, batch: int, seed: int, whole: bool = True) -> Any:
    """Batches of rows, no two of a batch with a text in common; a text may be its own row's anchor and positive."""
    from sentence_transformers.base.sampler import NoDuplicatesBatchSampler

    return NoDuplicatesBatchSampler(
        rows.remove_columns("label"), batch_size=batch, drop_last=whole, generator=torch.Generator(), seed=seed
    )


def batch_rows(rows: Dataset, texts: list[str], asked: Contrast) -> int:
    """Rows of a batch, over all processes: as asked for, or what there is.

    Raises:
        UserError: a text is in so many rows that they can't be in different batches.
    """
    world, asked_for = processes().num_processes, asked.batch_size
    if len(rows) <= asked_for:
        most = len(next(iter(order_of(rows, len(rows), asked.seed, whole=False))))
        if (found := most // world * world) < 2:
            raise UserError(
                f"expected rows to contrast with each other, got {len(rows)}, each two with a text in common; add rows"
            )
        if found < asked_for:
            logger.info("batches of %d rows, not %d: no more without a text in common", found, asked_for)
        return found
    number, count = Counter(n for row in rows["label"] for n in set(row)).most_common(1)[0]
    if count > len(rows) // asked_for:  # each batch holds it once at most
        fits = len(rows) // count // world * world
        raise UserError(
            f"expected each text in at most {len(rows) // asked_for} of {len(rows):,} rows, one for each batch of "
            f"{asked_for}, got {texts[number][:80]!r} in {count}; "
            + (f"lower --batch-size to {fits}, or remove some of them" if fits >= 2 else "remove most of them")
        )
    if next(iter(order_of(rows, asked_for, asked.seed)), None) is None:
        raise UserError(f"expected {asked_for} rows without a text in common, found none; lower --batch-size")
    return asked_for


# ---- checks before training


def checks(model: Any, rows: Dataset, asked: Contrast, longest: int, score: "Scores") -> list[Check]:
    tokenizer = getattr(model, "tokenizer", None)
    ids = getattr(tokenizer, "all_special_ids", [])
    if tokenizer is None or (hasattr(tokenizer, "__len__") and len(tokenizer) <= len(ids)):
        seen = f"{asked.model!r} has none, or one without words; save it beside the model"
        return [Check("tokenizer", False, seen, forceable=False)]
    wrong = next((name for name, weight in model.named_parameters() if not weight.isfinite().all()), None)
    seen = f"NaN or infinity in {wrong}; train the model again" if wrong else "all"
    return [
        Check("tokenizer", True, f"{type(tokenizer).__name__}"),
        Check("weights are finite", wrong is None, seen),
        *tokens_fit(model, rows, score),
        fits(model, rows, longest),
        room_for_checkpoints(model, asked.out),
    ]


def tokens_fit(model: Any, rows: Dataset, score: "Scores") -> list[Check]:
    """That the model has an embedding of every token of its pairs, and of those it is scored on."""
    table = rows_of(model)
    if table is None or not isinstance(model.tokenizer, PreTrainedTokenizerBase):
        return []
    scored = [*([score.dev] if score.dev is not None else []), *(score.sets or {}).values()]
    texts = chain(
        (batch[name] for batch in rows.iter(1024) for name in rows.column_names),
        (side for pairs in scored for side in (pairs.first, pairs.second)),
    )
    wrong = misfit(highest_id(model.tokenizer, table, texts), table)
    return [Check(FITS, not wrong, wrong or f"every token is among the {table} that the model knows", forceable=False)]


def length_for(model: Any, anchor: StoredTeacher | None, asked: Contrast) -> Length:
    """The length at which texts are cut; the anchor reads them at the same one."""
    tokenizer = getattr(model, "tokenizer", None)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return Length(asked.max_length or TRAINED, "the model cuts no text")
    config = getattr(encoder_inside(model), "config", None)
    others = [anchor.tokenizer] if anchor is not None else []
    length = input_length(asked.max_length, asked.model, tokenizer, config, TRAINED, *others)
    if anchor is not None:
        anchor.max_length = length.tokens
    return length


def fits(model: Any, rows: Dataset, longest: int) -> Check:
    """That the model has a position for every token, and that few texts are cut."""
    config = getattr(encoder_inside(model), "config", None)
    if config is None:
        return Check("texts fit", True, "the model has no positions")
    room = positions(config)
    least = model.tokenizer.num_special_tokens_to_add() + 1
    if longest < least or (room is not None and longest > room):
        seen = f"max_length {longest}, but the model takes {least} to {room} tokens"
        return Check("texts fit", False, seen, forceable=False)
    some = rows.select(range(min(SAMPLE, len(rows))))
    texts = [text for column in some.column_names for text in some[column][:]]
    lengths = np.array([len(found) for found in model.tokenizer(texts, verbose=False, truncation=False)["input_ids"]])
    cut = float((lengths > longest).mean())
    seen = f"{cut:.1%} of the first texts are cut at {longest} tokens (mean {lengths.mean():.0f})"
    return Check("texts fit", cut < 0.1, seen if cut < 0.1 else f"{seen}; raise --max-length?", fatal=False)


def set_max_length(model: Any, longest: int) -> int:
    """Sets where texts are cut, and returns where they were."""
    before = model.max_seq_length
    if hasattr(model[0], "auto_model"):
        model.max_seq_length = longest
    return before


def turn_on_dropout(model: nn.Module) -> None:
    """Without dropout the two views of a text would be one. Layers are changed, the config that is saved is not."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Dropout)]
    if not layers:
        raise UserError("expected a model with dropout layers for --unsupervised, found none; choose another --model")
    if not any(layer.p for layer in layers):
        logger.info("the model has no dropout: %s while it learns", DROPOUT)
        for layer in layers:
            layer.p = DROPOUT


# ---- the run


class Scores:
    """The sets that a model is scored on; called with one it gives {"dev": Spearman x 100, "sts": a table}.

    Without scored pairs there is "retrieval" in place of "dev": see `retrieval`. (Of texts alone, a text's positive is
    itself, which every model finds.)
    """

    def __init__(self, asked: Contrast, rows: Dataset) -> None:
        from contrastill.evaluation.sts import load_scored_pairs, load_sts

        self.dev = load_scored_pairs(asked.dev, asked.encoding, asked.delimiter) if asked.dev else None
        self.sets = load_sts(None if asked.sts == "hub" else asked.sts) if asked.sts else None
        self.kept: dict[str, np.ndarray] = {}  # cosines of the dev pairs
        some = np.random.default_rng(asked.seed).permutation(len(rows))[:RETRIEVED]
        self.rows = rows.select(some) if self.dev is None and not asked.unsupervised else None

    def __call__(self, model: Any, dev_only: bool = False, keep: str | None = None) -> dict[str, Any]:
        """dev_only: the dev score alone, as the checks of a run ask for. keep: the name of its cosines in `kept`."""
        from contrastill.evaluation.sts import sts_scores, sts_similarities

        found: dict[str, Any] = {}
        if self.dev is not None:
            cosine = sts_similarities(model, {"dev": self.dev})["dev"]
            found["dev"] = round(100 * spearman(cosine, self.dev.scores), 4)
            if keep is not None:
                self.kept[keep] = cosine
        if self.rows is not None and not dev_only:
            found["retrieval"] = round(100 * retrieval(model, self.rows), 2)
        if self.sets is not None and not dev_only:
            found["sts"] = sts_scores(model, self.sets)
        return found

    def known(self, before: dict[str, Any]) -> bool:
        """Whether a stored answer holds all scores."""
        return (
            (self.dev is None or isinstance(before.get("dev"), float))
            and (self.rows is None or isinstance(before.get("retrieval"), float))
            and (self.sets is None or isinstance(before.get("sts"), dict))
        )

    def evidence(self, folder: RunFolder) -> dict[str, Any] | None:
        """Of the dev pairs, before and after; a resumed run finds what was before in its folder."""
        if self.dev is None:
            return None
        pairs, before = self.dev, self.kept.get("before")
        if before is None and (folder.path / "evidence.json").is_file():
            with suppress(UserError, TypeError, ValueError):  # damaged: the page shows what is after alone
                stored = np.array(read_object(folder.path / "evidence.json")["before"], dtype=np.float64)
                before = stored if stored.shape == (len(pairs),) else None

        def texts(numbers: np.ndarray) -> list[list[str]]:
            return [[pairs.first[n], pairs.second[n]] for n in numbers]

        return of_pairs(pairs.scores, self.kept["after"], before, texts)


def retrieval(model: Any, rows: Dataset) -> float:
    """The share of these rows whose second text is, of all second texts, the nearest to the first one."""
    firsts, seconds = (list(rows[column]) for column in rows.column_names[:2])
    a, b = (model.encode(texts, normalize_embeddings=True, show_progress_bar=False) for texts in (firsts, seconds))
    nearest = (np.asarray(a) @ np.asarray(b).T).argmax(1)
    return float(np.mean([seconds[found] == second for found, second in zip(nearest, seconds, strict=True)]))


def make_trainer(
    model: Any,
    loss: nn.Module,
    rows: Dataset,
    together: int,
    score: Callable[..., dict[str, Any]],
    before: float | None,
    asked: Contrast,
    folder: RunFolder,
) -> tuple[Any, int]:
    """sentence-transformers' trainer with our checkpoints and interruptions, and the number of steps."""
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

    has_dev, stop, order = asked.dev is not None, StopRequest(), order_of(rows, together, asked.seed)
    steps = math.ceil(asked.epochs * (len(rows) // together))
    every = math.ceil(steps / asked.checks)
    prompts = getattr(model, "prompts", None) or {}
    args = SentenceTransformerTrainingArguments(
        output_dir=str(folder.checkpoints),
        max_steps=steps,
        per_device_train_batch_size=together // processes().num_processes,
        accelerator_config={"split_batches": True},  # a batch is drawn whole, then shared: no text in it twice
        prompts=prompts.get(getattr(model, "default_prompt_name", None)) or None,
        learning_rate=asked.learning_rate,
        lr_scheduler_type=SCHEDULERS[asked.schedule],
        warmup_steps=int(asked.warmup * steps),
        weight_decay=asked.weight_decay,
        max_grad_norm=asked.max_grad_norm,
        optim="adamw_torch_fused",
        bf16=autocast_dtype(asked) is torch.bfloat16,
        use_cpu=not torch.accelerator.is_available(),
        seed=asked.seed,
        eval_strategy="steps" if has_dev else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=3,
        load_best_model_at_end=has_dev,
        metric_for_best_model="spearman" if has_dev else None,
        greater_is_better=True if has_dev else None,
        logging_steps=max(1, steps // 50),
        logging_nan_inf_filter=False,
        report_to=asked.report_to,
        remove_unused_columns=False,
        dataloader_drop_last=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,  # `Progress` draws the bar
    )

    class ContrastTrainer(SentenceTransformerTrainer):
        def get_batch_sampler(self, *_: Any, **__: Any) -> Any:
            return order

        def add_model_card_callback(self, *_: Any) -> None:
            """Nothing: the card is ours, and theirs would tokenise rows for its examples."""

        def log(self, logs: dict[str, float], *more: Any, **options: Any) -> None:
            if "loss" in logs:
                check_finite(logs, self.state.global_step)
            super().log(logs, *more, **options)

        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            metrics = {"eval_spearman": score(model, dev_only=True)["dev"]}
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

        # Weights alone, not a folder of modules: that is what `Seal` covers, and loading them cannot half succeed.
        def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
            Path(str(output_dir)).mkdir(parents=True, exist_ok=True)
            save_model(self.model, str(Path(str(output_dir)) / WEIGHTS))

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            load_model(self.model, str(Path(resume_from_checkpoint) / WEIGHTS))

        def _load_best_model(self) -> None:
            self._load_from_checkpoint(str(self.state.best_model_checkpoint))

        def train_or_resume(self, checkpoint: Path | None) -> None:
            with stop.listening():
                self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            if self.state.global_step < self.state.max_steps:
                if stop.asked:
                    raise Interrupted
                raise UserError(
                    f"expected {together} rows without a text in common in every epoch, found none after step "
                    f"{self.state.global_step}; lower --batch-size"
                )

    start = [{"epoch": 0, "step": 0, "eval_spearman": before}] if before is not None else []
    trainer = ContrastTrainer(
        model=model,
        args=args,
        train_dataset=rows,
        eval_dataset=rows.select([]) if has_dev else None,  # never read: `evaluate` asks `score`
        loss=loss,
        callbacks=[
            Epochs(order),
            stop,
            LastStep(),
            Record(lambda history: folder.write_lines("log.jsonl", [*start, *history])),
            Seal(),
            Progress(),
        ],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer, steps


def card(asked: Contrast, metrics: dict[str, Any]) -> str:
    """README.md of the model's folder: what it was made of and how, its scores before and after, how to load it."""
    table: list[str] = []
    if "dev" in metrics:
        table.append(f"| dev: {asked.dev} | {metrics['dev']['before']:.2f} | {metrics['dev']['after']:.2f} |")
    for name, before in metrics.get("sts", {}).get("before", {}).items():
        table.append(f"| {name} | {before:.2f} | {metrics['sts']['after'][name]:.2f} |")
    if "retrieval" in metrics:
        before, after = metrics["retrieval"]["before"], metrics["retrieval"]["after"]
        table.append(f"| training rows whose second text is the nearest, % | {before:.2f} | {after:.2f} |")
    if table:
        table = ["", "| Spearman x 100 | before | after |", "|---|---|---|", *table, ""]
    kind = "texts without labels (SimCSE)" if asked.unsupervised else "rows of texts that belong together"
    loss = "CachedMultipleNegativesRankingLoss" if asked.chunk else "MultipleNegativesRankingLoss"
    anchor = f", anchored to `{asked.anchor}` with weight {asked.anchor_weight:g}" if asked.anchor else ""
    newline = "\n"
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [contrastill, sentence-transformers, feature-extraction]
---

# Sentence embeddings

`{asked.model}`, trained contrastively by Contrastill on {metrics["train_rows"]:,} {kind} of `{asked.pairs}`:
`{loss}`, scale {asked.scale:g}, {metrics["steps"]:,} steps of {metrics["batch_rows"]} rows, seed {asked.seed}{anchor}.
{newline.join(table)}
{metrics["parameters"]:,.0f} parameters, {metrics["size_mb"]:,.0f} MB (float32). All settings, versions and fingerprints
are in the run's `run.json`; `contrastill contrast --from run.json --out FOLDER` repeats it.

```python
from sentence_transformers import SentenceTransformer
vectors = SentenceTransformer("PATH OF THIS FOLDER").encode(["a text", "another one"])
```
"""
