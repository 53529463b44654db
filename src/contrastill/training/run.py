"""A run: from its plan to the finished folder."""

import errno
import logging
import math
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from contrastill.errors import UserError
from contrastill.methods import Method
from contrastill.methods.queue import Queue
from contrastill.report import PAGE, leave_report
from contrastill.results import LESS_IS_BETTER, RunResult, result_table, write_text
from contrastill.training.arguments import training_arguments
from contrastill.training.callbacks import Elapsed, Patience
from contrastill.training.checkpoints import LastWeights, last_good_checkpoint
from contrastill.training.folder import RunFolder
from contrastill.training.outcome import warnings
from contrastill.training.plan import Plan
from contrastill.training.preflight import check_data, check_models
from contrastill.training.seen import write_seen
from contrastill.training.trainer import DistillationTrainer, Interrupted
from contrastill.training.vocabulary import only_occurring_words

__all__ = ["Run", "finished", "saving", "train"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, the model's folder, and its results."""

    folder: Path
    model: Path
    result: RunResult

    @property
    def metrics(self) -> dict[str, Any]:
        """As in metrics.json."""
        return self.result.to_json()

    def __repr__(self) -> str:
        ours = [one for name in list(self.result.columns)[-1:] for one in self.result.columns[name]]
        first = [one for one in ours if one.metric == self.result.metric] or ours
        scores = [f"{one.where} {one.metric} {one.value:.4g}" for one in first]
        kept = [f"{split} kept {share:.1%}" for split, share in (self.result.kept or {}).items()]
        return f"Run({', '.join([repr(str(self.folder)), *scores[:2], *kept])})"

    def _repr_html_(self) -> str:
        """The table of scores and sizes, for a notebook."""
        found = result_table(self.result)
        page = self.folder / PAGE
        places = [f"model: {self.model}", *([f"report: {page}"] if page.is_file() else [])]
        return replace(found, notes=[*found.notes, *places]).html()


def train(folder: RunFolder, plan: Callable[[], Plan], resume: bool) -> Run:
    """From a plan to the finished folder."""
    clock, run = Clock(folder.spent() if resume else {}), plan()
    settings = run.settings
    clock.lap("preparation")
    folder.settle(settings)
    folder.check_fact(**run.fingerprints())
    args, steps = training_arguments(run, folder)
    report = check_data(run)
    report.raise_if_failed(force=settings.force)
    logger.info("length: %s; %s", run.length, report.seen("texts fit"))
    before = run.score_start(folder)
    if before is not None:
        clock.lap("scores before")
    run.use_cache()
    clock.lap("teacher outputs")
    run.fit_bridges()
    of_models = check_models(run)
    folder.note(
        data=run.describe(),
        preflight=[*report.as_dict(), *of_models.as_dict()],
        stages=stages(run.method),
        queue=queue(run),
        selection=run.selection,
    )
    of_models.raise_if_failed(force=settings.force)
    folder.begin()
    clock.lap("checks")
    forwards = Forwards(run, folder)
    folder.note(seconds=dict(clock.seconds), **forwards.noted)

    average = getattr(settings, "average", None)
    kept = LastWeights(average, run.method, folder.checkpoints) if average is not None else None
    checkpoint = last_good_checkpoint(folder.checkpoints) if resume else None
    elapsed = Elapsed(checkpoint)
    clock.before["training"] = elapsed.before
    trainer = DistillationTrainer(
        run.model,
        run.method,
        args,
        run.examples,
        run.order(),
        run.collate,
        check=run.check,
        record=lambda rows: folder.write_lines("log.jsonl", [*(before or []), *rows]),
        schedule=settings.schedule,
        warmup=settings.warmup,
        patience=patience_of(run),
        more=[elapsed, *([kept] if kept is not None else [])],
    )
    pad = getattr(run.tokenizer, "pad_token_id", None)  # whatever the model's config says it is; word vectors have none
    read = run.words if pad is None else np.union1d(run.words, [pad])
    words = partial(only_occurring_words, run.method.student.transformer, read)
    with words():
        trained = trainer.train_or_resume(checkpoint)
    clock.lap("training")
    if trained.stopped is not None:
        logger.info("%s", trained.stopped)
        run.stopped = trained.stopped
        folder.note(stopped=trained.stopped)

    def load_best() -> None:
        with words():  # as the checkpoint was saved
            trained.load_best()

    def load_mean() -> tuple[int, ...]:
        with words():
            return kept.load_mean(trained.last) if kept is not None else ()

    run.checkpoint = run.choose(replace(trained, load_best=load_best, load_mean=load_mean if kept else None))
    trimming = run.trim_vocabulary()  # after the last use of a checkpoint: those have the whole vocabulary
    folder.note(data=run.describe())
    if trimming is not None:
        folder.note(vocabulary=asdict(trimming))
    run.method.finish()
    path = run.save(folder)
    if folder.main and run.row_keys is not None:
        write_seen(folder.path, run.row_keys)
    folder.note(status="saved", data=run.describe())  # whatever goes wrong from here on, the model is there
    result = run.results()
    clock.lap("evaluation")
    doubts = warnings(run, trainer.state.log_history)
    if said := [*doubts, *report.doubts, *of_models.doubts]:
        folder.note(warnings=said)
    for one in doubts:
        logger.warning("%s", one)
    figures = {
        "steps": trained.last,
        **({"planned_steps": steps} if trained.stopped else {}),
        **result.figures,
        **forwards.noted,
    }
    done = Run(folder.path, path, replace(result, figures=figures, warnings=tuple(doubts), seconds=clock.seconds))
    conclude(folder, done, run)
    return done


def conclude(folder: RunFolder, done: Run, run: Plan) -> None:
    """Writes the card, the scores and the page of a finished run."""
    if folder.main:
        write_text(done.model / "README.md", run.card(done.result))
    folder.write("metrics.json", done.metrics)
    folder.note(status="finished")
    if folder.main:
        leave_report(folder.path, run.evidence)
    folder.drop_checkpoints()  # last: a run that is killed before this line still has them


class Forwards:
    """Texts that the teacher has run on for the cache, in all parts of a run."""

    def __init__(self, run: Plan, folder: RunFolder) -> None:
        before = folder.record.facts.get("teacher_forwards")
        self.run, self.before = run, before if isinstance(before, int) else 0

    @property
    def noted(self) -> dict[str, Any]:
        """As in run.json and metrics.json; empty where nothing is stored."""
        now = self.run.teacher_forwards
        return {} if now is None else {"teacher_forwards": self.before + now}


class Clock:
    """Wall time of a run's phases. before: that of earlier parts of the run, by phase."""

    def __init__(self, before: dict[str, float]) -> None:
        self.before, self.seconds = before, dict[str, float]()
        self.last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] = round(self.before.get(phase, 0.0) + now - self.last, 2)
        self.last = now


FULL = (
    "No space left",
    "File too large",
    "quota",
    *("PytorchStreamWriter", "file write failed", "inline_container", "iostream error"),  # torch.save
)
"""Words of libraries that could not write."""


@contextmanager
def saving(folder: RunFolder) -> Iterator[None]:
    """Turns a failure to save into an error that names the last whole checkpoint and how to resume."""
    go_on = f"`contrastill {folder.command} --resume {shlex.quote(str(folder.path))}`"
    try:
        yield
    except Interrupted:
        raise Interrupted(f"The run is saved; continue with {go_on}") from None
    except (OSError, SafetensorError, RuntimeError) as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if not full and not any(word in str(error) for word in FULL):
            raise
        kept = last_good_checkpoint(folder.checkpoints)
        state = f"the checkpoint before it is whole ({kept.name})" if kept else "there was no checkpoint before it"
        raise UserError(
            f"could not save to {folder.path}: {error}; {state}; free space there, then continue with {go_on}"
        ) from error


def patience_of(run: Plan) -> Patience | None:
    """Ends the run early; None: that was not asked for."""
    patience, metric = run.settings.patience, run.metric
    if patience is None or metric is None:
        return None
    return Patience(patience, run.method, metric, metric not in LESS_IS_BETTER)


def queue(run: Plan) -> dict[str, Any] | None:
    """The method's queue of past texts, the terms that read it, and the step at which it is full; None without one."""
    held = getattr(run.method, "queue", None)
    size = held.size if isinstance(held, Queue) else 0
    together = min(run.batch_size, len(run.examples))
    return {"size": size, "full_at": math.ceil(size / together), "terms": sorted(run.method.queued)} if size else None


def stages(method: Method) -> list[dict[str, Any]]:
    return [{**vars(stage), "weights": dict(stage.weights)} for stage in method.stages]


def finished(folder: RunFolder, name: str) -> Run | None:
    """The finished run (its page is written if it was killed before that); None if it has to train."""
    result = folder.result(name)
    if result is None:
        return None
    logger.info("%s has already finished", folder.path)
    if folder.main and not (folder.path / PAGE).is_file():
        leave_report(folder.path)
    folder.drop_checkpoints()
    return Run(folder.path, folder.path / name, result)
