"""The only use of `transformers.Trainer`: logs a method's terms, schedules its stages, and selects by dev."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PrinterCallback, Trainer, TrainerState, TrainingArguments

from contrastill.errors import CheckFailed
from contrastill.methods import Method
from contrastill.training.callbacks import Epochs, LastStep, Patience, Progress, Record, Stages, StopRequest
from contrastill.training.checkpoints import Seal
from contrastill.training.order import Order
from contrastill.training.plan import Trained
from contrastill.training.schedule import rate

__all__ = ["DistillationTrainer", "Interrupted"]


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal, after saving its state."""


class DistillationTrainer(Trainer):
    """`Trainer` over a `Method` (bare or wrapped), which it leads through its stages.

    model: what is trained, the method or a wrapper of it.
    method: the method itself.
    order: of the training rows.
    check: gives the student's dev metrics; called at each evaluation. None: no dev data.
    record: takes the log so far, a dict a line; called at each save and at the end.
    patience: may end the run early. more: further callbacks, called before a checkpoint is sealed.
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        args: TrainingArguments,
        train_dataset: Any,
        order: Order,
        data_collator: Callable[[list[Any]], dict[str, Tensor]],
        check: Callable[[], Mapping[str, float]] | None,
        record: Callable[[list[dict[str, Any]]], None],
        schedule: str,
        warmup: float,
        patience: Patience | None = None,
        more: Sequence[Any] = (),
    ) -> None:
        self.method, self.check, self.schedule, self.warmup = method, check, schedule, warmup
        self.patience = patience
        self.terms: dict[str, Tensor | float] = defaultdict(float)
        self.counted = 0
        self.stop = StopRequest()
        self.order = order
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=train_dataset if check else None,  # never read: `evaluate` asks `check`
            data_collator=data_collator,
            callbacks=[
                *(Stages(method), LastStep(), Epochs(self.order), self.stop, Record(record)),
                *([patience] if patience is not None else []),
                *more,
                *(Seal(), Progress()),
            ],
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

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The parts of the next step's batch, as the method makes them; the stage is that step's."""
        parts, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.method.set_stage(self.state.global_step, self.state.max_steps)
        with self.compute_loss_context_manager():
            return self.method.before_step(parts), None

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
        scores = self.check()
        self.method.after_check(scores)
        metrics = {f"eval_{name}": value for name, value in scores.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _get_train_sampler(self, train_dataset: Any = None) -> Order:
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

    def train_or_resume(self, checkpoint: Path | None) -> Trained:
        """Trains, from the checkpoint if there is one; the model has the last step's weights then.

        Raises:
            Interrupted: after Ctrl-C or SIGTERM, once the step in hand is saved.
        """
        with self.stop.listening():
            if checkpoint is not None and self.is_end(checkpoint):
                self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
                self._load_from_checkpoint(str(checkpoint))
            else:
                super().train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        state = self.state
        stopped = self.patience.ended(state.log_history, state.max_steps) if self.patience is not None else None
        if self.stop.asked and stopped is None and state.global_step < state.max_steps:
            raise Interrupted
        best = state.best_global_step if state.best_model_checkpoint is not None else None
        return Trained(state.global_step, best, state.best_metric, self._load_best_model, stopped=stopped)

    def is_end(self, checkpoint: Path) -> bool:
        """Whether there is nothing left to train after a checkpoint."""
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        if state.global_step >= state.max_steps or self.patience is None:
            return state.global_step >= state.max_steps
        return self.patience.ended(state.log_history, state.max_steps) is not None


def check_finite(logs: dict[str, float], step: int) -> None:
    """Raises a CheckFailed where the logged loss or its gradient is no number."""
    if not all(map(math.isfinite, map(float, (logs["loss"], logs.get("grad_norm", 0.0))))):
        raise CheckFailed(
            f"the loss or its gradient is no longer finite at step {step} ({logs}); "
            "lower the learning rate, or train in float32; the checkpoints saved before this step are sound"
        )
