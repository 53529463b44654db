"""Callbacks around the steps of a run: stages, last step, signals, patience, log, time, progress bar."""

import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import ProgressCallback, TrainerCallback

from contrastill.methods import Method
from contrastill.processes import bar_pause
from contrastill.training.order import Order

__all__ = ["Elapsed", "Epochs", "LastStep", "Patience", "Progress", "Record", "Stages", "StopRequest"]

logger = logging.getLogger(__name__)


class Stages(TrainerCallback):
    """Tells the method which stage each step is in; a fresh stage forgets the optimiser's past."""

    def __init__(self, method: Method) -> None:
        self.method = method

    def on_step_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        stage = self.method.set_stage(state.global_step, state.max_steps)
        begins = [0, *self.method.milestones(state.max_steps)[:-1]]
        if stage.fresh and state.global_step == begins[self.method.stages.index(stage)]:
            optimizer.state.clear()


class LastStep(TrainerCallback):
    """The last step is evaluated; and what is saved is logged first, so that a loss that is not finite is seen then."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == state.max_steps:
            control.should_evaluate = args.eval_strategy != "no"
        if control.should_save:
            control.should_log = True


class Epochs(TrainerCallback):
    """Passes the epoch to the order (accelerate does not, after a resume within an epoch on several processes)."""

    def __init__(self, order: Order) -> None:
        self.order = order

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.order.set_epoch(int(state.epoch or 0))


class StopRequest(TrainerCallback):
    """Turns the first SIGINT / SIGTERM into "save and stop after this step"; the second one stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        asked = self.asked
        if args.world_size > 1:
            flag = torch.tensor(float(asked), device=args.device)
            torch.distributed.all_reduce(flag)
            asked = self.asked = bool(flag)
        if asked:
            control.should_save = control.should_log = control.should_training_stop = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Context that handles both signals (in the main thread; other threads get none)."""
        before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.signal(number, self.ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        logger.warning("stopping after this step, once it is saved (again to stop at once)")


class Patience(TrainerCallback):
    """Ends a run after so many checks in a row without a better dev score.

    Only checks of the last stage count, and they are compared with each other: what an earlier stage learns need not
    show in the score. The count is read from the log, which every checkpoint holds, so a resumed run has it too.

    metric: the dev score that counts; higher: whether more of it is better.
    """

    def __init__(self, patience: int, method: Method, metric: str, higher: bool) -> None:
        self.patience, self.method, self.metric, self.higher = patience, method, metric, higher

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        stop = self.ended(state.log_history, state.max_steps) is not None
        if args.world_size > 1:  # scores may differ in the last digit: the first process decides
            flag = torch.tensor(float(stop), device=args.device)
            torch.distributed.broadcast(flag, 0)
            stop = bool(flag)
        if stop:
            control.should_training_stop = True

    def ended(self, history: Sequence[Mapping[str, Any]], total: int) -> str | None:
        """The reason to end a run of `total` steps after this log, in words; None: it goes on."""
        begin = max(step for step in (0, *self.method.milestones(total)) if step < total)
        key = f"eval_{self.metric}"
        checks = [(int(row["step"]), float(row[key])) for row in history if key in row and row["step"] > begin]
        if not checks:
            return None
        sign = 1 if self.higher else -1
        step, score = max(checks, key=lambda check: sign * check[1])  # of equal ones the first
        after = sum(1 for other, _ in checks if other > step)
        if after < self.patience or checks[-1][0] >= total:
            return None
        return (
            f"ended at step {checks[-1][0]:,} of {total:,}: {after} checks in a row had no better dev {self.metric} "
            f"than {score:.4g} at step {step:,} (--patience {self.patience})"
        )


class Record(TrainerCallback):
    """Hands over the log at each save and at the end, so that a resumed run has no line twice."""

    def __init__(self, record: Callable[[list[dict[str, Any]]], None]) -> None:
        self.record = record

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.record(state.log_history)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.record(state.log_history)


class Elapsed(TrainerCallback):
    """Seconds of training in all parts of a run, those up to a checkpoint; each checkpoint holds them.

    checkpoint: from which the run goes on; None: it begins.
    """

    FILE = "seconds.json"

    def __init__(self, checkpoint: Path | None) -> None:
        self.begun, self.before = time.perf_counter(), 0.0
        if checkpoint is not None and (file := checkpoint / self.FILE).is_file():  # earlier versions wrote none
            self.before = float(json.loads(file.read_text(encoding="utf-8"))["training"])

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            spent = {"training": round(self.before + time.perf_counter() - self.begun, 2)}
            file = Path(args.output_dir) / f"checkpoint-{state.global_step}" / self.FILE
            file.write_text(json.dumps(spent), encoding="utf-8")


class Progress(ProgressCallback):
    """The bar carries the last losses; only dev scores take a line. In a log file it is drawn twice a minute."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self.training_bar = tqdm(
                total=state.max_steps, dynamic_ncols=True, mininterval=bar_pause(), file=sys.stderr
            )
        self.current_step = 0

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if self.training_bar is None or not logs or "train_runtime" in logs:
            return
        if scores := {k.removeprefix("eval_"): f"{v:.4f}" for k, v in logs.items() if k.startswith("eval_")}:
            self.training_bar.write(f"step {state.global_step}: dev {scores}", file=sys.stderr)
        else:
            shown = {k: f"{v:.3g}" for k, v in logs.items() if k in ("stage", "loss", *self.terms(logs))}
            self.training_bar.set_postfix(shown, refresh=False)

    @staticmethod
    def terms(logs: dict[str, Any]) -> list[str]:
        return [
            k for k in logs if k not in ("epoch", "grad_norm", "learning_rate", "step") and not k.startswith("train_")
        ]
