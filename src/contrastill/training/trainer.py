"""The one place that knows `transformers.Trainer`: stages, term logging, dev selection, safe checkpoints."""

import hashlib
import json
import logging
import math
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainingArguments

from contrastill.errors import CheckFailed
from contrastill.methods import Method
from contrastill.training.order import GroupedByLength
from contrastill.training.schedule import rate

__all__ = ["DistillationTrainer", "Interrupted", "last_good_checkpoint"]

logger = logging.getLogger(__name__)
SEAL = "complete.json"


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop, and has saved where it was."""


class DistillationTrainer(Trainer):
    """`Trainer` over a `Method` (bare or wrapped), which it leads through its stages.

    model: what is trained, the method or a wrapper of it.
    method: the method itself.
    lengths: the tokens of each training row.
    check: gives the student's dev metrics; called at each evaluation. None: no dev data.
    record: takes the log so far, a dict a line; called at each save and at the end.
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        args: TrainingArguments,
        train_dataset: Any,
        lengths: np.ndarray,
        data_collator: Callable[[list[Any]], dict[str, Tensor]],
        check: Callable[[], Mapping[str, float]] | None,
        record: Callable[[list[dict[str, Any]]], None],
        schedule: str,
        warmup: float,
    ) -> None:
        self.method, self.check, self.schedule, self.warmup = method, check, schedule, warmup
        self.terms: dict[str, Tensor | float] = defaultdict(float)
        self.counted = 0
        self.stop = StopRequest()
        together = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        self.order = GroupedByLength(lengths, together, args.seed, whole=args.dataloader_drop_last)
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=train_dataset if check else None,  # never read: `evaluate` asks `check`
            data_collator=data_collator,
            callbacks=[Stages(method), LastStep(), Epochs(self.order), self.stop, Record(record), Seal(), Progress()],
        )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False  # our losses are means over the batch: Trainer divides by accumulation

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        outputs = model(**inputs)
        for term, value in outputs.items():
            if term != "loss":
                self.terms[term] += value
        self.counted += 1
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs and self.counted:
            logs["stage"] = self.method.stages.index(self.method.stage) + 1
            means = torch.stack([torch.as_tensor(v, device=self.args.device).float() for v in self.terms.values()])
            means = self.accelerator.reduce(means / self.counted, "mean")  # over the processes, as the loss is
            logs.update(zip(self.terms, means.tolist(), strict=True))
            self.terms.clear()
            self.counted = 0
            check_finite(logs, self.state.global_step)
        super().log(logs, *args, **kwargs)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        assert self.check is not None
        metrics = {f"eval_{name}": value for name, value in self.check().items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _get_train_sampler(self, train_dataset: Any = None) -> GroupedByLength:
        return self.order

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        if self.lr_scheduler is None:
            ends, stages = self.method.milestones(num_training_steps), self.method.stages
            self.lr_scheduler = LambdaLR(
                optimizer or self.optimizer,  # type: ignore[arg-type]
                lambda step: rate(step, ends, stages, self.schedule, self.warmup),
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def train_or_resume(self, checkpoint: Path | None) -> None:
        """Trains, from the checkpoint if there is one.

        Raises:
            Interrupted: after Ctrl-C or SIGTERM, once the step in hand is saved.
        """
        with self.stop.listening():
            super().train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if self.stop.asked and self.state.global_step < self.state.max_steps:
            raise Interrupted


def check_finite(logs: dict[str, float], step: int) -> None:
    """Raises a CheckFailed where the logged loss or its gradient is no number."""
    if not all(map(math.isfinite, map(float, (logs["loss"], logs.get("grad_norm", 0.0))))):
        raise CheckFailed(
            f"the loss or its gradient is no longer finite at step {step} ({logs}); "
            "lower the learning rate, or train in float32; the checkpoints saved before this step are sound"
        )


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
    """Tells the order its epoch (accelerate does too, but not after a resume in mid-epoch on several processes)."""

    def __init__(self, order: GroupedByLength) -> None:
        self.order = order

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.order.set_epoch(int(state.epoch or 0))


class Seal(TrainerCallback):
    """Marks a checkpoint as whole: the last file written, with the size and sha256 of every other."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if args.world_size > 1:
            torch.distributed.barrier()  # every process has written its random state
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            seal = folder / SEAL
            seal.with_suffix(".part").write_text(json.dumps(contents(folder)), encoding="utf-8")
            seal.with_suffix(".part").rename(seal)


def contents(folder: Path) -> dict[str, list[Any]]:
    files = sorted(p for p in folder.iterdir() if p.stem != Path(SEAL).stem)
    return {p.name: [p.stat().st_size, hashlib.sha256(p.read_bytes()).hexdigest()] for p in files}


def last_good_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole; broken ones are passed over with a warning."""
    names = (p.name.removeprefix("checkpoint-") for p in folder.glob("checkpoint-*"))
    steps = sorted((int(name) for name in names if name.isdecimal()), reverse=True)
    for checkpoint in (folder / f"checkpoint-{step}" for step in steps):
        try:
            if json.loads((checkpoint / SEAL).read_text(encoding="utf-8")) == contents(checkpoint):
                return checkpoint
        except (OSError, ValueError):
            pass
        logger.warning("%s is not whole (the run was cut while saving it, or it was changed): passed over", checkpoint)
    return None


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
        """Handles both signals for as long as it lasts (in the main thread; elsewhere signals do not arrive)."""
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


class Record(TrainerCallback):
    """Hands over the log at each save and at the end: what a resumed run forgets is not in it twice."""

    def __init__(self, record: Callable[[list[dict[str, Any]]], None]) -> None:
        self.record = record

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.record(state.log_history)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.record(state.log_history)


class Progress(ProgressCallback):
    """The bar carries the last losses; only dev scores take a line. In a log file it is drawn twice a minute."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            every = 0.2 if sys.stderr.isatty() else 30.0
            self.training_bar = tqdm(total=state.max_steps, dynamic_ncols=True, mininterval=every, file=sys.stderr)
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
